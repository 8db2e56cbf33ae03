"""A pack: images in a few large files, the shards, read by index.

A shard is a TFRecord file: of each image a header of 12 bytes, the encoded image, and 4 bytes more.
What the index says is believed only within its own folder: a shard's name comes from its number.
"""

from __future__ import annotations

import hashlib
import os
import stat
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf.data.pack.index import INDEX, Index, PartOfPack, read_index
from moco_tf.data.tfrecord.framing import FOOTER
from moco_tf.data.tfrecord.reading import record_reader
from moco_tf.errors import InputError


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
