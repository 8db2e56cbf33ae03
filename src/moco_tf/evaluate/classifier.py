"""Several linear softmax classifiers on the same features, and one step of SGD for all of them.

Pure functions. A label of -1 fills up a batch: it has no loss and is never right.

Legend: H classifiers ("heads"), N images, D features, C classes.
"""

import zlib

import tensorflow as tf

from moco_tf.sgd import sgd_update

INITIAL_DEVIATION = 0.01
MOMENTUM, WEIGHT_DECAY = 0.9, 0.0


def initial_kernel(features, classes, seed):
    """Normal numbers of deviation 0.01, [D, C]: a function of the seed. Biases start at 0."""
    pair = tf.constant([seed, zlib.crc32(b"fc/kernel")], tf.int64)
    shape = [features, classes]
    return tf.random.stateless_normal(shape, pair, stddev=INITIAL_DEVIATION, alg="philox")


def head_logits(features, kernels, biases):
    """Logits [H, N, C] of features [N, D] under kernels [H, D, C] and biases [H, C]."""
    return tf.einsum("nd,hdc->hnc", features, kernels) + biases[:, None, :]


def cross_entropy(logits, labels):
    """Cross-entropy of each image under each head: [H, N, C] and [N] -> [H, N]."""
    right = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)  # [N, C], zeros for -1
    filled = tf.cast(labels >= 0, logits.dtype)
    losses = tf.reduce_logsumexp(logits, axis=2) - tf.reduce_sum(logits * right, axis=2)
    return losses * filled


def gradients(features, logits, labels, count):
    """Gradients of each head's summed cross-entropy / `count`: [H, D, C] and [H, C].

    On a part of a batch they are that part's share, if `count` is the whole batch's: the shares
    of several devices are summed.

    Args:
        logits: of `head_logits`.
        count: number of images in the whole batch, labels of -1 left out.
    """
    right = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    filled = tf.cast(labels >= 0, logits.dtype)[:, None]
    errors = (tf.nn.softmax(logits) - right) * filled / tf.cast(count, logits.dtype)  # [H, N, C]
    return tf.einsum("nd,hnc->hdc", features, errors), tf.reduce_sum(errors, axis=1)


def update(parameter, buffer, gradient, rates):
    """One step of SGD on the kernels or the biases of all heads, each at its own rate [H].

    Source: spec of the official linear classification: momentum 0.9, no decay; see `sgd_update`.
    """
    rates = tf.reshape(rates, [-1] + [1] * (len(parameter.shape) - 1))
    return sgd_update(
        parameter, buffer, gradient, rates, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )


def is_correct(logits, labels, k):
    """Whether an image's class is among the `k` largest logits: [H, N, C] and [N] -> [H, N].

    Of equal logits the lower class counts as larger; what is not finite is never right.
    """
    classes = tf.range(logits.shape[-1], dtype=labels.dtype)
    own = tf.reduce_sum(
        tf.where(classes == labels[:, None], logits, tf.zeros_like(logits)), axis=2, keepdims=True
    )
    equal_before = (logits == own) & (classes < labels[:, None])
    above = tf.reduce_sum(tf.cast((logits > own) | equal_before, tf.int32), axis=2)
    finite = tf.reduce_all(tf.math.is_finite(logits), axis=2)
    return (above < k) & finite & (labels >= 0)
