"""What kind of source lies where `--data` points, and what an object of Python holds.

Nothing is opened but a list of paths, and TensorFlow is not imported.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from moco_tf.data.file_set import file_set, refuse_nested
from moco_tf.data.tfrecord.shards import list_shards
from moco_tf.data.walk import SUFFIXES, holds_image
from moco_tf.errors import InputError
from moco_tf.names.data import TFRECORDS, is_records, paths_of

PACK_INDEX = "pack.npz"
PACK_BEGUN = ".pack.json"  # while the pack is being written: what was asked for
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")


def is_pack(folder: Path) -> bool:
    """Whether `folder` holds a pack, a finished one or one that was begun."""
    return any((folder / name).is_file() for name in (PACK_INDEX, PACK_BEGUN))


def source_kind(data: str) -> Literal["pack", "folders", "list", "npz", "tfrecord"]:
    """Returns what lies at the paths that `data` names.

    Raises:
        InputError: if there is nothing, or a file of another kind.
    """
    if is_records(data):
        return "tfrecord"
    path, *others = paths_of(data)
    if others:
        for one in (path, *others):
            if not one.is_dir() or is_pack(one):
                raise InputError(_not_one_of_several(data, one))
    if data and path.is_dir():
        return "pack" if is_pack(path) else "folders"
    for suffix, kind in ((".npz", "npz"), (".txt", "list")):
        if path.suffix.lower() == suffix and path.is_file():
            return kind  # type: ignore[return-value]
    raise InputError(_no_source(data, path))


def check_source(data: str) -> None:
    """Raises what `source_kind` does, and `InputError` for folders or a list without any image."""
    kind, paths = source_kind(data), paths_of(data)
    if kind == "tfrecord":
        list_shards(data)
    elif kind == "list":
        file_set(paths)
    elif kind == "folders":
        refuse_nested(paths)
        if not all(map(holds_image, paths)):
            file_set(paths)  # says what is there


def pair_of(data: Any) -> tuple[Any, Any]:
    """Returns (images, labels) of a pair of arrays, and (data, None) of anything else."""
    arrays = isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], np.ndarray)
    # And no two images.
    return data if arrays and (data[0].ndim == 4 or np.ndim(data[1]) == 1) else (data, None)


def part_of(data: Mapping[Any, Any], names: Iterable[str]) -> Any:
    """Returns the key of the first part in `names` that a mapping has; None: it has none."""
    parts = {str(key).lower(): key for key in data}
    return next((parts[name] for name in names if name in parts), None)


def _not_one_of_several(data: str, path: Path) -> str:
    what = "a pack" if is_pack(path) else "no folder" if path.exists() else "not there"
    return (
        f"data={data!r} names several folders of images, and {str(path)!r} is {what}. Give folders "
        f"with commas between them; files go into a text file of paths, one a line."
    )


def _no_source(data: str, path: Path) -> str:
    """What is wrong with `data`, and what to give instead."""
    kinds = (
        "data must be a folder or several (A,B), a LIST.txt of paths, tfrecord:PATTERN, an .npz "
        "file, cifar10, cifar100, tfds:NAME or shapes"
    )
    suffix = path.suffix.lower()
    if not path.is_file():
        return f"{kinds}; received data={data!r}, and there is no such file or folder."
    if suffix in SUFFIXES:
        instead = f"Use --data {shlex.quote(str(path.parent))} for the folder that it lies in"
    elif suffix == ".npy":
        instead = f"Put the array into one: np.savez('{path.stem}.npz', images=np.load({data!r}))"
    elif suffix in (".tfrecord", ".tfrecords", ".record") or "tfrecord" in path.name:
        instead = f"Use --data {shlex.quote(TFRECORDS + data)} for its records"
    elif suffix in ARCHIVES:
        instead = "Unpack it, and give the folder"
    else:
        instead = "Give the folder of the images, or put them into an .npz file"
    return f"{kinds}; received data={data!r}, a file of another kind. {instead}."
