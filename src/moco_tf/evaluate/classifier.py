"""Several linear softmax classifiers on the same features, and one step of SGD for all of them.

Pure functions. A label of -1 fills up a batch: it has no loss and is never right.

Legend: H classifiers ("heads"), N images, D features, C classes.
"""

import zlib

import tensorflow as tf

from moco_tf.training.sgd import sgd_update

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


def batch_sums(logits, labels):
    """Sums over a batch: "loss", "top1" and "top5" (right ones), each [H], and "images".

    Args:
        logits: [H, N, C]; of fewer than five classes top-5 is always right.
        labels: [N], -1 fills up.
    """
    top = {"top1": 1, "top5": min(5, logits.shape[-1])}
    sums = {name: _count(is_correct(logits, labels, k)) for name, k in top.items()}
    sums["loss"] = tf.reduce_sum(cross_entropy(logits, labels), axis=1)
    sums["images"] = _count(labels >= 0)
    return sums


def best_loss(sums):
    """The smallest mean loss of the heads, a scalar; NaN if that of none is finite."""
    losses = sums["loss"] / tf.cast(sums["images"], sums["loss"].dtype)
    finite = tf.math.is_finite(losses)
    smallest = tf.reduce_min(tf.where(finite, losses, losses.dtype.max))
    return tf.where(tf.reduce_any(finite), smallest, float("nan"))


def add(total, sums):
    """Sums of two sets of batches; `total` may be None."""
    return sums if total is None else {name: total[name] + sums[name] for name in sums}


def means(sums) -> dict[str, list[float]]:
    """{"loss": mean, "top1": percent, "top5": percent}, each of H heads: waits for the device."""
    images = float(sums["images"])
    factors = {"loss": 1 / images, "top1": 100 / images, "top5": 100 / images}
    return {name: [factor * float(v) for v in sums[name]] for name, factor in factors.items()}


def evaluate(step, batches):
    """Returns the `means` of `step(images, labels)`, a function to `batch_sums`, over batches."""
    total = None
    for images, labels in batches:
        total = add(total, step(images, labels))
    return means(total)


def _count(flags):
    return tf.reduce_sum(tf.cast(flags, tf.float32), axis=-1)
