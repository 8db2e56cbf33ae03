"""ShuffleBN: which images of the batch the key encoder normalises together (section 3.3).

Legend: B images in the global batch, R replicas, b = B / R.
"""

import tensorflow as tf


def random_permutation(seed, step, directions, batch_size):
    """Permutations of the batch, int32 [directions, B]: a function of (seed, step).

    Args:
        seed, step: whole numbers, Python's or scalar tensors.
        directions: 1, or 2 where each view is query and key in turn.
    """
    draws = tf.random.stateless_uniform(
        [directions, batch_size],
        tf.stack([tf.cast(seed, tf.int64), tf.cast(step, tf.int64)]),
        minval=None,
        maxval=None,
        dtype=tf.int32,
        alg="philox",
    )
    return tf.argsort(draws, axis=1, stable=True)


def shuffle(images, permutation):
    """Images [B, ...] in the order of `permutation`, int32 [B], as the key encoder takes them."""
    return tf.gather(images, permutation)


def unshuffle(keys, permutation, rows=None):
    """Keys of shuffled images back in the order of the batch: `[B, C] -> [B, C]`.

    Args:
        keys: [B, C], of all replicas in replica order.
        permutation: int32 [B], which the images were shuffled by.
        rows: whole numbers [R, b], all of `replica_rows`; none: one replica has the whole batch.
    """
    # The image that row i of keys came from.
    source = permutation if rows is None else tf.gather(permutation, rows.reshape(-1))
    return tf.gather(keys, tf.math.invert_permutation(source))
