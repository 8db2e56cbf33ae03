"""The classes of a folder of images: the folders right under it.

Nothing is opened here, and TensorFlow is not imported.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from moco_tf.data.file_names import shown
from moco_tf.data.listing import Part, split_kind


def class_names(part: Part) -> tuple[tuple[str, ...], str]:
    """Returns the classes of a training part, the folders right under it, and why it has none.

    A folder that holds all images is no class, but looked into. An image beside the class folders
    is of no class.
    """
    tops = _tops(part, _levels(part)[-1])
    names = sorted(set(tops) - {""})
    if len(names) > 1 and not all(map(split_kind, names)):
        return tuple(names), ""
    if len(names) > 1:
        return (), f"{' and '.join(map(shown, names))} are parts, and no folder is called train"
    if not names:
        return (), "all images lie in one folder"
    first = sum(count for _, count in part.files.folders[: tops.index("")])
    stray = os.fsdecode(part.files.inner(first))
    return (), f"images lie in {shown(names[0])}/ and beside it, as {shown(stray)}"


def labels_of(part: Part, classes: tuple[str, ...]) -> tuple[np.ndarray | None, str]:
    """Returns the places in `classes` of the files of `part`, int64 [n], or why there are none.

    An image in no class folder gets -1. The labels are none if the part has other classes.
    """
    at_levels = (_tops(part, level) for level in _levels(part))
    tops = max(at_levels, key=lambda tops: len({*tops} & {*classes}))  # the first of equal ones
    strange, absent = sorted(set(tops) - set(classes) - {""}), sorted(set(classes) - set(tops))
    if strange or len(absent) == len(classes):
        odd = f"the class {shown(strange[0])!r}" if strange else "images in no class folder"
        lacks = f", and lacks its class {shown(absent[0])!r}" if absent else ""
        return None, f"{shown(part.folder)} has {odd}, the training folder has not{lacks}"
    numbers = {name: number for number, name in enumerate(classes)} | {"": -1}
    counts = [count for _, count in part.files.folders]
    return np.repeat(np.array([numbers[top] for top in tops], np.int64), counts), ""


def _levels(part: Part) -> list[int]:
    """How deep the folders lie that hold all images of the part, from its own to the innermost."""
    inside = os.path.commonpath({inner for inner, _ in part.files.folders})
    return list(range(len(Path(inside).parts) + 1))


def _tops(part: Part, level: int) -> list[str]:
    """For each run of files in one folder, the folder right under that of `level`; or empty."""
    parts = (inner.split("/") if inner else [] for inner, _ in part.files.folders)
    return [folders[level] if len(folders) > level else "" for folders in parts]
