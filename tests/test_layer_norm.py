"""Layer normalization against its definition in NumPy and against Keras's."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from moco_tf.models.layer_norm import LayerNorm


def layers(dtype):
    """Ours and Keras's, of the same weights, and an input."""
    rng = np.random.default_rng(0)
    found = []
    for kind in (LayerNorm, keras.layers.LayerNormalization):
        found.append(kind(epsilon=1e-6, dtype=dtype))
        found[-1].build((None, 12))
    weights = [rng.standard_normal(12), rng.standard_normal(12)]
    for one in found:
        one.set_weights(weights)
    return *found, weights, rng.standard_normal((5, 3, 12)) * 3 + 1


def test_each_row_has_mean_0_and_variance_1_before_it_is_scaled():
    ours, _, (gamma, beta), x = layers("float64")
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    wanted = (x - mean) / np.sqrt(variance + 1e-6) * gamma + beta
    np.testing.assert_allclose(ours(x), wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-5), ("mixed_bfloat16", 0.1)]
)
@pytest.mark.parametrize("training", [True, False])
def test_values_and_gradients_are_those_of_keras(training, dtype, tolerance):
    ours, theirs, _, x = layers(dtype)
    images = tf.constant(x, ours.compute_dtype)
    found = []
    for one, options in ((ours, {"training": training}), (theirs, {})):
        with tf.GradientTape() as tape:
            tape.watch(images)
            y = one(images, **options)
            loss = tf.reduce_sum(tf.cast(y, tf.float32) ** 3)
        found.append([y, *tape.gradient(loss, [images, *[v.value for v in one.variables]])])
    assert found[0][0].dtype == found[1][0].dtype == ours.compute_dtype
    for mine, keras_s in zip(*found, strict=True):
        wanted = np.asarray(tf.cast(keras_s, tf.float64))
        np.testing.assert_allclose(
            np.asarray(tf.cast(mine, tf.float64)), wanted, atol=tolerance * np.abs(wanted).max()
        )
