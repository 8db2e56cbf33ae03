"""A folder of images: which files it holds, their labels, and which of them cannot be read."""

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from moco_tf.data.decode import MOST_BYTES, decode
from moco_tf.data.looks import look
from moco_tf.errors import InputError
from moco_tf.held_back import without_decoders
from moco_tf.npz import read_npz
from moco_tf.sealed import seal_zip

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".webp"})


def open_folder(folder: Path, max_bad_images: float, cache: Path | None = None):
    """Returns the fields of `Images` for the training part and for the test part (or None).

    Where the folder holds train/ and val/ or test/, those are the parts; of val/ and test/ the
    first that holds images. Files in hidden folders are left out.

    Args:
        cache: folder with a hidden file that keeps which images could be decoded, so that the next
            call decodes only those that are new or changed; written here, if it can be.
    """
    train, test, train_files, test_files = _parts(folder)
    if cache:
        key = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
        cache = cache / f".images-{key}.npz"
    sizes = _sizes(train_files + test_files, cache)
    classes = _class_names(train, train_files)
    count = len(train_files)
    trained = _part(train, train_files, sizes[:count], classes, max_bad_images, folder)
    if not test_files:
        return trained, None
    return trained, _part(test, test_files, sizes[count:], classes, max_bad_images, folder)


def some_files(folder: Path, count: int) -> list[Path]:
    """Returns at most `count` files of the test part, or else of the training part, evenly spread.

    None of them is opened.

    Raises:
        InputError: if the folder holds no image.
    """
    _, _, train, test = _parts(folder)
    files = test or train
    return [files[place] for place in np.unique(np.linspace(0, len(files) - 1, count).astype(int))]


def folder_stamp(folder: Path) -> str:
    """SHA-256 of the names, sizes and times of all image files of `folder`; none is opened.

    Raises:
        InputError: if the folder holds no image.
    """
    _, _, train, test = _parts(folder)
    total = hashlib.sha256()
    for path in train + test:
        name = os.fsencode(path.relative_to(folder))
        total.update(b"%s\0%d %d\0" % (name, *_stamp(os.fsencode(path))))
    return total.hexdigest()


def _parts(folder: Path) -> tuple[Path, Path | None, list[Path], list[Path]]:
    """Folders and files of the training and the test part; raises `InputError` if there is none."""
    train, test, test_files = folder / "train", None, []
    if not train.is_dir():
        train = folder
    else:
        for test in (folder / "val", folder / "test"):
            test_files = _list_files(test)
            if test_files:
                break
    train_files = _list_files(train)
    if not train_files:
        raise InputError(
            f"data: the folder {train} holds no image ({', '.join(sorted(SUFFIXES))}). "
            f"Give a folder of pictures."
        )
    return train, test, train_files, test_files


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


def _class_names(folder: Path, files: list[Path]) -> tuple[str, ...]:
    """Folders right under `folder`, if every image lies in one of at least two."""
    tops = [path.relative_to(folder).parts for path in files]
    names = sorted({parts[0] for parts in tops if len(parts) > 1})
    return tuple(names) if len(names) > 1 and all(len(parts) > 1 for parts in tops) else ()


def _part(
    folder, files: list[Path], sizes, classes: tuple[str, ...], max_bad_images: float, root: Path
):
    """The fields of `Images` for the files in `folder`, which is `root` or lies in it."""
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
    inner = [path.relative_to(folder) for path in kept]
    labels, why_unlabelled = None, ""
    if classes:
        numbers = {name: number for number, name in enumerate(classes)}
        tops = [path.parts[0] if len(path.parts) > 1 else "" for path in inner]
        unknown = sorted(set(tops) - set(classes))
        if unknown:
            odd = f"the class {_shown(unknown[0])!r}" if unknown[0] else "images in no class folder"
            absent = sorted(set(classes) - set(tops))
            lacks = f", and lacks its class {_shown(absent[0])!r}" if absent else ""
            why_unlabelled = f"{_shown(folder)} has {odd}, the training folder has not{lacks}"
        else:
            labels = np.array([numbers[top] for top in tops], np.int64)
    with tf.device("CPU:0"):
        table = tf.constant([os.fsencode(path) for path in kept])
    return {
        "name": _shown(folder.name),
        "count": len(kept),
        "read": lambda index: tf.io.read_file(table[index]),
        "encoded": True,
        "labels": labels,
        "why_unlabelled": why_unlabelled,
        "class_names": tuple(_shown(name) for name in classes),
        "sizes": sizes[good, :2],
        "looks": sizes[good, 2],
        "skipped": tuple(bad),
        "files": tuple(_shown(path) for path in kept),
        "paths": tuple(path.relative_to(root).as_posix() for path in kept),
        "identity": hashlib.sha256(b"\0".join(os.fsencode(path) for path in inner)).hexdigest(),
    }


def _sizes(files: list[Path], cache: Path | None) -> np.ndarray:
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
    measured = numbered.map(measure, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    with without_decoders():
        for index, size in measured.as_numpy_iterator():
            sizes[index] = size
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
            file.write(seal_zip(archive.getvalue()))
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
