"""Checkpoints written beside training: a step waits for a copy of the state, not for the disk."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from moco_tf.errors import InputError
from moco_tf.files.store import Stamp
from moco_tf.runs import checkpoint


class AsyncCheckpointer:
    """Writes checkpoints of one run in a thread of its own, one after the other.

    What goes wrong there is raised by the next call of `save`, `check` or `wait`. As a context it
    is left only when nothing is being written any more, also by an exception.

    Args:
        folder: of the checkpoints.
        check: raises `InputError` if nothing may be written to it any more.
        send: called after each save, in the same thread: it may copy the folder elsewhere.
    """

    def __init__(
        self,
        folder: Path,
        check: Callable[[], None] = lambda: None,
        send: Callable[[], None] = lambda: None,
    ):
        self._folder, self._check, self._send = folder, check, send
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[float] | None = None
        self._verified: dict[str, Stamp] = {}
        self.seconds: float | None = None  # that the last save took, from start to end

    def save(
        self,
        arrays: Mapping[str, np.ndarray],
        *,
        step: int,
        extra: Mapping[str, Any],
        tags: Sequence[str | None] = (None,),
    ) -> None:
        """Waits for the save before, then begins one and returns.

        Args:
            arrays: name to array; they belong to the save from now on.
            step, extra: as `checkpoint.save` takes them; of `extra` a copy is taken.
            tags: one name for each, in this order.

        Raises:
            InputError: the save before failed.
        """
        self.wait()
        extra = deepcopy(dict(extra))
        self._writing = self._thread.submit(self._write, dict(arrays), step, extra, list(tags))

    def check(self) -> None:
        """Raises the `InputError` of a save that has failed; does not wait."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Returns when nothing is being written; raises the `InputError` of a save that failed."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            self.seconds = writing.result()

    def _write(self, arrays, step, extra, tags) -> float:
        began, saved = time.perf_counter(), None
        for tag in tags:
            self._check()
            try:
                saved = checkpoint.save(
                    self._folder,
                    arrays,
                    step=step,
                    extra=extra,
                    tag=tag,
                    same_as=saved,
                    verified=self._verified,
                )
            except InputError:
                self._check()  # which says more
                raise
        self._send()
        return time.perf_counter() - began

    def __enter__(self) -> AsyncCheckpointer:
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            # What ended the run already is told; a save that failed has damaged nothing.
            with contextlib.suppress(*((InputError,) if error else ())):
                self.wait()
        finally:
            self._thread.shutdown()
