"""Opening a data set with the features of its images, computed or kept beside the run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf.data.decode import decode, decoded
from moco_tf.data.found import found_lines
from moco_tf.data.listing import shown
from moco_tf.data.sources import Images, open_images
from moco_tf.errors import DivergedError, InputError
from moco_tf.evaluate.features import Features, image_features
from moco_tf.evaluate.kept_features import features_key, kept_features
from moco_tf.evaluate.probe_config import result_folder
from moco_tf.exporting.rows import one_line, rows_of, select
from moco_tf.look.bank import Bank, Embedder
from moco_tf.look.kept_rows import FILE, encoder_stamp, read_rows, stamps_of, write_rows
from moco_tf.names.data import text_of
from moco_tf.runs.snapshot import images_of, peek

FOLDER = "neighbours"  # in a run, with a digest of the data that the features are of
Say = Callable[[str], None]


def open_bank(
    run: str,
    data: Any,
    features: Features,
    max_bad_images: float | None,
    say: Say,
) -> Bank:
    """Returns all images of `data` with their features, which are kept in the run's folder.

    These are computed again where the encoder, the images or `features` have changed. Where no file
    of a folder has, it is not opened, nor the encoder restored before a picture needs it.

    Args:
        run: run folder (its newest whole checkpoint) or a file made by `convert`.
        data: what `open_images` takes; None: the run's own.
        max_bad_images: largest share of unreadable files to skip; None: the run's own.
        say: called with lines for the user.

    Raises:
        InputError: for anything wrong with the run or the data.
    """
    config = peek(run)
    data = images_of(config, data, run)
    name, side, embedder = text_of(data), config.image_size, Embedder(run, features, say)
    share = config.max_bad_images if max_bad_images is None else max_bad_images
    where = hashlib.sha256(f"{features} {os.path.abspath(name)}".encode(errors="replace"))
    out = result_folder(run, f"{FOLDER}-{where.hexdigest()[:12]}")
    digest, step = encoder_stamp(run) or ("", 0)
    about = json.dumps([digest, features, config.normalization, side, share])
    if digest and os.access(out, os.W_OK) and (known := read_rows(out, about)):
        paths = known.paths
        return Bank(
            name, step, known.rows, [shown(os.fsdecode(path)) for path in paths],
            lambda row: decode(tf.io.read_file(paths[row])).numpy(),
            lambda: _features(run, out, known.key, lambda: _lost(out), say, len(paths)),
            embedder, side,
        )  # fmt: skip
    train, test = open_images(
        data,
        max_bad_images=share,
        seed=config.seed,
        image_size=side,
        told=say,
    )
    for line in found_lines(train, test):
        say(line)
    parts = select(name, train, test, "all")
    rows, images = rows_of(parts), [part for _, part in parts]
    key = features_key(embedder.digest, config.normalization, side, *images)
    files, stamps = _all(images, "files"), None
    whole = digest and step == embedder.step  # or the newest checkpoint is damaged
    if files is not None and whole and (below := _all(images, "paths")):
        stamps = stamps_of(name, files, below)

    def load() -> tuple[np.ndarray, bool]:
        found = _features(
            run, out, key, lambda: _compute(parts, embedder, side, say), say, len(rows.names)
        )
        if stamps is not None and out.is_dir() and os.access(out, os.W_OK):
            write_rows(out, about, key, rows, stamps)
        return found

    return Bank(
        name, embedder.step, rows, files, lambda row: _read(images, row), load, embedder, side
    )


def _lost(out: Path) -> list[np.ndarray]:
    (out / FILE).unlink()
    raise InputError(f"{out} is damaged. The same command computes the features again.")


def _all(images: list[Images], field: str) -> list[str] | None:
    """The files or paths of all parts; None: one has none."""
    found = [getattr(part, field) for part in images]
    return None if None in found else [one for part in found for one in part]


def _read(images: list[Images], row: int) -> np.ndarray:
    for part in images:
        if row < part.count:
            return decoded(part, tf.constant(row)).numpy()
        row -= part.count
    raise IndexError(row)


def _features(
    run: str,
    out: Path,
    key: str,
    compute: Callable[[], list[np.ndarray]],
    say: Say,
    count: int,
) -> tuple[np.ndarray, bool]:
    """Returns the unit rows of all images, and whether they were there already."""
    folder = one_line(str(out))
    if os.access(out if out.exists() else out.parent, os.W_OK):
        train, test, kept = kept_features(out, key, compute, say)
        say(f"features of {count} images {'taken from' if kept else 'written to'} {folder}")
    else:  # a run of somebody else's
        say(f"{folder} cannot be written to: the features are not kept")
        (train, test), kept = compute(), False
    rows = np.concatenate([train, test]) if len(test) else train
    if not np.isfinite(rows).all():
        raise DivergedError(
            f"the features of {run} are not all finite: the encoder has diverged. Use an "
            f"earlier checkpoint."
        )
    return rows, kept


def _compute(
    parts: list[tuple[str, Images]], embedder: Embedder, side: int, say: Say
) -> list[np.ndarray]:
    """Of the training and of the test images, unit rows; [0, D] where there are none."""
    embed = embedder.function
    found = [
        image_features(embed, images, image_size=side, what=f"{split} images", say=say)
        for split, images in parts
    ]
    return found if len(found) == 2 else [found[0], found[0][:0]]
