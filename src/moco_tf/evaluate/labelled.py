"""Labelled images with a test part, as a classifier needs them, or one line on what is wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf

from moco_tf.config import Config
from moco_tf.data.found import found_lines, left_out
from moco_tf.data.pipeline import eval_batches
from moco_tf.data.sources import UNKNOWN, Images, labelled_indices, open_images
from moco_tf.errors import InputError
from moco_tf.names.data import text_of
from moco_tf.runs.snapshot import images_of


class Labelled(NamedTuple):
    """Training and test images of the same classes, each with a label."""

    train: Images
    test: Images
    classes: int
    class_names: tuple[str, ...]  # empty where the data name none
    indices: np.ndarray  # int64 [train.count], among all training images
    found: dict[str, Any]  # for a summary: `split`, `unlabelled` and `left_out`


def open_labelled(
    data: Any,
    config: Config,
    *,
    max_bad_images: float,
    say: Callable[[str], None],
    split: Literal["val", "test"] | None = None,
) -> Labelled:
    """Returns the images to train a classifier on, and to judge it on.

    Images whose label is unknown are left out.

    Args:
        data: what `open_images` takes; none: the data of the run.
        config: of the pre-training run.
        say: called with a line on what was found, and on images that are left out.
        split: see `open_images`.

    Raises:
        InputError: no labels, no test images, classes that differ, or data that cannot be opened.
    """
    data = images_of(config, data)
    name = text_of(data)
    train, test = open_images(
        data,
        max_bad_images=max_bad_images,
        seed=config.seed,
        image_size=config.image_size,
        split=split,
    )
    if train.labels is None:
        why = f" ({train.why_unlabelled})" if train.why_unlabelled else ""
        raise InputError(
            f"a classifier needs labels; data={name} has none{why}. Use images in class folders, "
            f"train/CLASS/ and val/CLASS/."
        )
    if test is not None and test.why_unlabelled:
        raise InputError(
            f"data={name}: {test.why_unlabelled}. Training and test images must have the same "
            f"class folders."
        )
    if test is None or test.labels is None:
        raise InputError(
            f"a classifier needs labelled test images; data={name} has none. Put them in val/ or "
            f"test/ beside train/ (x_test and y_test in an .npz file; in Python {{'train': ..., "
            f"'test': ...}})."
        )
    for line in found_lines(train, test):
        say(line)
    found, indices = found_in(train, test), labelled_indices(train)
    unlabelled = found["unlabelled"]
    if unlabelled:
        say(f"{unlabelled} images without a label are left out")
        test_places = labelled_indices(test)
        train = train if len(indices) == train.count else train.subset(indices)
        test = test if len(test_places) == test.count else test.subset(test_places)
    _check_classes(name, train, test)
    classes = max(len(train.class_names), int(np.max(np.asarray(train.labels))) + 1)
    if classes < 2:
        unknown = f" (a label of {UNKNOWN} is unknown)" if unlabelled else ""
        raise InputError(
            f"a classifier needs at least 2 classes; data={name} has {classes}{unknown}."
        )
    return Labelled(train, test, classes, train.class_names, indices, found)


def found_in(train: Images, test: Images | None) -> dict[str, Any]:
    """Returns what a summary says of the images.

    `split` is what the labelled test part is called, none without one; `unlabelled` is how many
    images have no label where others of their part have one; `left_out` is how many files are no
    images, by kind.
    """
    parts = [part for part in (train, test) if part and part.labels is not None]
    return {
        "split": (test.split or None) if test and test.labels is not None else None,
        "unlabelled": sum(part.count - len(labelled_indices(part)) for part in parts),
        "left_out": left_out(train, test),
    }


def identity(data: Labelled) -> str:
    """Twelve hexadecimal digits that change with the images, their order, labels or classes."""
    digest = hashlib.sha256(repr(data.class_names).encode())
    for part in (data.train, data.test):
        digest.update(part.identity.encode())
        digest.update(np.asarray(part.labels, "<i8").tobytes())
    return digest.hexdigest()[:12]


def provenance_of(data: Labelled, config: Config) -> dict[str, Any]:
    """Returns what results record of the images, and of how the run with `config` sees them."""
    return {
        "image_size": config.image_size,
        "normalization": config.normalization,
        "images": identity(data),
        "train_images": data.train.count,
        "test_images": data.test.count,
        "classes": data.classes,
    }


def test_batches(test: Images, *, batch_size: int, image_size: int) -> Iterator[Any]:
    """Yields (images, labels) of all test images; the last batch is filled up with label -1."""
    extra = -test.count % batch_size
    labels = np.pad(np.asarray(test.labels, np.int64), (0, extra), constant_values=-1)
    indices = np.pad(np.arange(test.count), (0, extra))
    images = eval_batches(test, indices=indices, image_size=image_size, batch_size=batch_size)
    return zip(images, tf.constant(labels.reshape(-1, batch_size)), strict=True)


def _check_classes(data: str, train: Images, test: Images) -> None:
    """Refuses classes of one part alone."""
    present = [set(np.unique(np.asarray(part.labels)).tolist()) for part in (train, test)]
    untrained, untested = sorted(present[1] - present[0]), sorted(present[0] - present[1])
    # A few test images in arrays need not show every class; a missing folder is a mistake.
    if untrained or (untested and train.files is not None):
        names = dict(enumerate(train.class_names))
        sides = [
            f"{names.get(only[0], only[0])!r} is in the {part} images only"
            for only, part in ((untested, "training"), (untrained, "test"))
            if only
        ]
        raise InputError(
            f"training and test images must have the same classes; of data={data}, "
            f"{' and '.join(sides)}."
        )
