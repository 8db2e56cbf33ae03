"""Input and step together, as pre-training runs them, without logs and checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable

import tensorflow as tf

from moco_tf.assembly import build_batches, build_method, build_step
from moco_tf.benchmark.rounds import Round, timed
from moco_tf.config import Config
from moco_tf.data.sources import Images
from moco_tf.distribute import make_strategy


def training_rounds(
    config: Config, train: Images, *, steps: int
) -> tuple[Callable[[], Round], float]:
    """Returns (a function that times `steps` training steps, seconds to the end of the first).

    A round's `waited` is the time in which the step had nothing to work on. The device works
    beside the host, so it counts only where the host asks for a batch that is not there yet.
    """
    started = time.perf_counter()
    method = build_method(config, make_strategy(config.devices or 1))
    train_step, batches = build_step(config, method), build_batches(config, train, 0)
    rate = tf.constant(config.scaled_learning_rate, tf.float32)
    done, waited = 0, 0.0

    def work(count: int = steps) -> int:
        nonlocal done, waited
        for _ in range(count):
            asked = time.perf_counter()
            view1, view2 = next(batches)
            waited += time.perf_counter() - asked
            scalars = train_step(view1, view2, tf.constant(done, tf.int64), rate)
            done += 1
        float(scalars["loss"])  # waits for the device
        return count * config.batch_size

    work(1)
    first = time.perf_counter() - started
    return lambda: timed(work, lambda: waited), first
