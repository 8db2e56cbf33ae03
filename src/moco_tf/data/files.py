"""A folder of images: which files it holds, their labels, and which of them cannot be read."""

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
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    return [p for p in found if not any(x.startswith(".") for x in p.relative_to(folder).parts)]


def _class_names(folder: Path) -> tuple[str, ...]:
    """Folders right under `folder`, if every image lies in one of at least two."""
    tops = [path.relative_to(folder).parts for path in _list_files(folder)]
    names = sorted({parts[0] for parts in tops if len(parts) > 1})
    return tuple(names) if len(names) > 1 and all(len(parts) > 1 for parts in tops) else ()


def _part(folder: Path, classes: tuple[str, ...], max_bad_images: float):
    files = _list_files(folder)
    if not files:
        raise InputError(
            f"data: the folder {folder} holds no image ({', '.join(sorted(SUFFIXES))})."
        )
    sizes = _sizes([str(path) for path in files])
    good = sizes[:, 0] > 0
    bad = [str(path) for path, ok in zip(files, good, strict=True) if not ok]
    if len(bad) == len(files):
        raise InputError(f"data: none of the {len(files)} images in {folder} can be read.")
    if len(bad) > max_bad_images * len(files):
        raise InputError(
            f"data: {len(bad)} of {len(files)} images in {folder} cannot be read ({bad[0]}, ...), "
            f"more than max_bad_images={max_bad_images:g}. Mend them, or raise --max-bad-images."
        )
    kept = [path for path, ok in zip(files, good, strict=True) if ok]
    labels = None
    if classes:
        loose = next((p for p in kept if len(p.relative_to(folder).parts) == 1), None)
        if loose:
            raise InputError(f"data: {loose} lies in no class folder, as the training images do.")
        tops = [path.relative_to(folder).parts[0] for path in kept]
        unknown, absent = sorted(set(tops) - set(classes)), sorted(set(classes) - set(tops))
        if unknown:
            lacks = f", and lacks its class {absent[0]!r}" if absent else ""
            raise InputError(
                f"data: {folder} has the class {unknown[0]!r}, the training folder has not{lacks}."
            )
        labels = np.array([classes.index(top) for top in tops], np.int64)
    names = tuple(str(path) for path in kept)
    table = tf.constant(names)
    return {
        "name": folder.name,
        "count": len(kept),
        "read": lambda index: tf.io.read_file(table[index]),
        "encoded": True,
        "labels": labels,
        "class_names": classes,
        "sizes": sizes[good],
        "skipped": tuple(bad),
        "files": names,
    }


def _sizes(files: list[str]) -> np.ndarray:
    """Height and width of each file decoded, int32 [n, 2]; 0 where it cannot be decoded."""

    def measure(index, file):
        return index, tf.shape(decode(tf.io.read_file(file)))[:2]

    numbered = tf.data.Dataset.from_tensor_slices((np.arange(len(files)), files))
    measured = numbered.map(measure, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    sizes = np.zeros((len(files), 2), np.int32)
    for index, size in measured.as_numpy_iterator():
        sizes[index] = size
    return sizes
