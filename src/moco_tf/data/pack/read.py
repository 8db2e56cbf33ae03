"""A pack: images in a few large files, the shards, read by index.

A shard is a TFRecord file: of each image a header of 12 bytes, the encoded image, and 4 bytes more.
What the index says is believed only within its own folder: a shard's name comes from its number.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf.data.pack.index import INDEX, Index, PartOfPack, read_index
from moco_tf.data.tfrecord.framing import FOOTER
from moco_tf.errors import InputError

MOST_OPEN = 512  # shards whose files stay open; of others each read opens and closes one


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"images-{number:05d}.tfrecord"


def open_pack(folder: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Returns the fields of `Images` for the training part and for the test part (or None).

    Raises:
        InputError: the pack is unfinished, its index is damaged or lies, or a shard is not whole.
    """
    if not (folder / INDEX).is_file():
        raise InputError(
            f"data={folder} is an unfinished pack. Run the moco-tf pack that began it again, which "
            f"goes on where it stopped."
        )
    index = read_index(folder / INDEX)
    check_shards(folder, index)
    read = record_reader(partial(shard_path, folder), index.rows, "remove the pack, and pack again")
    train, test = index.about.train, index.about.test
    trained = _part(folder, index, train, 0, read)
    trained["left_out"] = index.about.left_out
    return trained, _part(folder, index, test, train.count, read) if test else None


def check_shards(folder: Path, index: Index) -> None:
    """Raises `InputError` unless every shard is a file that ends where its last image does."""
    rows = index.rows
    ends = np.zeros(int(rows["shard"].max()) + 1, np.int64)
    np.maximum.at(ends, rows["shard"], rows["offset"] + rows["length"] + FOOTER)
    for number in np.unique(rows["shard"]).tolist():
        path = shard_path(folder, number)
        try:
            status = os.stat(path)
        except OSError as error:
            raise InputError(f"{path} could not be read: {error.strerror}.") from None
        if not stat.S_ISREG(status.st_mode) or status.st_size != ends[number]:
            raise InputError(
                f"{path} is not whole: its index asks for {ends[number]} bytes, and it has "
                f"{status.st_size}. Remove {folder}, and pack again."
            )


def record_reader(
    path_of: Callable[[int], Path], rows: Mapping[str, np.ndarray], mend: str
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function for graphs, from any thread: int64 scalar -> the encoded image of a row.

    It fails, with the name of the shard, where the bytes are not those of the index.

    Args:
        path_of: shard's number -> its file.
        rows: `shard`, `offset`, `length` and perhaps `crc` of `COLUMNS`.
        mend: what to do about a damaged image.
    """
    shards, offsets, lengths = (rows[name] for name in ("shard", "offset", "length"))
    crcs = rows.get("crc")
    files: dict[int, int] = {}  # opened at the first image, for good
    opening = threading.Lock()

    def pread(number: int, length: int, offset: int) -> bytes:
        with opening:
            held = files.get(number)
            descriptor = (
                os.open(path_of(number), os.O_RDONLY | os.O_CLOEXEC) if held is None else held
            )
            keep = held is not None or len(files) < MOST_OPEN
            if keep:
                files[number] = descriptor
        try:
            return os.pread(descriptor, length, offset)
        finally:
            if not keep:
                os.close(descriptor)

    def read(index) -> bytes:
        row, number = int(index), int(shards[index])
        contents = pread(number, int(lengths[row]), int(offsets[row]))
        whole = len(contents) == lengths[row]
        if not whole or (crcs is not None and zlib.crc32(contents) != crcs[row]):
            what = f"image {row} in {path_of(number)} is damaged; {mend}"
            raise tf.errors.DataLossError(None, None, what)
        return contents

    def read_in_graph(index):
        contents = tf.numpy_function(read, [index], tf.string, stateful=False)
        return tf.ensure_shape(contents, [])

    return read_in_graph


def _part(folder: Path, index: Index, part: PartOfPack, first: int, read) -> dict[str, Any]:
    within = slice(first, first + part.count)
    rows = {name: column[within] for name, column in index.rows.items()}
    paths = index.paths[within] if index.paths else None
    shown = paths or [b"image %d" % number for number in range(index.count)[within]]
    content = hashlib.sha256(rows["crc"].tobytes() + rows["length"].tobytes())
    return {
        "name": part.name,
        "count": part.count,
        "read": lambda index: read(tf.cast(index, tf.int64) + first),
        "encoded": True,
        "labels": rows["labels"] if part.labelled else None,
        "why_unlabelled": part.why_unlabelled,
        "class_names": tuple(part.class_names),
        "sizes": rows["sizes"],
        "files": tuple(
            f"{shard_path(folder, number).name}: {name.decode('utf-8', 'replace')}"
            for number, name in zip(rows["shard"].tolist(), shown, strict=True)
        ),
        "paths": tuple(os.fsdecode(path) for path in paths) if paths else None,
        "identity": part.identity,
        "split": part.split,
        "content": content.hexdigest(),
    }
