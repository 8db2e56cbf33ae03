"""GELU and the linear layer after it, of which little is kept for the backward pass.

Legend: N rows, F hidden units, D units.
"""

from math import pi, sqrt

import keras
import tensorflow as tf
from keras import ops

from moco_tf.models.xla import compiled, exact, is_half


def gelu(x):
    """Exact GELU. Keras's rounds the square root of 2 to float32, also in float64."""
    return 0.5 * x * (1 + ops.erf(x / sqrt(2)))


@keras.saving.register_keras_serializable(package="moco_tf")
class GeluDense(keras.layers.Dense):
    """Keras's Dense of `gelu(x)`: [N, F] -> [N, D].

    In the backward pass GELU and its gradient are one pass of XLA. By autodiff they are fifteen
    operations on the processor. In training XLA also compiles the forward pass, but not in half
    precision: there TensorFlow fuses it with the product before, and `vit` lets both run again.

    Source: arXiv:1606.08415.
    """

    def call(self, inputs, training=False):
        kernel, bias = map(tf.convert_to_tensor, (self.kernel, self.bias))
        by_xla = training and not is_half(self.compute_dtype)
        return (_compiled_forward if by_xla else _plain_forward)(inputs, kernel, bias)


@tf.custom_gradient
def _plain_forward(x, kernel, bias):
    return _with_gradient(gelu(x), x, kernel, bias)


@tf.custom_gradient
def _compiled_forward(x, kernel, bias):
    # TensorFlow fuses products of known shapes.
    return _with_gradient(tf.ensure_shape(_gelu_compiled(x), x.shape), x, kernel, bias)


def _with_gradient(hidden, x, kernel, bias):
    """The linear layer of `hidden`, gelu(x), and its gradient function, which keeps x alone."""

    def gradient(upstream):
        hidden, by_x = _gelu_and_gradient(x, tf.matmul(upstream, kernel, transpose_b=True))
        by_kernel = tf.matmul(hidden, upstream, transpose_a=True)
        return by_x, by_kernel, tf.raw_ops.BiasAddGrad(out_backprop=upstream)

    return tf.nn.bias_add(tf.matmul(hidden, kernel), bias), gradient


_gelu_compiled = compiled(gelu)


@compiled
def _gelu_and_gradient(inputs, upstream):
    """gelu(x), and upstream times its derivative; [N, F] each."""
    x = exact(inputs)
    cumulative = 0.5 * (1 + tf.math.erf(x / sqrt(2)))  # of the standard normal distribution
    density = tf.exp(-0.5 * tf.square(x)) / sqrt(2 * pi)
    by_x = exact(upstream) * (cumulative + x * density)
    return tf.cast(x * cumulative, inputs.dtype), tf.cast(by_x, inputs.dtype)
