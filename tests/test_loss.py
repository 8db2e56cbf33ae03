"""InfoNCE against closed forms and a naive twin."""

import numpy as np
import pytest
import tensorflow as tf

from moco_tf.methods.loss import (
    feature_std,
    in_batch_logits,
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


def test_in_batch_logits_and_loss_match_a_loop():
    """Rows 2, 0 and 5 of a batch of 6: wherever the positive is, it comes to column 0."""
    keys, labels = RNG.standard_normal((6, 4)), [2, 0, 5]
    queries = RNG.standard_normal((3, 4))
    logits = in_batch_logits(*map(tf.constant, (queries, keys, labels)), 0.2)
    losses = info_nce(logits).numpy()
    for row, label in enumerate(labels):
        similarities = np.array([queries[row] @ key for key in keys]) / 0.2
        np.testing.assert_allclose(logits[row, 0], similarities[label], rtol=1e-12)
        np.testing.assert_allclose(np.sort(logits[row]), np.sort(similarities), rtol=1e-12)
        expected = np.log(np.exp(similarities).sum()) - similarities[label]
        np.testing.assert_allclose(losses[row], expected, rtol=1e-10)


def test_feature_std_of_all_directions_and_of_one():
    assert float(feature_std(tf.zeros([16]))) == pytest.approx(0.25)
    assert float(feature_std(tf.one_hot(3, 16))) == 0


@pytest.mark.golden
@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_recorded_contrast_of_two_ranks(golden, temperature):
    """Each has its share of the queries and all keys; gradients are those of a rank's own loss."""
    z = golden("moco_v3")
    q1, q2, k1, k2 = (z[f"contrastive/{n}"].astype(np.float64) for n in ("q1", "q2", "k1", "k2"))
    ranks, rows, _ = q1.shape
    for rank in range(ranks):
        queries = [tf.constant(q1[rank]), tf.constant(q2[rank])]
        with tf.GradientTape() as tape:
            tape.watch(queries)
            losses = []
            for query, keys in zip(queries, (k2, k1), strict=True):
                every = unit_norm(tf.constant(keys.reshape(ranks * rows, -1)))
                labels = tf.range(rows) + rows * rank
                logits = in_batch_logits(unit_norm(query), every, labels, temperature)
                losses.append(2 * temperature * tf.reduce_mean(info_nce(logits)))
            total = sum(losses)
        recorded = f"contrastive/T{temperature}"
        np.testing.assert_allclose(losses, z[f"{recorded}/loss"][rank], rtol=1e-6)
        for name, gradient in zip(("q1", "q2"), tape.gradient(total, queries), strict=True):
            wanted = z[f"{recorded}/grad_{name}"][rank]
            np.testing.assert_allclose(gradient, wanted, atol=2e-6 * np.abs(wanted).max())
