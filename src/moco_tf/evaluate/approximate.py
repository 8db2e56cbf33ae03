"""Pairs of alike features among very many: candidates of an approximate index, compared exactly.

The index is that of Voyager (extra `index`), a graph in which the search follows a few links.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np

from moco_tf.evaluate.nearest import ROUNDING, best_pairs, similar_pairs

MANY = 1_000_000  # rows, from which on the index is worth its building
CANDIDATES = 32  # of each row, itself included
_LINKS, _DEPTH = 12, 100  # of the graph: `M` and `ef_construction` in arXiv:1603.09320
_VALUES_AT_ONCE = 2**24  # of candidates, 64 MiB of float32


def has_index() -> bool:
    """Whether the library is installed."""
    return find_spec("voyager") is not None


def approximate_pairs(
    bank: np.ndarray, above: float, most: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """`similar_pairs` of each row and its `CANDIDATES` nearest ones, of which few are missed.

    The similarities are exact.
    """
    from voyager import Index, RecallError, Space

    count, dimensions = bank.shape
    index = Index(Space.Euclidean, dimensions, _LINKS, _DEPTH, max_elements=count)
    index.add_items(bank)
    block = max(1, _VALUES_AT_ONCE // (CANDIDATES * dimensions))
    codes, values = [], []
    for start in range(0, count, block):
        rows = bank[start : start + block]
        try:
            found, _ = index.query(rows, min(CANDIDATES, count), query_ef=_DEPTH)
        except RecallError:  # not so many are linked to one another
            return similar_pairs(bank, above, most)
        own, other = np.arange(start, start + len(rows))[:, None], found.astype(np.int64)
        similarity = np.einsum("bd,bkd->bk", rows, bank[other])
        alike = (similarity >= above - ROUNDING) & (other != own)
        codes.append((np.minimum(other, own) * count + np.maximum(other, own))[alike])
        values.append(similarity[alike])
    each, places = np.unique(np.concatenate(codes), return_index=True)  # found from either side
    pairs, similar = np.stack(np.divmod(each, count), axis=1), np.concatenate(values)[places]
    best = best_pairs(pairs, similar, most)
    return pairs[best], np.minimum(similar[best], 1), len(pairs)
