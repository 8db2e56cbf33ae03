"""What can be exported to, by which packages, and whether a path will do. Imports no TensorFlow."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moco_tf.config import describe_encoder
from moco_tf.errors import InputError

SAVED_MODEL = "saved_model.pb"  # what every SavedModel folder holds
CARD = "README.md"
_PARTS = {SAVED_MODEL, "fingerprint.pb", "variables", "assets", "assets.extra", CARD}


@dataclass(frozen=True)
class Format:
    """A format of exports."""

    suffix: str  # of the file; none: it is a folder
    packages: tuple[str, ...]  # of the extra, as they are imported
    tolerance: float  # largest error allowed, of the largest feature
    file_limit: int | None = None  # bytes that one file can hold


WITH_TENSORFLOW = {"tf2onnx"}  # packages that import it, for which it is too early
_TWO_GIB = 2**31 - 2**20  # protobuf's and flatbuffers' limit, less the names
FORMATS = {
    "keras": Format(".keras", (), 1e-5),
    "savedmodel": Format("", (), 1e-5),
    "onnx": Format(".onnx", ("onnx", "onnxruntime", "tf2onnx"), 1e-4, _TWO_GIB),
    "litert": Format(".tflite", ("ai_edge_litert",), 1e-4, _TWO_GIB),
}


def check_format(name: str) -> Format:
    """Returns the format called `name`.

    Raises:
        InputError: if there is none, or the extra that it needs is not installed.
    """
    if name not in FORMATS:
        raise InputError(f"format must be one of {', '.join(FORMATS)}; received format={name!r}.")
    for package in FORMATS[name].packages:
        try:
            if package not in WITH_TENSORFLOW:
                importlib.import_module(package)
            elif importlib.util.find_spec(package) is None:
                raise ImportError(f"No module named {package!r}")
        except ImportError as error:
            raise InputError(
                f"--format {name} needs an extra ({' '.join(str(error).split())}): "
                f"pip install 'moco-tf[export]'."
            ) from None
    return FORMATS[name]


def check_out(out: Path, name: str, overwrite: bool) -> None:
    """Raises `InputError` unless an export in the format `name` may be written to `out`.

    With `overwrite` a file may be replaced by a file and a SavedModel by a SavedModel; a folder
    that is anything else is never taken away.
    """
    suffix = FORMATS[name].suffix
    if suffix and out.suffix != suffix:
        raise InputError(f"a file for {name} must end in {suffix}; received --out {out}.")
    if not suffix and out.suffix in {f.suffix for f in FORMATS.values() if f.suffix}:
        raise InputError(
            f"a SavedModel is a folder; received --out {out}, the name of a file. "
            f"Leave {out.suffix} out."
        )
    if not suffix and set("[]\\*?") & set(str(out.resolve())):
        raise InputError(
            f"TensorFlow cannot load a SavedModel from a path with [, ], *, ? or \\; received "
            f"--out {out}. Use another one."
        )
    if not out.parent.is_dir():
        raise InputError(f"there is no folder {out.parent} to write {out.name} to.")
    for path in (out, card_path(out, name)):
        if os.path.lexists(path) and not overwrite:
            raise InputError(f"{path} exists. Use another --out, or --overwrite to replace it.")
    if os.path.lexists(out) and not _replaceable(out, suffix):
        what = "a file" if suffix else "a SavedModel and nothing else"
        raise InputError(
            f"{out} exists and is not {what}, so it is not replaced. Use another --out."
        )
    if suffix and card_path(out, name).is_dir():
        raise InputError(f"{card_path(out, name)} is a folder, where the card must go.")


def card_path(out: Path, name: str) -> Path:
    """Returns where the model card of an export goes: README.md in a folder, FILE.md beside it."""
    return out.with_name(out.name + ".md") if FORMATS[name].suffix else out / CARD


def _replaceable(out: Path, suffix: str) -> bool:
    if suffix:
        return out.is_file() or out.is_symlink()
    return (out / SAVED_MODEL).is_file() and {path.name for path in out.iterdir()} <= _PARTS


def describe(result: dict[str, Any]) -> str:
    """Returns the lines that tell what `export` did."""
    equal = "equal" if result["equal"] else "NOT EQUAL"
    error = "no number" if result["largest_error"] is None else f"{result['largest_error']:.2g}"
    head = f", {result['head']} head to {result['dim']}" if result["with_head"] else ""
    written = (
        f"wrote {result['out']} ({result['bytes'] / 1e6:.1f} MB) and {result['card']}"
        if result["equal"]
        else f"wrote nothing to {result['out']}"
    )
    return (
        f"{result['run']}: {describe_encoder(result)}{head}, step {result['step']}; "
        f"{result['features']} [batch, {result['output']}] as {result['format']}\n"
        f"{result['images']} images of {result['images_of']}: largest error "
        f"{error} of the largest feature, {equal} (tolerance "
        f"{result['tolerance']:g})\n{written}"
    )
