"""The shards of a pack: each is written under a hidden name, read back, renamed, its rows kept.

So whatever ends the process, the same request goes on after the last whole shard, and what it makes
is the same byte for byte.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from moco_tf.data.failures import reason
from moco_tf.data.pack.index import COLUMNS
from moco_tf.data.pack.read import shard_path
from moco_tf.data.pack.records import Records
from moco_tf.data.tfrecord.framing import FOOTER, HEADER
from moco_tf.errors import InputError
from moco_tf.files.atomic import remove_link, temporary_name, write_atomically
from moco_tf.files.npz import read_npz

SHARD_BYTES = 2**30  # at which a shard ends
ROWS = ".rows-{:05d}.npz"  # of a whole shard, until there is an index
KEPT = {name: kind for name, kind in COLUMNS.items() if name != "labels"} | {"source": np.int64}

Rows = dict[str, np.ndarray]  # of `KEPT`: columns of the index, and the bytes in the source


def whole_shards(target: Path) -> list[Rows]:
    """Returns the rows of the shards that an earlier process has finished, from the first on."""
    shards: list[Rows] = []
    while rows := _kept_rows(target, len(shards)):
        shards.append(rows)
    return shards


def _kept_rows(target: Path, number: int) -> Rows | None:
    path = target / ROWS.format(number)
    try:
        rows = read_npz(path, "the rows of a shard") if path.exists() else {}
        if not _are_whole(rows) or shard_path(target, number).stat().st_size != _end(rows):
            return None
    except (InputError, OSError, ValueError, IndexError):  # damaged: it is written again
        return None
    return rows


def _are_whole(rows: Rows) -> bool:
    """Whether they are the columns of `KEPT`, of one image or more."""
    count = rows["shard"].size if "shard" in rows else 0
    shapes = {name: (count, 2) if name == "sizes" else (count,) for name in KEPT}
    return (
        rows.keys() == KEPT.keys()
        and count > 0
        and all(a.shape == shapes[name] and a.dtype == KEPT[name] for name, a in rows.items())
        and bool(((rows["source"] >= 0) & (rows["source"] < 2**40)).all())
    )


def _end(rows: Mapping[str, np.ndarray]) -> int:
    return int(rows["offset"][-1] + rows["length"][-1]) + FOOTER


def write_shard(
    target: Path, number: int, records: Records, written: Callable[[int], None]
) -> Rows:
    """Writes shard `number`, reads it back, gives it its name and keeps its rows, which it returns.

    Args:
        records: from which it takes as many as there is room for.
        written: called with how many there are in the shard so far.

    Raises:
        InputError: if it cannot be written, or reads back as something else.
    """
    path = shard_path(target, number)
    temporary = temporary_name(path)
    found: dict[str, list] = {name: [] for name in KEPT}
    end = 0
    remove_link(temporary)
    try:
        with tf.io.TFRecordWriter(str(temporary)) as writer:
            while end < SHARD_BYTES and (record := next(records, None)):
                before, contents, size, held = record
                writer.write(before + contents)
                at = end + HEADER + len(before)
                row = (number, at, len(contents), zlib.crc32(contents), size, held)
                for column, value in zip(found.values(), row, strict=True):
                    column.append(value)
                end = at + len(contents) + FOOTER
                written(len(found["shard"]))
        rows = {name: np.array(found[name], kind) for name, kind in KEPT.items()}
        _flush(temporary)
        read_back(temporary, rows)
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if not isinstance(error, (OSError, tf.errors.OpError)):
            raise
        why = reason(error) if isinstance(error, tf.errors.OpError) else error.strerror
        raise InputError(
            f"cannot write {path}: {why}. Whole shards are kept: free some space and run the same "
            f"command again."
        ) from None
    file = io.BytesIO()
    np.savez(file, **rows)  # type: ignore[arg-type]
    write_atomically(target / ROWS.format(number), file.getvalue())
    return rows


def _flush(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def read_back(path: Path, rows: Mapping[str, np.ndarray]) -> None:
    """Raises `InputError` unless the file holds what its rows say, and ends there."""
    spans = zip(rows["offset"], rows["length"], rows["crc"], strict=True)
    same, start = path.stat().st_size == _end(rows), 0
    try:  # which checks TFRecord's own checksums of all that is in a record
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            offset, length, crc = next(spans, (-1, 0, 0))
            start += HEADER + len(record)
            same = same and start == offset + length
            same = same and zlib.crc32(record[len(record) - length :]) == crc
            start += FOOTER
    except tf.errors.DataLossError:
        same = False
    if not same or next(spans, None):
        raise InputError(
            f"{path} does not read back as it was written. Check its disk. Remove the pack, "
            f"and pack again."
        )
