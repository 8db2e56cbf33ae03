"""The ridge classifier: equal to least squares of the augmented system, at any scale."""

import numpy as np
import pytest

from moco_tf.evaluate import ridge as module
from moco_tf.evaluate.ridge import (
    GRID,
    choose_and_fit,
    correct_share,
    moments,
    ridge,
    squared_error,
)


def problem(images=60, features=7, classes=4, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, images)
    centres = generator.normal(size=(classes, features))
    x = 3 + centres[labels] + 0.7 * generator.normal(size=(images, features))
    return x, labels, classes


@pytest.mark.parametrize("ratio", [0.0, 1e-3, 1.0])
def test_equals_least_squares_of_the_augmented_system(ratio):
    """Rows sqrt(lambda) * identity under the images, and a column of ones without penalty."""
    x, labels, classes = problem()
    centred = x - x.mean(axis=0)
    penalty = ratio * np.trace(centred.T @ centred) / x.shape[1]
    rows = np.hstack([x, np.ones((len(x), 1))])
    below = np.hstack([np.sqrt(penalty) * np.eye(x.shape[1]), np.zeros((x.shape[1], 1))])
    targets = np.vstack([np.eye(classes)[labels], np.zeros((x.shape[1], classes))])
    wanted = np.linalg.lstsq(np.vstack([rows, below]), targets, rcond=None)[0]
    (kernel,), (bias,) = ridge(moments(x, labels, classes), (ratio,))
    np.testing.assert_allclose(kernel, wanted[:-1], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(bias, wanted[-1], rtol=1e-9, atol=1e-11)


def test_one_decomposition_serves_the_whole_grid():
    sums = moments(*problem())
    kernels, biases = ridge(sums, GRID)
    for number, ratio in enumerate(GRID):
        (kernel,), (bias,) = ridge(sums, (ratio,))
        np.testing.assert_array_equal(kernels[number], kernel)
        np.testing.assert_array_equal(biases[number], bias)


def test_moments_of_parts_add_up(monkeypatch):
    x, labels, classes = problem()
    whole = moments(x, labels, classes)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 7)
    parts = moments(x[:25], labels[:25], classes) + moments(x[25:], labels[25:], classes)
    assert parts.count == whole.count
    for name in ("features", "targets", "gram", "cross"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-12)
    np.testing.assert_allclose(whole.gram, x.T @ x, rtol=1e-12)
    np.testing.assert_allclose(whole.cross, x.T @ np.eye(classes)[labels], rtol=1e-12)


def test_neither_scale_nor_place_of_the_features_matters():
    x, labels, classes = problem()
    (kernel,), (bias,) = ridge(moments(x, labels, classes), (0.01,))
    (other,), (other_bias,) = ridge(moments(1e-3 * x + 5, labels, classes), (0.01,))
    np.testing.assert_allclose(x @ kernel + bias, (1e-3 * x + 5) @ other + other_bias, atol=1e-7)


def test_a_huge_lambda_leaves_the_shares_of_the_classes():
    x, labels, classes = problem()
    (kernel,), (bias,) = ridge(moments(x, labels, classes), (1e9,))
    assert np.abs(kernel).max() < 1e-6
    np.testing.assert_allclose(bias, np.bincount(labels) / len(labels), atol=1e-6)


def test_constant_features_stay_finite():
    labels = np.array([0, 1, 1, 1])
    kernels, biases = ridge(moments(np.full((4, 3), 2.0), labels, 2), GRID)
    assert np.isfinite(kernels).all()
    np.testing.assert_allclose(biases[0], [0.25, 0.75], atol=1e-9)


def test_correct_share_by_hand(monkeypatch):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 2)
    features = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 0, 0]])
    labels = np.array([0, 1, 0, 1, 2])
    shares = [correct_share(features, labels, np.eye(3), np.zeros(3), k) for k in (1, 2, 3)]
    assert shares == pytest.approx([40.0, 80.0, 100.0])


def test_squared_error_by_hand_and_least_without_penalty():
    features, labels = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([0, 0])
    assert squared_error(features, labels, np.eye(2), np.array([0.5, 0.0])) == pytest.approx(
        (0.25 + 0.0 + 0.25 + 4.0) / 2
    )
    x, labels, classes = problem()
    kernels, biases = ridge(moments(x, labels, classes), GRID)
    errors = [squared_error(x, labels, *head) for head in zip(kernels, biases, strict=True)]
    assert errors == sorted(errors)


def test_lambda_is_chosen_on_held_out_images_and_all_are_fitted():
    """Features without meaning: the more of them, the more penalty is best; found one by one."""
    generator = np.random.default_rng(0)
    x, labels, classes = problem(images=80, seed=1)
    x = np.hstack([x, 3 * generator.normal(size=(80, 60))])
    held = np.arange(0, 80, 5)
    kernel, bias, ratio, top1 = choose_and_fit(x, labels, classes, held=held)
    others = np.setdiff1d(np.arange(80), held)
    shares = {}
    for value in GRID:
        (w,), (b,) = ridge(moments(x[others], labels[others], classes), (value,))
        shares[value] = 100 * np.mean(np.argmax(x[held] @ w + b, axis=1) == labels[held])
    assert top1 == shares[ratio] == max(shares.values()) > shares[GRID[0]]
    (w,), (b,) = ridge(moments(x, labels, classes), (ratio,))
    np.testing.assert_allclose(kernel, w, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(bias, b, rtol=1e-9, atol=1e-12)


def test_separable_classes_are_all_right():
    x, labels, classes = problem(images=200, seed=3)
    x = x + 10 * np.eye(7)[labels]
    (kernel,), (bias,) = ridge(moments(x.astype(np.float32), labels, classes), (1e-3,))
    assert correct_share(x, labels, kernel, bias, 1) == 100.0
