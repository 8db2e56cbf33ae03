"""Which files kept features are of: while none has changed, a folder is not opened again."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from moco_tf.data.listing import shown
from moco_tf.errors import InputError
from moco_tf.evaluate.kept_features import CACHE
from moco_tf.exporting.rows import Rows
from moco_tf.files.atomic import write_atomically
from moco_tf.files.digests import add_zip_digest
from moco_tf.files.npz import read_npz
from moco_tf.files.store import stamp
from moco_tf.names.data import paths_of
from moco_tf.runs import checkpoint, checkpoint_file
from moco_tf.runs.folder import checkpoint_folder

FILE = ".images-rows.npz"  # which `moco-tf check` knows by its beginning


class KeptRows(NamedTuple):
    """The rows of kept features."""

    rows: Rows
    paths: list[bytes]  # of their files
    key: str  # of the features


class Stamps(NamedTuple):
    """Files and folders with their sizes and times, int64 [n, 2]."""

    paths: list[bytes]
    folders: list[bytes]  # whose times tell what was added or taken away
    times: np.ndarray


def encoder_stamp(run: str) -> tuple[str, int] | None:
    """Returns (digest, step) that the file of a run's newest weights carries; None: unreadable."""
    path = Path(run)
    if path.is_dir():
        _, path = checkpoint.newest(checkpoint_folder(path)) or (0, path)
    known = checkpoint_file.header(path)
    return known and (known[2], known[0])


def stamps_of(data: str, files: Iterable[str], paths: Iterable[str]) -> Stamps | None:
    """Returns the stamps of images and of all folders of `data`; None: their paths are not known.

    Args:
        files: the images as they are shown.
        paths: their paths below a folder that all have in common, as the system has them.
    """
    given = [Path(os.path.abspath(path)) for path in paths_of(data)]
    full = []
    for file, path in zip(files, paths, strict=True):
        whole = os.path.abspath(file[: len(file) - len(shown(path))] + path)
        full.append(os.fsencode(whole))
    inner = {os.path.dirname(path) for path in full}
    inner |= {os.fsencode(base) for one in given for base, _, _ in os.walk(one)}
    inner |= {os.fsencode(p) for one in given if one.is_file() for p in (one, one.parent)}
    folders = sorted(inner)
    times = _times([*full, *folders])
    return None if times is None else Stamps(full, folders, times)


def _times(paths: Iterable[bytes]) -> np.ndarray | None:
    try:
        found = [stamp(os.stat(path)) for path in paths]
    except OSError:
        return None
    return np.array(found, np.int64).reshape(-1, 2)


def write_rows(out: Path, about: str, key: str, rows: Rows, stamps: Stamps) -> None:
    """Keeps the rows in the folder `out`, beside the features.

    Args:
        about: text that changes with all that the features depend on but for the files.
    """
    texts = {
        "paths": b"\0".join(stamps.paths),
        "folders": b"\0".join(stamps.folders),
        "about": f"{about}\0{key}".encode(),
        "names": "\0".join(rows.names).encode(),
        "classes": "\0".join(rows.classes).encode(),
    }
    arrays: dict[str, Any] = {name: np.frombuffer(text, np.uint8) for name, text in texts.items()}
    arrays |= {"times": stamps.times, "train": np.array(rows.splits.count("train"))}
    if rows.labels is not None:
        arrays["labels"] = rows.labels
    file = io.BytesIO()
    np.savez(file, **arrays)
    write_atomically(out / FILE, add_zip_digest(file.getvalue()))


def read_rows(out: Path, about: str) -> KeptRows | None:
    """Returns what `write_rows` kept; None: nothing, no features, or something has changed."""
    try:
        found = read_npz(out / FILE, "a list of images") if (out / FILE).exists() else {}
        paths, folders = (found[name].tobytes().split(b"\0") for name in ("paths", "folders"))
        then, key = found["about"].tobytes().decode().split("\0")
        names = found["names"].tobytes().decode().split("\0")
        classes = found["classes"].tobytes().decode()
        train = int(found["train"])
        splits = ["train"] * train + ["test"] * (len(names) - train)
        kept = checkpoint_file.header(out / f"{CACHE}.safetensors")
        if then != about or not kept or kept[1].get("key") != key:
            return None
        times = _times([*paths, *folders])
        if times is None or not np.array_equal(times, found["times"]):
            return None
    except (InputError, KeyError, ValueError):  # none yet, or damaged
        return None
    labels = found.get("labels")
    return KeptRows(Rows(names, splits, labels, tuple(classes.split("\0"))), paths, key)
