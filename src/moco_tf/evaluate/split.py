"""Which labelled images a kNN evaluation searches, and which it classifies."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from moco_tf.data.readable import read_in_place_of
from moco_tf.data.sources import Images, labelled_indices


class Split(NamedTuple):
    """Which images are the bank and which the queries of a kNN evaluation."""

    bank: Images
    bank_indices: np.ndarray  # int64 [M], ascending
    queries: Images
    query_indices: np.ndarray  # int64 [Q], ascending

    @property
    def bank_labels(self) -> np.ndarray:
        """int64 [M]; of an unreadable image the label of the one in its place, if there is one."""
        return np.asarray(self.bank.labels)[read_in_place_of(self.bank, self.bank_indices)]

    @property
    def query_labels(self) -> np.ndarray:
        """int64 [Q], as `bank_labels`."""
        return np.asarray(self.queries.labels)[read_in_place_of(self.queries, self.query_indices)]

    @property
    def classes(self) -> int:
        """Number of classes: the named ones, or as many as the labels need."""
        largest = max(int(np.max(images.labels)) for images in (self.bank, self.queries))  # type: ignore[arg-type]
        return max(len(self.bank.class_names), largest + 1)


def monitor_split(
    train: Images,
    test: Images | None,
    *,
    max_bank: int | None = None,
    max_queries: int | None = None,
    seed: int = 0,
) -> Split | None:
    """Returns the bank (training images) and the queries (test images), or None without labels.

    Without a labelled test split the queries are a tenth of each class of the training images, at
    least one, chosen by `seed`, and the rest are the bank; None if no class has two images.
    Images whose label is unknown are in neither.

    Args:
        max_bank, max_queries: images at most, a random choice by `seed`; none: all.
    """
    if train.labels is None or train.count == 0:
        return None
    generator = np.random.default_rng(seed)
    if test is not None and test.labels is not None and test.count > 0:
        queries, bank_indices = test, labelled_indices(train)
        query_indices = labelled_indices(test)
    else:
        queries, query_indices = train, _tenth_of_each_class(train.labels, generator)
        bank_indices = np.setdiff1d(labelled_indices(train), query_indices)
        if not len(query_indices):
            return None
    return Split(
        train,
        _at_most(bank_indices, max_bank, generator),
        queries,
        _at_most(query_indices, max_queries, generator),
    )


def _tenth_of_each_class(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    chosen = [np.empty(0, np.int64)]
    for label in np.unique(labels[labels >= 0]):
        members = np.flatnonzero(labels == label)
        if len(members) > 1:
            chosen.append(generator.permutation(members)[: max(1, len(members) // 10)])
    return np.sort(np.concatenate(chosen))


def _at_most(indices: np.ndarray, most: int | None, generator: np.random.Generator) -> np.ndarray:
    if most is None or len(indices) <= most:
        return indices
    return np.sort(generator.choice(indices, most, replace=False))
