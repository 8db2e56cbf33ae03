"""What is alike: the nearest pictures of some queries, and what a vote of neighbours mixes up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from moco_tf.config import Config
from moco_tf.evaluate.knn import knn_predict
from moco_tf.evaluate.nearest import nearest
from moco_tf.report.sample import Sample

NEAREST = 8
WHOLE_MATRIX = 20  # classes; of more only those that are mixed up most are shown
MIXED_UP = 8  # pairs of classes shown with examples
EXAMPLES = 3  # pictures of each


class Near(NamedTuple):
    """A picture that was found."""

    place: int  # in the sample
    similarity: float  # cosine
    right: bool | None  # whether its class is the query's


class Query(NamedTuple):
    """A picture, and its nearest ones by each kind of features."""

    place: int
    nearest: dict[str, list[Near]]


def neighbours_of(sample: Sample, features: Mapping[str, np.ndarray]) -> list[Query]:
    """Returns the queries that are shown, with the nearest pictures of the bank."""
    chosen = sample.shown_queries
    found: dict[str, list[list[Near]]] = {}
    for kind, rows in features.items():
        near, similarities = nearest(rows[: sample.bank], rows[chosen], NEAREST)
        found[kind] = [
            [Near(i, value, _same(sample, query, i)) for i, value in zip(*pair, strict=True)]
            for query, *pair in zip(chosen, near.tolist(), similarities.tolist(), strict=True)
        ]
    return [
        Query(int(query), {kind: rows[place] for kind, rows in found.items()})
        for place, query in enumerate(chosen)
    ]


def _same(sample: Sample, query: int, other: int) -> bool | None:
    if sample.labels is None or min(sample.labels[query], sample.labels[other]) < 0:
        return None
    return bool(sample.labels[query] == sample.labels[other])


class Pair(NamedTuple):
    """A class that is taken for another."""

    label: int
    taken_for: int
    queries: int
    share: float  # percent of the class's queries
    examples: list[int]  # queries, in the sample


class Confusion(NamedTuple):
    """How the queries of a sample are classified by their neighbours."""

    labels: list[int]  # of the rows and the columns
    counts: np.ndarray  # int64 [labels, labels]: row is the class, column what it is taken for
    classes: int  # in all
    top1: float  # percent
    pairs: list[Pair]
    k: int  # neighbours that vote


def confusion_of(config: Config, sample: Sample, features: np.ndarray) -> Confusion:
    """Returns what the queries are taken for by a vote of their nearest pictures of the bank.

    As many vote as in the run's own evaluations, for the size of the bank.
    """
    labels = np.asarray(sample.labels)
    classes = max(len(sample.class_names), int(labels.max()) + 1)
    k = max(1, round(min(config.knn_k * sample.share, sample.bank)))
    bank, queries = np.split(features, [sample.bank])
    own = labels[sample.bank :]
    votes: dict[str, Any] = {"classes": classes, "k": k, "temperature": config.knn_temperature}
    # In parts: the votes of ten thousand classes are many.
    parts = np.array_split(queries, -(-len(queries) * classes // 2**24))
    taken = np.concatenate(
        [knn_predict(bank, labels[: sample.bank], part, **votes)[0][:, 0] for part in parts]
    )
    wrong = np.flatnonzero(taken != own)
    pairs, counts = np.unique(
        np.stack([own[wrong], taken[wrong]], axis=1), axis=0, return_counts=True
    )
    most = np.argsort(-counts, kind="stable")
    shown = _shown(own, pairs[most], classes)
    matrix = np.zeros((len(shown), len(shown)), np.int64)
    place = {label: n for n, label in enumerate(shown)}
    for label, other in zip(own.tolist(), taken.tolist(), strict=True):
        if label in place and other in place:
            matrix[place[label], place[other]] += 1
    mixed = []
    for label, other in pairs[most[:MIXED_UP]].tolist():
        examples = np.flatnonzero((own == label) & (taken == other))
        share = 100 * len(examples) / np.count_nonzero(own == label)
        first = (sample.bank + examples[:EXAMPLES]).tolist()
        mixed.append(Pair(label, other, len(examples), share, first))
    return Confusion(shown, matrix, classes, float(100 * np.mean(taken == own)), mixed, k)


def _shown(own: np.ndarray, pairs: np.ndarray, classes: int) -> list[int]:
    """The classes of the matrix: all, or those of the pairs that are mixed up most."""
    if classes <= WHOLE_MATRIX:
        return list(range(classes))
    frequent, counts = np.unique(own, return_counts=True)
    others = frequent[np.argsort(-counts, kind="stable")].tolist()
    return sorted(list(dict.fromkeys([*pairs.ravel().tolist(), *others]))[:WHOLE_MATRIX])
