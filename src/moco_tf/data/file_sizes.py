"""Heights and widths of image files, and which of them show nothing, kept in the user's cache."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from moco_tf.data.decode import MOST_BYTES, decode
from moco_tf.data.looks import look
from moco_tf.data.stream import CORES, Elements, mapped
from moco_tf.data.telling import telling_without_decoders
from moco_tf.errors import InputError
from moco_tf.files.digests import add_zip_digest
from moco_tf.files.npz import read_npz
from moco_tf.files.store import Stamp, cache_folder, stamp

TOLD_EVERY = 5.0  # seconds, while files are read
NOT_DECODED = -1  # in place of a `look`


def file_sizes(
    names: list[bytes],
    folders: Sequence[Path],
    told: Callable[[str], None] = lambda _: None,
    *,
    headers: bool = False,
) -> np.ndarray:
    """Height, width and `look` of each file, int32 [n, 3]; 0 where it cannot be read.

    A file of more than `MOST_BYTES` is not read. What is found is kept: the next call reads only
    files that are new or changed.

    Args:
        names: paths of the files.
        folders: where they lie; what is found is kept by these.
        told: called with a line now and then while many files are read.
        headers: what the files say of themselves will do: they need not be decoded.
    """
    places = b"\0".join(os.fsencode(path.resolve()) for path in folders)
    kept = cache_folder() / f"images-{hashlib.sha256(places).hexdigest()[:16]}.npz"
    stamps = np.array([_stamp(name) for name in names], np.int64)  # [n, 2]
    sizes = _known(kept, names, stamps)
    unknown = sizes[:, 0] == 0 if headers else (sizes[:, 0] == 0) | (sizes[:, 2] == NOT_DECODED)
    rows = np.flatnonzero(unknown & (stamps[:, 0] <= MOST_BYTES))
    if not len(rows):
        return sizes
    sizes[rows] = 0
    measured = (_read_headers if headers else _decoded)(rows, [names[row] for row in rows])
    with telling_without_decoders(told, TOLD_EVERY) as tell:
        for done, (row, size) in enumerate(measured, start=1):
            sizes[row] = size
            tell(f"{done} of {len(rows)} images looked at")
    _keep(kept, names, stamps, sizes)
    return sizes


def _decoded(rows: np.ndarray, names: list[bytes]) -> Iterable[tuple[int, np.ndarray]]:
    """Row and size of those that can be decoded."""

    def measure(row, file):
        image = decode(tf.io.read_file(file))
        return row, tf.concat([tf.shape(image)[:2], [look(image)]], 0)

    numbered = tf.data.Dataset.from_tensor_slices((rows, names))
    return Elements(mapped(numbered, measure).ignore_errors().as_numpy_iterator())


def _read_headers(rows: np.ndarray, names: list[bytes]) -> Iterator[tuple[int, Any]]:
    def measure(name: bytes) -> tuple[int, int, int]:
        try:
            with Image.open(os.fsdecode(name)) as image:
                return image.height, image.width, NOT_DECODED
        except Exception:  # of damaged files, of many kinds
            return 0, 0, NOT_DECODED

    with ThreadPoolExecutor(2 * CORES) as threads:  # half of them wait for the disk
        yield from zip(rows, threads.map(measure, names), strict=True)


def _stamp(name: bytes) -> Stamp:
    """Bytes and time of a file; of one that is gone meanwhile, none."""
    try:
        return stamp(os.stat(name))
    except OSError:
        return 0, 0


def _keep(path: Path, names: list[bytes], stamps: np.ndarray, sizes: np.ndarray) -> None:
    archive = io.BytesIO()
    text = np.frombuffer(b"\0".join(names), np.uint8)
    np.savez(archive, names=text, stamps=stamps, sizes=sizes)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(add_zip_digest(archive.getvalue()))
        os.replace(temporary, path)
    except OSError:  # then the next call reads them again
        temporary.unlink(missing_ok=True)


def _known(path: Path, names: list[bytes], stamps: np.ndarray) -> np.ndarray:
    """What is kept of files that are as they were; 0 for all others: int32 [n, 3]."""
    sizes = np.zeros((len(names), 3), np.int32)
    try:
        found = read_npz(path, "a list of images") if path.exists() else {}
        table = np.concatenate([found["stamps"], found["sizes"]], axis=1)
        before = found["names"].tobytes().split(b"\0")
        if table.shape != (len(before), 5) or table.dtype != np.int64:
            return sizes
    except (InputError, KeyError, ValueError):  # none yet, or damaged: all are read
        return sizes
    places = {name: place for place, name in enumerate(before)} if before != names else None
    rows = np.arange(len(names))
    at = rows if places is None else np.array([places.get(name, -1) for name in names], np.int64)
    same = (at >= 0) & (table[at, :2] == stamps).all(axis=1)
    sizes[same] = np.clip(table[at[same], 2:], NOT_DECODED, MOST_BYTES)
    sizes[(sizes[:, :2] < 1).any(axis=1)] = 0
    return sizes
