"""AdamW against the recorded trajectories and the formulas written out."""

import numpy as np
import pytest
import tensorflow as tf

from moco_tf.training.adamw import adamw, adamw_update


def run(parameter, gradients, rates, dtype=tf.float64, **settings):
    """Parameters and running means after each step."""
    parameter = tf.constant(parameter, dtype)
    mean = square = tf.zeros_like(parameter)
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        parameter, mean, square = adamw_update(
            parameter,
            mean,
            square,
            tf.constant(gradient, dtype),
            tf.constant(rate, dtype),
            step=tf.constant(step, tf.float64),
            **settings,
        )
        yield [tensor.numpy() for tensor in (parameter, mean, square)]


def test_steps_equal_the_formulas():
    """The first one has a rate of zero, as at the start of a warm-up: it still counts."""
    rng = np.random.default_rng(0)
    start, gradients = rng.standard_normal(6), rng.standard_normal((4, 6)) * 1e-6
    rates = (0.0, 0.1, 0.2, 0.05)
    p, m, v = start, 0.0, 0.0
    for s, ((found, *means), g, lr) in enumerate(
        zip(run(start, gradients, rates, weight_decay=0.1), gradients, rates, strict=True), 1
    ):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        m_hat, v_hat = m / (1 - 0.9**s), v / (1 - 0.999**s)
        p = p * (1 - lr * 0.1) - lr * m_hat / (np.sqrt(v_hat) + 1e-8)
        np.testing.assert_allclose(found, p, rtol=1e-12)
        np.testing.assert_allclose(means, [m, v], rtol=1e-12)


def test_a_constant_gradient_moves_by_the_rate_whatever_its_size():
    """Closed form: both means over their corrections are the gradient and its square."""
    for size in (1e-3, 1e3):
        *_, (last, _, _) = run([0.0], [[size]] * 5, [0.01] * 5, tf.float32, weight_decay=0.0)
        np.testing.assert_allclose(last, -5 * 0.01, rtol=2e-5)


def test_biases_decay_too():
    rule, bias = adamw(weight_decay=0.5), tf.ones([3])
    new, *_ = rule.of(bias)(bias, 0 * bias, 0 * bias, 0 * bias, 0.1, step=tf.constant(1.0))
    np.testing.assert_allclose(new, np.full(3, 0.95), rtol=1e-6)


@pytest.mark.golden
def test_recorded_steps(golden):
    z = golden("moco_v3")
    for name in ("w", "b"):
        init, gradients, after = (z[f"adamw/{name}/{part}"] for part in ("init", "grads", "after"))
        decay = float(z["adamw/weight_decay"])
        steps = run(init, gradients, z["adamw/lr_per_step"], weight_decay=decay)
        for (found, *_), recorded in zip(steps, after, strict=True):
            np.testing.assert_allclose(found, recorded, rtol=1e-6, atol=1e-7, err_msg=name)
