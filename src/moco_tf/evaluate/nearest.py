"""Exact search among features: the most similar rows, and pairs of rows that are alike.

Every similarity is computed, in blocks of matrix products, so that memory does not grow with the
number of rows.
"""

from __future__ import annotations

import numpy as np

_AT_ONCE = 2**24  # similarities, 64 MiB of float32
_BLOCK = 4096  # rows compared with as many others
ROUNDING = 1e-5  # of a similarity of two unit rows, float32: equal rows come out as 1 within it


def nearest(bank: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (rows, similarities) of the `k` rows of the bank that are most similar to each query.

    Of equally similar rows the first ones of the bank are taken.

    Args:
        bank: unit rows, float32 [M, D].
        queries: unit rows, float32 [Q, D].
        k: 1 or more; all of the bank if it is smaller.

    Returns:
        int64 [Q, k] and float32 [Q, k], the most similar first.
    """
    k, count = min(k, len(bank)), len(queries)
    rows = [np.empty(0, np.int64)] * count
    values = [np.empty(0, np.float32)] * count
    block = max(k, _AT_ONCE // max(count, 1), 1)
    for start in range(0, len(bank), block):
        similarity = queries @ bank[start : start + block].T  # [Q, b]
        for place, row in enumerate(similarity):
            best = _largest(row, k)
            found = np.concatenate([values[place], row[best]])
            order = np.argsort(-found, kind="stable")[:k]
            rows[place] = np.concatenate([rows[place], best + start])[order]
            values[place] = found[order]
    return np.stack(rows), np.minimum(np.stack(values), 1)


def _largest(values: np.ndarray, k: int) -> np.ndarray:
    """Places of the `k` largest, and of all that equal the smallest of these, ascending."""
    if k >= len(values):
        return np.arange(len(values))
    return np.flatnonzero(values >= np.partition(values, -k)[-k])


def similar_pairs(bank: np.ndarray, above: float, most: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns (pairs, similarities, how many there are) of rows that are at least so similar.

    Args:
        bank: unit rows, float32 [M, D].
        above: smallest similarity, -1 to 1.
        most: how many pairs are returned, the most similar of all.

    Returns:
        int64 [P, 2], the lower row first, float32 [P], the most similar first, and the count.
    """
    pairs, values, total = np.empty((0, 2), np.int64), np.empty(0, np.float32), 0
    for first in range(0, len(bank), _BLOCK):
        for second in range(first, len(bank), _BLOCK):
            similarity = bank[first : first + _BLOCK] @ bank[second : second + _BLOCK].T
            alike = similarity >= above - ROUNDING
            one, other = np.nonzero(np.triu(alike, 1) if first == second else alike)
            total += len(one)
            pairs = np.concatenate([pairs, np.stack([one + first, other + second], axis=1)])
            values = np.concatenate([values, similarity[one, other]])
            if len(values) > most:
                best = best_pairs(pairs, values, most)
                pairs, values = pairs[best], values[best]
    best = best_pairs(pairs, values, most)
    return pairs[best], np.minimum(values[best], 1), total


def best_pairs(pairs: np.ndarray, values: np.ndarray, most: int) -> np.ndarray:
    """Returns places of the most similar pairs in order; of equally similar ones the first rows."""
    return np.lexsort((pairs[:, 1], pairs[:, 0], -values))[:most]
