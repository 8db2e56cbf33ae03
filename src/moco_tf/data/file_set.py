"""Image files that belong together: those of a folder, of several folders, or of a list.

Nothing is opened but a list, and TensorFlow is not imported.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from moco_tf.data.class_folders import class_names, labels_of
from moco_tf.data.file_names import FileNames, runs_of, shown
from moco_tf.data.listing import SPLITS, Part, list_parts
from moco_tf.errors import InputError

MOST_NAMES = 3  # of files that are shown
_TRAIN = re.compile(r"(?<![A-Za-z])(train(?:ing)?)(?![A-Za-z])", re.IGNORECASE)


@dataclass(frozen=True)
class FileSet:
    """Parts of several folders follow one another in the order of the folders."""

    given: list[Path]  # folders, or the list
    root: Path  # images are called by their path below it
    train: list[Part]
    test: list[Part]
    passed_over: Sequence[str] = ()
    test_name: str = ""  # of the test part; none: its folder's

    def classes(self) -> tuple[tuple[str, ...], str]:
        """Returns the classes of the training parts, or why there are none.

        Class folders of one name are one class, in whichever folder they lie. Where no folder has
        any, each of several folders is a class.
        """
        found = self._own_classes
        names = sorted({name for classes, _ in found for name in classes})
        own = [folder.resolve().name for folder in self.given]
        if names or len(found) == 1 or len(set(own)) < len(own):
            return tuple(names), "" if names else found[0][1]
        return tuple(sorted(own)), ""

    def labels(self, parts: list[Part], classes: tuple[str, ...]) -> tuple[np.ndarray | None, str]:
        """Returns the labels of the files of `self.train` or `self.test`, as `labels_of`."""
        if len(self.train) == 1:
            return labels_of(parts[0], classes) if classes else (None, "")
        counts = [len(part.files) for part in parts]
        if classes and not any(names for names, _ in self._own_classes):
            names = [self._holder(part).resolve().name for part in parts]
            own = np.array([classes.index(name) for name in names], np.int64)
            return np.repeat(own, counts), ""
        found = [labels_of(part, classes) for part in parts]
        strange = next((why for one, why in found if one is None), "")
        if strange and parts is self.test:
            return None, strange
        each = [
            np.full(count, -1) if one is None else one
            for (one, _), count in zip(found, counts, strict=True)
        ]
        return (np.concatenate(each), "") if classes else (None, "")

    @cached_property
    def _own_classes(self) -> list[tuple[tuple[str, ...], str]]:
        return [class_names(part) for part in self.train]

    def _holder(self, part: Part) -> Path:
        return next(folder for folder in self.given if part.folder.is_relative_to(folder))


def file_set(paths: Sequence[Path], split: str | None = None) -> FileSet:
    """Returns the images in a folder, in several folders, or those that a text file lists.

    Args:
        split: "val" or "test": the test part; none: the first of them that holds images.

    Raises:
        InputError: no training image, folders inside one another, a list with missing files.
    """
    if len(paths) == 1 and not paths[0].is_dir():
        return _listed(paths[0], split)
    refuse_nested(paths)
    paths = list(paths) if len(paths) == 1 else [path.absolute() for path in paths]
    found = [list_parts(path, split) for path in paths]
    prefixes = [f"{shown(path)}: " if len(paths) > 1 else "" for path in paths]
    return FileSet(
        paths,
        Path(os.path.commonpath(paths)),
        [parts.train for parts in found],
        [parts.test for parts in found if parts.test],
        [
            f"{prefix}{one}"
            for prefix, parts in zip(prefixes, found, strict=True)
            for one in parts.passed_over
        ],
    )


def refuse_nested(folders: Sequence[Path]) -> None:
    """Raises `InputError` if one of the folders lies in another, or is given twice."""
    places = [folder.resolve() for folder in folders]
    for one, place in enumerate(places):
        for other, around in enumerate(places):
            if other != one and place.is_relative_to(around):
                raise InputError(
                    f"data: the folder {shown(folders[one])} is given twice, or lies in "
                    f"{shown(folders[other])}. Give each image once."
                )


def set_of_paths(files: Sequence[str | os.PathLike], name: str) -> FileSet:
    """Returns the set of these files, all of them training images, in their order.

    Raises:
        InputError: a file is missing or there twice; the message counts them.
    """
    part = _part_of([os.path.expanduser(path) for path in files], name)
    return FileSet([part.folder], part.folder, [part], [])


def siblings(pattern: str, split: str | None) -> Iterable[tuple[str, str]]:
    """Yields (part, pattern) of the test parts that may lie beside a training `pattern`.

    The last "train" or "training" that stands alone in it is exchanged for another part's name,
    and a number of shards ("-of-01024") for any.
    """
    found = [*_TRAIN.finditer(pattern)]
    if not found:
        return
    start, end = found[-1].span()
    rest = re.sub(r"-of-\d+", "-of-*", pattern[end:])
    for kind in [split] if split else ["val", "test"]:
        for name in SPLITS[kind]:
            yield name, f"{pattern[:start]}{name}{rest}"


def _listed(path: Path, split: str | None) -> FileSet:
    train = _part_of(_lines(path), shown(path))
    for name, beside in siblings(path.name, split):
        other = path.with_name(beside)
        if "*" not in beside and other.is_file():
            test = _part_of(_lines(other), shown(other))
            root = Path(os.path.commonpath([train.folder, test.folder]))
            # Its class folders may lie at any level below.
            test = test._replace(folder=root, files=test.files.below(root))
            return FileSet([path], root, [train], [test], test_name=name)
    return FileSet([path], train.folder, [train], [])


def _lines(path: Path) -> list[str]:
    """The paths in a list, one a line, relative to its folder."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"data: {shown(path)} could not be read: {error.strerror}.") from None
    return [os.path.join(path.parent, os.fsdecode(line.strip())) for line in lines if line.strip()]


def _part_of(files: list[str], name: str) -> Part:
    if not files:
        raise InputError(f"data: {name} lists no image. Write one path on each line.")
    missing = [path for path in files if not os.path.isfile(path)]
    paths = [os.path.abspath(path) for path in files]
    twice = [path for path, count in Counter(paths).items() if count > 1] if not missing else []
    folders = [path for path in missing if os.path.isdir(path)]
    for bad, what in (
        (folders, "paths of folders, not of files"),
        (missing, "files that are not there"),
        (twice, "files twice"),
    ):
        if bad:
            first = ", ".join(map(shown, bad[:MOST_NAMES])) + (", ..." if bad[MOST_NAMES:] else "")
            raise InputError(
                f"data: {name} lists {len(bad)} {what}, of {len(files)}: {first}. Take these "
                f"lines out, or mend them (a path is relative to the list)."
            )
    folder = os.path.commonpath({os.path.dirname(path) for path in paths})
    inner = len(os.path.join(folder, ""))
    names = FileNames(Path(folder), runs_of(path[inner:] for path in paths))
    return Part(Path(folder), names, Counter())
