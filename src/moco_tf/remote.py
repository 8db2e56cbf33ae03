"""A run folder on another file system (gs://, s3://, hdfs://, ...): kept here, and copied there.

A run needs locks and files that grow, which those have not. So it works in a folder of this
machine, and after each save all that has changed goes over: what is new first, read back, and only
then what is old is deleted there.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from moco_tf.errors import InputError, one_line
from moco_tf.run_folder import CONFIG, SUMMARY

LOCAL = "file://"
_LAST = ("checkpoints/", SUMMARY)  # what tells of other files comes after them
_CHUNK = 2**24  # bytes


def local_folder(run_dir: str) -> Path | None:
    """Returns the folder that `run_dir` is on this machine; None: it is on another file system."""
    if run_dir.startswith(LOCAL):
        return Path(run_dir.removeprefix(LOCAL))
    return None if "://" in run_dir else Path(run_dir)


class RemoteFolder:
    """The folder `url`, and a copy of it on this machine.

    Raises:
        InputError: TensorFlow knows no such file system, or it does not answer.
    """

    def __init__(self, url: str, copy: Path):
        self.url, self.copy = url.rstrip("/"), copy
        self.behind = False  # whether something could not be sent
        self._there: dict[str, tuple[int, int]] = {}  # name -> size and time of what was copied

    def fetch(self) -> None:
        """Brings all that is there here; makes the folder if it is absent."""
        with self._told("read"):
            tf.io.gfile.makedirs(self.url)  # fails now, not at the first save
            names = self._names()
            if names and CONFIG not in names:
                raise InputError(
                    f"run_dir={self.url} is not empty and is not a run folder: it has no {CONFIG}, "
                    f"but holds {names[0]}. Use another --run-dir."
                )
            for name in names:
                path = self.copy / name
                path.parent.mkdir(parents=True, exist_ok=True)
                tf.io.gfile.copy(f"{self.url}/{name}", str(path), overwrite=True)
                self._there[name] = _stamp(path)

    def push(self) -> None:
        """Brings what has changed here there, and deletes there what is here no more."""
        here = {path.relative_to(self.copy).as_posix(): path for path in _files(self.copy)}
        with self._told("write"):
            for name in sorted(here, key=lambda name: (name.startswith(_LAST), name)):
                stamp = _stamp(here[name])
                if self._there.get(name) != stamp:
                    self._send(here[name], name)
                    self._there[name] = stamp
            for name in self._there.keys() - here.keys():
                if tf.io.gfile.exists(f"{self.url}/{name}"):
                    tf.io.gfile.remove(f"{self.url}/{name}")
                del self._there[name]

    def _send(self, path: Path, name: str) -> None:
        folder, _, last = f"{self.url}/{name}".rpartition("/")
        tf.io.gfile.makedirs(folder)
        temporary = f"{folder}/.{last}.tmp"
        tf.io.gfile.copy(str(path), temporary, overwrite=True)
        if name.startswith(_LAST) and _sha256(temporary) != _sha256(str(path)):
            raise InputError(f"{self.url}/{name} came back damaged. Nothing older was deleted.")
        tf.io.gfile.rename(temporary, f"{self.url}/{name}", overwrite=True)

    def _names(self) -> list[str]:
        found = []
        for folder, _, names in tf.io.gfile.walk(self.url):
            inner = str(folder).rstrip("/").removeprefix(self.url).strip("/")
            found += [f"{inner}/{n}".lstrip("/") for n in names if not n.startswith(".")]
        return [name for name in found if ".." not in name.split("/")]

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except (tf.errors.OpError, OSError) as error:
            self.behind = True
            reason = one_line(str(error).splitlines()[0])[:200]
            raise InputError(
                f"cannot {what} run_dir={self.url} ({reason}). What this process has is in "
                f"{self.copy}."
            ) from None


def _refuse_unknown(url: str) -> None:
    scheme = url.partition("://")[0]
    if scheme not in tf.io.gfile.get_registered_schemes():
        with contextlib.suppress(ImportError):
            importlib.import_module("tensorflow_io")  # which adds some
    known = tf.io.gfile.get_registered_schemes()
    if scheme not in known:
        listed = ", ".join(f"{name}://" for name in sorted(known) if name)
        raise InputError(
            f"run_dir={url} is on no file system that TensorFlow knows here: {listed}. Use one of "
            f"these, or install tensorflow-io."
        )


@contextlib.contextmanager
def working_folder(run_dir: str) -> Iterator[tuple[Path, RemoteFolder | None]]:
    """Gives the folder of this machine that a run works in, and where it is copied to, if it is.

    The copy of a remote folder is deleted at the end, but for one that could not be sent.
    """
    folder = local_folder(run_dir)
    if folder is not None:
        yield folder, None
        return
    _refuse_unknown(run_dir)
    copy = Path(tempfile.mkdtemp(prefix="moco-tf-"))
    remote = RemoteFolder(run_dir, copy / "run")
    try:
        remote.fetch()
        yield remote.copy, remote
        if (remote.copy / CONFIG).exists():
            remote.push()
    finally:
        if not (remote.behind and remote.copy.exists()):
            shutil.rmtree(copy)


def _files(folder: Path) -> Iterator[Path]:
    """All but hidden ones: locks, and what is being written."""
    for path in folder.rglob("*"):
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts):
            yield path


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _sha256(path: str) -> str:
    total = hashlib.sha256()
    with tf.io.gfile.GFile(path, "rb") as file:
        while data := file.read(_CHUNK):
            total.update(data)
    return total.hexdigest()
