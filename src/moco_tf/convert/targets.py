"""What can be converted to, and whether a path will do. Imports no TensorFlow."""

from __future__ import annotations

from pathlib import Path

from moco_tf.errors import InputError

_TORCH = (".pth", ".pth.tar", ".pt")
KERAS = "keras"  # which `export` writes
SUFFIXES = {
    "official": _TORCH,
    "torchvision": (*_TORCH, ".safetensors"),
    "timm": (*_TORCH, ".safetensors"),
    "detectron2": (".pkl",),
    "moco-tf": (".safetensors",),
    KERAS: (".keras",),
}
_BY_SUFFIX = {".safetensors": "moco-tf", ".keras": KERAS, ".pkl": "detectron2"}


def format_for(target: Path) -> str:
    """Returns the format that a target's suffix stands for where none is given.

    Raises:
        InputError: the suffix is of none, or of several that PyTorch's programs have.
    """
    if target.suffix in _BY_SUFFIX:
        return _BY_SUFFIX[target.suffix]
    known = ", ".join(f"{suffix} ({name})" for suffix, name in _BY_SUFFIX.items())
    raise InputError(
        f"{target} does not say whose format it is to have. Give --to official, torchvision or "
        f"timm with .pth, or another suffix: {known}."
    )


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
