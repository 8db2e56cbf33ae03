"""Images in shards, read one at a time by what an index says of where they lie."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

MOST_OPEN = 512  # shards whose files stay open; of others each read opens and closes one


def record_reader(
    path_of: Callable[[int], Path], rows: Mapping[str, np.ndarray], mend: str
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function for graphs, from any thread: int64 scalar -> the encoded image of a row.

    It fails, with the name of the shard, where the bytes are not those of the index.

    Args:
        path_of: shard's number -> its file.
        rows: `shard`, `offset` and `length` of each image, and perhaps its `crc`.
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
