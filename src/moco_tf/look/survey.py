"""What pictures are like: their sizes, gray or coloured, which are near-duplicates, what is up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from moco_tf.data.decode import decoded
from moco_tf.data.images import Images
from moco_tf.data.stream import Elements, mapped

ROWS, COLUMNS = 8, 9  # of the small gray picture that the hash is of
MOST_DIFFERENT = 4  # bits of 64: near-duplicates differ in no more
MOST_LEVELS = 8.0  # and on average by no more gray levels
FLAT = 3.0  # gray levels: the deviation below which a small picture says nothing
ENOUGH = 100  # pictures, from which on it is told whether a side is up


@dataclass(frozen=True)
class Survey:
    """Of n pictures in the order of `places`, those that could be decoded."""

    places: np.ndarray  # int64 [n]
    sizes: np.ndarray  # int64 [n, 2]: height and width, pixels
    gray: np.ndarray  # bool [n]: red, green and blue are the same everywhere
    small: np.ndarray  # float32 [n, 8, 9]: mean gray levels of a grid of parts

    @property
    def upright(self) -> float | None:
        """How much more top and bottom differ than left and right; None: too few to tell.

        Of photographs it is well above 1 (1.4 of ImageNet's, 1.7 of CIFAR-10's): the sky is bright.
        Of pictures in which no side is up it is 1.
        """
        if len(self.small) < ENOUGH:
            return None
        vertical = self.small[:, :4].mean((1, 2)) - self.small[:, 4:].mean((1, 2))
        horizontal = self.small[:, :, :4].mean((1, 2)) - self.small[:, :, 5:].mean((1, 2))
        return float(np.abs(vertical).mean() / max(np.abs(horizontal).mean(), 1e-6))


def survey(images: Images, places: np.ndarray) -> Survey:
    """Decodes the images at `places`, int64 [n]; one that cannot be read is left out."""

    def measure(place):
        image = decoded(images, place)
        gray = tf.reduce_all(tf.reduce_max(image, -1) == tf.reduce_min(image, -1))
        small = tf.image.resize(image, [ROWS, COLUMNS], "area")
        luma = tf.tensordot(small, tf.constant([0.299, 0.587, 0.114]), 1)
        return place, tf.cast(tf.shape(image)[:2], tf.int64), gray, luma

    rows = tf.data.Dataset.from_tensor_slices(np.asarray(places, np.int64))
    found = list(Elements(mapped(rows, measure).ignore_errors().as_numpy_iterator()))
    kept, sizes, gray, small = zip(*found, strict=True) if found else ((), (), (), ())
    return Survey(
        np.array(kept, np.int64),
        np.array(sizes, np.int64).reshape(-1, 2),
        np.array(gray, bool),
        np.array(small, np.float32).reshape(-1, ROWS, COLUMNS),
    )


def hashes(small: np.ndarray) -> np.ndarray:
    """Returns the difference hashes (dHash) of float [n, 8, 9], bool [n, 64].

    A bit says whether a part of the picture is brighter than the one to its left.
    """
    return (small[:, :, 1:] > small[:, :, :-1]).reshape(len(small), -1)


def near_duplicates(small: np.ndarray) -> list[tuple[int, int, int]]:
    """Returns (row, row, bits in which their hashes differ) of pictures that are nearly the same.

    Pictures without contrast, whose hash is chance, are of no pair.

    Args:
        small: float [n, 8, 9].
    """
    bits, flat = hashes(small), small.std(axis=(1, 2)) < FLAT
    pairs = []
    for row in np.flatnonzero(~flat):
        others = row + 1 + np.flatnonzero(~flat[row + 1 :])
        distances = np.count_nonzero(bits[others] != bits[row], axis=1)
        for place in np.flatnonzero(distances <= MOST_DIFFERENT):
            other = others[place]
            if np.abs(small[row] - small[other]).mean() < MOST_LEVELS:
                pairs.append((int(row), int(other), int(distances[place])))
    return sorted(pairs, key=lambda pair: pair[2])
