"""A run folder in an object store: kept here, and copied there.

A run needs locks and files that grow, which a store has not. So it works in a folder of this
machine, and after each save all that has changed goes over, in a thread of its own: what is new
first, and only then what is old is deleted there. Imports no TensorFlow.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from time import monotonic

from moco_tf.errors import InputError
from moco_tf.files.store import Stamp, Store, is_half, reason, stamp
from moco_tf.runs.checkpoint import newest_step
from moco_tf.runs.config_file import CONFIG
from moco_tf.runs.folder import SUMMARY

PATIENCE = 900.0  # seconds that a store may fail for until the run ends
PAUSE = 5.0  # seconds between two tries
CHECKPOINTS = "checkpoints/"
_LIST = re.compile(r"\.images-[0-9a-f]+\.npz")  # sizes of the images, slow to make again
_STEP = re.compile(r"checkpoints/step-(\d+)\.safetensors")


class RemoteFolder:
    """The folder `url`, and a copy of it on this machine.

    Args:
        copy: what is in it already is an earlier process's, and taken if it is of the same run
            and no older than what is there.
        say: called, from any thread, with a line on a store that fails.

    Raises:
        InputError: see `Store`.
    """

    def __init__(self, url: str, copy: Path, say: Callable[[str], None] = lambda _: None):
        self.copy, self._say, self._store = copy, say, Store(url, "run_dir")
        self._there: dict[str, Stamp | None] = {}  # of what is there: which file was sent
        self._unsent: list[str] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._pushing: Future[None] | None = None
        self._leaving = threading.Event()
        self.failing_since: float | None = None  # the first of the tries since the last that held

    def fetch(self) -> None:
        """Brings all that is there here.

        Raises:
            InputError: it cannot be read or written, or holds what is no run.
        """
        with self._store.told("use"):
            found = self._store.names()
            names = list(filter(_is_of_run, found))
            if names and CONFIG not in names:
                raise InputError(
                    f"run_dir={self._store.url} is not empty and is not a run folder: it has no "
                    f"{CONFIG}, but holds {names[0]}. Use another --run-dir."
                )
            self._store.check_writable()  # fails now, not at the first save
            for name in filter(is_half, found):  # of a process that was killed
                self._store.remove(name)
            self._there = dict.fromkeys(names)
            if self._copy_is_as_new():
                self._say(
                    f"goes on from {self.copy}: perhaps not all of it is in {self._store.url}. "
                    f"Remove it to take what is there."
                )
            else:
                shutil.rmtree(self.copy, ignore_errors=True)
                self._store.fetch(names, self.copy)
                self._there = {name: stamp((self.copy / name).stat()) for name in names}

    def send(self) -> None:
        """Has what has changed here sent, beside the training.

        Raises:
            InputError: the store has failed for longer than `PATIENCE`; the copy here is whole.
        """
        if self._pushing and self._pushing.done():
            self._pushing.result()
        self._pushing = self._thread.submit(self._push)

    def finish(self, *, patient: bool) -> None:
        """Returns when all that has changed here is there.

        Args:
            patient: whether to wait for a store that fails.

        Raises:
            InputError: it could not be stored; the copy here is whole.
        """
        if not patient:
            self._leaving.set()
        try:
            if self._pushing:  # where this fails nothing is tried once more
                self._pushing.result()
            self._pushing = self._thread.submit(self._push)
            self._pushing.result()
        finally:  # also at a signal: then nothing is tried again
            self._leaving.set()

    def newest_step(self) -> int | None:
        """Returns the step of the newest checkpoint that is there, or None if there is none."""
        found = map(_STEP.fullmatch, list(self._there))
        return max((int(match[1]) for match in found if match), default=None)

    def _copy_is_as_new(self) -> bool:
        """Whether an earlier process left it, perhaps without having sent all that is in it."""
        config, step = self.copy / CONFIG, newest_step(self.copy / CHECKPOINTS)
        if not config.exists() or step is None or step < (self.newest_step() or 0):
            return False
        there = self._store.files.cat_file(self._store.path(CONFIG)) if self._there else None
        return there in (None, config.read_bytes())

    def _push(self) -> None:
        """Sends what has changed, again and again if need be."""
        while True:
            try:
                self._send_changed()
                break
            except Exception as error:  # each store has kinds of its own
                began, self.failing_since = self.failing_since, self.failing_since or monotonic()
                if self._leaving.is_set() or monotonic() - self.failing_since > PATIENCE:
                    raise InputError(
                        f"cannot write run_dir={self._store.url} ({reason(error)}). Not stored: "
                        f"{', '.join(self._unsent) or 'that older checkpoints are gone'}. It is "
                        f"whole in {self.copy}, and the same command on this machine goes on "
                        f"from there."
                    ) from None
                if began is None:
                    self._say(f"{self._store.url} fails ({reason(error)}); it is tried again")
                self._leaving.wait(PAUSE)
        if self.failing_since is not None:
            self._say(f"{self._store.url} answers again: all that was saved is there")
        self.failing_since = None

    def _send_changed(self) -> None:
        """Sends what has changed, and deletes there the checkpoints that are gone here."""
        here = self._here()
        changed = [name for name in here if self._there.get(name) != here[name]]
        self._unsent = sorted(changed, key=_order, reverse=True)
        while self._unsent:
            name = self._unsent[0]
            sent = self._store.put(self.copy / name, name)
            if sent is None:  # as old checkpoints go: newer ones are here, and sent next
                return
            self._there[name] = sent
            del self._unsent[0]
        newest = max((name for name in here if name.startswith(CHECKPOINTS)), default="")
        for name in self._there.keys() - here.keys():
            if name.startswith(CHECKPOINTS) and name < newest:  # not where the copy was removed
                self._store.remove(name)
                del self._there[name]

    def _here(self) -> dict[str, Stamp]:
        """The files of the copy, but for locks and what is being written."""
        # All names before the first stamp: a log is then no shorter than a checkpoint says it is.
        paths = {path.relative_to(self.copy).as_posix(): path for path in self.copy.rglob("*")}
        found = {}
        for name, path in paths.items():
            with contextlib.suppress(FileNotFoundError):
                if _is_of_run(name) and path.is_file():
                    found[name] = stamp(path.stat())
        return found


def _is_of_run(name: str) -> bool:
    hidden = any(part.startswith(".") for part in name.split("/"))
    return not hidden or bool(_LIST.fullmatch(name))


def _order(name: str) -> tuple[bool, bool, bool, str]:
    """The greatest is sent first: logs, the best checkpoint, the others from the newest on, the
    summary."""
    checkpoint = name.startswith(CHECKPOINTS)
    return name != SUMMARY, not checkpoint, checkpoint and not _STEP.fullmatch(name), name
