"""Where pictures lie on a map, and which are typical of a part of it. NumPy alone."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from moco_tf.errors import InputError

LAYOUTS = ("pca", "tsne")
CLUSTERS, TYPICAL = 8, 6
ROUNDS = 30  # of k-means, at most


def check_layout(name: str) -> None:
    """Raises `InputError` for a layout that is not known, or whose library is not installed."""
    if name not in LAYOUTS:
        raise InputError(f"layout must be one of {', '.join(LAYOUTS)}; received layout={name!r}.")
    if name == "tsne":
        # Read as OpenMP is loaded: threads that wait for a busy core sleep, instead of spinning.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        try:
            import sklearn.manifold  # noqa: F401
        except ImportError:
            raise InputError(
                "layout=tsne needs an extra: pip install 'moco-tf[map]'. Or take --layout pca."
            ) from None


def laid_out(features: np.ndarray, layout: str, seed: int) -> np.ndarray:
    """Returns places in the unit square, float64 [M, 2], of unit features [M, D].

    Args:
        layout: "pca", the two directions in which the features vary most, or "tsne".
    """
    places = principal(features)
    if layout == "tsne" and len(features) > 4:
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(features) - 1) / 3)
        places = TSNE(
            perplexity=perplexity, init=places / max(places.std(), 1e-12) * 1e-4, random_state=seed
        ).fit_transform(features)
    low, high = places.min(axis=0), places.max(axis=0)
    return (places - low) / np.maximum(high - low, 1e-12)


def principal(features: np.ndarray) -> np.ndarray:
    """Returns the first two principal components, float64 [M, 2].

    Of each the largest weight is positive, so that the map does not flip from run to run.
    """
    rows = features.astype(np.float64)
    rows -= rows.mean(axis=0)
    _, vectors = np.linalg.eigh(rows.T @ rows)
    axes = vectors[:, ::-1][:, :2]
    if axes.shape[1] < 2:
        axes = np.pad(axes, ((0, 0), (0, 1)))
    largest = axes[np.abs(axes).argmax(axis=0), [0, 1]]
    return rows @ (axes * np.where(largest < 0, -1, 1))


class Cluster(NamedTuple):
    """Pictures that lie together."""

    members: np.ndarray  # int64 [n]
    typical: list[int]  # those nearest to the middle


def clusters_of(features: np.ndarray) -> list[Cluster]:
    """Returns the clusters of k-means, largest first, of unit features [M, D].

    The first centres are the features farthest from those before, so that nothing is random.
    """
    rows = features.astype(np.float64)
    centres = rows[np.argmax(rows @ rows.mean(axis=0))][None]
    while len(centres) < min(CLUSTERS, len(rows)):
        farthest = np.argmin((rows @ centres.T).max(axis=1))
        centres = np.concatenate([centres, rows[farthest][None]])
    nearest = (rows @ centres.T).argmax(axis=1)
    for _ in range(ROUNDS):
        sums = np.stack([rows[nearest == n].sum(axis=0) for n in range(len(centres))])
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 0, sums / np.maximum(lengths, 1e-12), centres)
        before, nearest = nearest, (rows @ centres.T).argmax(axis=1)
        if np.array_equal(before, nearest):
            break
    found = []
    for number, centre in enumerate(centres):
        members = np.flatnonzero(nearest == number)
        order = np.argsort(-(rows[members] @ centre), kind="stable")
        if len(members):
            found.append(Cluster(members, members[order[:TYPICAL]].tolist()))
    return sorted(found, key=lambda one: -len(one.members))
