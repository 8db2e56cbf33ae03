"""PyTorch's files, read without executing anything in them, and written (extra `torch`).

This is called in a process without TensorFlow: see torch_process.py.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from moco_tf.convert.pickled import check_pickle
from moco_tf.errors import InputError
from moco_tf.files.npz import check_claims, most_unpacked

_OLDEST = (2, 6)
_ZIP = b"PK\x03\x04"
_REFUSED = re.compile(r"GLOBAL ([\w.]+)")


def read(path: Path) -> Any:
    """Returns what `torch.save` wrote to `path`, tensors as arrays (floats as float32).

    Only tensors, numbers, text and containers of them are read. Anything else in the file, which
    loading could make run code, is refused before it is looked at.

    Raises:
        InputError: for such a file, one that is damaged, or if torch is not installed.
    """
    torch = _torch(path)
    try:
        _check(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
        to_numpy = _ToNumpy(torch, most_unpacked(path.stat().st_size))
        return _map_tensors(content, torch.Tensor, to_numpy, {})
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(f"cannot read {path}: {error.strerror}.") from None
    except pickle.UnpicklingError as error:
        found = _REFUSED.search(str(error))
        what = f"{found[1]}, which is" if found else "something"
        raise InputError(
            f"{path} is refused: it holds {what} not a tensor, number, text or container; loading "
            f"that could run code, and nothing of it was run. If you trust the file, save its "
            f"state_dict alone with PyTorch and convert that."
        ) from None
    except Exception as error:  # what PyTorch raises depends on which byte is wrong
        if "TorchScript" in str(error):
            raise InputError(
                f"{path} is a TorchScript program, which is not read. Save its state_dict alone "
                f"with PyTorch and convert that."
            ) from None
        reason = " ".join(str(error).split())[:150] or type(error).__name__
        raise InputError(
            f"{path} is not a whole PyTorch file ({reason}). Download or copy it again."
        ) from None


def to_bytes(content: Any) -> bytes:
    """Returns what `torch.save` writes for `content`, arrays as tensors.

    Raises:
        InputError: if torch is not installed.
    """
    torch = _torch()
    buffer = io.BytesIO()
    torch.save(_map_tensors(content, np.ndarray, torch.tensor, {}), buffer)
    return buffer.getvalue()


def _check(path: Path) -> None:
    """Raises `InputError` or `ValueError` for what is small in the file and endless when loaded.

    What is looked at must be what PyTorch loads: it takes for a zip archive what begins as one, an
    archive may also stand behind something else, and names of members are the same to it in
    capitals.
    """
    with open(path, "rb") as file:
        zipped = file.read(len(_ZIP)) == _ZIP
        file.seek(0)
        if not zipped:  # the older kind: four pickles, the last of the content
            for _ in range(4):
                check_pickle(file)
            return
        check_claims(file, path, "a PyTorch file that is read")
        with zipfile.ZipFile(file) as archive:
            members = {member.filename.lower(): member for member in archive.infolist()}
            if len(members) < len(archive.infolist()):
                raise ValueError("two members of the archive have one name")
            if min((member.header_offset for member in members.values()), default=0):
                raise ValueError("the archive does not begin at the first byte")
            for name, member in members.items():
                if name.endswith(".pkl"):
                    check_pickle(io.BytesIO(archive.read(member)))


def needs_extra(path: Path | None = None) -> InputError:
    """Returns the error of a machine without torch; of reading `path`, or else of writing."""
    task = f"reading {path}" if path else "writing a PyTorch file"
    return InputError(f"{task} needs an extra: pip install 'moco-tf[torch]'.")


def _torch(path: Path | None = None) -> Any:
    try:
        import torch
    except ImportError:
        raise needs_extra(path) from None
    version = str(torch.__version__)
    if tuple(map(int, version.split(".")[:2])) < _OLDEST:
        raise InputError(
            f"torch {version} is too old: its weights_only loading could be made to run code "
            f"(CVE-2025-32434){f', so {path} was not read' if path else ''}. "
            f"Update it: pip install 'moco-tf[torch]'."
        )
    return torch


def _map_tensors(content: Any, kind: type, function: Any, done: dict[int, Any]) -> Any:
    """`content` with `function` of what is of that kind.

    Args:
        done: results by `id`: a list that stands in many places is gone through once.
    """
    if id(content) in done:
        return done[id(content)]
    if isinstance(content, kind):
        return done.setdefault(id(content), function(content))
    if isinstance(content, dict):
        names = done.setdefault(id(content), {})
        names |= {n: _map_tensors(value, kind, function, done) for n, value in content.items()}
        return names
    if isinstance(content, list | tuple):
        values = done.setdefault(id(content), [])
        values += [_map_tensors(value, kind, function, done) for value in content]
        return values
    return content


class _ToNumpy:
    """Tensors as arrays. Some bytes can be seen as a tensor of any size: `most` bytes in all."""

    def __init__(self, torch: Any, most: int):
        self._torch, self._left = torch, most

    def __call__(self, tensor: Any) -> np.ndarray:
        self._left -= 4 * tensor.numel()
        if self._left < 0:
            raise ValueError("its tensors are far larger than it is")
        tensor = tensor.detach()
        return (tensor.to(self._torch.float32) if tensor.is_floating_point() else tensor).numpy()
