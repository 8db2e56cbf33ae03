"""What features tell without labels: of two views of a picture, and of how far they spread."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from moco_tf.data.sources import Images
from moco_tf.errors import DivergedError
from moco_tf.evaluate.features import feature_rows, unit_rows

PICTURES = 1000  # of which each is to be found among all
SIGNALS = ("view_retrieval", "alignment", "uniformity", "effective_rank")


def held_out(train: Images, test: Images | None) -> Images:
    """Returns the images that the signals are of: those of the test part, if it holds some."""
    return test if test is not None and test.count > 1 else train


def label_free_signals(embed: Any, views: Iterable[tuple[Any, Any]]) -> dict[str, float]:
    """Returns the value of each of `SIGNALS`; the effective rank is that of the first views.

    Args:
        embed: a `tf.function`, images [b, S, S, 3] to features [b, D].
        views: batches of both views of the same pictures, [b, S, S, 3] each; two pictures or more.

    Raises:
        DivergedError: if the features are not finite.
    """
    both = (view for pair in views for view in pair)
    rows = list(feature_rows(embed, both))
    view1, view2 = np.concatenate(rows[::2]), np.concatenate(rows[1::2])
    if not (np.isfinite(view1).all() and np.isfinite(view2).all()):
        raise DivergedError("features must be finite; received NaN or infinity.")
    rank = effective_rank(view1)
    view1, view2 = unit_rows(view1), unit_rows(view2)
    return {
        "view_retrieval": view_retrieval(view1, view2),
        "alignment": alignment(view1, view2),
        "uniformity": (uniformity(view1) + uniformity(view2)) / 2,
        "effective_rank": rank,
    }


def view_retrieval(view1: np.ndarray, view2: np.ndarray) -> float:
    """Returns the share, percent, of pictures whose two views are each other's nearest of all.

    Features that are equal for all pictures give 100 / n.

    Args:
        view1, view2: unit rows [n, D], row i of both of picture i.
    """
    similarity = view1 @ view2.T  # [n, n]
    own = np.arange(len(similarity))
    found = (similarity.argmax(axis=1) == own) & (similarity.argmax(axis=0) == own)
    return float(100 * found.mean())


def alignment(view1: np.ndarray, view2: np.ndarray) -> float:
    """Returns the mean squared distance of the two views of a picture: 0 to 4.

    Args:
        view1, view2: unit rows [n, D], row i of both of picture i.

    Source: arXiv:2005.10242, equation 4, alpha = 2.
    """
    return float(np.square(view1 - view2, dtype=np.float64).sum(axis=1).mean())


def uniformity(features: np.ndarray) -> float:
    """Returns the log of the mean of exp(-2 d^2) over all pairs, d apart: 0 where all are equal.

    On a sphere of many dimensions it comes near -4 where the features are spread over all of it.

    Args:
        features: unit rows [n, D], n above 1.

    Source: arXiv:2005.10242, equation 5, t = 2.
    """
    rows = features.astype(np.float64)
    similarity = (rows @ rows.T)[np.triu_indices(len(rows), k=1)]
    return float(np.log(np.mean(np.exp(-2 * (2 - 2 * similarity)))))


def effective_rank(features: np.ndarray) -> float:
    """Returns exp of the entropy of the singular values' shares in their sum: 1 to min(n, D).

    Args:
        features: rows [n, D], of any length.

    Source: RankMe, arXiv:2210.02885, equations 1 and 2.
    """
    rows = features.astype(np.float64)
    rows = rows if rows.shape[0] < rows.shape[1] else rows.T
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(rows @ rows.T), 0))  # faster than an SVD
    shares = values / max(values.sum(), np.finfo(np.float64).tiny) + 1e-7
    return float(np.exp(-np.sum(shares * np.log(shares))))
