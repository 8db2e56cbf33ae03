"""What a folder of images holds: its parts, their image files and classes, and what is left out.

Nothing is opened here, and TensorFlow is not imported.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from moco_tf.data.file_names import FileNames, shown
from moco_tf.data.walk import SUFFIXES, entries, holds_image, suffix_of, walk
from moco_tf.errors import InputError

# Names of the parts of a data set, in the order in which they are looked for, in any case.
SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
MOST_KINDS = 10  # of files left out that are told apart


class Part(NamedTuple):
    """The image files of one part, at any depth, links followed, in a stable order."""

    folder: Path
    files: FileNames
    left_out: Counter[str]  # other files by kind, a suffix or words


class Parts(NamedTuple):
    """The parts of a folder that are used."""

    train: Part
    test: Part | None
    passed_over: list[str]  # what lies beside them and holds images, to be shown


def list_parts(folder: Path, split: str | None = None) -> Parts:
    """Returns the training part and the test part of `folder`.

    Without a folder called train or training all images are training images. The parts may lie in
    a folder in `folder` that has nothing beside it.

    Args:
        split: "val" or "test": the test part; none: the first of them that holds images.

    Raises:
        InputError: if there is no training image.
    """
    test, passed_over = None, []
    folders, images = _unwrapped(folder)
    named = {kind: _called(folders, names) for kind, names in SPLITS.items()}
    if not named["train"]:
        train = _part(folder)
    else:
        train_folder = next(filter(holds_image, named["train"]), named["train"][0])
        wanted = named[split] if split else named["val"] + named["test"]
        test_folder = next(filter(holds_image, wanted), None)
        train, test = _part(train_folder), _part(test_folder) if test_folder else None
        for other in (f for f in folders if f not in (train_folder, test_folder)):
            if holds_image(other):
                passed_over.append(f"{shown(other.name)}/")
            elif split_kind(other.name):
                passed_over.append(f"{shown(other.name)}/ (no image)")
        if images:
            passed_over.append(f"{images} images beside {shown(train_folder.name)}/")
    if not train.files:
        found = left_out_line(train.left_out)
        raise InputError(
            f"data: the folder {shown(train.folder)} holds no image "
            f"({', '.join(sorted(SUFFIXES))}){f'; {found}' if found else ''}. Give a folder of "
            f"pictures."
        )
    return Parts(train, test, passed_over)


def split_kind(name: str) -> str | None:
    """Returns "train", "val" or "test" for a name of such a part, in any case; none for others."""
    return next((kind for kind, names in SPLITS.items() if name.lower() in names), None)


def spread(count: int, most: int) -> np.ndarray:
    """At most `most` places among `count`, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, most).astype(np.int64))


def most_first(left_out: Counter[str]) -> Counter[str]:
    """Returns the counts with the largest first, and equal ones in alphabetical order."""
    return Counter(dict(sorted(left_out.items(), key=lambda item: (-item[1], item[0]))))


def left_out_line(left_out: Counter[str]) -> str:
    """Says what was left out: "left out: 3 .heic, 1 link to nothing"; empty if nothing was."""
    counts = [
        f"{count} {kind if count == 1 else kind.replace(' ', 's ', 1)}"
        for kind, count in most_first(left_out).items()
    ]
    return f"left out: {', '.join(counts)}" if counts else ""


def _part(folder: Path) -> Part:
    left_out: Counter[str] = Counter()
    files = FileNames(folder, walk(str(folder), "", left_out))
    kinds = most_first(left_out)
    for kind in list(kinds)[MOST_KINDS:]:
        kinds["other"] += kinds.pop(kind)
    return Part(folder, files, kinds)


def _visible(folder: Path) -> tuple[list[Path], int]:
    """The folders right in `folder`, in order, and how many image files are."""
    inner, images = [], 0
    try:
        for entry, is_folder in entries(folder):
            if is_folder:
                inner.append(folder / entry.name)
            else:
                images += suffix_of(entry.name) in SUFFIXES and entry.is_file()
    except OSError:  # which the walk counts
        return [], 0
    return sorted(inner), images


def _unwrapped(folder: Path) -> tuple[list[Path], int]:
    """`_visible` of `folder`, or of the folder in it that has nothing beside it.

    Unpacking often makes one.
    """
    folders, images = _visible(folder)
    if len(folders) != 1 or images or split_kind(folders[0].name):
        return folders, images
    return _unwrapped(folders[0])


def _called(folders: list[Path], names: tuple[str, ...]) -> list[Path]:
    """Those of the folders that are called so, in any case, in the order of the names."""
    found = [folder for folder in folders if folder.name.lower() in names]
    return sorted(found, key=lambda f: (names.index(f.name.lower()), f.name.lower() != f.name))
