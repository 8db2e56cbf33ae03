"""Batches in which the next image of the order stands in for an unreadable one, or none does.

What a batch of a run holds is a function of (seed, step) and of which files can be read, so that a
run that was killed goes on with the same batches, on any number of devices and processes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf.data.decoder_messages import without_decoders
from moco_tf.data.failures import readable
from moco_tf.data.images import Images
from moco_tf.data.order import StepOrder
from moco_tf.data.sample import look_at
from moco_tf.data.stream import CORES, Elements
from moco_tf.errors import InputError

LOOKED_AHEAD = 4  # batches, beside the one that failed: they lie in the queue, so are read again


def readable_batches(images: Images, order: StepOrder, dataset: tf.data.Dataset) -> Iterator[Any]:
    """All batches of the one epoch of `order`; with stand-ins where the images may have them.

    Raises:
        InputError: if an image cannot be read; see `failure`.
    """
    batches: Iterator[Any] = Elements(dataset)
    indices = order.at(0, np.arange(order.count))
    if images.unreadable is not None and not np.isin(indices, [*images.unreadable]).all():
        order.unreadable, order.start = images.unreadable, 0
        batches = ReadableBatches(images, order, dataset)
    return readable(batches, images, indices, order.batch_size)


def batches_of_readable(
    images: Images, indices: np.ndarray, dataset: tf.data.Dataset
) -> Iterator[Any]:
    """The batches of the images that can be read; the others are noted in `images.unreadable`.

    Args:
        indices: int64 [n].
        dataset: batches of images and their places in `indices`, ascending: of those that can be
            read.

    Raises:
        InputError: as soon as more of the images are unreadable than may be left out, or all are.
    """
    known: Any = images.unreadable
    most, reached = images.max_bad or 0.0, 0
    for batch, places in itertools.chain(Elements(dataset), [(None, [len(indices)])]):
        bad = indices[np.setdiff1d(np.arange(reached, places[-1]), places)]
        known.update(dict.fromkeys(bad.tolist(), "left out"))
        if len(known) > most * images.count or len(known) == images.count:
            allowed = f"more than max_bad_images={most:g}" if most < 1 else "that is all of them"
            raise InputError(
                f"data={images.name}: {len(known)} of {images.count} images cannot be read, "
                f"{allowed}: {images.name_of(min(known))}. {images.mend}"
            )
        reached = int(places[-1]) + 1
        if batch is not None:
            yield batch


def read_in_place_of(images: Images, indices: np.ndarray) -> np.ndarray:
    """Which images were read that were to be those of `indices` [n]: int64 [n], or fewer."""
    if images.max_bad is not None:
        return indices[~np.isin(indices, [*(images.unreadable or ())])]
    order = StepOrder(0, len(indices), len(indices), 1, listed=indices)
    order.unreadable = images.unreadable or {}
    return order.of_step(0)[0]


class ReadableBatches(Iterator[Any]):
    """Iterates over the batches of a dataset of `order`, from its step `start` on.

    Where a batch fails, its images and those of the next ones are decoded one by one; those that
    cannot be are noted in `order.unreadable`, and the dataset is iterated anew from that batch on.

    Attributes:
        step: of the next batch.

    Raises:
        tf.errors.OpError: a batch failed, and all of its images can be read.
    """

    def __init__(self, images: Images, order: StepOrder, dataset: tf.data.Dataset):
        self.images, self.order, self.step = images, order, order.start
        self._dataset = dataset
        self._iterate()

    def _iterate(self) -> None:
        self._known = len(self.order.unreadable)
        self._elements = Elements(self._dataset)

    def __next__(self) -> Any:
        while True:
            try:
                batch = next(self._elements)
                break
            except tf.errors.ResourceExhaustedError:
                raise
            except tf.errors.OpError:
                # An evaluation may have noted the image after this iteration had asked for it.
                if not self._look() and len(self.order.unreadable) == self._known:
                    raise
                self._elements.close()
                self.order.start = self.step
                self._iterate()
        self.step += 1
        return batch

    def close(self) -> None:
        """Ends the threads of the dataset."""
        self._elements.close()

    def _look(self) -> bool:
        """Whether an image of the next batches is unreadable that was not known to be.

        If none of all of them can be read the storage is gone, and they are not noted.
        """
        last = self.step + 1 + LOOKED_AHEAD
        last = last if self.order.end is None else min(last, self.order.end)
        unreadable, looked = self.order.unreadable, np.array([-1])
        while True:
            wanted = [self.order.of_step(step)[0] for step in range(self.step, last)]
            places = np.setdiff1d(np.concatenate(wanted), looked).tolist()
            with without_decoders(), ThreadPoolExecutor(CORES) as threads:
                found = [*threads.map(lambda place: look_at(self.images, place), places)]
            bad = {p: one for p, one in zip(places, found, strict=True) if isinstance(one, str)}
            first = len(looked) == 1
            if (first and len(bad) == len(places)) or len(unreadable | bad) == self.images.count:
                return False
            unreadable.update(bad)
            looked = np.union1d(looked, places)
            if not bad:
                return not first
