"""What a folder of images holds: its parts, their image files and classes, and what is left out.

Nothing is opened here, and TensorFlow is not imported.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import features

from moco_tf.errors import InputError

JPEG = {".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp"}
PNM = {".pbm", ".pgm", ".ppm", ".pnm"}
AVIF = {".avif"} if features.check("avif") else set()
SUFFIXES = frozenset({".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"} | JPEG | PNM | AVIF)
# Names of the parts of a data set, in the order in which they are looked for, in any case.
SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
# What systems, network drives and editors put beside pictures, in lower case.
_FOLDERS = (
    "@eadir, @recycle, @recently-snapshot, @sharebin, @synoresource, @tmp, #recycle, #snapshot, "
    "$recycle.bin, recycler, recycled, system volume information, found.000, lost+found, "
    "__macosx, __pycache__"
)
_FILES = "thumbs.db, ehthumbs.db, ehthumbs_vista.db, desktop.ini, zbthumbnail.info, icon\r"
NOT_THE_USERS = frozenset(f"{_FOLDERS}, {_FILES}".split(", "))
MOST_KINDS = 10  # of files left out that are told apart


class Part(NamedTuple):
    """The image files of one part, at any depth, links followed, in a stable order."""

    folder: Path
    files: list[Path]
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
    base, test, passed_over = _unwrapped(folder), None, []
    folders, images = _visible(base)
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


def class_names(part: Part) -> tuple[tuple[str, ...], str]:
    """Returns the classes of a training part, the folders right under it, and why it has none.

    A folder that holds all images is no class, but looked into. An image beside the class folders
    is of no class.
    """
    tops = _tops(part.files, _levels(part)[-1])
    names = sorted(set(tops) - {""})
    if len(names) > 1 and not all(map(split_kind, names)):
        return tuple(names), ""
    if len(names) > 1:
        return (), f"{' and '.join(map(shown, names))} are parts, and no folder is called train"
    if not names:
        return (), "all images lie in one folder"
    stray = part.files[tops.index("")].relative_to(part.folder)
    return (), f"images lie in {shown(names[0])}/ and beside it, as {shown(stray)}"


def labels_of(
    part: Part, files: Sequence[Path], classes: tuple[str, ...]
) -> tuple[np.ndarray | None, str]:
    """Returns the places in `classes` of some files of `part`, int64 [n], or why there are none.

    An image in no class folder gets -1. The labels are none if the part has other classes.
    """
    at_levels = (_tops(files, level) for level in _levels(part))
    tops = max(at_levels, key=lambda tops: len({*tops} & {*classes}))  # the first of equal ones
    strange, absent = sorted(set(tops) - set(classes) - {""}), sorted(set(classes) - set(tops))
    if strange or len(absent) == len(classes):
        odd = f"the class {shown(strange[0])!r}" if strange else "images in no class folder"
        lacks = f", and lacks its class {shown(absent[0])!r}" if absent else ""
        return None, f"{shown(part.folder)} has {odd}, the training folder has not{lacks}"
    numbers = {name: number for number, name in enumerate(classes)} | {"": -1}
    return np.array([numbers[top] for top in tops], np.int64), ""


def shown(path: Path | str) -> str:
    """A name that can be printed, also where its bytes are no UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def _part(folder: Path) -> Part:
    left_out: Counter[str] = Counter()
    files = sorted(_walk(folder, left_out))
    kinds = most_first(left_out)
    for kind in list(kinds)[MOST_KINDS:]:
        kinds["other"] += kinds.pop(kind)
    return Part(folder, files, kinds)


def _walk(folder: Path, left_out: Counter[str]) -> Iterator[Path]:
    """Yields the image files, and counts the other files."""

    def unreadable(_error: OSError) -> None:
        left_out["folder that cannot be read"] += 1

    for base, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        folders[:] = [n for n in folders if _is_the_users(n) and not _leads_back(base, n)]
        for name in filter(_is_the_users, names):
            path = os.path.join(base, name)
            kind = _kind_left_out(path)
            if kind is None:
                yield Path(path)
            else:
                left_out[kind] += 1


def _kind_left_out(path: str) -> str | None:
    """What kind of a file it is that is no image; none for an image."""
    if not os.path.isfile(path):
        return "link to nothing" if os.path.islink(path) else "pipe or the like"
    suffix = Path(path).suffix.lower()
    if suffix in SUFFIXES:
        return None
    usual = len(suffix) < 10 and suffix[1:].isalnum() and not suffix[1:].isdecimal()
    return suffix if usual else "file without a usual suffix"


def _is_the_users(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in NOT_THE_USERS


def _leads_back(base: Path | str, name: str) -> bool:
    """Whether the folder is a link to one that it lies in."""
    path = os.path.join(base, name)
    return os.path.islink(path) and Path(base).resolve().is_relative_to(Path(path).resolve())


def _visible(folder: Path) -> tuple[list[Path], int]:
    """The folders right in `folder`, in order, and how many image files are."""
    try:
        entries = [entry for entry in os.scandir(folder) if _is_the_users(entry.name)]
    except OSError:  # which the walk counts
        return [], 0
    inner = sorted(e.name for e in entries if e.is_dir() and not _leads_back(folder, e.name))
    images = sum(Path(e.name).suffix.lower() in SUFFIXES and e.is_file() for e in entries)
    return [folder / name for name in inner], images


def _unwrapped(folder: Path) -> Path:
    """`folder`, or the folder in it that has nothing beside it, as unpacking often makes one."""
    folders, images = _visible(folder)
    if len(folders) != 1 or images or split_kind(folders[0].name):
        return folder
    return _unwrapped(folders[0])


def _called(folders: list[Path], names: tuple[str, ...]) -> list[Path]:
    """Those of the folders that are called so, in any case, in the order of the names."""
    found = [folder for folder in folders if folder.name.lower() in names]
    return sorted(found, key=lambda f: (names.index(f.name.lower()), f.name.lower() != f.name))


def holds_image(folder: Path) -> bool:
    """Whether there is an image in `folder`, at any depth; looks no further than the first."""
    return any(True for _ in _walk(folder, Counter()))


def _levels(part: Part) -> list[Path]:
    """The folders that hold all images of the part, from its own to the innermost."""
    inside = os.path.commonpath({path.relative_to(part.folder).parent for path in part.files})
    return list(accumulate(Path(inside).parts, Path.joinpath, initial=part.folder))


def _tops(files: Iterable[Path], level: Path) -> list[str]:
    """The folder right under `level` in which each file lies; empty for one right in `level`."""
    inner = (path.relative_to(level).parts for path in files)
    return [parts[0] if len(parts) > 1 else "" for parts in inner]
