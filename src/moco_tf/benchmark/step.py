"""Training steps, timed: on a batch that is already there, or on the run's own as it comes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf.benchmark.rounds import Round, timed
from moco_tf.build import build_batches, build_method, build_step, build_strategy
from moco_tf.config import Config
from moco_tf.data.sources import Images, from_arrays


def step_rounds(
    config: Config, images: Images | None = None, *, steps: int
) -> tuple[Callable[[], Round], float]:
    """Returns (a function that times `steps` steps, seconds to the end of the first step).

    The first step, which traces and compiles, is done here.

    Args:
        images: of which the batches are, as they come; none: one batch of noise, again and again.
    """
    started = time.perf_counter()
    shown = images or noise(config)
    batches = build_batches(config, shown, 0)
    train_step = build_step(config, build_method(config, build_strategy(config), shown))
    one_round = rounds_of(config, train_step, batches if images else repeated(batches))
    one_round(1)
    first = time.perf_counter() - started
    return lambda: one_round(steps), first


def rounds_of(
    config: Config, train_step: Callable, batches: Iterator[Any]
) -> Callable[[int], Round]:
    """Returns a function that runs and times so many steps of `train_step`, as training does.

    A round's `waited` is the time in which the step had nothing to work on. The device works
    beside the host, so it counts only where the host asks for a batch that is not there yet.
    """
    done, waited = 0, 0.0

    def work(count: int) -> int:
        nonlocal done, waited
        for _ in range(count):
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            scalars = train_step(*batch, done, config.scaled_learning_rate)
            done += 1
        float(scalars["loss"])  # waits for the device
        return count * config.batch_size

    return lambda count: timed(lambda: work(count), lambda: waited)


def noise(config: Config) -> Images:
    """A batch of images of noise, as large as a crop."""
    shape = (config.batch_size, config.image_size, config.image_size, 3)
    return from_arrays(
        "noise", np.random.default_rng(config.seed).integers(0, 256, shape, np.uint8)
    )


def repeated(batches: Iterator[Any]) -> Iterator[Any]:
    """The first batch, on the device, without an end."""
    return itertools.repeat(tf.nest.map_structure(tf.identity, next(batches)))
