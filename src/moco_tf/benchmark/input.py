"""The input path alone: decoding, both views, batches, with nothing to train."""

from __future__ import annotations

from collections.abc import Callable

from moco_tf.benchmark.rounds import Round, timed
from moco_tf.build import build_batches
from moco_tf.config import Config
from moco_tf.data.sources import Images


def input_rounds(config: Config, train: Images) -> Callable[[int], Round]:
    """Returns a function that times so many batches of two views of the run's own order.

    Warm up before counting: the first round also starts the threads and fills the buffers.
    """
    batches = build_batches(config, train, 0)

    def work(count: int) -> int:
        for _ in range(count):
            next(batches)
        return count * config.batch_size

    return lambda count: timed(lambda: work(count))
