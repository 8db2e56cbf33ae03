"""Where each image of some shards lies, and its label: made once, and kept for the next start.

No image is decoded.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import mmap
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moco_tf.data.decode import MOST_BYTES
from moco_tf.data.telling import telling
from moco_tf.data.tfrecord.examples import (
    NoExampleError,
    Spans,
    bytes_values,
    features,
    int_values,
    keys_of,
)
from moco_tf.data.tfrecord.framing import find_records
from moco_tf.data.tfrecord.shards import Keys
from moco_tf.errors import DamagedError, InputError
from moco_tf.files.atomic import write_atomically
from moco_tf.files.digests import add_zip_digest, check_zip_digest
from moco_tf.files.npz import read_npz
from moco_tf.files.store import Stamp, stamp

ROWS = 2**18  # records that are looked into at a time: some 60 MB
TOLD_EVERY = 5.0  # seconds
KINDS = {"counts": np.int64, "offsets": np.int64, "lengths": np.int32, "labels": np.int64}


@dataclass(frozen=True)
class Index:
    """Of n images in m shards."""

    counts: np.ndarray  # int64 [m]: images in each shard
    offsets: np.ndarray  # int64 [n]: where an image begins in its shard
    lengths: np.ndarray  # int32 [n]: bytes
    labels: np.ndarray  # int64 [n]: the number in the record, or one for each text; -1: none
    texts: dict[int, str]  # of a number: the class's name, where the records say it
    by_text: bool  # whether the records hold texts as labels, and the numbers are their places
    stamps: list[Stamp]  # of each shard, as it was read

    @property
    def shards(self) -> np.ndarray:
        """The shard of each image, int32 [n]."""
        return np.repeat(np.arange(len(self.counts), dtype=np.int32), self.counts)


def open_index(
    shards: Sequence[Path], keys: Keys, cache: Path, told: Callable[[str], None] = lambda _: None
) -> Index:
    """Returns the index of these shards: the one in `cache`, if it is of these, or a new one.

    Args:
        cache: folder; a shard with another size or time, and a damaged index, are looked at again.
        told: called with a line now and then.

    Raises:
        InputError: a shard is compressed, truncated, damaged, or its records lack the image key.
    """
    names = [os.path.realpath(path) for path in shards]
    key = hashlib.sha256("\0".join([*keys, *names]).encode("utf-8", "surrogateescape"))
    kept = cache / f"tfrecord-{key.hexdigest()[:16]}.npz"
    stamps = [stamp(os.stat(name)) for name in names]
    if (index := _read(kept, stamps)) is not None:
        return index
    index = _make(shards, keys, stamps, told)
    archive = io.BytesIO()
    about = json.dumps({"texts": index.texts, "by_text": index.by_text}).encode()
    arrays = {name: getattr(index, name) for name in KINDS} | {"stamps": np.array(stamps)}
    np.savez(archive, about=np.frombuffer(about, np.uint8), **arrays)
    with contextlib.suppress(OSError, InputError):  # then the next start makes it again
        write_atomically(kept, add_zip_digest(archive.getvalue()))
    return index


def _read(kept: Path, stamps: list[Stamp]) -> Index | None:
    """The index in a file, if it is whole and of shards as they are now."""
    try:
        check_zip_digest(kept.read_bytes())
        arrays = read_npz(kept, "an index of records")
        if not np.array_equal(arrays.pop("stamps"), stamps):
            return None
        about = json.loads(arrays.pop("about").tobytes())
        texts = {int(number): str(text) for number, text in about["texts"].items()}
        columns = {name: arrays[name].astype(kind, casting="no") for name, kind in KINDS.items()}
        return Index(**columns, texts=texts, by_text=bool(about["by_text"]), stamps=stamps)
    except (OSError, DamagedError, InputError, KeyError, ValueError, TypeError, AttributeError):
        return None


def _make(
    shards: Sequence[Path], keys: Keys, stamps: list[Stamp], told: Callable[[str], None]
) -> Index:
    offsets, lengths, counts = [], [], []
    numbers: list[np.ndarray | list[str]] = []
    texts: dict[int, str] = {}
    tell = telling(told, TOLD_EVERY)
    for done, path in enumerate(shards):
        tell(f"{done} of {len(shards)} shards indexed")
        data = _bytes_of(path)
        places, sizes = find_records(data, path)
        counts.append(len(places))
        for first in range(0, len(places), ROWS):
            rows = slice(first, first + ROWS)
            images, labels = _look(data, Spans(places[rows], sizes[rows]), keys, texts, path, first)
            offsets.append(images.starts)
            lengths.append(images.lengths.astype(np.int32))
            numbers.append(labels)
    if not offsets:
        raise InputError(f"data: {shards[0]} holds no record. Give shards with images.")
    by_text = any(isinstance(one, list) for one in numbers)
    if by_text:
        words = np.concatenate([np.asarray(one).astype(str) for one in numbers])
        names, labels = np.unique(words, return_inverse=True)
        texts = {place: name for place, name in enumerate(names.tolist()) if name not in ("", "-1")}
        labels = np.where(np.isin(labels, list(texts)), labels, -1)
    else:
        labels = np.concatenate(numbers)
    counted, spans = np.array(counts, np.int64), (np.concatenate(offsets), np.concatenate(lengths))
    return Index(counted, *spans, np.maximum(labels, -1).astype(np.int64), texts, by_text, stamps)


def _look(
    data: np.ndarray, records: Spans, keys: Keys, texts: dict[int, str], path: Path, first: int
) -> tuple[Spans, np.ndarray | list[str]]:
    """Where the images lie, and their labels: numbers (-1: none), or texts (empty: none).

    Adds to `texts` what the records call a number.
    """
    try:
        found = features(data, *records, list(keys))
        images, words = bytes_values(data, found[keys.image]), bytes_values(data, found[keys.text])
        numbers, named = int_values(data, found[keys.label]), bytes_values(data, found[keys.label])
    except NoExampleError as error:
        raise InputError(
            f"data: record {first + error.row} of {path} is not a tf.train.Example. Write the "
            f"images as Examples, with {keys.image} as bytes."
        ) from None
    lacking = np.flatnonzero((images.lengths <= 0) | (images.lengths > MOST_BYTES))
    if len(lacking):
        row = int(lacking[0])
        there = keys_of(data, int(records.starts[row]), int(records.lengths[row]))
        raise InputError(
            f"data: record {first + row} of {path} has no image as bytes at the key {keys.image}; "
            f"its keys are: {', '.join(there) or 'none'}. Name the image's, as in --data "
            f"'tfrecord:PATTERN?image=KEY&label=KEY'."
        )
    if (named.lengths > 0).any():
        return images, [_text(data, named, row) for row in range(len(named.starts))]
    values, rows = np.unique(numbers, return_index=True)
    for value, row in zip(values.tolist(), rows.tolist(), strict=True):
        if value not in texts and words.lengths[row] > 0:
            texts[value] = _text(data, words, row)
    return images, numbers


def _text(data: np.ndarray, spans: Spans, row: int) -> str:
    at, length = int(spans.starts[row]), max(int(spans.lengths[row]), 0)
    return data[at : at + length].tobytes().decode("utf-8", "replace")


def _bytes_of(path: Path) -> np.ndarray:
    """The bytes of a file, uint8 [bytes], of which only those that are used are read."""
    try:
        with open(path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return np.empty(0, np.uint8)
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    except OSError as error:
        raise InputError(f"data: {path} could not be read: {error.strerror}.") from None
