"""LARS: SGD whose steps are in proportion to the norm of each weight."""

from functools import partial

import tensorflow as tf

from moco_tf.training.optimizer import UpdateRule
from moco_tf.training.sgd import sgd_update

TRUST_COEFFICIENT = 0.001


def lars(*, momentum: float, weight_decay: float) -> UpdateRule:
    """Returns the rule of MoCo v3: biases and BatchNorm take plain SGD without decay.

    Source: the official MoCo v3, which excludes tensors of one dimension.
    """
    return UpdateRule(
        partial(lars_update, momentum=momentum, weight_decay=weight_decay),
        one_dimensional=partial(sgd_update, momentum=momentum, weight_decay=0.0),
    )


def lars_update(parameter, buffer, gradient, learning_rate, *, momentum, weight_decay):
    """Returns the new parameter and momentum buffer.

        direction <- gradient + weight_decay * parameter
        direction <- direction * 0.001 |parameter| / |direction|     unless either norm is zero
        buffer <- momentum * buffer + direction
        parameter <- parameter - learning_rate * buffer

    Args:
        parameter, buffer, gradient: tensors of one shape. The first buffer is zero.

    Source: arXiv:1708.03888 as the official MoCo v3 has it: the decay is inside the norm.
    """
    direction = gradient + weight_decay * parameter
    norm, direction_norm = tf.norm(parameter), tf.norm(direction)
    ratio = tf.where(
        (norm > 0) & (direction_norm > 0),
        tf.math.divide_no_nan(TRUST_COEFFICIENT * norm, direction_norm),
        tf.ones_like(norm),
    )
    # The direction has its decay already.
    return sgd_update(
        parameter, buffer, ratio * direction, learning_rate, momentum=momentum, weight_decay=0.0
    )
