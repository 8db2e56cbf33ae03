"""Ridge regression on one-hot targets in closed form, as a classifier of features.

Features and targets are centred, so the bias is not penalised. Everything is in float64.

Legend: M images, D features, C classes, L values of lambda.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ROWS_AT_ONCE = 16384

# Lambda as a multiple of the mean eigenvalue of the centred X'X: no matter how features are scaled.
GRID = tuple(10.0**exponent for exponent in range(-6, 3))


@dataclass(frozen=True)
class Moments:
    """Sums over a set of images; those of two sets are added field by field."""

    count: int
    features: np.ndarray  # [D]
    targets: np.ndarray  # [C]
    gram: np.ndarray  # [D, D], X'X
    cross: np.ndarray  # [D, C], X'Y

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.count + other.count,
            self.features + other.features,
            self.targets + other.targets,
            self.gram + other.gram,
            self.cross + other.cross,
        )


def moments(features: np.ndarray, labels: np.ndarray, classes: int) -> Moments:
    """Returns the sums over features [M, D] and one-hot labels [M]; needs little memory beside."""
    size = features.shape[1]
    gram, cross = np.zeros((size, size)), np.zeros((size, classes))
    for start in range(0, len(features), ROWS_AT_ONCE):
        rows = features[start : start + ROWS_AT_ONCE].astype(np.float64)
        gram += rows.T @ rows
        cross += rows.T @ np.eye(classes)[labels[start : start + ROWS_AT_ONCE]]
    return Moments(
        len(features),
        features.sum(axis=0, dtype=np.float64),
        np.bincount(labels, minlength=classes).astype(np.float64),
        gram,
        cross,
    )


def ridge(sums: Moments, grid: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Returns (kernels [L, D, C], biases [L, C]) that minimise, for each value r of `grid`,

        sum over images |x W + b - y|^2 + lambda |W|^2,  lambda = r * trace(X'X centred) / D.

    One eigendecomposition serves all of them.
    """
    mean, target = sums.features / sums.count, sums.targets / sums.count
    gram = sums.gram - sums.count * np.outer(mean, mean)
    cross = sums.cross - sums.count * np.outer(mean, target)
    values, vectors = np.linalg.eigh(gram)
    values = np.maximum(values, 0)  # rounding leaves some just below
    scale = max(float(values.mean()), np.finfo(np.float64).tiny)
    turned = vectors.T @ cross
    kernels = np.stack([vectors @ (turned / (values + r * scale)[:, None]) for r in grid])
    return kernels, target - mean @ kernels


def correct_share(
    features: np.ndarray, labels: np.ndarray, kernel: np.ndarray, bias: np.ndarray, k: int
) -> float:
    """Percent of images whose class is among the `k` highest scores; of equal ones the lower."""
    right = 0
    for start in range(0, len(features), ROWS_AT_ONCE):
        scores = features[start : start + ROWS_AT_ONCE].astype(np.float64) @ kernel + bias
        first = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        right += int((first == labels[start : start + ROWS_AT_ONCE, None]).sum())
    return 100 * right / len(features)
