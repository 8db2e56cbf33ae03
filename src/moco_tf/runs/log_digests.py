"""What a run has appended to its logs so far: digests for its checkpoints to carry.

A log grows between two checkpoints, so it can carry none of itself. What a checkpoint says of it is
true of the first bytes of the file from then on, whenever the run is killed. Imports no TensorFlow.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moco_tf.errors import DamagedError
from moco_tf.runs.folder import BAD_IMAGES, METRICS, TENSORBOARD

ROWS = (METRICS, BAD_IMAGES)  # logs of rows of JSON, which each process goes on with
EVENTS = "events.out.tfevents."
Digests = dict[str, dict[str, Any]]  # name in the run folder -> {"bytes": ..., "sha256": ...}


class LogDigests:
    """Digests of the rows of JSON and the TensorBoard files that the run in `folder` writes.

    Args:
        before: `digests` of an earlier process, whose TensorBoard files do not grow any more.
    """

    def __init__(self, folder: Path, before: Mapping[str, dict[str, Any]] | None = None):
        self._folder = folder
        self._settled = {
            name: digest
            for name, digest in parse_log_digests(before).items()
            if name not in ROWS and (folder / name).exists()
        }
        self._growing: dict[str, tuple[Any, int]] = {}  # name -> digest so far, bytes so far

    def digests(self) -> Digests:
        """Returns a digest of each file as it is now, which is on the disk then."""
        found = dict(self._settled)
        for path in (*(self._folder / name for name in ROWS), *event_files(self._folder)):
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
        if (name in ROWS or re.fullmatch(f"{TENSORBOARD}/{EVENTS}[^/]*", name))
        and isinstance(digest, dict)
        and type(digest.get("bytes")) is int
        and digest["bytes"] >= 0
        and isinstance(digest.get("sha256"), str)
    }


def begins_with(data: bytes, digest: Mapping[str, Any]) -> bool:
    """Whether a file that holds `data` begins with the bytes that `digest` is of."""
    size = digest["bytes"]
    return len(data) >= size and hashlib.sha256(data[:size]).hexdigest() == digest["sha256"]


def check_log(name: str, digest: Mapping[str, Any] | None, data: bytes) -> dict[str, Any]:
    """Returns whether a digest or checksums of a log are kept ("carried"), and a "note" on its end.

    A kill leaves half an entry at the end, which the next start takes away.

    Args:
        name: in the run folder.
        digest: of its beginning, as the newest checkpoint carries it; none: there is none.
        data: all of it.

    Raises:
        DamagedError: if it begins with other bytes, or an entry in it is none.
    """
    start = digest["bytes"] if digest else 0
    if digest is not None and not begins_with(data, digest):
        short = f", which are cut off after {len(data)}" if len(data) < start else ""
        raise DamagedError(f"its first {start} bytes{short} are not those of the newest checkpoint")
    if name in ROWS:
        *rows, rest = data.split(b"\n")
        for number, row in enumerate(rows, start=1):
            try:
                json.loads(row)["step"]
            except (ValueError, KeyError, TypeError, RecursionError):
                raise DamagedError(f"its row {number} is not a row") from None
    else:
        rest = data[whole_records(data, start) :]
    note = f"its last {len(rest)} bytes are half an entry, as after a kill" if rest else None
    return {"carried": digest is not None or name != METRICS, "note": note}


def whole_records(data: bytes, start: int = 0) -> int:
    """Returns where the last whole record of a TensorBoard file ends, in bytes.

    A kill cuts the last record off. Zeros at the end, as after a power failure, are no record.
    Each is its length (8 bytes), the masked CRC-32C of that (4), content, the masked CRC-32C of
    that (4), all little-endian (tensorflow/core/lib/io/record_writer.h).

    Args:
        start: where to begin: all before it is known to be whole records.

    Raises:
        DamagedError: if a record does not match its checksums.
    """
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    def matches(begin: int, end: int) -> bool:
        (carried,) = struct.unpack_from("<I", data, end)
        return masked_crc32c(data[begin:end]) == carried

    while start + 12 <= len(data):
        content = start + 12
        end = content + struct.unpack_from("<Q", data, start)[0]
        whole = end + 4 <= len(data)
        if not matches(start, start + 8) or (whole and not matches(content, end)):
            if any(data[start:]):
                raise DamagedError(f"the record at byte {start} does not match its checksum")
            break
        if not whole:
            break
        start = end + 4
    return start
