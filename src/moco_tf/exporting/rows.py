"""What a row of features belongs to: the image's name, its split and its class.

Imports no TensorFlow.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moco_tf.errors import InputError

if TYPE_CHECKING:
    from moco_tf.data.sources import Images

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Rows:
    """Of M rows, in their order. Names are unique, and each is one line of UTF-8."""

    names: list[str]
    splits: list[str]  # "train" or "test"
    labels: np.ndarray | None  # int64 [M], -1 where unknown; none: no image has a class
    classes: tuple[str, ...]  # class i is classes[i]

    def class_names(self) -> list[str | None]:
        """The name of each row's class, none where it is unknown."""
        labels = [-1] * len(self.names) if self.labels is None else self.labels.tolist()
        return [self.classes[label] if label >= 0 else None for label in labels]


def select(data: str, train: Images, test: Images | None, split: str) -> list[tuple[str, Images]]:
    """Returns the parts of `data` that `split` ("train", "test" or "all") names.

    Raises:
        InputError: for another split, or one that the data have not.
    """
    if split not in (*SPLITS, "all"):
        raise InputError(f"split must be train, test or all; received split={split!r}.")
    parts = [(name, part) for name, part in zip(SPLITS, (train, test), strict=True) if part]
    chosen = [(name, part) for name, part in parts if split in (name, "all")]
    if not chosen:
        raise InputError(
            f"data={data} has no test images (val/ or test/ beside train/, x_test in an .npz "
            f"file); received split={split!r}. Use --split train or all."
        )
    return chosen


def rows_of(parts: Sequence[tuple[str, Images]]) -> Rows:
    """Returns the rows of the images of all parts, one part after the other, but the unreadable.

    The name of a file is its path below the folder given, see `one_line`; that of another image is
    its split and its place: "train/0".
    """
    read = [(split, images, images.readable) for split, images in parts]
    names: list[str] = []
    for split, images, places in read:
        paths = images.paths or [f"{split}/{place}" for place in range(images.count)]
        names += [one_line(paths[place]) for place in places.tolist()]
    labels = None
    if any(images.labels is not None for _, images in parts):
        each = [
            np.full(len(places), -1) if images.labels is None else images.labels[places]
            for _, images, places in read
        ]
        labels = np.maximum(np.concatenate(each), -1).astype(np.int64)
    classes = max((images.class_names for _, images in parts), key=len) if parts else ()
    return Rows(
        names,
        [split for split, _, places in read for _ in places],
        labels,
        tuple(one_line(name) for name in classes) if labels is not None else (),
    )


def one_line(name: str) -> str:
    r"""Returns `name` as one line of UTF-8, and two different names as different ones.

    Bytes that are no UTF-8 become \xe9, control characters and line ends \u000a, and a backslash,
    so that nothing is taken for one of these, two.
    """
    return "".join(map(_printable, name))


def _printable(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if "\udc80" <= character <= "\udcff":  # how os.fsdecode keeps a byte
        return f"\\x{ord(character) - 0xDC00:02x}"
    if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
        return f"\\u{ord(character):04x}"
    return character
