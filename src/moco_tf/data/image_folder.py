"""Files of images, opened: their labels, and which of them cannot be read."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow as tf

from moco_tf.data.file_names import FileNames, Texts, joined, shown
from moco_tf.data.file_set import FileSet
from moco_tf.data.file_sizes import file_sizes
from moco_tf.data.images import Images
from moco_tf.data.listing import Part, spread
from moco_tf.data.sample import with_sample
from moco_tf.errors import InputError
from moco_tf.files.store import stamp

MEND = "Mend them (moco-tf check --data finds all of them), or raise --max-bad-images."
SAMPLED = 128  # images that are decoded where not all are
Look = Literal["all", "headers", "some", "later"]


def open_files(
    found: FileSet,
    max_bad_images: float,
    told: Callable[[str], None] = lambda _: None,
    look: Look = "all",
) -> tuple[Images, Images | None]:
    """Returns the images of the training part and of the test part (or None).

    Args:
        told: called with a line now and then while many files are read.
        look: all: every image is decoded, and those that cannot be are left out. Some: only a
            sample is, see `with_sample`, and none is left out. Headers: as some, with the sizes of
            all images, from what the files say. Later: as some; whoever reads the images leaves out
            those that cannot be, see `eval_batches`.
    """
    classes, why = found.classes()
    names = [joined(*_base(found, parts)) for parts in (found.train, found.test) if parts]
    sizes = None
    if look in ("all", "headers"):
        paths = [path for files in names for path in files.full()]
        sizes = file_sizes(paths, found.given, told, headers=look == "headers")
    opened: list[Images] = []
    for parts, files in zip((found.train, found.test), names, strict=False):
        images = _images(found, parts, files, classes)
        own = None if sizes is None else sizes[-len(files) :] if opened else sizes[: len(files)]
        if look != "all" or own is None:
            images = with_sample(replace(images, mend=MEND), max_bad_images, SAMPLED)
            images = images if own is None else replace(images, sizes=own[:, :2])
            if look == "later":
                images = replace(images, unreadable={}, max_bad=max_bad_images)
        else:
            images = _readable(images, files, found.root, own, max_bad_images)
        opened.append(images)
    train = replace(opened[0], passed_over=tuple(found.passed_over), why_unlabelled=why)
    if len(opened) == 1:
        return train, None
    return train, replace(opened[1], split=found.test_name or opened[1].split)


def some_files(found: FileSet, count: int) -> list[Path]:
    """Returns at most `count` files of the test part, or else of the training part, evenly spread.

    None of them is opened.
    """
    files = joined(found.root, [part.files for part in found.test or found.train])
    return [files[place] for place in spread(len(files), count)]


def files_stamp(found: FileSet) -> str:
    """SHA-256 of the names, sizes and times of all image files of the set; none is opened."""
    total = hashlib.sha256()
    files = joined(found.root, [part.files for part in found.train + found.test])
    for place, path in enumerate(files.full()):
        total.update(b"%s\0%d %d\0" % (files.inner(place), *stamp(os.stat(path))))
    return total.hexdigest()


def _base(found: FileSet, parts: list[Part]) -> tuple[Path, list[FileNames]]:
    """The folder that the files of the parts are named below, and their names."""
    base = parts[0].folder if len(parts) == 1 else found.root
    return base, [part.files for part in parts]


def _images(found: FileSet, parts: list[Part], files: FileNames, classes: tuple[str, ...]):
    """All images of the parts, those of `found` for training or for tests."""
    labels, why = found.labels(parts, classes)
    left_out: Counter[str] = sum((part.left_out for part in parts), Counter())
    of_files = partial(
        Images,
        name=", ".join(shown(part.folder.name) for part in parts),
        encoded=True,
        labels=labels,
        why_unlabelled=why,
        class_names=tuple(map(shown, classes)),
        left_out=left_out,
        split=shown(parts[0].folder.name),
    )
    return of_files(**_fields(files, found.root))


def _fields(files: FileNames, root: Path) -> dict:
    """The fields of `Images` that its files decide; their paths are those below `root`."""
    before = os.path.join(files.folder, "")
    with tf.device("CPU:0"):
        held, starts = tf.constant(files.buffer), tf.constant(files.starts)

    def read(index):
        if tf.executing_eagerly():  # many small operations
            return tf.io.read_file(os.fsencode(before) + files.inner(int(index)))
        start, end = starts[index], starts[index + 1] - 1
        name = tf.strings.substr(held, start, end - start)
        return tf.io.read_file(tf.strings.join([os.fsencode(before), name]))

    return {
        "count": len(files),
        "read": read,
        "files": Texts(files, shown(before), "replace"),
        "paths": Texts(files, before[len(os.path.join(root, "")) :], "surrogateescape"),
        "identity": hashlib.sha256(memoryview(files.buffer)[:-1]).hexdigest(),
    }


def _readable(
    images: Images, files: FileNames, root: Path, sizes: np.ndarray, max_bad_images: float
) -> Images:
    """Those of the images that can be decoded; `sizes` as `file_sizes` gives them."""
    good = sizes[:, 0] > 0
    bad = tuple(images.name_of(place) for place in np.flatnonzero(~good).tolist())
    folder = shown(files.folder)
    if len(bad) == images.count:
        raise InputError(
            f"data: none of the {images.count} images in {folder} can be read ({bad[0]}, ...). "
            f"Give a folder of whole pictures."
        )
    if len(bad) > max_bad_images * images.count:
        raise InputError(
            f"data: {len(bad)} of {images.count} images in {folder} cannot be read ({bad[0]}, "
            f"...), more than max_bad_images={max_bad_images:g}. Mend them, or raise "
            f"--max-bad-images."
        )
    if bad:
        labels = None if images.labels is None else images.labels[good]
        kept = _fields(files.chosen(np.flatnonzero(good)), root)
        images = replace(images, labels=labels, skipped=bad, **kept)
    return replace(images, sizes=sizes[good, :2], looks=sizes[good, 2])
