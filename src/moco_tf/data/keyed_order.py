"""A permutation of any number of images in no memory: a Feistel network with cycle walking.

A number is split into two halves; each round adds to one a keyed hash of the other, which can be
undone, so that all rounds are a bijection of the numbers of 2 h bits (Luby, Rackoff 1988). Those
beyond the last image are put through it again until they are an image (Black and Rogaway, 2002).
"""

import numpy as np

ROUNDS = 8
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # of SplitMix64


def keyed_order(seed: int, epoch: int, count: int, places: np.ndarray) -> np.ndarray:
    """Returns what is at some places of a permutation of `count`, int64 [n].

    The permutation is a function of (seed, epoch) and the count.

    Args:
        places: int64 [n], from 0 to count - 1.
    """
    half = np.uint64(max(1, -(-int(count - 1).bit_length() // 2)))
    keys = np.random.Philox(key=[seed, epoch]).random_raw(ROUNDS)
    found = np.asarray(places, np.uint64)
    if count == 1:
        return found.astype(np.int64)
    found = _permuted(found, keys, half)
    while len(left := np.flatnonzero(found >= count)):
        found[left] = _permuted(found[left], keys, half)
    return found.astype(np.int64)


def _permuted(numbers: np.ndarray, keys: np.ndarray, half: np.uint64) -> np.ndarray:
    """Of numbers below 4 ** half, uint64 [n]."""
    mask = np.uint64((1 << int(half)) - 1)
    left, right = numbers >> half, numbers & mask
    for key in keys:
        left, right = right, left ^ (_hash(right ^ key) & mask)
    return (left << half) | right


def _hash(numbers: np.ndarray) -> np.ndarray:
    """SplitMix64's: each bit of the result depends on all bits."""
    for shift, multiplier in zip((30, 27), _MULTIPLIERS, strict=True):
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * multiplier
    return numbers ^ (numbers >> np.uint64(31))
