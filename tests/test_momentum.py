import numpy as np

from moco_tf.methods.momentum import momentum_update


def test_repeated_update_matches_the_closed_form():
    key, query = np.array([1.0, -2.0]), np.array([3.0, 5.0])
    value = key
    for _ in range(10):
        value = momentum_update(value, query, 0.9)
    np.testing.assert_allclose(value, query + (key - query) * 0.9**10, rtol=1e-12)
