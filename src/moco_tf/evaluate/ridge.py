"""Ridge regression on one-hot targets in closed form, as a classifier of features.

Features and targets are centred, so the bias is not penalised. Everything is in float64.

Legend: M images, D features, C classes, L values of lambda.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    for rows, own in _chunks(features, labels):
        gram += rows.T @ rows
        cross += rows.T @ np.eye(classes)[own]
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


def choose_and_fit(
    features: np.ndarray, labels: np.ndarray, classes: int, *, held: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Returns (kernel [D, C], bias [C], value of `GRID`, top-1 on the held-out images, percent).

    The value is the one with most held-out images right, of equal ones that with the least squared
    error, after a fit to the others. The classifier is then fitted to all images.

    Args:
        held: int64 [n], the images held out.
    """
    fitted = np.setdiff1d(np.arange(len(features)), held)
    sums, rest = (moments(features[rows], labels[rows], classes) for rows in (fitted, held))
    judged = (features[held], labels[held])
    scores = [
        (correct_share(*judged, *head, 1), -squared_error(*judged, *head))
        for head in zip(*ridge(sums, GRID), strict=True)
    ]
    best = max(range(len(GRID)), key=scores.__getitem__)
    (kernel,), (bias,) = ridge(sums + rest, GRID[best : best + 1])
    return kernel, bias, GRID[best], scores[best][0]


def squared_error(
    features: np.ndarray, labels: np.ndarray, kernel: np.ndarray, bias: np.ndarray
) -> float:
    """Mean squared error of an image's scores against its one-hot target."""
    total = 0.0
    for rows, own in _chunks(features, labels):
        total += float(((rows @ kernel + bias - np.eye(len(bias))[own]) ** 2).sum())
    return total / len(features)


def correct_share(
    features: np.ndarray, labels: np.ndarray, kernel: np.ndarray, bias: np.ndarray, k: int
) -> float:
    """Percent of images whose class is among the `k` highest scores; of equal ones the lower."""
    right = 0
    for rows, own in _chunks(features, labels):
        first = np.argsort(-(rows @ kernel + bias), axis=1, kind="stable")[:, :k]
        right += int((first == own[:, None]).sum())
    return 100 * right / len(features)


def _chunks(features: np.ndarray, labels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(float64 rows, their labels), a bounded number at once."""
    for start in range(0, len(features), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        yield features[rows].astype(np.float64), labels[rows]
