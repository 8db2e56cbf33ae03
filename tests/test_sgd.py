"""SGD against the formulas written out for three steps with a drop of the rate."""

import numpy as np

from moco_tf.training.sgd import sgd_update


def test_three_steps_with_a_drop_of_the_learning_rate():
    w, u = 2.0, 0.0
    gradients, rates = (0.5, -1.0, 0.25), (0.1, 0.1, 0.01)
    u1 = 0.5 + 0.01 * 2
    w1 = 2 - 0.1 * u1
    u2 = 0.9 * u1 + (-1 + 0.01 * w1)
    w2 = w1 - 0.1 * u2
    u3 = 0.9 * u2 + (0.25 + 0.01 * w2)
    w3 = w2 - 0.01 * u3
    for g, lr in zip(gradients, rates, strict=True):
        w, u = sgd_update(w, u, g, lr, momentum=0.9, weight_decay=0.01)
    np.testing.assert_allclose([w, u], [w3, u3], rtol=1e-12)
