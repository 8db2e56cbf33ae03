"""ShuffleBN: which images of the batch the key encoder normalises together (section 3.3).

Legend: B images in the global batch, R replicas, b = B / R.
"""

import tensorflow as tf


def random_permutation(seed, step, directions, batch_size):
    """Permutations of the batch, int32 [directions, B]: a function of (seed, step)."""
    draws = tf.random.stateless_uniform(
        [directions, batch_size],
        tf.stack([tf.cast(seed, tf.int64), tf.cast(step, tf.int64)]),
        minval=None,
        maxval=None,
        dtype=tf.int32,
        alg="philox",
    )
    return tf.argsort(draws, axis=1, stable=True)


def unshuffle(keys, permutation, rows):
    """Keys of all replicas, in replica order, back in the order of the batch.

    Args:
        keys: [B, C]; permutation: [B]; rows: [R, b], all of `replica_rows`.
    """
    source = tf.gather(permutation, rows.reshape(-1))  # image that row i of keys came from
    return tf.gather(keys, tf.math.invert_permutation(source))
