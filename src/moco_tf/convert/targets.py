"""What can be converted to, and whether a path will do. Imports no TensorFlow."""

from __future__ import annotations

from pathlib import Path

from moco_tf.errors import InputError

_TORCH = (".pth", ".pth.tar", ".pt")
SUFFIXES = {
    "official": _TORCH,
    "torchvision": (*_TORCH, ".safetensors"),
    "timm": (*_TORCH, ".safetensors"),
    "detectron2": (".pkl",),
    "moco-tf": (".safetensors",),
}


def check_target(target: Path, to: str, overwrite: bool) -> None:
    """Raises `InputError` unless a file in the format `to` may be written to `target`."""
    if to not in SUFFIXES:
        raise InputError(f"to must be one of {', '.join(SUFFIXES)}; received to={to!r}.")
    if not target.name.endswith(SUFFIXES[to]):
        raise InputError(
            f"a file for {to} must end in {' or '.join(SUFFIXES[to])}; received {target}."
        )
    if target.is_dir() or (target.exists() and not overwrite):
        raise InputError(f"{target} exists. Use another name, or --overwrite to replace a file.")
    if not target.parent.is_dir():
        raise InputError(f"there is no folder {target.parent} to write {target.name} to.")
