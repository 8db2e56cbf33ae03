"""The training step alone, on one synthetic batch that is already there."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from moco_tf.assembly import build_method, build_step
from moco_tf.benchmark.rounds import Round, timed
from moco_tf.config import Config
from moco_tf.distribute import make_strategy


def step_rounds(config: Config, *, steps: int) -> tuple[Callable[[], Round], float]:
    """Returns (a function that times `steps` steps, seconds to the end of the first step).

    The first step, which traces and compiles, is done here.
    """
    started = time.perf_counter()
    method = build_method(config, make_strategy(config.devices or 1))
    train_step = build_step(config, method)
    generator = np.random.default_rng(config.seed)
    shape = (2, config.batch_size, config.image_size, config.image_size, 3)
    view1, view2 = (tf.constant(v) for v in generator.integers(0, 256, shape, np.uint8))
    rate, done = tf.constant(config.scaled_learning_rate, tf.float32), 0

    def work(count: int = steps) -> int:
        nonlocal done
        for _ in range(count):
            scalars = train_step(view1, view2, tf.constant(done, tf.int64), rate)
            done += 1
        float(scalars["loss"])  # waits for the device
        return count * config.batch_size

    work(1)
    first = time.perf_counter() - started
    return lambda: timed(work), first
