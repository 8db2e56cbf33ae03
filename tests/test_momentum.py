import numpy as np
import tensorflow as tf

from moco_tf.methods.momentum import momentum_update


def test_repeated_update_matches_the_closed_form():
    key, query = np.array([1.0, -2.0]), np.array([3.0, 5.0])
    value = key
    for _ in range(10):
        value = momentum_update(value, query, 0.9)
    np.testing.assert_allclose(value, query + (key - query) * 0.9**10, rtol=1e-12)


def test_both_weights_are_rounded_from_float64():
    """As PyTorch rounds them: 1 - float32(0.99) would be another number than float32(0.01)."""
    key, query = np.float32([3.0, -7.0]), np.float32([0.1, 11.0])
    wanted = key * np.float32(0.99) + query * np.float32(1 - 0.99)
    for momentum in (0.99, tf.constant(0.99, tf.float64)):
        found = momentum_update(tf.constant(key), tf.constant(query), momentum)
        np.testing.assert_array_equal(found, wanted)
