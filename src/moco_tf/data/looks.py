"""Which images show nothing: those that are black or nearly so, and those of one colour."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

SHOWS, BLACK, ONE_COLOUR = range(3)
DARK = 16  # of 255; values of 12 bits that were stored as 16 have at most 15 in their upper 8
_EVERY = 8  # pixels along each axis: what shows something is told by these


def look(image):
    """Returns `SHOWS`, `BLACK` or `ONE_COLOUR`, an int32 scalar, of uint8 [h, w, 3]."""
    sample = _looks(image[::_EVERY, ::_EVERY])
    return tf.cond(sample == SHOWS, lambda: sample, lambda: _looks(image))


def looks(images: np.ndarray) -> np.ndarray:
    """`look` of each of uint8 [n, h, w, 3]: int32 [n]."""
    found = _looks(images[:, ::_EVERY, ::_EVERY]).numpy()
    dull = np.flatnonzero(found != SHOWS)
    found[dull] = _looks(images[dull]).numpy()
    return found


def looks_line(looks: np.ndarray | None, files: Sequence[str] | None, kind: str = "") -> str:
    """Says how many images show nothing; empty if none is known to."""
    if looks is None or not looks.any():
        return ""
    words = {
        BLACK: f"black or nearly so (no value above {DARK - 1} of 255)",
        ONE_COLOUR: "of one colour",
    }
    parts = []
    for value in sorted(set(looks[looks != SHOWS].tolist())):
        found = np.flatnonzero(looks == value)
        first = files[found[0]] if files else f"number {found[0]}"
        parts.append(f"{len(found)} {words[value]}, the first is {first}")
    why = ""
    if BLACK in looks and files:
        why = " 16-bit files of 8- or 12-bit values come out black: scale them to the full range."
    elif BLACK in looks:
        why = " Values from 0 to 1 are black: multiply them by 255."
    count = np.count_nonzero(looks != SHOWS)
    return f"{count} of {len(looks)} {kind}images show nothing: {'; '.join(parts)}.{why}"


def _looks(images):
    """int32 [...] of uint8 [..., h, w, 3]."""
    highest, lowest = tf.reduce_max(images, [-3, -2]), tf.reduce_min(images, [-3, -2])
    dark = tf.reduce_max(highest, -1) < DARK
    flat = tf.reduce_all(highest == lowest, -1)
    return tf.where(dark, BLACK, tf.where(flat, ONE_COLOUR, SHOWS))
