"""The size of a checkpoint file from the shapes of what it holds, before there is one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

_NAMES = {"float32": "F32", "float64": "F64", "float16": "F16", "int64": "I64", "int32": "I32"}


def checkpoint_bytes(
    shapes: Mapping[str, tuple[tuple[int, ...], str]], *, step: int, extra: Mapping[str, Any]
) -> int:
    """Returns the bytes of the file that `checkpoint.save` writes.

    Args:
        shapes: name of each array -> (shape, name of its NumPy dtype).
        step, extra: as given to `save`; only the lengths of their texts matter.

    Source: the safetensors format: 8 bytes, a JSON header padded to a multiple of 8, the arrays,
    those of wide numbers first and then by name.
    """
    extra_text = json.dumps(dict(extra), sort_keys=True)
    metadata = {"step": str(step), "extra": extra_text, "sha256": "0" * 64}
    header: dict[str, Any] = {"__metadata__": metadata | {"metadata_sha256": "0" * 64}}
    end = 0
    widths = {name: np.dtype(kind).itemsize for name, (_, kind) in shapes.items()}
    for name in sorted(shapes, key=lambda name: (-widths[name], name)):
        shape, kind = shapes[name]
        start, end = end, end + widths[name] * math.prod(shape)
        entry = {"dtype": _NAMES[kind], "shape": list(shape), "data_offsets": [start, end]}
        header[name] = entry
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return 8 + math.ceil(len(text) / 8) * 8 + end
