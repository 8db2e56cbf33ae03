"""What kind of source lies where `--data` points.

Nothing is opened, and TensorFlow is not imported.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal

from moco_tf.data.listing import SUFFIXES, holds_image, list_parts
from moco_tf.errors import InputError

PACK_INDEX = "pack.npz"
PACK_BEGUN = ".pack.json"  # while the pack is being written: what was asked for
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")


def is_pack(folder: Path) -> bool:
    """Whether `folder` holds a pack, a finished one or one that was begun."""
    return any((folder / name).is_file() for name in (PACK_INDEX, PACK_BEGUN))


def source_kind(data: str, path: Path) -> Literal["pack", "folder", "npz"]:
    """Returns what is at `path`, as which `data` was given.

    Raises:
        InputError: if there is nothing, or a file of another kind.
    """
    if data and path.is_dir():
        return "pack" if is_pack(path) else "folder"
    if path.suffix.lower() == ".npz" and path.is_file():
        return "npz"
    raise InputError(_no_source(data, path))


def check_source(data: str, path: Path) -> None:
    """Raises what `source_kind` does, and `InputError` for a folder without any image."""
    if source_kind(data, path) == "folder" and not holds_image(path):
        list_parts(path)  # says what is there


def _no_source(data: str, path: Path) -> str:
    """What is wrong with `data`, and what to give instead."""
    kinds = "data must be a folder, an .npz file, cifar10, cifar100, tfds:NAME or shapes"
    suffix = path.suffix.lower()
    if not path.is_file():
        return f"{kinds}; received data={data!r}, and there is no such file or folder."
    if suffix in SUFFIXES:
        instead = f"Use --data {shlex.quote(str(path.parent))} for the folder that it lies in"
    elif suffix == ".npy":
        instead = f"Put the array into one: np.savez('{path.stem}.npz', images=np.load({data!r}))"
    elif suffix in ARCHIVES:
        instead = "Unpack it, and give the folder"
    else:
        instead = "Give the folder of the images, or put them into an .npz file"
    return f"{kinds}; received data={data!r}, a file of another kind. {instead}."
