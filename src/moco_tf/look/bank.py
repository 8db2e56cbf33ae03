"""The features of all images of a data set, kept beside the encoder that made them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf.config import Config
from moco_tf.data.decode import UNREADABLE, decoded
from moco_tf.data.found import found_lines
from moco_tf.data.pipeline import eval_batches
from moco_tf.data.sources import Images, open_images
from moco_tf.errors import DivergedError
from moco_tf.evaluate.counted import counted
from moco_tf.evaluate.features import Features, embedding, extract
from moco_tf.evaluate.kept_features import features_key, kept_features
from moco_tf.evaluate.knn import EVAL_BATCH
from moco_tf.evaluate.linear import backbone_digest
from moco_tf.evaluate.probe_config import result_folder
from moco_tf.exporting.rows import Rows, one_line, rows_of, select
from moco_tf.names.data import text_of
from moco_tf.runs.encoders import load_encoder
from moco_tf.runs.snapshot import folder_of, images_of

FOLDER = "neighbours"  # in a run, with a digest of the data that the features are of


@dataclass
class Bank:
    """The features of all images of a data set, made when they are first needed, and whose."""

    run: str
    step: int
    data: str
    parts: list[tuple[str, Images]]
    rows: Rows
    load: Callable[[], tuple[np.ndarray, bool]]
    embed: Callable[[np.ndarray], np.ndarray]  # uint8 [n, S, S, 3] -> unit rows [n, D]
    side: int  # S

    @cached_property
    def _loaded(self) -> tuple[np.ndarray, bool]:
        return self.load()

    @property
    def features(self) -> np.ndarray:
        """Unit rows, float32 [M, D]."""
        return self._loaded[0]

    @property
    def kept(self) -> bool:
        """Whether the features were there already."""
        return self._loaded[1]

    def file(self, row: int) -> str | None:
        """The file of an image, as it can be printed; None: it is none."""
        images, place = self._image(row)
        return None if images.files is None else images.files[place]

    def about(self, row: int) -> dict[str, Any]:
        """What a result tells of an image."""
        label = -1 if self.rows.labels is None else int(self.rows.labels[row])
        return {
            "image": self.rows.names[row],
            "file": self.file(row),
            "split": self.rows.splits[row],
            "class": self.rows.classes[label] if label >= 0 else None,
        }

    def pixels(self, row: int) -> np.ndarray:
        """uint8 [h, w, 3]; of an image that can be read no more one gray pixel."""
        images, place = self._image(row)
        try:
            return decoded(images, tf.constant(place)).numpy()
        except UNREADABLE:
            return np.full((1, 1, 3), 128, np.uint8)

    def _image(self, row: int) -> tuple[Images, int]:
        for _, images in self.parts:
            if row < images.count:
                break
            row -= images.count
        return images, row


def open_bank(
    run: str,
    data: Any,
    features: Features,
    max_bad_images: float | None,
    say: Callable[[str], None],
) -> Bank:
    """Returns all images of `data` with their features, which are kept in the run's folder.

    These are computed again where the encoder, the images or `features` have changed.

    Args:
        run: run folder (its newest whole checkpoint) or a file made by `convert`.
        data: what `open_images` takes; None: the run's own.
        max_bad_images: largest share of unreadable files to skip; None: the run's own.
        say: called with lines for the user.

    Raises:
        InputError: for anything wrong with the run or the data.
    """
    encoder, config, step = load_encoder(run, warn=say)
    function = embedding(encoder, features=features, normalization=config.normalization)
    if max_bad_images is not None:
        config = config.model_copy(update={"max_bad_images": max_bad_images})
    parts = _parts(config, data := images_of(config, data, run), run, say)
    rows, name, side = rows_of(parts), text_of(data), config.image_size
    where = hashlib.sha256(f"{features} {os.path.abspath(name)}".encode(errors="replace"))
    out = result_folder(run, f"{FOLDER}-{where.hexdigest()[:12]}")
    digest = backbone_digest(encoder.backbone if features == "pooled" else encoder.model)
    key = features_key(digest, config.normalization, side, *(images for _, images in parts))

    def compute() -> list[np.ndarray]:
        found = [_features(function, images, side, split, say) for split, images in parts]
        return found if len(found) == 2 else [found[0], found[0][:0]]

    def load() -> tuple[np.ndarray, bool]:
        if os.access(out if out.exists() else out.parent, os.W_OK):
            train, test, kept = kept_features(out, key, compute, say)
            state = "taken from" if kept else "written to"
            say(f"features of {len(rows.names)} images {state} {one_line(str(out))}")
        else:  # a run of somebody else's
            say(f"{one_line(str(out.parent))} cannot be written to: the features are not kept")
            (train, test), kept = compute(), False
        unit = np.concatenate([train, test])
        if not np.isfinite(unit).all():
            raise DivergedError(
                f"the features of {run} are not all finite: the encoder has diverged. Use an "
                f"earlier checkpoint."
            )
        return unit, kept

    return Bank(
        run, step, name, parts, rows, load, lambda images: extract(function, [images]), side
    )


def _parts(
    config: Config, data: Any, run: str, say: Callable[[str], None]
) -> list[tuple[str, Images]]:
    train, test = open_images(
        data,
        max_bad_images=config.max_bad_images,
        seed=config.seed,
        image_size=config.image_size,
        cache=folder_of(run),
        told=say,
    )
    for line in found_lines(train, test):
        say(line)
    return select(text_of(data), train, test, "all")


def _features(
    function: Any, images: Images, side: int, split: str, say: Callable[[str], None]
) -> np.ndarray:
    batches = eval_batches(
        images, indices=np.arange(images.count), image_size=side, batch_size=EVAL_BATCH
    )
    return extract(function, counted(batches, images.count, f"{split} images", say))
