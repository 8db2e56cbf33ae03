"""Paths of many files in bounded memory: their bytes in one buffer, and where each begins."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

Runs = Iterable[tuple[str, Sequence[str]]]


class FileNames(Sequence[Path]):
    """Paths of files below a folder; an item is a `Path` with that folder.

    Args:
        folder: what the paths are below.
        runs: (folder below it or "", names of files in that), in the order of the files.

    Attributes:
        buffer: the path of each file below `folder`, as bytes, each followed by a zero byte.
        starts: where each begins in it, int64 [n + 1].
        folders: (folder below `folder`, number of its files), as in `runs`.
    """

    def __init__(self, folder: Path, runs: Runs):
        self.folder, self.folders = folder, []
        buffer = bytearray()
        for inner, names in runs:
            before = f"{inner}/" if inner else ""
            buffer += os.fsencode(before + f"\0{before}".join(names) + "\0")
            self.folders.append((inner, len(names)))
        self._hold(bytes(buffer))

    def _hold(self, buffer: bytes) -> None:
        self.buffer = buffer
        ends = np.flatnonzero(np.frombuffer(buffer, np.uint8) == 0)
        self.starts = np.concatenate([np.zeros(1, np.int64), ends + 1])

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: Any) -> Any:
        return self.folder / os.fsdecode(self.inner(index))

    def inner(self, index: int) -> bytes:
        """The path of a file below `folder`."""
        index = range(len(self))[index]
        return self.buffer[self.starts[index] : self.starts[index + 1] - 1]

    def full(self) -> list[bytes]:
        """The whole path of each file."""
        return _prefixed(self.buffer, os.path.join(os.fsencode(self.folder), b"")).split(b"\0")[:-1]

    def below(self, root: Path) -> FileNames:
        """The same files, by their paths below a folder around them."""
        return joined(root, [self])

    def chosen(self, places: Iterable[int]) -> FileNames:
        """The files at some places, in that order."""
        return FileNames(self.folder, runs_of(os.fsdecode(self.inner(n)) for n in places))


class Texts(Sequence[str]):
    """A text for each file of `FileNames`: its path below their folder, behind `before`.

    Args:
        errors: what is done about bytes that are no UTF-8.
    """

    def __init__(self, files: FileNames, before: str, errors: str):
        self._files, self._before, self._errors = files, before, errors

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: Any) -> Any:
        return self._before + self._files.inner(index).decode("utf-8", self._errors)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]


def runs_of(paths: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """The paths below a folder as `FileNames` takes them, in the same order."""
    split = (path.rpartition("/") for path in paths)
    for inner, group in groupby(split, key=lambda parts: parts[0]):
        yield inner, [name for _, _, name in group]


def joined(root: Path, parts: Sequence[FileNames]) -> FileNames:
    """The files of all parts, which lie in folders below `root`, one part behind another."""
    if [part.folder for part in parts] == [root]:
        return parts[0]
    buffer, result = bytearray(), FileNames(root, ())
    for part in parts:
        inner = part.folder.relative_to(root).as_posix()
        before = "" if inner == "." else f"{inner}/"
        buffer += _prefixed(part.buffer, os.fsencode(before))
        result.folders += [(f"{before}{one}".rstrip("/"), count) for one, count in part.folders]
    result._hold(bytes(buffer))
    return result


def shown(path: Path | str) -> str:
    """A name that can be printed, also where its bytes are no UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def _prefixed(buffer: bytes, before: bytes) -> bytes:
    """The buffer with some bytes before each path."""
    return before + buffer[:-1].replace(b"\0", b"\0" + before) + b"\0" if buffer else b""
