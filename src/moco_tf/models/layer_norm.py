"""Layer normalization in few passes over the tokens."""

import keras
import tensorflow as tf

from moco_tf.models.xla import compiled, exact


@keras.saving.register_keras_serializable(package="moco_tf")
class LayerNorm(keras.layers.LayerNormalization):
    """Keras's, over the last axis: [..., D] -> [..., D], written as its definition.

    XLA compiles the backward pass, and in training the forward pass: each is one or two passes
    over the tokens. Inference takes plain operations, so that it can be exported.

    Source: arXiv:1607.06450, equation 4.
    """

    def call(self, inputs, training=False):
        gamma, beta = (exact(tf.convert_to_tensor(each)) for each in (self.gamma, self.beta))
        normalize = _normalize_in_training if training else _normalize
        return normalize(inputs, gamma, beta, self.epsilon)


def _normalize(x, gamma, beta, epsilon):
    y, _ = _standardize(exact(x), epsilon)
    return tf.cast(y * gamma + beta, x.dtype)


def _standardize(x, epsilon):
    """x less its mean over its standard deviation; one over the latter, [..., 1]."""
    centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
    scale = tf.math.rsqrt(variance + epsilon)
    return centred * scale, scale


_normalize_compiled = compiled(_normalize)


def _normalize_in_training(x, gamma, beta, epsilon):
    @tf.custom_gradient
    def normalize(x, gamma, beta):
        def gradient(upstream):
            return _gradients(x, gamma, upstream, epsilon)

        y = _normalize_compiled(x, gamma, beta, epsilon)
        return tf.ensure_shape(y, x.shape), gradient  # TensorFlow fuses products of known shapes

    return normalize(x, gamma, beta)


@compiled
def _gradients(x, gamma, upstream, epsilon):
    """By the inputs, gamma and beta."""
    g, axes = exact(upstream), list(range(len(x.shape) - 1))
    y, scale = _standardize(exact(x), epsilon)
    by_y = g * gamma
    mean = tf.reduce_mean(by_y, axis=-1, keepdims=True)
    along = tf.reduce_mean(by_y * y, axis=-1, keepdims=True)
    by_x = scale * (by_y - mean - y * along)
    return tf.cast(by_x, x.dtype), tf.reduce_sum(g * y, axes), tf.reduce_sum(g, axes)
