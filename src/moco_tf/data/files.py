"""A folder of images: which files it holds, their labels, and which of them cannot be read."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from moco_tf.data.decode import decode
from moco_tf.errors import InputError

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".webp"})


def open_folder(folder: Path, max_bad_images: float):
    """Returns the fields of `Images` for the training part and for the test part (or None).

    Where the folder holds train/ and val/ or test/ (in this order of choice), those are the parts.
    Files in hidden folders are left out.
    """
    train, test = folder / "train", None
    if train.is_dir():
        test = next((folder / name for name in ("val", "test") if (folder / name).is_dir()), None)
    else:
        train = folder
    classes = _class_names(train)
    return _part(train, classes, max_bad_images), (
        _part(test, classes, max_bad_images) if test else None
    )


def _list_files(folder: Path) -> list[Path]:
    """Image files at any depth, links followed, in a stable order."""
    return sorted(path for path in _walk(folder) if path.suffix.lower() in SUFFIXES)


def _walk(folder: Path) -> Iterator[Path]:
    for base, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [n for n in folders if not n.startswith(".") and not _leads_back(base, n)]
        yield from (
            Path(base, n)
            for n in names
            if not n.startswith(".") and os.path.isfile(os.path.join(base, n))
        )


def _leads_back(base: str, name: str) -> bool:
    """Whether the folder is a link to one that it lies in."""
    path = os.path.join(base, name)
    return os.path.islink(path) and Path(base).resolve().is_relative_to(Path(path).resolve())


def _shown(path: Path | str) -> str:
    """A name that can be printed, also where its bytes are no UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def _class_names(folder: Path) -> tuple[str, ...]:
    """Folders right under `folder`, if every image lies in one of at least two."""
    tops = [path.relative_to(folder).parts for path in _list_files(folder)]
    names = sorted({parts[0] for parts in tops if len(parts) > 1})
    return tuple(names) if len(names) > 1 and all(len(parts) > 1 for parts in tops) else ()


def _part(folder: Path, classes: tuple[str, ...], max_bad_images: float):
    files = _list_files(folder)
    if not files:
        raise InputError(
            f"data: the folder {folder} holds no image ({', '.join(sorted(SUFFIXES))}). "
            f"Give a folder of pictures."
        )
    sizes = _sizes(files)
    good = sizes[:, 0] > 0
    bad = [_shown(path) for path, ok in zip(files, good, strict=True) if not ok]
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
    labels = None
    if classes:
        tops = [path.relative_to(folder).parts[0] for path in kept]
        unknown = sorted(set(tops) - set(classes))
        if unknown:
            raise InputError(
                f"data: {folder} has the class {_shown(unknown[0])!r}, the training folder has "
                f"not. Both need the same class folders."
            )
        labels = np.array([classes.index(top) for top in tops], np.int64)
    with tf.device("CPU:0"):
        table = tf.constant([os.fsencode(path) for path in kept])
    return {
        "name": folder.name,
        "count": len(kept),
        "read": lambda index: tf.io.read_file(table[index]),
        "encoded": True,
        "labels": labels,
        "class_names": tuple(_shown(name) for name in classes),
        "sizes": sizes[good],
        "skipped": tuple(bad),
        "files": tuple(_shown(path) for path in kept),
    }


def _sizes(files: list[Path]) -> np.ndarray:
    """Height and width of each file decoded, int32 [n, 2]; 0 where it cannot be decoded."""

    def measure(index, file):
        return index, tf.shape(decode(tf.io.read_file(file)))[:2]

    names = [os.fsencode(path) for path in files]
    numbered = tf.data.Dataset.from_tensor_slices((np.arange(len(files)), names))
    measured = numbered.map(measure, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    sizes = np.zeros((len(files), 2), np.int32)
    for index, size in measured.as_numpy_iterator():
        sizes[index] = size
    return sizes
