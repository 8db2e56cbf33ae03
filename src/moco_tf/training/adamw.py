"""AdamW in PyTorch's form."""

from functools import partial

import tensorflow as tf

from moco_tf.models.xla import compiled
from moco_tf.training.optimizer import UpdateRule


def adamw(*, weight_decay: float, matrices_only: bool = False) -> UpdateRule:
    """Returns the rule of MoCo v3's vision transformers: all parameters decay, biases too.

    Args:
        matrices_only: biases, scales, shifts and the class token do not decay, as in DeiT.
    """
    no_decay = _update(0.0) if matrices_only else None
    return UpdateRule(
        _update(weight_decay),
        slots=("exp_avg", "exp_avg_sq"),
        counts_steps=True,
        one_dimensional=no_decay,
        tokens_too=matrices_only,
    )


def _update(weight_decay):
    """`adamw_update` as one pass over the parameter, instead of twelve."""
    return compiled(partial(adamw_update, weight_decay=weight_decay))


def adamw_update(
    parameter,
    mean,
    square,
    gradient,
    learning_rate,
    *,
    step,
    weight_decay,
    betas=(0.9, 0.999),
    epsilon=1e-8,
):
    """Returns the new parameter and the new running means of the gradient and of its square.

        parameter <- parameter * (1 - learning_rate * weight_decay)
        mean <- b1 * mean + (1 - b1) * gradient
        square <- b2 * square + (1 - b2) * gradient^2
        parameter <- parameter - learning_rate / (1 - b1^step) * mean
                                 / (sqrt(square) / sqrt(1 - b2^step) + epsilon)

    Args:
        parameter, mean, square, gradient: tensors of one shape. The first means are zero.
        step: 1 for the first step, a float64 scalar, because 1 - b2^step loses digits in float32.

    Source: arXiv:1711.05101; epsilon is where PyTorch has it (Keras adds it before it corrects the
    bias).
    """
    dtype, (beta1, beta2) = parameter.dtype, betas
    correction1 = tf.cast(1 - beta1**step, dtype)
    correction2 = tf.cast(tf.sqrt(1 - beta2**step), dtype)
    mean = beta1 * mean + (1 - beta1) * gradient
    square = beta2 * square + (1 - beta2) * tf.square(gradient)
    change = mean / (tf.sqrt(square) / correction2 + epsilon)
    decayed = parameter * (1 - learning_rate * weight_decay)
    return decayed - learning_rate / correction1 * change, mean, square
