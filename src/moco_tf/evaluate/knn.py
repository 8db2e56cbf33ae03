"""Weighted k-nearest-neighbour classification of features (CIFAR demo, spec 6)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf.errors import DivergedError, InputError
from moco_tf.evaluate.features import image_features, pixel_features
from moco_tf.evaluate.split import Split

PIXEL_SIZE = 32  # side at which plain pixels are compared, if the images are larger
_SIMILARITIES_AT_ONCE = 2**26  # 256 MiB of float32


def knn_predict(
    bank: np.ndarray,
    bank_labels: np.ndarray,
    queries: np.ndarray,
    *,
    classes: int,
    k: int,
    temperature: float,
    batch: int = 512,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (predictions, scores): classes by descending score, and the score of each class.

    The k most similar rows of the bank vote for their class with weight exp(similarity /
    temperature). Exact: every similarity is computed, in the precision of `bank`. Of equally
    similar rows the first ones of the bank vote; of equal scores the lower class comes first.

    Args:
        bank: unit rows [M, D].
        bank_labels: int [M], in 0 ... classes - 1.
        queries: unit rows [Q, D].
        k: neighbours that vote, 1 or more; all of the bank if it is smaller.
        temperature: above 0.
        batch: queries compared at once, at most.

    Returns:
        int64 [Q, classes] and float64 [Q, classes].

    Raises:
        InputError: for a value out of range, or features that are not finite.
    """
    check_votes(k, temperature)
    _check_features(bank, bank_labels, queries, classes)
    k = min(k, len(bank))
    batch = max(1, min(batch, _SIMILARITIES_AT_ONCE // len(bank)))
    scores = np.empty((len(queries), classes), np.float64)
    shifted = np.empty_like(scores)
    with tf.device("/CPU:0"):  # a GPU's matmul may be TF32, which reorders neighbours
        columns = tf.constant(bank)
        for start in range(0, len(queries), batch):
            chunk = tf.constant(queries[start : start + batch], columns.dtype)
            similarity, neighbours = tf.math.top_k(tf.matmul(chunk, columns, transpose_b=True), k)
            exponent = similarity.numpy().astype(np.float64) / temperature  # [b, k], descending
            largest = exponent[:, :1]
            votes = _sum_by_class(
                np.exp(exponent - largest), bank_labels[neighbours.numpy()], classes
            )
            shifted[start : start + batch] = votes  # finite at any temperature
            with np.errstate(over="ignore", invalid="ignore"):
                scores[start : start + batch] = np.where(votes > 0, votes * np.exp(largest), 0.0)
    return np.argsort(-shifted, axis=1, kind="stable"), scores


def knn_top1(
    bank: np.ndarray,
    bank_labels: np.ndarray,
    queries: np.ndarray,
    query_labels: np.ndarray,
    *,
    classes: int,
    k: int,
    temperature: float,
    batch: int = 512,
) -> float:
    """Returns the share of queries whose class `knn_predict` puts first, percent (0 to 100)."""
    predictions, _ = knn_predict(
        bank, bank_labels, queries, classes=classes, k=k, temperature=temperature, batch=batch
    )
    return float(100 * np.mean(predictions[:, 0] == query_labels))


def knn_top1_features(
    split: Split,
    embed: Any,
    *,
    image_size: int,
    k: int,
    temperature: float,
    say: Callable[[str], None] | None = None,
    what: str = "encoder",
) -> float:
    """Returns kNN top-1 (percent) of the features `embed` gives to the images of `split`.

    Args:
        say: called every few seconds with a line on how far `what` is.
    """

    seen: dict[str, Any] = {"image_size": image_size, "say": say}
    places = split.bank_indices, split.query_indices
    bank = image_features(embed, split.bank, places[0], what=f"{what}, training images", **seen)
    classified = f"{what}, images to classify"
    queries = image_features(embed, split.queries, places[1], what=classified, **seen)
    return _top1(split, bank, queries, k, temperature)


def knn_top1_pixels(
    split: Split,
    *,
    image_size: int,
    k: int,
    temperature: float,
    say: Callable[[str], None] | None = None,
) -> float:
    """Returns kNN top-1 (percent) of the plain pixels, at most 32 a side: what to be better than.

    The features are those of `pixel_features`: pixels less the mean of the bank, unit rows.
    """
    size = min(image_size, PIXEL_SIZE)
    bank, mean = pixel_features(split.bank, split.bank_indices, size, say=say)
    queries, _ = pixel_features(split.queries, split.query_indices, size, mean=mean, say=say)
    return _top1(split, bank, queries, k, temperature)


def _top1(split: Split, bank: np.ndarray, queries: np.ndarray, k: int, t: float) -> float:
    labels, classes = (split.bank_labels, split.query_labels), split.classes
    return knn_top1(bank, labels[0], queries, labels[1], classes=classes, k=k, temperature=t)


def _sum_by_class(weights: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """[b, k] weights and labels -> [b, classes] sums."""
    bins = np.arange(len(labels))[:, None] * classes + labels
    sums = np.bincount(bins.ravel(), weights.ravel(), minlength=len(labels) * classes)
    return sums.reshape(len(labels), classes)


def check_votes(k: int, temperature: float) -> None:
    if k < 1:
        raise InputError(f"k must be at least 1; received k={k}. The usual value is 200.")
    if not 1e-6 < temperature < math.inf:
        raise InputError(
            f"temperature must be above 1e-6 and finite; received temperature={temperature}. "
            f"Usual is 0.1."
        )


def _check_features(
    bank: np.ndarray, bank_labels: np.ndarray, queries: np.ndarray, classes: int
) -> None:
    if not len(bank) or bank.shape[1:] != queries.shape[1:] or len(bank) != len(bank_labels):
        raise InputError(
            f"bank [M, D], bank_labels [M] and queries [Q, D] must fit and M be above 0; received "
            f"{bank.shape}, {bank_labels.shape} and {queries.shape}."
        )
    if bank_labels.min() < 0 or bank_labels.max() >= classes:
        raise InputError(
            f"bank_labels must lie in 0 ... {classes - 1}; received "
            f"{bank_labels.min()} ... {bank_labels.max()}."
        )
    if not (np.isfinite(bank).all() and np.isfinite(queries).all()):
        raise DivergedError(
            "features must be finite; received NaN or infinity: the encoder has diverged. "
            "Use an earlier checkpoint, or train with a smaller learning rate."
        )
