"""Files of images, opened: their labels, and which of them cannot be read."""

import contextlib
import hashlib
import io
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from moco_tf.data.decode import MOST_BYTES, decode
from moco_tf.data.decoder_messages import without_decoders
from moco_tf.data.file_set import FileSet
from moco_tf.data.images import Images
from moco_tf.data.listing import Part, shown, spread
from moco_tf.data.looks import look
from moco_tf.data.stream import Elements, mapped
from moco_tf.errors import InputError
from moco_tf.files.digests import add_zip_digest
from moco_tf.files.npz import read_npz

TOLD_EVERY = 5.0  # seconds, while files are decoded


def open_files(
    found: FileSet,
    max_bad_images: float,
    cache: Path | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> tuple[Images, Images | None]:
    """Returns the images of the training part and of the test part (or None).

    Args:
        cache: folder with a hidden file that keeps which images could be decoded, so that the next
            call decodes only those that are new or changed; written here, if it can be.
        told: called with a line now and then while many files are decoded.
    """
    if cache:
        places = b"\0".join(os.fsencode(path.resolve()) for path in found.given)
        cache = cache / f".images-{hashlib.sha256(places).hexdigest()[:16]}.npz"
    sizes = _sizes(found.files(), cache, told)
    classes, why = found.classes()
    count = sum(len(part.files) for part in found.train)
    train = _images(found, found.train, sizes[:count], classes, max_bad_images)
    train = replace(train, passed_over=tuple(found.passed_over), why_unlabelled=why)
    if not found.test:
        return train, None
    test = _images(found, found.test, sizes[count:], classes, max_bad_images)
    return train, replace(test, split=found.test_name or test.split)


def some_files(found: FileSet, count: int) -> list[Path]:
    """Returns at most `count` files of the test part, or else of the training part, evenly spread.

    None of them is opened.
    """
    files = [path for part in found.test or found.train for path in part.files]
    return [files[place] for place in spread(len(files), count)]


def files_stamp(found: FileSet) -> str:
    """SHA-256 of the names, sizes and times of all image files of the set; none is opened."""
    total = hashlib.sha256()
    for path in found.files():
        name = os.fsencode(path.relative_to(found.root))
        total.update(b"%s\0%d %d\0" % (name, *_stamp(os.fsencode(path))))
    return total.hexdigest()


def _images(
    found: FileSet, parts: list[Part], sizes, classes: tuple[str, ...], max_bad_images: float
) -> Images:
    """The images of the parts, those of `found` for training or for tests."""
    folder = ", ".join(shown(part.folder) for part in parts)
    files = [path for part in parts for path in part.files]
    good = sizes[:, 0] > 0
    bad = [shown(path) for path, ok in zip(files, good, strict=True) if not ok]
    if len(bad) == len(files):
        raise InputError(
            f"data: none of the {len(files)} images in {folder} can be read ({bad[0]}, ...). "
            f"Give a folder of whole pictures."
        )
    if len(bad) > max_bad_images * len(files):
        raise InputError(
            f"data: {len(bad)} of {len(files)} images in {folder} cannot be read ({bad[0]}, ...), "
            f"more than max_bad_images={max_bad_images:g}. Mend them, or raise --max-bad-images."
        )
    ends = np.cumsum([len(part.files) for part in parts])[:-1]
    of_parts = [
        [path for path, ok in zip(part.files, whole, strict=True) if ok]
        for part, whole in zip(parts, np.split(good, ends), strict=True)
    ]
    kept = [path for one in of_parts for path in one]
    labels, why = found.labels(parts, of_parts, classes)
    base = parts[0].folder if len(parts) == 1 else found.root
    inner = b"\0".join(os.fsencode(path.relative_to(base)) for path in kept)
    with tf.device("CPU:0"):
        table = tf.constant([os.fsencode(path) for path in kept])
    left_out: Counter[str] = sum((part.left_out for part in parts), Counter())
    return Images(
        name=", ".join(shown(part.folder.name) for part in parts),
        count=len(kept),
        read=lambda index: tf.io.read_file(table[index]),
        encoded=True,
        labels=labels,
        why_unlabelled=why,
        class_names=tuple(map(shown, classes)),
        sizes=sizes[good, :2],
        looks=sizes[good, 2],
        skipped=tuple(bad),
        left_out=left_out,
        files=tuple(map(shown, kept)),
        paths=tuple(path.relative_to(found.root).as_posix() for path in kept),
        identity=hashlib.sha256(inner).hexdigest(),
        split=shown(parts[0].folder.name),
    )


def _sizes(
    files: list[Path], cache: Path | None, told: Callable[[str], None] = lambda _: None
) -> np.ndarray:
    """Height, width and `look` of each file, int32 [n, 3]; 0 where it cannot be decoded.

    A file of more than `MOST_BYTES` is not read.
    """

    def measure(index, file):
        image = decode(tf.io.read_file(file))
        return index, tf.concat([tf.shape(image)[:2], [look(image)]], 0)

    names = [os.fsencode(path) for path in files]
    stamps = np.array([_stamp(name) for name in names], np.int64)  # [n, 2]
    sizes = _known_sizes(names, stamps, cache)
    unknown = np.flatnonzero((sizes[:, 0] == 0) & (stamps[:, 0] <= MOST_BYTES))
    if not len(unknown):
        return sizes
    numbered = tf.data.Dataset.from_tensor_slices((unknown, [names[i] for i in unknown]))
    measured = Elements(mapped(numbered, measure).ignore_errors().as_numpy_iterator())
    last = time.monotonic()
    with contextlib.ExitStack() as quiet:
        quiet.enter_context(without_decoders())
        for done, (index, size) in enumerate(measured, start=1):
            sizes[index] = size
            if time.monotonic() - last > TOLD_EVERY:
                last = time.monotonic()
                quiet.close()  # what is told may go to stderr, too
                told(f"{done} of {len(unknown)} images looked at")
                quiet.enter_context(without_decoders())
    if cache:
        _keep_sizes(cache, names, stamps, sizes)
    return sizes


def _stamp(name: bytes) -> tuple[int, int]:
    stat = os.stat(name)
    return stat.st_size, stat.st_mtime_ns


def _keep_sizes(cache: Path, names: list[bytes], stamps: np.ndarray, sizes: np.ndarray) -> None:
    archive = io.BytesIO()
    text = np.frombuffer(b"\0".join(names), np.uint8)
    np.savez(archive, names=text, stamps=stamps, sizes=sizes)
    temporary = cache.with_name(f"{cache.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(add_zip_digest(archive.getvalue()))
        os.replace(temporary, cache)
    except OSError:  # then the next call decodes them again
        temporary.unlink(missing_ok=True)


def _known_sizes(names: list[bytes], stamps: np.ndarray, cache: Path | None) -> np.ndarray:
    """What the cache has of files that are as they were; 0 for all others: int32 [n, 3]."""
    sizes = np.zeros((len(names), 3), np.int32)
    try:
        found = read_npz(cache, "a list of images") if cache and cache.exists() else {}
        known = {n: i for i, n in enumerate(found["names"].tobytes().split(b"\0"))}
        table = np.concatenate([found["stamps"], found["sizes"]], axis=1)
        whole = table.shape == (len(known), 5) and table.dtype == np.int64
    except (InputError, KeyError, ValueError):  # none yet, or damaged: all are decoded
        return sizes
    for row, name in enumerate(names):
        place = known.get(name) if whole else None
        if place is not None and (table[place, :2] == stamps[row]).all():
            sizes[row] = np.clip(table[place, 2:], 0, MOST_BYTES)
    return sizes
