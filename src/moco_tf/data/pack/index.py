"""The index of a pack: `INDEX`, plain arrays with a row for each image, and what the rows share.

The rows are those of the training part and then of the test part: `shard` int32, `offset` (of the
image, not of its header) and `length` int64, `crc` uint32 (CRC-32 as zlib's), `sizes` int32 [n, 2]
(height, width), `labels` int64 (-1: unknown). `paths` is text with a zero byte between two, as the
file system has them, and `about` the JSON of `About`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from moco_tf.data.decode import MOST_BYTES
from moco_tf.data.source_kind import PACK_INDEX
from moco_tf.data.tfrecord.framing import HEADER
from moco_tf.errors import InputError
from moco_tf.files.npz import read_npz

INDEX = PACK_INDEX
COLUMNS = {
    "shard": np.int32,
    "offset": np.int64,
    "length": np.int64,
    "crc": np.uint32,
    "sizes": np.int32,
    "labels": np.int64,
}


class PartOfPack(BaseModel):
    """What the rows of one part have in common; see `Images`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    name: str
    count: int = Field(gt=0)
    labelled: bool
    class_names: list[str]
    why_unlabelled: str
    identity: str
    split: str = ""


class About(BaseModel):
    """What an index says beside its rows."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    version: Literal[1] = 1
    request: dict[str, int | str | None]  # what was asked for
    source_bytes: int = Field(ge=0)  # of the images before they were packed
    skipped: list[str]  # files that could not be read
    left_out: dict[str, int] = {}  # files that are no images, by kind
    train: PartOfPack
    test: PartOfPack | None


@dataclass(frozen=True)
class Index:
    about: About
    rows: dict[str, np.ndarray]  # of `COLUMNS`, [n] each, `sizes` [n, 2]
    paths: list[bytes] | None  # [n]

    @property
    def count(self) -> int:
        return len(self.rows["shard"])


def read_index(path: Path) -> Index:
    """Returns the index in the file `path`; raises `InputError` where anything in it is not so."""
    arrays = read_npz(path, "the index of a pack")
    try:
        about = About.model_validate_json(_bytes_of(arrays, "about"))
        count = about.train.count + (about.test.count if about.test else 0)
        rows = {name: _column(arrays, name, kind, count) for name, kind in COLUMNS.items()}
        paths = _bytes_of(arrays, "paths").split(b"\0") if "paths" in arrays else None
        _check_rows(rows, about, paths, count)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{path} is not the index of a pack: {place}: {first['msg']}.") from None
    except ValueError as error:
        raise InputError(f"{path} is not the index of a pack: {error}.") from None
    return Index(about, rows, paths)


def _bytes_of(arrays: dict[str, np.ndarray], name: str) -> bytes:
    array = arrays.get(name)
    if array is None or array.dtype != np.uint8 or array.ndim != 1:
        raise ValueError(f"{name} must be uint8 [bytes]")
    return array.tobytes()


def _column(arrays: dict[str, np.ndarray], name: str, kind: Any, count: int) -> np.ndarray:
    array, shape = arrays.get(name), (count, 2) if name == "sizes" else (count,)
    if array is None or array.dtype != kind or array.shape != shape:
        found = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
        raise ValueError(f"{name} must be {np.dtype(kind)} {list(shape)}, and is {found}")
    return array


def _check_rows(rows, about: About, paths: list[bytes] | None, count: int) -> None:
    labels = rows["labels"]
    known = np.zeros(count, bool)  # whether a label is one of its part's classes, or -1
    first = 0
    for part in (about.train, about.test):
        if part:
            of_part, classes = slice(first, first + part.count), len(part.class_names)
            highest = classes - 1 if part.labelled else -1
            known[of_part] = (labels[of_part] >= -1) & (labels[of_part] <= highest)
            first += part.count
    whole = {
        "shard": (rows["shard"] >= 0) & (rows["shard"] < count),
        "offset": (rows["offset"] >= HEADER) & (rows["offset"] < 2**48),
        "length": (rows["length"] > 0) & (rows["length"] <= MOST_BYTES),
        "sizes": (rows["sizes"] > 0).all(axis=1),
        "labels": known,
    }
    for name, good in whole.items():
        if not good.all():
            row = int(np.flatnonzero(~good)[0])
            raise ValueError(f"{name} of image {row} is out of range: {rows[name][row].tolist()}")
    if paths is not None and len(paths) != count:
        raise ValueError(f"it has {len(paths)} paths for {count} images")
