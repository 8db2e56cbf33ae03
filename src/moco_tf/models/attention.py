"""Attention between the tokens of each image.

Legend: B images, T tokens, D width, H heads.
"""

import keras
import tensorflow as tf
from keras import ops

from moco_tf.models.xla import compiled, exact


def attention(qkv, *, tokens, heads, attend):
    """Scaled dot-product attention of all heads: [B T, 3 D] -> [B T, D].

    Args:
        tokens, heads: T, H.
        attend: (query, key, value) -> values; all of them are [B, H, T, D / H], and the query is
            scaled.

    Source: arXiv:1706.03762, section 3.2.
    """
    size = qkv.shape[-1] // 3 // heads
    split = ops.reshape(qkv, (-1, tokens, 3, heads, size))
    query, key, value = ops.unstack(ops.transpose(split, (2, 0, 3, 1, 4)), 3)
    attended = ops.transpose(attend(query * size**-0.5, key, value), (0, 2, 1, 3))  # [B, T, H, ...]
    return ops.reshape(attended, (-1, heads * size))


def attend(query, key, value):
    """Softmax of the products of queries and keys, times the values."""
    # Keras's dot_product_attention, einsums, takes longer, and is further off in half precision.
    return ops.matmul(_weights(query, key), value)


def _weights(query, key):
    # In half precision oneDNN's softmax and TensorFlow's on a GPU compute in float32 inside.
    return ops.softmax(ops.matmul(query, ops.swapaxes(key, -1, -2)))  # [B, H, T, T]


@keras.saving.register_keras_serializable(package="moco_tf")
class Attention(keras.layers.Layer):
    """`attention`, whose backward pass goes over the weights [B, H, T, T] once, by XLA.

    Their gradient by autodiff is four operations on the processor, and casts in half precision.
    """

    def __init__(self, tokens, heads, **kwargs):
        super().__init__(**kwargs)
        self.tokens, self.heads = tokens, heads

    def compute_output_spec(self, qkv):
        return keras.KerasTensor((qkv.shape[0], qkv.shape[-1] // 3), dtype=self.compute_dtype)

    def call(self, qkv):
        return attention(qkv, tokens=self.tokens, heads=self.heads, attend=_attend)

    def get_config(self):
        return super().get_config() | {"tokens": self.tokens, "heads": self.heads}


@tf.custom_gradient
def _attend(query, key, value):
    weights = _weights(query, key)
    attended = tf.matmul(weights, value)

    def gradient(upstream):
        by_weight = tf.matmul(upstream, value, transpose_b=True)
        by_logit = _by_logit(weights, by_weight, attended, upstream)
        by_key = tf.matmul(by_logit, query, transpose_a=True)
        return tf.matmul(by_logit, key), by_key, tf.matmul(weights, upstream, transpose_a=True)

    return attended, gradient


@compiled
def _by_logit(weights, by_weight, attended, upstream):
    """The gradient of softmax, in which the sum over keys is one over D / H.

    Source: arXiv:2205.14135, appendix B.2.
    """
    w, g, a, u = map(exact, (weights, by_weight, attended, upstream))
    return tf.cast(w * (g - tf.reduce_sum(a * u, axis=-1, keepdims=True)), weights.dtype)
