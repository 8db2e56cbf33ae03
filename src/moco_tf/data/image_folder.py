"""A folder of images, opened: its files and labels, and which of them cannot be read."""

import contextlib
import hashlib
import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from moco_tf.data.decode import MOST_BYTES, decode
from moco_tf.data.decoder_messages import without_decoders
from moco_tf.data.listing import Part, class_names, labels_of, list_parts, shown
from moco_tf.data.looks import look
from moco_tf.data.stream import Elements, mapped
from moco_tf.errors import InputError
from moco_tf.files.digests import add_zip_digest
from moco_tf.files.npz import read_npz

TOLD_EVERY = 5.0  # seconds, while files are decoded


def open_folder(
    folder: Path,
    max_bad_images: float,
    cache: Path | None = None,
    split: str | None = None,
    told: Callable[[str], None] = lambda _: None,
):
    """Returns the fields of `Images` for the training part and for the test part (or None).

    The parts and their files are those of `list_parts`.

    Args:
        cache: folder with a hidden file that keeps which images could be decoded, so that the next
            call decodes only those that are new or changed; written here, if it can be.
        split: see `list_parts`.
        told: called with a line now and then while many files are decoded.
    """
    train, test, passed_over = list_parts(folder, split)
    test_files = test.files if test else []
    if cache:
        key = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
        cache = cache / f".images-{key}.npz"
    sizes = _sizes(train.files + test_files, cache, told)
    classes, why = class_names(train)
    count = len(train.files)
    trained = _fields(train, sizes[:count], classes, max_bad_images, folder)
    trained["passed_over"] = tuple(passed_over)
    trained["why_unlabelled"] = why
    if test is None:
        return trained, None
    return trained, _fields(test, sizes[count:], classes, max_bad_images, folder)


def some_files(folder: Path, count: int) -> list[Path]:
    """Returns at most `count` files of the test part, or else of the training part, evenly spread.

    None of them is opened.

    Raises:
        InputError: if the folder holds no image.
    """
    train, test, _ = list_parts(folder)
    files = (test or train).files
    return [files[place] for place in np.unique(np.linspace(0, len(files) - 1, count).astype(int))]


def folder_stamp(folder: Path) -> str:
    """SHA-256 of the names, sizes and times of all image files of `folder`; none is opened.

    Raises:
        InputError: if the folder holds no image.
    """
    train, test, _ = list_parts(folder)
    total = hashlib.sha256()
    for path in train.files + (test.files if test else []):
        name = os.fsencode(path.relative_to(folder))
        total.update(b"%s\0%d %d\0" % (name, *_stamp(os.fsencode(path))))
    return total.hexdigest()


def _fields(part: Part, sizes, classes: tuple[str, ...], max_bad_images: float, root: Path):
    """The fields of `Images` for a part of the folder `root`."""
    folder, files = shown(part.folder), part.files
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
    kept = [path for path, ok in zip(files, good, strict=True) if ok]
    labels, why = labels_of(part, kept, classes) if classes else (None, "")
    inner = b"\0".join(os.fsencode(path.relative_to(part.folder)) for path in kept)
    with tf.device("CPU:0"):
        table = tf.constant([os.fsencode(path) for path in kept])
    return {
        "name": shown(part.folder.name),
        "count": len(kept),
        "read": lambda index: tf.io.read_file(table[index]),
        "encoded": True,
        "labels": labels,
        "why_unlabelled": why,
        "class_names": tuple(map(shown, classes)),
        "sizes": sizes[good, :2],
        "looks": sizes[good, 2],
        "skipped": tuple(bad),
        "left_out": part.left_out,
        "files": tuple(map(shown, kept)),
        "paths": tuple(path.relative_to(root).as_posix() for path in kept),
        "identity": hashlib.sha256(inner).hexdigest(),
        "split": shown(part.folder.name),
    }


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
