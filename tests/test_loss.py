"""InfoNCE against closed forms and a naive twin."""

import numpy as np
import pytest
import tensorflow as tf

from moco_tf.methods.loss import (
    info_nce,
    queue_logits,
    top_k_accuracy,
    unit_norm,
)

RNG = np.random.default_rng(1)


def test_equal_logits_give_log_of_their_number():
    np.testing.assert_allclose(info_nce(tf.fill([3, 65537], 2.0)), np.log(65537), rtol=1e-6)


def test_logits_and_loss_match_a_loop():
    q, k, queue = (RNG.standard_normal((n, 6)) for n in (4, 4, 9))
    logits = queue_logits(tf.constant(q), tf.constant(k), tf.constant(queue), 0.07).numpy()
    for row in range(4):
        expected = np.array([q[row] @ k[row], *(q[row] @ v for v in queue)]) / 0.07
        np.testing.assert_allclose(logits[row], expected, rtol=1e-10)
    expected = -np.log(np.exp(logits[:, 0]) / np.exp(logits).sum(1))
    np.testing.assert_allclose(info_nce(tf.constant(logits)), expected, rtol=1e-8)


def test_unit_norm_of_zero_is_zero_and_of_others_one():
    rows = unit_norm(tf.constant([[3.0, 4.0], [0.0, 0.0]])).numpy()
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0]], rtol=1e-6)


def test_top_k_accuracy_counts_rows_beaten_by_fewer_than_k():
    logits = tf.constant([[5.0, 1, 2, 3], [2.0, 3, 1, 0], [0.0, 1, 2, 3]])
    assert float(top_k_accuracy(logits, 1)) == pytest.approx(100 / 3, rel=1e-6)
    assert float(top_k_accuracy(logits, 2)) == pytest.approx(200 / 3, rel=1e-6)


def test_no_numbers_are_no_success():
    logits = tf.constant([[np.nan, np.nan, np.nan], [1.0, 1.0, 1.0]])  # ties count as reached
    assert float(top_k_accuracy(logits, 1)) == 50
