"""Objects of Python as images: arrays, and whatever has a length and items."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf.data.arrays import from_arrays
from moco_tf.data.images import Images
from moco_tf.data.listing import SPLITS
from moco_tf.data.random_access import open_source
from moco_tf.data.source_kind import pair_of, part_of
from moco_tf.errors import InputError

WAYS_OUT = (
    "has no random access, which the order and exact resume need. Give a source with __len__ and "
    "__getitem__, as moco_tf.pretrain(data=source), or write TFRecords and give "
    "data='tfrecord:PATTERN'."
)


def open_object(
    data: Any,
    name: str,
    max_bad_images: float,
    split: str | None,
    told: Callable[[str], None],
) -> tuple[Images, Images | None]:
    """Returns the training images and the test images (or None) of an object.

    Args:
        data: uint8 array [n, h, w, 3], a pair of images and labels, a random-access source, or a
            mapping with one of these at "train" and perhaps another at a test part's name.
        name: what it is called in messages.
        max_bad_images: largest share of unreadable images.
        split: "val" or "test": the test part; none: the first that there is.
        told: called with a line now and then while labels are read.

    Raises:
        InputError: it is none of these, or an item that is looked at is no image.
    """
    if not isinstance(data, Mapping):
        return _open(data, name, max_bad_images, (), "train", told), None
    wanted = SPLITS[split] if split else SPLITS["val"] + SPLITS["test"]
    train, test = part_of(data, SPLITS["train"]), part_of(data, wanted)
    if train is None:
        keys = sorted(str(part).lower() for part in data)[:10]
        raise InputError(
            f"data={name} is a mapping without 'train'; its keys are {keys}. Give "
            f"the images themselves, or {{'train': ..., 'test': ...}}."
        )
    images = _open(data[train], name, max_bad_images, (), train, told)
    others = sorted(str(part) for part in data if part not in (train, test))
    images = replace(images, passed_over=tuple(others))
    if test is None:
        return images, None
    return images, _open(data[test], name, max_bad_images, images.class_names, test, told)


def _open(
    data: Any, name: str, max_bad_images: float, classes: tuple[str, ...], split: str, told
) -> Images:
    data, labels = pair_of(data)
    if isinstance(data, np.ndarray) and not isinstance(data, np.memmap):
        return from_arrays(name, data, labels, classes, split=split)
    if isinstance(data, tf.data.Dataset):
        raise InputError(f"data: a tf.data.Dataset {WAYS_OUT}")
    if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
        raise InputError(f"data={name} {WAYS_OUT}")
    return open_source(data, name, max_bad_images, labels, classes, split, told)
