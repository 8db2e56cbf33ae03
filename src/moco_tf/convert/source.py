"""What SOURCE is, told from its first bytes, and what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from moco_tf.convert import torch_process
from moco_tf.convert.released import meant_name
from moco_tf.errors import InputError
from moco_tf.files.store import copy_advice

Arrays = dict[str, np.ndarray]
_TAR_MAGIC = slice(257, 262)


def kind_of(path: Path) -> str:
    """Returns "run", "moco-tf", "safetensors" or "torch" for what is at `path`.

    Raises:
        InputError: if there is nothing, or something else.
    """
    if path.is_dir():
        return "run"
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except FileNotFoundError:
        raise InputError(
            copy_advice(path) or f"there is no file or folder {path}.{meant_name(str(path))}"
        ) from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}.") from None
    if start[8:9] == b"{":
        return "moco-tf" if "metadata_sha256" in _metadata(path) else "safetensors"
    if start[:2] == b"PK" or start[:1] == b"\x80":  # a zip archive, or the older pickle
        return "torch"
    found = "it is empty" if not start else f"it begins with {start[:12]!r}"
    if start[_TAR_MAGIC] == b"ustar":
        found = "it is a tar archive, which PyTorch's .pth.tar is not. Unpack it first"
    raise InputError(
        f"{path} is neither a PyTorch file, nor safetensors, nor a run folder: {found}."
    )


def read_content(path: Path, kind: str) -> dict[str, Any]:
    """Returns what the file holds: arrays by name, nested or not, and what else is there.

    Args:
        kind: "safetensors" or "torch".

    Raises:
        InputError: if the file is damaged, may run code, or holds no dict.
    """
    content = _read_safetensors(path) if kind == "safetensors" else torch_process.read(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, not a state dict.")
    return content


def _read_safetensors(path: Path) -> Arrays:
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: _float32(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except PermissionError as error:
        raise InputError(f"cannot read {path}: {error.strerror}.") from None
    except Exception as error:  # what the parser raises depends on which byte is wrong
        raise InputError(f"{path} is not a whole safetensors file ({error}).") from None


def _metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except Exception:  # told when it is read
        return {}


def _float32(array: np.ndarray) -> np.ndarray:
    floating = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
    return array.astype(np.float32) if floating else array
