"""A share of the labelled images with the same number of each class."""

from __future__ import annotations

import numpy as np

from moco_tf.data.order import epoch_order


def balanced_subset(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Returns the indices of a random share of the images, ascending: int64 [n].

    n is `fraction` of all images, rounded, and at least one of each class. Every class gives the
    same number, or one more where that does not come out even; a class that has fewer gives all
    it has, and the others make up for it. So fraction 1 is all images. Of the images of a class
    a smaller fraction takes some of those that a larger one takes.

    Args:
        labels: int64 [M].
        fraction: in (0, 1].
        seed: of the choice.

    Source: the 1 % and 10 % of ImageNet's labels that semi-supervised results are quoted for are
    class-balanced in this way (arXiv:2002.05709, appendix B.5).
    """
    classes, counts = np.unique(labels, return_counts=True)
    wanted = max(round(fraction * len(labels)), len(classes))
    quotas = _quotas(counts, wanted, epoch_order(seed, 0, len(classes)))
    chosen = [
        np.flatnonzero(labels == label)[epoch_order(seed, number, count)[:quota]]
        for number, (label, count, quota) in enumerate(
            zip(classes, counts, quotas, strict=True), start=1
        )
    ]
    return np.sort(np.concatenate(chosen))


def _quotas(counts: np.ndarray, wanted: int, first: np.ndarray) -> np.ndarray:
    """How many of each class: as level as `counts` allow, `wanted` in all: int64 [classes].

    Args:
        first: order of the classes in which what does not come out even is given.
    """
    level = max(n for n in range(counts.max() + 1) if np.minimum(counts, n).sum() <= wanted)
    quotas = np.minimum(counts, level)
    more = [label for label in first if counts[label] > level][: wanted - quotas.sum()]
    quotas[more] += 1
    return quotas
