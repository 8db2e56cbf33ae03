"""`moco-tf pack`: from a source to a pack, see `data.pack` for what that is."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from moco_tf.data.found import found_lines, left_out
from moco_tf.data.pack.index import INDEX, About, Index, PartOfPack, read_index
from moco_tf.data.pack.read import check_shards, shard_path
from moco_tf.data.pack.records import records_of
from moco_tf.data.pack.request import claimed, request_of, settle
from moco_tf.data.pack.shards import KEPT, Rows, read_back, whole_shards, write_shard
from moco_tf.data.sources import Images, open_images
from moco_tf.files.atomic import write_atomically


def pack(
    source: str,
    target: Path,
    *,
    short_side: int | None = None,
    quality: int | None = None,
    max_bad_images: float = 0.01,
    line: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[str, Any]:
    """Packs the images of `source` into the folder `target`, or goes on with what is there of it.

    Args:
        source: what `open_images` takes.
        short_side: pixels, at least 8; an image with a longer short side is reduced to it and
            encoded as JPEG. None: every image keeps its bytes. Arrays are encoded as PNG.
        quality: of those JPEGs, 1 to 100; none: 95.
        max_bad_images: largest share of unreadable files that are left out.
        line: called with what is going on.
        progress: called with the images written, and all of them.

    Returns:
        `images` and `test_images` among them, `skipped`, `left_out`, `shards`, `bytes` of all
        shards and `source_bytes`, `short_side`, `quality`, `seconds`, `resumed` (images that were
        there), and `already_packed`, whether all of it was.

    Raises:
        InputError: for a number out of range, a source that cannot be read or has changed since,
            a target that is something else or cannot be written.
    """
    started = time.perf_counter()
    request = request_of(source, short_side, quality)
    with claimed(target, request) as finished:
        if finished:
            _check(target, finished)
            index, resumed = finished, finished.count
        else:
            train, test = open_images(source, max_bad_images=max_bad_images)
            parts = [train, test] if test else [train]
            settle(target, request, parts)
            for found in found_lines(train, test):
                line(found)
            shards = whole_shards(target)
            resumed = done = sum(len(rows["shard"]) for rows in shards)
            total = sum(part.count for part in parts)
            if done:
                line(f"{done} of {total} images are there already")
            records = records_of(parts, done, short_side, request["quality"])
            while done < total:
                written = lambda count, before=done: progress(before + count, total)  # noqa: E731
                shards.append(write_shard(target, len(shards), records, written))
                done += len(shards[-1]["shard"])
            index = _write_index(target, parts, shards, request)
        packed = {"resumed": resumed, "already_packed": finished is not None}
        return _summary(target, index, started) | packed


def _check(target: Path, index: Index) -> None:
    """Reads a finished pack; raises `InputError` if an image in it is damaged."""
    check_shards(target, index)
    for number in np.unique(index.rows["shard"]).tolist():
        within = index.rows["shard"] == number
        rows = {name: column[within] for name, column in index.rows.items()}
        read_back(shard_path(target, number), rows)


def _write_index(
    target: Path, parts: list[Images], shards: list[Rows], request: dict[str, Any]
) -> Index:
    """Writes the index, the last file of a pack, and returns it as it reads back."""
    columns = {name: np.concatenate([rows[name] for rows in shards]) for name in KEPT}
    about = About(
        request=request,
        source_bytes=int(columns.pop("source").sum()),
        skipped=[file for part in parts for file in part.skipped],
        left_out=left_out(*parts),
        train=_about_part(parts[0], request),
        test=_about_part(parts[1], request) if len(parts) > 1 else None,
    )
    columns["labels"] = np.concatenate(
        [np.full(p.count, -1, np.int64) if p.labels is None else p.labels for p in parts]
    )
    text = {"about": about.model_dump_json().encode()}
    if all(part.paths for part in parts):
        text["paths"] = b"\0".join(os.fsencode(path) for part in parts for path in part.paths or ())
    arrays: dict[str, Any] = columns | {
        name: np.frombuffer(data, np.uint8) for name, data in text.items()
    }
    file, written = io.BytesIO(), []
    np.savez(file, **arrays)

    def keep(temporary: Path) -> None:
        written.append(read_index(temporary))

    write_atomically(target / INDEX, file.getvalue(), verify=keep)
    return written[0]


def _about_part(part: Images, request: dict[str, Any]) -> PartOfPack:
    """The part's fields; reduced images are other images than the source's."""
    identity = part.identity
    if request["short_side"] is not None:
        reduced = f"{identity} {request['short_side']} {request['quality']}"
        identity = hashlib.sha256(reduced.encode()).hexdigest()
    return PartOfPack(
        name=part.name,
        count=part.count,
        labelled=part.labels is not None,
        class_names=list(part.class_names),
        why_unlabelled=part.why_unlabelled,
        identity=identity,
        split=part.split,
    )


def _summary(target: Path, index: Index, started: float) -> dict[str, Any]:
    about, shards = index.about, int(index.rows["shard"].max()) + 1
    return {
        "target": str(target),
        "images": index.count,
        "test_images": about.test.count if about.test else 0,
        "skipped": about.skipped,
        "left_out": about.left_out,
        "shards": shards,
        "bytes": sum(shard_path(target, number).stat().st_size for number in range(shards)),
        "source_bytes": about.source_bytes,
        "short_side": about.request.get("short_side"),
        "quality": about.request.get("quality"),
        "seconds": time.perf_counter() - started,
    }
