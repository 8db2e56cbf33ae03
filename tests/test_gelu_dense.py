"""GELU and the linear layer after it against the definition, autodiff and Keras's Dense."""

from math import erf, exp, pi, sqrt

import keras
import numpy as np
import pytest
import tensorflow as tf

from moco_tf.models.gelu_dense import GeluDense, gelu


def test_gelu_is_exact_in_float64():
    x = np.linspace(-4, 4, 9)
    wanted = [value * (1 + erf(value / sqrt(2))) / 2 for value in x]
    np.testing.assert_allclose(gelu(tf.constant(x)), wanted, rtol=1e-14, atol=1e-16)


def test_its_derivative_is_exact_in_float64():
    x = np.linspace(-4, 4, 9)
    layer = GeluDense(1, dtype="float64", kernel_initializer="ones")
    inputs = tf.constant(x[:, None])
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        y = layer(inputs, training=True)
    wanted = [(1 + erf(v / sqrt(2))) / 2 + v * exp(-v * v / 2) / sqrt(2 * pi) for v in x]
    np.testing.assert_allclose(tape.gradient(y, inputs)[:, 0], wanted, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", 1e-13), ("float32", 1e-6), ("mixed_bfloat16", 0.02)]
)
@pytest.mark.parametrize("training", [True, False])
def test_values_and_gradients_are_those_of_a_dense_of_gelu(training, dtype, tolerance):
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(shape) for shape in ((7, 4), (4,))]
    x, upstream = rng.standard_normal((9, 7)) * 2, rng.standard_normal((9, 4))
    found = []
    for layer in (GeluDense(4, dtype=dtype), keras.layers.Dense(4, dtype="float64")):
        layer.build((None, 7))
        layer.set_weights(weights)
        inputs = tf.constant(x, layer.compute_dtype)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            ours = isinstance(layer, GeluDense)
            y = layer(inputs, training=training) if ours else layer(gelu(inputs))
        sources = [inputs, layer.kernel.value, layer.bias.value]
        gradients = tape.gradient(y, sources, tf.constant(upstream, y.dtype))
        found.append([tf.cast(each, tf.float64) for each in (y, *gradients)])
        assert [each.dtype for each in gradients] == [each.dtype for each in sources]
    for ours, wanted in zip(*found, strict=True):
        atol = tolerance * np.abs(wanted).max()
        np.testing.assert_allclose(ours, wanted, atol=atol)
