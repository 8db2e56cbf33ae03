"""The order of the images: a full permutation an epoch, a function of (seed, epoch, place)."""

import functools
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from moco_tf.data.keyed_order import keyed_order

MOST_SORTED = 2**22  # images of a new run whose epochs are shuffled by `epoch_order`


def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """Permutation of the images for one epoch, int64 [count]: a function of (seed, epoch)."""
    # Raw bits of a bit generator are stable over NumPy versions, which permutation() is not.
    bits = np.random.Philox(key=[seed, epoch]).random_raw(count)
    return np.argsort(bits, kind="stable")


@dataclass
class StepOrder:
    """Which images the batch of each step holds, and what their draws are a function of.

    An epoch whose last batch is not full goes on with index -1 or, if `wrap`, with the first images
    of its order again.

    Args:
        rows: of each batch, which rows [b] are read, in that order; none: all B.
        start: the step that `dataset` begins at, whenever it is iterated.
        end: the step that it ends before; none: it does not.
        listed: the order [count] of every epoch; none: one drawn by the seed.
        keyed: that is `keyed_order`, which takes no memory, in place of `epoch_order`.
        unreadable: images, by index, that the next one of the epoch's order stands in for, each
            with the reason.
    """

    seed: int
    count: int
    batch_size: int
    epoch_steps: int
    wrap: bool = False
    rows: np.ndarray | None = None
    start: int = 0
    end: int | None = None
    listed: np.ndarray | None = None
    keyed: bool = False
    unreadable: dict[int, str] = field(default_factory=dict)

    def at(self, epoch: int, places: np.ndarray) -> np.ndarray:
        """The images at some places of an epoch, int64 [n]; after the last comes the first."""
        places, order = places % self.count, self.listed
        if self.keyed:
            return keyed_order(self.seed, epoch, self.count, places)
        if order is None:
            order = _remembered_order(self.seed, epoch, self.count)
        return order[places]

    def of_step(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices and positions of the rows that are read of a step's batch, int64 [b] each.

        The position, epoch * count + place, is what an image's draws are a function of (epoch *
        epoch_steps * batch_size + place if `wrap`).
        """
        epoch, places = self._places(step)
        indices = self.at(epoch, places + self.passed(step))
        if not self.wrap:
            indices[places >= self.count] = -1
        length = self.epoch_steps * self.batch_size if self.wrap else self.count
        return indices, epoch * length + places

    def passed(self, step: int) -> np.ndarray:
        """How many images each row of a step passes over because they are unreadable, int64 [b]."""
        epoch, places = self._places(step)
        passed = np.zeros(len(places), np.int64)
        if self.unreadable:
            bad = np.array([*self.unreadable], np.int64)
            left = np.flatnonzero(self.wrap | (places < self.count))
            while len(left):
                left = left[np.isin(self.at(epoch, places[left] + passed[left]), bad)]
                passed[left] += 1
        return passed

    def dataset(self) -> tf.data.Dataset:
        """A dataset of (index, position) from step `start` on."""
        end = np.int64(np.iinfo(np.int64).max if self.end is None else self.end)

        def of_step(step):
            rows = tf.numpy_function(
                lambda number: np.stack(self.of_step(int(number))), [step], tf.int64
            )
            return tf.data.Dataset.from_tensor_slices(tuple(tf.unstack(rows, 2)))

        def steps(_):
            start = tf.numpy_function(lambda: np.int64(self.start), [], tf.int64)
            return tf.data.Dataset.range(tf.ensure_shape(start, []), end)

        return tf.data.Dataset.from_tensors(0).flat_map(steps).flat_map(of_step)

    def _places(self, step: int) -> tuple[int, np.ndarray]:
        epoch, number = divmod(step, self.epoch_steps)
        places = number * self.batch_size + np.arange(self.batch_size)
        return epoch, places if self.rows is None else places[self.rows]


def images_of_step(
    seed: int,
    step: int,
    *,
    count: int,
    batch_size: int,
    epoch_steps: int,
    keyed: bool = False,
    unreadable: dict[int, str] | None = None,
) -> np.ndarray:
    """Which images are in the global batch of `step`, int64 [B], in its order.

    A last batch of an epoch that is filled up is filled up with the first images of the order.
    """
    order = StepOrder(seed, count, batch_size, epoch_steps, wrap=True, keyed=keyed)
    order.unreadable = unreadable or {}
    return order.of_step(step)[0]


_remembered_order = functools.lru_cache(maxsize=2)(epoch_order)
