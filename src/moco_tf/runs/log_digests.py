"""What a run has appended to its logs so far: digests for its checkpoints to carry.

A log grows between two checkpoints, so it can carry none of itself. What a checkpoint says of it is
true of the first bytes of the file from then on, whenever the run is killed. Imports no TensorFlow.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moco_tf.runs.folder import METRICS, TENSORBOARD

EVENTS = "events.out.tfevents."
Digests = dict[str, dict[str, Any]]  # name in the run folder -> {"bytes": ..., "sha256": ...}


class LogDigests:
    """Digests of metrics.jsonl and of the TensorBoard files of the run in `folder`.

    Args:
        before: `digests` of an earlier process, whose TensorBoard files do not grow any more.
    """

    def __init__(self, folder: Path, before: Mapping[str, dict[str, Any]] | None = None):
        self._folder = folder
        self._settled = {
            name: digest
            for name, digest in parse_log_digests(before).items()
            if name != METRICS and (folder / name).exists()
        }
        self._growing: dict[str, tuple[Any, int]] = {}  # name -> digest so far, bytes so far

    def digests(self) -> Digests:
        """Returns a digest of each file as it is now, which is on the disk then."""
        found = dict(self._settled)
        for path in (self._folder / METRICS, *event_files(self._folder)):
            name = path.relative_to(self._folder).as_posix()
            if name in self._settled or not path.exists():
                continue
            total, size = self._growing.get(name, (hashlib.sha256(), 0))
            with open(path, "rb") as file:
                file.seek(size)
                new = file.read()
                with contextlib.suppress(OSError):  # a file system that cannot
                    os.fsync(file.fileno())
            total.update(new)
            self._growing[name] = total, size + len(new)
            found[name] = {"bytes": size + len(new), "sha256": total.hexdigest()}
        return found


def event_files(folder: Path) -> list[Path]:
    """TensorBoard's own files in a run folder, in a stable order."""
    return sorted((folder / TENSORBOARD).glob(f"{EVENTS}*"))


def parse_log_digests(value: Any) -> Digests:
    """Returns what of `value`, as found in a file, `LogDigests.digests` may have returned."""
    entries = value.items() if isinstance(value, dict) else ()
    return {
        name: digest
        for name, digest in entries
        if (name == METRICS or re.fullmatch(f"{TENSORBOARD}/{EVENTS}[^/]*", name))
        and isinstance(digest, dict)
        and isinstance(digest.get("bytes"), int)
        and isinstance(digest.get("sha256"), str)
    }


def begins_with(data: bytes, digest: Mapping[str, Any]) -> bool:
    """Whether a file that holds `data` begins with the bytes that `digest` is of."""
    size = digest["bytes"]
    return len(data) >= size and hashlib.sha256(data[:size]).hexdigest() == digest["sha256"]
