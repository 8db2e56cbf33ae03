"""The queue of keys: a ring of K unit vectors (arXiv:1911.05722, section 3.1)."""

import numpy as np
import tensorflow as tf


def initial_queue(size, dim, seed):
    """K random unit rows: float32 array [size, dim], a function of `seed`."""
    rows = np.random.Generator(np.random.Philox(key=seed)).standard_normal((size, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def enqueue(queue, pointer, keys):
    """Returns the queue with `keys` over its oldest rows, and the new pointer.

    Wraps around at the end, so that any queue size goes with any batch size; of more keys than
    the queue holds, the last ones stay.

    Args:
        queue: [K, C].
        pointer: int64 scalar in [0, K): row that the first key goes to.
        keys: unit rows [B, C].
    """
    size, count = queue.shape[0], keys.shape[0]
    kept = min(size, count)
    rows = (pointer + tf.range(count - kept, count, dtype=pointer.dtype)) % size
    queue = tf.tensor_scatter_nd_update(queue, rows[:, None], keys[count - kept :])
    return queue, (pointer + count) % size
