"""GELU and the linear layer after it, of which little is kept for the backward pass.

Legend: N rows, F hidden units, D units.
"""

from math import pi, sqrt

import keras
import tensorflow as tf
from keras import ops


def gelu(x):
    """Exact GELU. Keras's rounds the square root of 2 to float32, also in float64."""
    return 0.5 * x * (1 + ops.erf(x / sqrt(2)))


@keras.saving.register_keras_serializable(package="moco_tf")
class GeluDense(keras.layers.Dense):
    """Keras's Dense of `gelu(x)`: [N, F] -> [N, D].

    GELU and its gradient are one pass of XLA in the backward pass. By autodiff they are fifteen
    operations on the processor.

    Source: arXiv:1606.08415.
    """

    def call(self, inputs):
        return _gelu_dense(inputs, *map(tf.convert_to_tensor, (self.kernel, self.bias)))


@tf.custom_gradient
def _gelu_dense(x, kernel, bias):
    def gradient(upstream):
        hidden, by_x = _gelu_and_gradient(x, tf.matmul(upstream, kernel, transpose_b=True))
        by_kernel = tf.matmul(hidden, upstream, transpose_a=True)
        return by_x, by_kernel, tf.raw_ops.BiasAddGrad(out_backprop=upstream)

    return tf.nn.bias_add(tf.matmul(gelu(x), kernel), bias), gradient


@tf.function(jit_compile=True, autograph=False)
def _gelu_and_gradient(inputs, upstream):
    """gelu(x), and upstream times its derivative; [N, F] each."""
    exact = keras.backend.result_type(inputs.dtype.name, "float32")
    x, g = tf.cast(inputs, exact), tf.cast(upstream, exact)
    cumulative = 0.5 * (1 + tf.math.erf(x / sqrt(2)))
    density = tf.exp(-0.5 * tf.square(x)) / sqrt(2 * pi)
    return [tf.cast(y, inputs.dtype) for y in (x * cumulative, g * (cumulative + x * density))]
