"""The file of one checkpoint: arrays, step and what JSON can hold, with digests of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save as to_safetensors

from moco_tf.errors import DamagedError, InputError

State = dict[str, np.ndarray]


def to_bytes(state: Mapping[str, np.ndarray], *, step: int, extra: Mapping[str, Any]) -> bytes:
    """Returns the content of a checkpoint file: arrays, step, extra, and digests of both."""
    arrays = {name: np.asarray(value, order="C") for name, value in state.items()}
    metadata = {"step": str(int(step)), "extra": json.dumps(dict(extra), sort_keys=True)}
    metadata["sha256"] = digest(arrays)
    metadata["metadata_sha256"] = _metadata_digest(metadata)
    return to_safetensors(arrays, metadata)


def read(path: Path) -> tuple[State, int, dict[str, Any]]:
    """Returns (state, step, extra) of one checkpoint file; raises as `inspect`."""
    return inspect(path)[:3]


def inspect(path: Path) -> tuple[State, int, dict[str, Any], str]:
    """Returns (state, step, extra, `digest` of the state) of one checkpoint file.

    Raises:
        DamagedError: if it is damaged, or no checkpoint at all.
        FileNotFoundError: if it is absent.
        InputError: if it may not be read.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise
    except PermissionError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}.") from None
    except Exception as error:  # what the parser raises depends on which byte is wrong
        raise DamagedError(f"not a whole safetensors file: {error}") from None
    step, extra, expected = _parsed(metadata)
    if digest(state) != expected:
        raise DamagedError("its arrays do not match their digest")
    return state, step, extra, expected


def header(path: Path) -> tuple[int, dict[str, Any], str] | None:
    """Returns (step, extra, `digest` of the state) that a checkpoint file carries.

    No array is read. None: the file is absent or damaged, which `inspect` tells.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return _parsed(dict(file.metadata() or {}))
    except Exception:  # what the parser raises depends on which byte is wrong
        return None


def digest(state: Mapping[str, np.ndarray]) -> str:
    """Returns the SHA-256, in hex, of the names (sorted), dtypes, shapes and bytes of `state`."""
    total = hashlib.sha256()
    for name in sorted(state):
        array = np.asarray(state[name], order="C")
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        total.update(json.dumps([name, array.dtype.name, array.shape]).encode())
        total.update(array.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def _parsed(metadata: Mapping[str, str]) -> tuple[int, dict[str, Any], str]:
    """(step, extra, digest of the state); raises `DamagedError`."""
    absent = {"step", "extra", "sha256", "metadata_sha256"} - metadata.keys()
    if absent:
        raise DamagedError(f"its metadata lack {', '.join(sorted(absent))}")
    if _metadata_digest(metadata) != metadata["metadata_sha256"]:
        raise DamagedError("its metadata do not match their digest")
    try:
        step, extra = int(metadata["step"]), json.loads(metadata["extra"])
    except (ValueError, RecursionError):  # right digests do not make it a checkpoint of ours
        raise DamagedError("its step is not a number, or its metadata are not JSON") from None
    if not 0 <= step < 2**63 or not isinstance(extra, dict):
        raise DamagedError("its step is out of range, or its metadata are not a JSON object")
    return step, extra, metadata["sha256"]


def _metadata_digest(metadata: Mapping[str, str]) -> str:
    parts = json.dumps([metadata["step"], metadata["extra"], metadata["sha256"]])
    return hashlib.sha256(parts.encode()).hexdigest()
