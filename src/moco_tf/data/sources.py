"""What `data` can be, opened as images that are read by index."""

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from moco_tf.data.arrays import from_arrays, open_npz
from moco_tf.data.file_set import file_set, set_of_paths
from moco_tf.data.image_folder import Look, open_files
from moco_tf.data.images import SMALLEST_CROP, UNKNOWN, Images, check_sizes, labelled_indices
from moco_tf.data.listing import split_kind
from moco_tf.data.objects import open_object
from moco_tf.data.pack.read import open_pack
from moco_tf.data.pack.stored import copy_pack
from moco_tf.data.shapes import CLASS_NAMES, draw_shapes
from moco_tf.data.source_kind import source_kind
from moco_tf.data.tfds import open_tfds
from moco_tf.data.tfrecord.source import open_records
from moco_tf.errors import InputError
from moco_tf.files.store import is_url
from moco_tf.names.data import OBJECT, TFDS, are_paths, is_records, lost_object, paths_of, text_of

__all__ = [
    "SMALLEST_CROP",
    "UNKNOWN",
    "Images",
    "check_sizes",
    "from_arrays",
    "labelled_indices",
    "open_images",
]

SHAPES_TRAIN, SHAPES_TEST = 4096, 1024
TEST_SEED = 2**31  # added to the seed: test images are never training images


def open_images(
    data: Any,
    *,
    max_bad_images: float = 0.01,
    seed: int = 0,
    image_size: int = 32,
    look: Look = "all",
    split: Literal["val", "test"] | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> tuple[Images, Images | None]:
    """Returns (training images, test images or None).

    Args:
        data: text, a path or several as docs/data.md has them for --data; paths of files; a uint8
            array [n, h, w, 3], a pair (images, labels), a random-access source, or a mapping with
            these at "train" and a test part's name (`open_object`).
        max_bad_images: largest share of unreadable files that are skipped.
        seed: draws the shapes.
        image_size: side of the shapes, pixels.
        look: at which images of files to look, see `open_files`.
        split: which part of `data` the test images are; none: val if there is one, or else test.
        told: called with a line now and then while opening takes long.

    Raises:
        InputError: nothing there, nothing readable, more unreadable than allowed, no such part.
    """
    name = text_of(data)
    if not name.startswith(OBJECT):
        train, test = _open_named(name, max_bad_images, seed, image_size, look, split, told)
    elif isinstance(data, (str, os.PathLike)):
        raise InputError(lost_object(name))
    elif are_paths(data):
        train, test = open_files(set_of_paths(data, name), max_bad_images, told, look)
    else:
        train, test = open_object(data, name, max_bad_images, split, told)
    if split and (test is None or split_kind(test.split) != split):
        has = f"; its test images are those of {test.split}" if test and test.split else ""
        raise InputError(
            f"data={name} has no part known as {split}{has}; received split={split}. Leave --split "
            f"out."
        )
    return train, test


def _open_named(
    data: str,
    max_bad_images: float,
    seed: int,
    image_size: int,
    look: Look,
    split: str | None,
    told: Callable[[str], None],
) -> tuple[Images, Images | None]:
    if data == "shapes":
        train = _shapes(seed, SHAPES_TRAIN, image_size, "train")
        return train, _shapes(seed + TEST_SEED, SHAPES_TEST, image_size, "test")
    if data in ("cifar10", "cifar100"):
        return _cifar(data)
    if data.startswith(TFDS):
        return open_tfds(data.removeprefix(TFDS), split)
    return _open_paths(data, max_bad_images, look, split, told)


def _open_paths(
    data: str,
    max_bad_images: float,
    look: Look,
    split: str | None,
    told: Callable[[str], None],
) -> tuple[Images, Images | None]:
    stored = is_url(data) and not is_records(data)
    paths, kind = ((copy_pack(data),), "pack") if stored else (paths_of(data), source_kind(data))
    if kind == "tfrecord":
        return open_records(data, max_bad_images, split, told)
    if kind == "npz":
        return open_npz(paths[0])
    if kind == "pack":
        train, test = open_pack(paths[0])
        return Images(**train), Images(**test) if test else None
    return open_files(file_set(paths, split), max_bad_images, told, look)


def _shapes(seed, count, size, split):
    images, labels = draw_shapes(seed, np.arange(count), size)
    return from_arrays("shapes", images, np.array(CLASS_NAMES)[labels], CLASS_NAMES, split=split)


def _cifar(name):
    import keras

    loader: Any = getattr(keras.datasets, name)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras says there that it downloads
            (x_train, y_train), (x_test, y_test) = loader.load_data()
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"data={name} could not be downloaded ({reason}). Give the folder of a local copy "
            f"instead, with train/ and test/."
        ) from None
    train = from_arrays(name, x_train, y_train)
    return train, from_arrays(name, x_test, y_test, train.class_names, split="test")
