"""Detectron2's names of a ResNet, and its pickle of arrays (the official conversion script's)."""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
_STAGE = re.compile(r"^layer(\d+)")
_BN = re.compile(r"\bbn(\d+)")
_RES = re.compile(r"^res(\d+)")
_NORM = re.compile(r"\bconv(\d+)\.norm")
# NumPy 1 knows only the first of these modules, NumPy 2 both.
_OLD_MODULE, _NEW_MODULE = b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n"
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


def detectron2_name(name: str) -> str:
    """Detectron2's name of torchvision's: "layer1.0.bn1.bias" -> "res2.0.conv1.norm.bias"."""
    name = _STAGE.sub(lambda m: f"res{int(m[1]) + 1}", name)
    if not name.startswith("res"):
        name = f"stem.{name}"
    name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
    return _BN.sub(r"conv\1.norm", name)


def from_detectron2_name(name: str) -> str:
    """torchvision's name of Detectron2's: the inverse of `detectron2_name`."""
    name = _RES.sub(lambda m: f"layer{int(m[1]) - 1}", name.removeprefix("stem."))
    name = name.replace("shortcut.norm", "downsample.1").replace("shortcut", "downsample.0")
    return _NORM.sub(r"bn\1", name)


def to_bytes(backbone: Mapping[str, np.ndarray]) -> bytes:
    """Returns the pickle that Detectron2 reads, of a backbone by torchvision's names."""
    content = {
        "model": {detectron2_name(name): array for name, array in backbone.items()},
        "__author__": "MOCO",
        "matching_heuristics": True,
    }
    # The module is named once, before any array's bytes; later arrays refer back to it.
    return pickle.dumps(content, protocol=3).replace(_NEW_MODULE, _OLD_MODULE, 1)


def from_bytes(data: bytes) -> Arrays:
    """Returns the arrays that `to_bytes` wrote, by torchvision's names; calls nothing but NumPy's.

    Raises:
        pickle.UnpicklingError: if anything but arrays is in it.
    """
    content: Any = _ArraysOnly(io.BytesIO(data)).load()
    return {from_detectron2_name(name): array for name, array in content["model"].items()}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of an array")
        if name == "_reconstruct":
            return np.ndarray.__reduce__(np.empty(0))[0]  # where the installed NumPy has it
        return getattr(np, name)
