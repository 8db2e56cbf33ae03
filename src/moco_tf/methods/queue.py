"""The queue of keys: a ring of K unit vectors (arXiv:1911.05722, section 3.1)."""

import numpy as np
import tensorflow as tf

# Instead of the number of a key's image: the key is of none, or a newer one of its image has come.
NO_IMAGE, SUPERSEDED = -1, -2


def initial_queue(size, dim, seed):
    """K random unit rows: float32 array [size, dim], a function of `seed`."""
    rows = np.random.Generator(np.random.Philox(key=seed)).standard_normal((size, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def enqueue(queue, pointer, keys):
    """Writes `keys` over the oldest rows and returns the new queue and pointer.

    Wraps around at the end, so that any queue size goes with any batch size; of more keys than
    the queue holds, the last ones stay.

    Args:
        queue: [K, C], or [K] of numbers.
        pointer: scalar in [0, K): row that the first key goes to.
        keys: [B, C], or [B].
    """
    size, count = queue.shape[0], keys.shape[0]
    kept = min(size, count)
    rows = (pointer + tf.range(count - kept, count, dtype=pointer.dtype)) % size
    queue = tf.tensor_scatter_nd_update(queue, rows[:, None], keys[count - kept :])
    return queue, (pointer + count) % size


def enqueue_images(queue_images, pointer, images, written=None):
    """Notes whose keys `enqueue` writes, and that they supersede all earlier ones of these images.

    Args:
        queue_images: int64 [K], number of the image of each key, NO_IMAGE or SUPERSEDED.
        pointer: as `enqueue` takes it.
        images: int64 [B], of the keys; one that is there several times keeps several keys.
        written: bool [B], false where a key is not written after all; none: all are.

    Returns:
        The new `queue_images`.
    """
    written = tf.ones_like(images, tf.bool) if written is None else written
    lost = max(0, images.shape[0] - queue_images.shape[0])  # overwritten by later ones at once
    newer = tf.where(written, images, NO_IMAGE)[lost:]
    again = tf.reduce_any(queue_images[:, None] == newer[None], axis=1)  # [K]
    old = tf.where(again & (queue_images != NO_IMAGE), tf.cast(SUPERSEDED, tf.int64), queue_images)
    new, _ = enqueue(old, pointer, images)
    kept, _ = enqueue(tf.ones_like(old, tf.bool), pointer, written)
    return tf.where(kept, new, old)


def same_image(images, queue_images):
    """Where a key is no negative: of the query's own image, or superseded.

    Args:
        images: int64 [B], of the queries.
        queue_images: int64 [K]; see `enqueue_images`.

    Returns:
        bool [B, K].
    """
    return (images[:, None] == queue_images[None]) | (queue_images == SUPERSEDED)[None]


def negatives_of(hidden, dtype):
    """How many keys are negatives of a query, on average over `hidden` [B, K]: a scalar."""
    return tf.reduce_mean(tf.reduce_sum(tf.cast(~hidden, dtype), axis=1))
