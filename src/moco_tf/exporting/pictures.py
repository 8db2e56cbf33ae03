"""The images on which an export is compared with its encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from moco_tf.config import Config
from moco_tf.data.decode import UNREADABLE, decode, decoded
from moco_tf.data.decoder_messages import without_decoders
from moco_tf.data.file_set import file_set
from moco_tf.data.image_folder import some_files
from moco_tf.data.listing import spread
from moco_tf.data.pipeline import centre_crop
from moco_tf.data.shapes import draw_shapes
from moco_tf.data.source_kind import source_kind
from moco_tf.data.sources import TEST_SEED, open_images
from moco_tf.errors import InputError
from moco_tf.names.data import paths_of
from moco_tf.runs.snapshot import CONVERTED

IMAGES = 16
SHAPES = "shapes"


class Pictures(NamedTuple):
    """At most 16 images."""

    raw: list[np.ndarray]  # uint8 [h, w, 3] each
    prepared: np.ndarray  # uint8 [n, S, S, 3], as for every evaluation
    data: str  # what they are of


def comparison_images(data: str | None, config: Config, *, warn: Callable[[str], None]) -> Pictures:
    """Returns test images, or else training images, evenly spread over the data.

    Args:
        data: what `open_images` takes. None: the run's own; if they are not there, which `warn`
            is told, drawn shapes.
        config: of the run.

    Raises:
        InputError: if `data` was given and cannot be opened.
    """
    if data is None and config.recipe == CONVERTED:
        data = SHAPES
    elif data is None:
        try:
            return _pictures(config.data, config)
        except InputError as error:
            warn(f"compared on drawn shapes, for the run's own images are not there: {error}")
            data = SHAPES
    return _pictures(data, config)


def _pictures(data: str, config: Config) -> Pictures:
    raw = _raw(data, config)
    prepared = np.stack([centre_crop(image, config.image_size).numpy() for image in raw])
    return Pictures(raw, prepared, data)


def _raw(data: str, config: Config) -> list[np.ndarray]:
    if data == SHAPES:  # the run's test images, but only as many as are wanted
        return list(draw_shapes(config.seed + TEST_SEED, np.arange(IMAGES), config.image_size)[0])
    if paths_of(data) and source_kind(data) in ("folders", "list"):
        return _decoded(data)
    train, test = open_images(data, seed=config.seed, image_size=config.image_size)
    images = test or train
    return [decoded(images, tf.constant(n)).numpy() for n in spread(images.count, IMAGES)]


def _decoded(data: str) -> list[np.ndarray]:
    """Of a folder only these few are decoded: it may hold millions."""
    images = []
    with without_decoders():
        for path in some_files(file_set(paths_of(data)), IMAGES):
            try:
                images.append(decode(tf.io.read_file(str(path))).numpy())
            except UNREADABLE:  # not an image, or damaged: the others will do
                continue
    if not images:
        raise InputError(f"data: none of {IMAGES} images of {data} can be read.")
    return images
