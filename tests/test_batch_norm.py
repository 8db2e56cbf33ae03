"""GroupBatchNorm against NumPy, group by group."""

import numpy as np
import pytest
import tensorflow as tf

from moco_tf.models.batch_norm import GroupBatchNorm

RNG = np.random.default_rng(0)


def naive(x, groups):
    """Normalised rows, and each group's mean and unbiased variance."""
    out, means, variances = np.empty_like(x), [], []
    for rows in groups:
        flat = x[rows].reshape(-1, x.shape[-1])
        mean, var = flat.mean(0), flat.var(0)
        out[rows] = (x[rows] - mean) / np.sqrt(var + 1e-5)
        means.append(mean)
        variances.append(flat.var(0, ddof=1))
    return out, np.array(means), np.array(variances)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["contiguous", "interleaved"])
@pytest.mark.parametrize("rule", ["first_group", "mean"])
@pytest.mark.parametrize("shape", [(12, 5, 5, 3), (12, 7)])
def test_training_mode_matches_numpy(dtype, layout, rule, shape):
    x = (RNG.standard_normal(shape) * 3 + 2).astype(dtype)
    layer = GroupBatchNorm(4, layout, rule, dtype=dtype)
    y = layer(tf.constant(x), training=True).numpy()
    order = np.arange(12).reshape(3, 4) if layout == "contiguous" else np.arange(12).reshape(4, 3).T
    expected, means, variances = naive(x, order)
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(y, expected, atol=tolerance)
    pick = (lambda v: v[0]) if rule == "first_group" else (lambda v: v.mean(0))
    np.testing.assert_allclose(layer.moving_mean, 0.1 * pick(means), atol=tolerance)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * pick(variances), rtol=1e-5)


def test_inference_mode_uses_running_statistics():
    layer = GroupBatchNorm(4)
    layer.build((None, 3))
    for name, values in [("moving_mean", [1, 2, 3]), ("moving_variance", [4, 1, 9])]:
        getattr(layer, name).assign(values)
    y = layer(tf.constant([[3.0, 2.0, 0.0]]), training=False).numpy()
    expected = np.array([[2, 0, -3]]) / np.sqrt(np.array([4, 1, 9]) + 1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-6)


def test_epsilon_is_pytorchs_even_in_the_fused_kernel():
    x = (RNG.standard_normal((8, 4, 4, 2)) * 1e-3).astype("float32")
    y = GroupBatchNorm(8)(tf.constant(x), training=True).numpy()
    exact, _, _ = naive(x.astype("float64"), [np.arange(8)])
    np.testing.assert_allclose(y, exact, atol=1e-5)


def test_a_group_that_does_not_divide_the_batch_is_refused():
    with pytest.raises(ValueError, match="group_size=5, batch=8"):
        GroupBatchNorm(5)(tf.zeros([8, 2]), training=True)


def test_without_scale_and_shift_nothing_is_trained():
    x = RNG.standard_normal((6, 3)) * 3 + 2
    layer = GroupBatchNorm(6, center=False, scale=False, dtype="float64")
    y = layer(tf.constant(x), training=True).numpy()
    np.testing.assert_allclose(y, naive(x, [np.arange(6)])[0], atol=1e-12)
    assert layer.trainable_variables == []
    still = layer(tf.constant(x), training=False).numpy()
    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    np.testing.assert_allclose(still, (x - mean) / np.sqrt(variance + 1e-5), rtol=1e-10)
    assert GroupBatchNorm.from_config(layer.get_config()).scale is False
