"""ShuffleBN: which images of the batch the key encoder normalises together (section 3.3).

Legend: B images in the global batch, R replicas, b = B / R, N images in a BatchNorm group.
"""

import numpy as np
import tensorflow as tf


def replica_rows(batch_size, group_size, layout, replicas):
    """Rows of the global batch that each replica encodes, in its own order: int32 array [R, b].

    Contiguous groups go to the replicas in order. Interleaved groups too: replica r gets the
    groups r G/R to (r + 1) G/R - 1, again interleaved, so that no image changes its group.
    """
    if layout == "contiguous":
        return np.arange(batch_size, dtype=np.int32).reshape(replicas, -1)
    by_group = np.arange(batch_size, dtype=np.int32).reshape(group_size, replicas, -1)
    return by_group.transpose(1, 0, 2).reshape(replicas, -1)


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


def pick(images, rows):
    """Rows [b] of a batch: a tensor [B, ...], or a nest of such tensors."""
    return tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), images)


def shuffle(images, permutation, rows):
    """Images that one replica's key encoder gets: rows `permutation[rows]` of the batch.

    Args:
        images: [B, ...], or a nest of such tensors; permutation: [B]; rows: [b], this replica's of
            `replica_rows`, or a chunk of them.
    """
    return pick(images, tf.gather(permutation, rows))


def unshuffle(keys, permutation, rows):
    """Keys of all replicas, in replica order, back in the order of the batch.

    Args:
        keys: [B, C]; permutation: [B]; rows: [R, b], all of `replica_rows`.
    """
    source = tf.gather(permutation, rows.reshape(-1))  # image that row i of keys came from
    return tf.gather(keys, tf.math.invert_permutation(source))
