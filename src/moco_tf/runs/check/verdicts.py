"""One file of a run: whether it is what was once written to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moco_tf.errors import DamagedError, InputError
from moco_tf.files.digests import check_json_digest, check_lines_digest, check_zip_digest
from moco_tf.runs import checkpoint
from moco_tf.runs.check.records import whole_records
from moco_tf.runs.log_digests import begins_with, parse_log_digests

Digest = Mapping[str, Any]
MISSING = "it is missing"


@dataclass(frozen=True)
class Verdict:
    """What is to be said of one file."""

    file: str  # its place in the run folder
    sha256: str | None = None  # of its bytes, where they could be read
    carried: bool = False  # whether a digest or checksums of it are kept, in it or in a checkpoint
    damage: str | None = None
    note: str | None = None
    step: int | None = None  # of a checkpoint
    state_sha256: str | None = None  # of its arrays
    written: Mapping[str, Digest] = field(default_factory=dict)  # what a checkpoint says of logs


def judge_json(path: Path, file: str) -> Verdict:
    """Of config.json, versions.json and summary.json."""
    return _judge(path, file, lambda data: (check_json_digest(data)[1] is not None, None))


def judge_lines(path: Path, file: str) -> Verdict:
    """Of labelled_images.txt."""
    return _judge(path, file, lambda data: (check_lines_digest(data)[1] is not None, None))


def judge_archive(path: Path, file: str) -> Verdict:
    """Of the hidden list of what the images' sizes are."""
    return _judge(path, file, lambda data: (check_zip_digest(data)[1] is not None, None))


def judge_rows(path: Path, file: str, digest: Digest | None) -> Verdict:
    """Of metrics.jsonl; a half last row is what a kill leaves, and the next start takes it away."""

    def inspect(data: bytes) -> tuple[bool, str | None]:
        _compare(data, digest)
        *rows, rest = data.split(b"\n")
        for number, row in enumerate(rows, start=1):
            try:
                json.loads(row)["step"]
            except (ValueError, KeyError, TypeError, RecursionError):
                raise DamagedError(f"its row {number} is no row") from None
        return digest is not None, _cut_off(rest)

    return _judge(path, file, inspect)


def judge_events(path: Path, file: str, digest: Digest | None) -> Verdict:
    """Of a file of TensorBoard's."""

    def inspect(data: bytes) -> tuple[bool, str | None]:
        _compare(data, digest)
        return True, _cut_off(data[whole_records(data) :])

    return _judge(path, file, inspect)


def judge_checkpoint(path: Path, file: str) -> Verdict:
    """Of a file with arrays, also of an encoder or features."""
    try:
        step, extra, state = checkpoint.inspect(path)
        with open(path, "rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    except FileNotFoundError:
        return Verdict(file, damage=MISSING)
    except DamagedError as error:
        return Verdict(file, damage=str(error))
    if path.stem.startswith("step-") and path.stem != f"step-{step:08d}":
        return Verdict(file, sha256, True, damage=f"it is the checkpoint of step {step}")
    logs = parse_log_digests(extra.get("written"))
    return Verdict(file, sha256, True, step=step, state_sha256=state, written=logs)


def _judge(path: Path, file: str, inspect: Callable[[bytes], tuple[bool, str | None]]) -> Verdict:
    """`inspect` tells of the bytes whether a digest of them is kept, and what else to say."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Verdict(file, damage=MISSING)
    except PermissionError as error:
        raise InputError(f"cannot read {path}: {error.strerror}.") from None
    except OSError as error:
        return Verdict(file, damage=f"it cannot be read: {error.strerror}")
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        carried, note = inspect(data)
    except DamagedError as error:
        return Verdict(file, sha256, damage=str(error))
    return Verdict(file, sha256, carried, note=note)


def _compare(data: bytes, digest: Digest | None) -> None:
    if digest is not None and not begins_with(data, digest):
        short = f", which are cut off after {len(data)}" if len(data) < digest["bytes"] else ""
        raise DamagedError(
            f"its first {digest['bytes']} bytes{short} are not those of the newest checkpoint"
        )


def _cut_off(rest: bytes) -> str | None:
    return f"its last {len(rest)} bytes are half an entry, as after a kill" if rest else None
