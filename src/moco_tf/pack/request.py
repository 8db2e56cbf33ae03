"""What a pack is asked to be, and the folder that it is claimed for."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from moco_tf.data.files import folder_stamp
from moco_tf.data.pack import BEGUN, is_pack
from moco_tf.errors import InputError
from moco_tf.pack.records import JPEG_QUALITY
from moco_tf.run_folder import make_folder, temporary_name, write_atomically


def request_of(source: str, short_side: int | None, quality: int | None) -> dict[str, Any]:
    for name, value, low, high in (
        ("short_side", short_side, 8, 65500),  # as much as a JPEG can have
        ("quality", quality, 1, 100),
    ):
        if value is not None and not low <= value <= high:
            raise InputError(f"{name} must be from {low} to {high}; received {name}={value}.")
    if quality is not None and short_side is None:
        raise InputError(
            f"quality is of the images that --short-side reduces; received quality={quality} "
            f"without it. Give --short-side, or leave --quality out."
        )
    path = Path(source).expanduser()
    if source and is_pack(path):
        raise InputError(f"source={source} is a pack already. Give the images it was made of.")
    stamp = ""
    if source and path.is_dir():
        stamp = folder_stamp(path)
    elif path.is_file():
        stamp = f"{path.stat().st_size} {path.stat().st_mtime_ns}"
    return {
        "source": os.fsencode(path.resolve()).decode("utf-8", "replace") if stamp else source,
        "stamp": stamp,
        "short_side": short_side,
        "quality": (quality or JPEG_QUALITY) if short_side else None,
    }


def check_same(target: Path, found: dict[str, Any], request: dict[str, Any]) -> None:
    """Raises `InputError` unless what stands in `target` is of the same request."""
    other = [name for name in request if found.get(name) != request[name]]
    if other == ["stamp"]:
        raise InputError(
            f"target={target} was packed from {request['source']}, which has changed since. "
            f"Remove {target}, or use another TARGET."
        )
    if other:
        raise InputError(
            f"target={target} is a pack with {other[0]}={found.get(other[0])}; received "
            f"{other[0]}={request[other[0]]}. Use another TARGET."
        )


def claim(target: Path, request: dict[str, Any]) -> None:
    """Makes the folder and notes the request there, or finds the same one noted."""
    make_folder(target)
    note = target / BEGUN
    if note.is_file():
        try:
            found = json.loads(note.read_bytes())
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise InputError(f"{note} is damaged. Remove {target}, or use another TARGET.")
        check_same(target, found, request)
        return
    others = sorted({entry.name for entry in target.iterdir()} - {temporary_name(note).name})
    if others:
        raise InputError(
            f"target={target} holds something else ({others[0]}). Use an empty or a new folder."
        )
    write_atomically(note, json.dumps(request).encode())


@contextlib.contextmanager
def alone(target: Path) -> Iterator[None]:
    """Keeps a second process out of `target`."""
    with open(target / BEGUN, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"target={target} is being packed by another process. Wait for it, or stop it."
            ) from None
        yield
