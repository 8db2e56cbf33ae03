"""Rounds of equal work, timed: of the input path, of the step, or of both; medians over them."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf.building import build_batches, build_method, build_step, build_strategy
from moco_tf.config import Config
from moco_tf.data.sources import Images, from_arrays
from moco_tf.runs.backbone import find_backbone
from moco_tf.training.memory import peak_memory_bytes


@dataclass(frozen=True)
class Round:
    """What one round took. CPU seconds are of all threads of this process."""

    images: int
    seconds: float
    cpu_seconds: float
    waited: float = 0.0  # seconds of them spent waiting for data

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds


def told_views(config: Config, line: Callable[[str], None]) -> None:
    """Tells where other views are measured than the run's, whose function Python alone has."""
    if config.augment_function:
        line(
            f"augment_function={config.augment_function} is not at hand: the views of the "
            f"config's augmentation are measured in its place"
        )


def timed(work: Callable[[], int], waited: Callable[[], float] = lambda: 0.0) -> Round:
    """Runs `work`, which returns how many images it took, and times it.

    Args:
        waited: returns the seconds spent waiting for data up to now.
    """
    wall, cpu, before = time.perf_counter(), time.process_time(), waited()
    images = work()
    seconds = time.perf_counter() - wall
    return Round(images, seconds, time.process_time() - cpu, waited() - before)


def summarize(rounds: list[Round]) -> dict[str, Any]:
    """Returns medians over the rounds, their number `n`, the rounds themselves and the peak."""

    def median(value: Callable[[Round], float]) -> float:
        return statistics.median(value(one) for one in rounds)

    return {
        "images_per_second": median(lambda one: one.images_per_second),
        "cpu_seconds_per_image": median(lambda one: one.cpu_seconds / one.images),
        "data_wait": median(lambda one: one.waited / one.seconds),
        "peak_memory_bytes": peak_memory_bytes(),
        "n": len(rounds),
        "rounds": [asdict(one) for one in rounds],
    }


def input_rounds(config: Config, train: Images) -> Callable[[int], Round]:
    """Returns a function that times so many batches of two views of the run's own order.

    Warm up before counting: the first round also starts the threads and fills the buffers.
    """
    return rounds_of(config, lambda *_: {"loss": 0.0}, build_batches(config, train, 0))


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
    strategy = build_strategy(config)
    config, _ = find_backbone(config)
    train_step = build_step(config, build_method(config, strategy, shown))
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
