"""LARS against the recorded trajectories, the formulas written out, and its edges."""

import numpy as np
import pytest
import tensorflow as tf

from moco_tf.training.lars import TRUST_COEFFICIENT, lars, lars_update

SETTINGS = {"momentum": 0.9, "weight_decay": 0.01}


def test_steps_equal_the_formulas():
    """Also where a norm is zero: the ratio is 1."""
    rng = np.random.default_rng(0)
    w, u = rng.standard_normal((3, 4)), np.zeros((3, 4))
    found_w, found_u = tf.constant(w), tf.constant(u)
    for rate in (0.0, 0.5, 0.1):
        g = rng.standard_normal(w.shape)
        d = g + 0.01 * w
        u = 0.9 * u + d * 0.001 * np.linalg.norm(w) / np.linalg.norm(d)
        w = w - rate * u
        found_w, found_u = lars_update(found_w, found_u, g, rate, **SETTINGS)
    np.testing.assert_allclose(found_w, w, rtol=1e-12)
    np.testing.assert_allclose(found_u, u, rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_without_a_norm_the_ratio_is_one(value):
    """Of zero weights the gradient is the step; of zero weights and gradient it is zero."""
    parameter, gradient = tf.zeros([2, 2]), tf.fill([2, 2], value)
    new, _ = lars_update(parameter, tf.zeros([2, 2]), gradient, 0.5, **SETTINGS)
    np.testing.assert_allclose(new, -0.5 * gradient)


def test_biases_and_norms_neither_decay_nor_adapt():
    rule, one = lars(**SETTINGS), tf.ones([5])
    new, buffer = rule.of(one)(one, 0 * one, 3 * one, 0.1)
    np.testing.assert_allclose(new, np.full(5, 0.7), rtol=1e-6)
    np.testing.assert_allclose(buffer, np.full(5, 3.0))
    new, _ = rule.of(tf.ones([5, 1]))(tf.ones([5, 1]), 0.0, 3 * tf.ones([5, 1]), 0.1)
    np.testing.assert_allclose(new, np.full((5, 1), 1 - 0.1 * 0.001), rtol=1e-6)


@pytest.mark.golden
def test_recorded_steps(golden):
    z = golden("moco_v3")
    assert float(z["lars/trust_coefficient"]) == TRUST_COEFFICIENT
    rule = lars(momentum=float(z["lars/momentum"]), weight_decay=float(z["lars/weight_decay"]))
    tensors = [name.split("/")[1] for name in z.files if name.endswith("/mu_end")]
    assert len(tensors) == 5
    for name in tensors:
        parameter = tf.constant(z[f"lars/{name}/init"], tf.float64)
        buffer, update = tf.zeros_like(parameter), rule.of(parameter)
        recorded = zip(z[f"lars/{name}/grads"], z["lars/lr_per_step"], strict=True)
        for step, (gradient, rate) in enumerate(recorded):
            parameter, buffer = update(parameter, buffer, gradient.astype(np.float64), rate)
            np.testing.assert_allclose(
                parameter, z[f"lars/{name}/after"][step], rtol=3e-6, atol=3e-7, err_msg=name
            )
        np.testing.assert_allclose(buffer, z[f"lars/{name}/mu_end"], rtol=3e-6, atol=3e-7)
