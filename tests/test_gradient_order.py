"""Sums of gradients do not depend on what is ready first."""

import keras
import numpy as np
import tensorflow as tf

import moco_tf.training.step  # noqa: F401, which has tapes sum in order


def test_the_gradient_of_a_layer_norm_is_no_sum_of_three_by_addn():
    """AddN begins with any input that it can overwrite: of three and more the sum is not exact."""
    layer = keras.layers.LayerNormalization(epsilon=1e-6)
    layer.build((None, 8))

    @tf.function(autograph=False)
    def gradient(x, weights):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(weights * layer(x))
        return tape.gradient(loss, x)

    x, w = np.random.default_rng(0).normal(size=(2, 4, 8)).astype(np.float32)
    found = gradient(tf.constant(x), tf.constant(w))
    graph = gradient.get_concrete_function(tf.constant(x), tf.constant(w)).graph
    assert all(len(op.inputs) < 3 for op in graph.get_operations() if op.type == "AddN")
    mean, deviation = x.mean(-1, keepdims=True), np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    y = (x - mean) / deviation
    wanted = (w - w.mean(-1, keepdims=True) - y * (w * y).mean(-1, keepdims=True)) / deviation
    np.testing.assert_allclose(found, wanted, atol=1e-5)
