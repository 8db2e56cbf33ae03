"""Pipelines of tf.data that end at once when they are no longer needed.

An iterator of tf.data waits, as it is destroyed, for all of its threads. Two of their kinds may
come late or never: the one that tunes, and those in Python's functions once Python has ended.
"""

from __future__ import annotations

import os
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tensorflow as tf

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def mapped(dataset: tf.data.Dataset, function: Callable[..., Any]) -> tf.data.Dataset:
    """Returns the dataset of `function` of each element, in order, computed on all cores.

    Nothing is tuned while it runs: TensorFlow (2.21) wakes the thread that tunes before it says
    that the iterator is to end. If the thread looks too early it sleeps on, for as long as the
    pipeline has lived and up to a minute, and the iterator's destruction waits for it.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    as_it_is = tf.autograph.experimental.do_not_convert(function)  # converting takes seconds
    parallel = dataset.map(as_it_is, num_parallel_calls=CORES, deterministic=True)
    return parallel.with_options(options)


class Elements(Iterator[Any]):
    """Iterates over a dataset, or over what else is given.

    The iterator within is gone with this one, by `close`, or before Python ends: later its threads
    could not leave Python's functions, and its destruction would wait for them for good.
    """

    def __init__(self, dataset: Iterable[Any]):
        self._held = [iter(dataset)]
        self.close = weakref.finalize(self, self._held.clear)

    def __next__(self) -> Any:
        if not self._held:
            raise StopIteration
        try:
            return next(self._held[0])
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)  # they would hold the iterator
            raise
