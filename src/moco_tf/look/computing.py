"""Opening a data set whose images are read and embedded, unless their features are kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf.data.decode import UNREADABLE, decoded
from moco_tf.data.found import found_lines
from moco_tf.data.sources import Images, open_images
from moco_tf.evaluate.features import image_features
from moco_tf.evaluate.features_key import features_key
from moco_tf.exporting.rows import rows_of, select
from moco_tf.look.bank import Bank, load_features
from moco_tf.look.embedder import Embedder
from moco_tf.look.kept_rows import stamps_of, write_rows
from moco_tf.names.data import text_of


def computed_bank(
    embedder: Embedder,
    data: Any,
    out: Path,
    about: str,
    step: int | None,
    *,
    normalization: str,
    max_bad_images: float,
    seed: int,
) -> Bank:
    """Returns all images of `data`, see `open_bank`, and keeps their features in `out`.

    Args:
        about: see `write_rows`.
        step: of the newest checkpoint; None: its file cannot be read.
    """
    say, side, name = embedder.say, embedder.side, text_of(data)
    train, test = open_images(
        data, max_bad_images=max_bad_images, seed=seed, image_size=side, told=say
    )
    for line in found_lines(train, test):
        say(line)
    parts = select(name, train, test, "all")
    rows, images = rows_of(parts), [part for _, part in parts]
    key = features_key(embedder.digest, normalization, side, *images)
    files, stamps = _all(images, "files"), None
    whole = step == embedder.step  # or the newest checkpoint is damaged
    if files is not None and whole and (below := _all(images, "paths")):
        stamps = stamps_of(name, files, below)

    def load() -> tuple[np.ndarray, bool]:
        found = load_features(
            embedder.run, out, key, lambda: _compute(parts, embedder), say, len(rows.names)
        )
        if stamps is not None and out.is_dir() and os.access(out, os.W_OK):
            write_rows(out, about, key, rows, stamps)
        return found

    return Bank(
        name, embedder.step, rows, files, lambda row: _read(images, row), load, lambda: embedder
    )


def _all(images: list[Images], field: str) -> list[str] | None:
    """The files or paths of all parts; None: one has none."""
    found = [getattr(part, field) for part in images]
    return None if None in found else [one for part in found for one in part]


def _read(images: list[Images], row: int) -> np.ndarray | None:
    for part in images:
        if row < part.count:
            try:
                return decoded(part, tf.constant(row)).numpy()
            except UNREADABLE:
                return None
        row -= part.count
    raise IndexError(row)


def _compute(parts: list[tuple[str, Images]], embedder: Embedder) -> list[np.ndarray]:
    """Of the training and of the test images, unit rows; [0, D] where there are none."""
    settings: dict[str, Any] = {"image_size": embedder.side, "say": embedder.say}
    found = [
        image_features(embedder.function, images, what=f"{split} images", **settings)
        for split, images in parts
    ]
    return found if len(found) == 2 else [found[0], found[0][:0]]
