"""InfoNCE (arXiv:1911.05722, equation 1), over a queue of negatives or over the batch."""

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


def in_batch_logits(queries, keys, labels, temperature):
    """Similarities of each query with the key of its image (column 0) and with all other keys.

    Args:
        queries: unit rows [c, C].
        keys: unit rows [B, C], of the whole batch.
        labels: int [c], rows of `keys` that are the queries' positives.

    Returns:
        [c, B]: over temperature.

    Source: arXiv:2104.02057, Algorithm 1.
    """
    logits = tf.matmul(queries, keys, transpose_b=True) / temperature  # [c, B]
    is_positive = tf.range(keys.shape[0], dtype=labels.dtype) == labels[:, None]
    positive = tf.reduce_sum(tf.where(is_positive, logits, 0), axis=1, keepdims=True)
    # Key 0 takes the place of the positive, which takes its place.
    negative = tf.where(is_positive, logits[:, :1], logits)[:, 1:]
    return tf.concat([positive, negative], axis=1)


def info_nce(logits):
    """Cross-entropy of each row [B] with the positive in column 0: `[B, 1 + K] -> [B]`."""
    return tf.reduce_logsumexp(logits, axis=1) - logits[:, 0]


def top_k_accuracy(logits, k):
    """Share of the rows of [B, 1 + K], 0 to 100 percent, whose column 0 is among the `k` largest.

    Equal logits are not above it; those that are no numbers are.
    """
    # Counts are exact up to 2**24; a GPU would leave a sum of int32 to the host.
    below = tf.reduce_sum(tf.cast(logits[:, 1:] <= logits[:, :1], tf.float32), axis=1)  # [B]
    above = logits.shape[1] - 1 - below
    return 100 * tf.reduce_mean(tf.cast(above < k, logits.dtype))


def contrast_scalars(logits, queries, temperature):
    """Numbers to log of a contrast.

    Args:
        logits: [B, 1 + K], over temperature, the positive in column 0.
        queries: unit rows [B, C].
    """
    return {
        "top1": top_k_accuracy(logits, 1),
        "top5": top_k_accuracy(logits, 5),
        "positive_similarity": tf.reduce_mean(logits[:, 0]) * temperature,
        "negative_similarity": tf.reduce_mean(logits[:, 1:]) * temperature,
        "feature_mean": tf.reduce_mean(queries, axis=0),  # [C]
    }


def feature_std(feature_mean):
    """Standard deviation of the features of unit vectors, from their mean [C]: a scalar.

    The mean square of a feature over all rows is 1 / C.
    """
    spread = 1 - tf.reduce_sum(feature_mean**2)
    return tf.sqrt(tf.maximum(spread, 0) / feature_mean.shape[0])
