"""A run folder on another file system (gs://): kept here, and copied there.

A run needs locks and files that grow, which those have not. So it works in a folder of this
machine, and after each save all that has changed goes over: what is new first, read back, and only
then what is old is deleted there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import tensorflow as tf

from moco_tf.errors import InputError, one_line
from moco_tf.files.atomic import make_folder, take_lock
from moco_tf.runs.checkpoint import newest_step
from moco_tf.runs.folder import CONFIG, SUMMARY

LOCAL = "file://"
CHECKPOINTS = "checkpoints/"
_LAST = (CHECKPOINTS, SUMMARY)  # what tells of other files comes after them
_HALF = ".sending"
_LIST = re.compile(r"\.images-[0-9a-f]+\.npz")  # sizes of the images, slow to make again
_STEP = re.compile(r"checkpoints/step-(\d+)\.safetensors")
_CHUNK = 2**24  # bytes


def local_folder(run_dir: str) -> Path | None:
    """Returns the folder that `run_dir` is on this machine; None: it is on another file system."""
    if run_dir.startswith(LOCAL):
        return Path(run_dir.removeprefix(LOCAL))
    return None if "://" in run_dir else Path(run_dir)


class RemoteFolder:
    """The folder `url`, and a copy of it on this machine.

    Args:
        copy: what is in it already is an earlier process's, and taken if it is the newer part of
            the same run.
    """

    def __init__(self, url: str, copy: Path):
        self.url, self.copy = url.rstrip("/"), copy
        self.behind = False  # whether something could not be sent
        self._there: dict[str, tuple[int, int]] = {}  # name -> size and time of what was copied

    def fetch(self) -> None:
        """Brings all that is there here; makes the folder if it is absent.

        Raises:
            InputError: it cannot be read or made, or holds what is no run.
        """
        with self._told("read"):
            tf.io.gfile.makedirs(self.url)  # fails now, not at the first save
            names, halves = self._names()
            if names and CONFIG not in names:
                raise InputError(
                    f"run_dir={self.url} is not empty and is not a run folder: it has no {CONFIG}, "
                    f"but holds {names[0]}. Use another --run-dir."
                )
            for name in halves:  # of a process that was killed
                tf.io.gfile.remove(f"{self.url}/{name}")
            if names and self._is_newer(names):
                return
            shutil.rmtree(self.copy, ignore_errors=True)
            for name in names:
                path = self.copy / name
                path.parent.mkdir(parents=True, exist_ok=True)
                tf.io.gfile.copy(f"{self.url}/{name}", str(path), overwrite=True)
                self._there[name] = _stamp(path)

    def push(self) -> None:
        """Brings what has changed here there, and deletes there the checkpoints gone here.

        Raises:
            InputError: it cannot be written, or came back damaged; the copy here is whole.
        """
        here = {path.relative_to(self.copy).as_posix(): path for path in _files(self.copy)}
        self.behind = True
        with self._told("write"):
            for name in sorted(here, key=lambda name: (name.startswith(_LAST), name)):
                stamp = _stamp(here[name])
                if self._there.get(name) != stamp:
                    self._send(here[name], name)
                    self._there[name] = stamp
            for name in self._there.keys() - here.keys():
                if name.startswith(CHECKPOINTS) and tf.io.gfile.exists(f"{self.url}/{name}"):
                    tf.io.gfile.remove(f"{self.url}/{name}")
                del self._there[name]
        self.behind = False

    def newest_step(self) -> int | None:
        """Returns the step of the newest checkpoint that is there, or None if there is none."""
        return _newest(self._there)

    def _is_newer(self, names: list[str]) -> bool:
        """Whether the copy is what an earlier process could not send of the run that is there."""
        config = self.copy / CONFIG
        if (_newest(names) or 0) >= (newest_step(self.copy / CHECKPOINTS) or 0):
            return False
        with tf.io.gfile.GFile(f"{self.url}/{CONFIG}", "rb") as file:
            return config.exists() and config.read_bytes() == file.read()

    def _send(self, path: Path, name: str) -> None:
        folder, _, last = f"{self.url}/{name}".rpartition("/")
        tf.io.gfile.makedirs(folder)
        temporary = f"{folder}/.{last}{_HALF}"
        tf.io.gfile.copy(str(path), temporary, overwrite=True)
        if name.startswith(_LAST) and _sha256(temporary) != _sha256(str(path)):
            raise InputError(
                f"{self.url}/{name} came back damaged. Nothing older was deleted, and it is whole "
                f"in {self.copy}."
            )
        tf.io.gfile.rename(temporary, f"{self.url}/{name}", overwrite=True)

    def _names(self) -> tuple[list[str], list[str]]:
        """Files of the run, and those of which only a part was sent."""
        found = []
        for folder, _, names in tf.io.gfile.walk(self.url):
            inner = str(folder).rstrip("/").removeprefix(self.url).strip("/")
            found += [f"{inner}/{name}".lstrip("/") for name in names]
        found = [name for name in found if ".." not in name.split("/")]
        halves = [name for name in found if name.endswith(_HALF) and _hidden(name)]
        return [name for name in found if not _hidden(name) or _LIST.fullmatch(name)], halves

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except (tf.errors.OpError, OSError) as error:
            reason = one_line(str(error).splitlines()[0])[:200]
            kept = f" What is not there is in {self.copy}." if self.copy.exists() else ""
            raise InputError(f"cannot {what} run_dir={self.url} ({reason}).{kept}") from None


def _refuse_unknown(url: str) -> None:
    scheme = url.partition("://")[0]
    if scheme not in tf.io.gfile.get_registered_schemes():
        raise InputError(
            f"run_dir={url}: a run cannot be written to {scheme}:// yet. Use a folder of this "
            f"machine, such as --run-dir runs/mine, and copy it to {scheme}:// afterwards. What "
            f"works besides is gs://."
        )


@contextlib.contextmanager
def working_folder(run_dir: str) -> Iterator[tuple[Path, RemoteFolder | None]]:
    """Gives the folder of this machine that a run works in, and where it is copied to, if it is.

    The copy of a remote folder is in the user's cache, and deleted at the end but for one that
    could not be sent: the next start on this machine goes on from that.

    Raises:
        InputError: TensorFlow knows no such file system, it does not answer, or another process of
            this machine uses the folder.
    """
    folder = local_folder(run_dir)
    if folder is not None:
        yield folder, None
        return
    _refuse_unknown(run_dir)
    cache = cache_folder() / hashlib.sha256(run_dir.encode()).hexdigest()[:16]
    make_folder(cache)
    with open(cache / "lock", "w", encoding="utf-8") as lock:
        in_use = (
            f"run_dir={run_dir} is in use by another process of this machine. Wait for it to end, "
            f"or use another --run-dir."
        )
        take_lock(lock, lambda: in_use)
        remote = RemoteFolder(run_dir, cache / "run")
        remote.fetch()
        try:
            yield remote.copy, remote
        except BaseException:
            with contextlib.suppress(InputError):  # the logs; what was saved is there, or told
                remote.push()
            raise
        else:
            remote.push()
        finally:
            if not remote.behind:
                shutil.rmtree(cache)


def cache_folder() -> Path:
    """Returns the folder for what can be made again, below XDG_CACHE_HOME or ~/.cache.

    It is made if that is allowed.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moco-tf"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _files(folder: Path) -> Iterator[Path]:
    """All but locks, and what is being written."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and (not _hidden(name) or _LIST.fullmatch(name)):
            yield path


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _newest(names: Iterable[str]) -> int | None:
    found = [_STEP.fullmatch(name) for name in names]
    return max((int(match[1]) for match in found if match), default=None)


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _sha256(path: str) -> str:
    total = hashlib.sha256()
    with tf.io.gfile.GFile(path, "rb") as file:
        while data := file.read(_CHUNK):
            total.update(data)
    return total.hexdigest()
