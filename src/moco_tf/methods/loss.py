"""InfoNCE over a queue of negatives (arXiv:1911.05722, equation 1)."""

import tensorflow as tf


def unit_norm(features):
    """Rows of `features` [B, C] divided by their L2 norm, at least 1e-12 (PyTorch's clamp)."""
    norm = tf.sqrt(tf.reduce_sum(tf.square(features), axis=1, keepdims=True))
    return features / tf.maximum(norm, tf.cast(1e-12, features.dtype))


def queue_logits(queries, keys, queue, temperature):
    """Similarities of each query with its key (column 0) and with the queue, over temperature.

    Args:
        queries, keys: unit rows [B, C]; key b is the positive of query b.
        queue: unit rows [K, C].
        temperature: T, above 0; 0.07 in the paper, 0.2 in MoCo v2.

    Returns:
        [B, 1 + K].
    """
    positive = tf.reduce_sum(queries * keys, axis=1, keepdims=True)  # [B, 1]
    negative = tf.matmul(queries, queue, transpose_b=True)  # [B, K]
    return tf.concat([positive, negative], axis=1) / temperature


def info_nce(logits):
    """Cross-entropy of each row [B] with the positive in column 0: `[B, 1 + K] -> [B]`."""
    return tf.reduce_logsumexp(logits, axis=1) - logits[:, 0]


def top_k_accuracy(logits, k):
    """Share of the rows of [B, 1 + K], 0 to 100 percent, whose column 0 is among the `k` largest.

    Equal logits are not above it; those that are no numbers are.
    """
    below = tf.reduce_sum(tf.cast(logits[:, 1:] <= logits[:, :1], tf.int32), axis=1)  # [B]
    above = logits.shape[1] - 1 - below
    return 100 * tf.reduce_mean(tf.cast(above < k, logits.dtype))
