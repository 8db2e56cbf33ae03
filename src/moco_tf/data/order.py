"""The order of the images: a full permutation an epoch, a function of (seed, epoch, place)."""

import functools

import numpy as np
import tensorflow as tf


def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """Permutation of the images for one epoch, int64 [count]: a function of (seed, epoch)."""
    # Raw bits of a bit generator are stable over NumPy versions, which permutation() is not.
    bits = np.random.Philox(key=[seed, epoch]).random_raw(count)
    return np.argsort(bits, kind="stable")


def images_of_step(
    seed: int, step: int, *, count: int, batch_size: int, epoch_steps: int
) -> np.ndarray:
    """Which images are in the global batch of `step`, int64 [B], in its order.

    A last batch of an epoch that is filled up is filled up with the first images of the order.
    """
    epoch, place = divmod(step, epoch_steps)
    order = _remembered_order(seed, epoch, count)
    return np.concatenate([order[place * batch_size :], order])[:batch_size]


_remembered_order = functools.lru_cache(maxsize=1)(epoch_order)


def ordered_indices(count, epoch_length, seed, start, wrap=False, batch_size=1, rows=None):
    """Endless dataset of (index, position) from place `start` on, `epoch_length` an epoch.

    The order is `epoch_order`, cut to that length; a longer epoch is filled up with index -1 or,
    if `wrap`, with the first images of its order again. The position, epoch * count + place, is
    what an image's draws are a function of (epoch * epoch_length + place if `wrap`).

    Args:
        rows: of each batch, which places [b] are given and in which order; none: all. Then the
            start and an epoch's length are multiples of `batch_size`.
    """
    first_epoch, first_place = divmod(start, epoch_length)

    def of_epoch(epoch):
        order = tf.numpy_function(
            lambda e: epoch_order(seed, int(e), count), [epoch], tf.int64, stateful=False
        )
        order = tf.ensure_shape(order, [count])
        if wrap:
            order = tf.gather(order, tf.range(epoch_length) % count)
        order = order[:epoch_length]
        order = tf.pad(order, [[0, epoch_length - order.shape[0]]], constant_values=-1)
        positions = epoch * (epoch_length if wrap else count)
        positions += tf.range(tf.cast(epoch_length, tf.int64))
        skipped = tf.cast(tf.where(epoch == first_epoch, first_place, 0), tf.int64)
        left = order[skipped:], positions[skipped:]
        if rows is not None:
            batches = [tf.reshape(values, [-1, batch_size]) for values in left]
            left = tuple(tf.reshape(tf.gather(b, rows, axis=1), [-1]) for b in batches)
        return tf.data.Dataset.from_tensor_slices(left)

    return tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max).flat_map(of_epoch)
