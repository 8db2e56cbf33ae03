"""What a pack is asked to be, and the folder that it is claimed for."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from moco_tf.data.file_set import file_set
from moco_tf.data.image_folder import files_stamp
from moco_tf.data.images import Images
from moco_tf.data.pack.index import INDEX, Index, read_index
from moco_tf.data.pack.read import shard_path
from moco_tf.data.pack.records import LONGEST_SIDE
from moco_tf.data.source_kind import PACK_BEGUN as BEGUN
from moco_tf.data.source_kind import is_pack, source_kind
from moco_tf.data.tfrecord.shards import list_shards
from moco_tf.errors import InputError
from moco_tf.files.atomic import (
    make_folder,
    not_through_a_link,
    take_lock,
    temporary_name,
    write_atomically,
)
from moco_tf.files.store import copy_advice, is_url, stamp
from moco_tf.names.data import is_records, options_of, paths_of

LOCK = ".pack.lock"
JPEG_QUALITY = 95


def request_of(source: str, short_side: int | None, quality: int | None) -> dict[str, Any]:
    for name, value, low, high in (
        ("short_side", short_side, 8, LONGEST_SIDE),
        ("quality", quality, 1, 100),
    ):
        if value is not None and not low <= value <= high:
            raise InputError(f"{name} must be from {low} to {high}; received {name}={value}.")
    if quality is not None and short_side is None:
        raise InputError(
            f"quality is for images that --short-side reduces; received quality={quality} "
            f"without it. Give --short-side, or leave --quality out."
        )
    if is_url(source):
        raise InputError(
            copy_advice(source)
            or f"source={source} is not on this machine. Give a folder of images."
        )
    paths = paths_of(source) if source else ()
    if len(paths) == 1 and is_pack(paths[0]):
        raise InputError(f"source={source} is a pack already. Give the images it was made of.")
    stamp = _stamp(source, paths)
    path = Path(",".join(str(path.resolve()) for path in paths))
    options = options_of(source) if is_records(source) else {}
    asked = "?" + "&".join(f"{name}={key}" for name, key in options.items()) if options else ""
    return {
        "source": os.fsencode(path).decode("utf-8", "replace") + asked if stamp else source,
        "stamp": stamp,
        "short_side": short_side,
        "quality": (quality or JPEG_QUALITY) if short_side else None,
    }


def _stamp(source: str, paths: Sequence[Path]) -> str:
    """Changes with the files of the source, none of which is opened; empty where it has none."""
    if is_records(source):
        shards = list_shards(source)
        files = [(path, *stamp(path.stat())) for path in shards.train + shards.test]
        total = "".join(f"{path} {size} {time}\n" for path, size, time in files)
        return hashlib.sha256(os.fsencode(total)).hexdigest()
    if not paths or not all(path.exists() for path in paths):
        return ""
    if source_kind(source) in ("folders", "list"):
        return files_stamp(file_set(paths))
    return " ".join(map(str, stamp(paths[0].stat())))


def check_same(target: Path, found: dict[str, Any], request: dict[str, Any]) -> None:
    """Raises `InputError` unless what stands in `target` is of the same request."""
    other = [name for name in request if found.get(name) != request[name]]
    if other == ["stamp"]:
        raise _changed(target, request)
    if other:
        raise InputError(
            f"target={target} is a pack with {other[0]}={found.get(other[0])}; received "
            f"{other[0]}={request[other[0]]}. Use another TARGET."
        )


@contextlib.contextmanager
def claimed(target: Path, request: dict[str, Any]) -> Iterator[Index | None]:
    """Holds the folder for this process; gives the index of a finished pack, if one is there.

    The request must be the same, of an unfinished pack too, unless it has no shard yet. If the
    source cannot be opened at all, a new folder is taken away again.

    Raises:
        InputError: it is another pack, or something else, or another process packs into it.
    """
    if copy_advice(target):
        raise InputError(
            f"target={target} is in an object store. Pack into a folder of this machine, and copy "
            f"that there."
        )
    note, new = target / BEGUN, not target.exists()
    hidden = {LOCK, BEGUN, temporary_name(note).name}
    entries = {entry.name for entry in target.iterdir()} if target.is_dir() else set()
    if not is_pack(target) and entries - hidden:
        raise InputError(
            f"target={target} holds something else ({min(entries - hidden)}). Use an empty or a "
            f"new folder."
        )
    make_folder(target)
    with open(target / LOCK, "ab", opener=not_through_a_link) as lock:
        in_use = f"target={target} is being packed by another process. Wait for it, or stop it."
        take_lock(lock, lambda: in_use)
        try:
            finished = read_index(target / INDEX) if (target / INDEX).is_file() else None
            if finished:
                check_same(target, finished.about.request, request)
            elif has_shards(target):
                check_same(target, _noted(target), request)
            else:
                write_atomically(note, json.dumps(request).encode())
            yield finished
        except InputError:
            if not any(target.glob("images-*")) and not any(target.glob(".images-*")):
                remove_traces(target)  # nothing has come of it
                if new:
                    target.rmdir()
            raise
        remove_traces(target)


def settle(target: Path, request: dict[str, Any], parts: list[Images]) -> None:
    """Notes which images the pack is of; raises `InputError` if its shards are of others."""
    known, now = _noted(target).get("parts"), [[part.identity, part.count] for part in parts]
    if has_shards(target) and known != now:
        raise _changed(target, request)
    write_atomically(target / BEGUN, json.dumps(request | {"parts": now}).encode())


def has_shards(target: Path) -> bool:
    return shard_path(target, 0).exists()


def remove_traces(target: Path) -> None:
    """Removes what is kept only until there is an index."""
    for pattern in (".rows-*.npz", "..rows-*.tmp", ".images-*", f"*{BEGUN}*", LOCK):
        for path in target.glob(pattern):
            path.unlink(missing_ok=True)


def _noted(target: Path) -> dict[str, Any]:
    note = target / BEGUN
    try:
        found = json.loads(note.read_bytes())
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{note} is damaged. Remove {target}, or use another TARGET.")
    return found


def _changed(target: Path, request: dict[str, Any]) -> InputError:
    return InputError(
        f"target={target} was packed from {request['source']}, which has changed since. Remove "
        f"{target}, or use another TARGET."
    )
