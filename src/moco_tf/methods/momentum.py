"""The momentum update of the key encoder (arXiv:1911.05722, equation 2)."""

import tensorflow as tf


def momentum_update(key, query, momentum):
    """`momentum * key + (1 - momentum) * query`, for one parameter tensor.

    Applied to parameters only: the key encoder gathers its own BatchNorm statistics.

    Args:
        key, query: the same parameter of both encoders, tensors of one shape.
        momentum: m, 0 to 1; 0.999 in the paper. A float, a float64 scalar, or what
            `momentum_weights` made of either, once for many parameters.
    """
    if not isinstance(momentum, tuple):
        momentum = momentum_weights(momentum, key.dtype)
    of_key, of_query = momentum
    return key * of_key + query * of_query


def momentum_weights(momentum, dtype):
    """`(momentum, 1 - momentum)`, both rounded from float64, as PyTorch does."""
    momentum = tf.convert_to_tensor(momentum, tf.float64)
    return tf.cast(momentum, dtype), tf.cast(1 - momentum, dtype)
