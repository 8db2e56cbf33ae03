"""Which encoder a state dict is of, told from its names and shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from moco_tf.convert.vit_names import FIRST
from moco_tf.errors import InputError
from moco_tf.models import ENCODERS
from moco_tf.names.encoder import CONV_PATCH, VITS

_BLOCK = re.compile(r"layer([1-9])\.(\d{1,4})\.")
_VIT_BLOCK = re.compile(r"blocks\.(\d{1,4})\.")
_STEMS = {7: "imagenet", 3: "small"}


@dataclass(frozen=True)
class Architecture:
    """The fields of a config that say what the arrays of an encoder are."""

    encoder: str
    width: int
    stem: str
    head: str
    dim: int | None  # None where there is no head
    patch_size: int | None = None  # this and the next of a ViT
    image_size: int | None = None


def infer(state_dict: Mapping[str, np.ndarray], name: str) -> Architecture:
    """Returns the architecture of a state dict with torchvision's names.

    Args:
        name: what an error calls the file.

    Raises:
        InputError: if it is of no encoder that is known here.
    """
    if FIRST in state_dict:
        return _infer_vit(state_dict, name)
    kernel = _array(state_dict, "conv1.weight", 4, name)
    width, stem = kernel.shape[0], _STEMS.get(kernel.shape[2])
    if stem is None or not width or kernel.shape[1:] not in ((3, 7, 7), (3, 3, 3)):
        raise InputError(
            f"{name}: conv1.weight has shape {kernel.shape}, expected (width, 3, 7, 7) or "
            f"(width, 3, 3, 3)."
        )
    inner = _array(state_dict, "layer1.0.conv1.weight", 4, name).shape[0]
    found = {
        "block": "bottleneck" if "layer1.0.conv3.weight" in state_dict else "basic",
        "blocks": _count_blocks(state_dict),
        "inner_factor": inner // width,
    }
    encoder = [key for key, known in ENCODERS.items() if {"inner_factor": 1} | known == found]
    if not encoder:
        raise InputError(
            f"{name} is of no known encoder: {found['block']} blocks {found['blocks']}, first "
            f"inner width {inner}, width {width}. Known: {', '.join(ENCODERS)}."
        )
    head = next((head for head, leaf in _LAST.items() if leaf in state_dict), "none")
    if head == "none":
        return Architecture(encoder[0], width, stem, head, None)
    dim = _array(state_dict, _LAST[head], 2, name).shape[0]
    return Architecture(encoder[0], width, stem, head, dim)


def _infer_vit(state_dict: Mapping[str, np.ndarray], name: str) -> Architecture:
    """Heads leave no trace in the arrays: width and depth tell which ViT it is."""
    width = _array(state_dict, FIRST, 2, name).shape[1]
    depth = len({m[1] for m in map(_VIT_BLOCK.match, state_dict) if m})
    stem = "conv" if "patch_embed.proj.0.weight" in state_dict else "patch"
    wanted = {"width": width, "depth": depth, "stem": stem}
    fits = [key for key, known in VITS.items() if known.items() >= wanted.items()]
    if not fits:
        raise InputError(
            f"{name} is of no known ViT: width {width}, {depth} blocks, {stem} stem. Known: "
            f"{', '.join(VITS)}."
        )
    patch = CONV_PATCH
    if stem == "patch":
        patch = _array(state_dict, "patch_embed.proj.weight", 4, name).shape[-1]
    side = math.isqrt(max(_array(state_dict, "pos_embed", 3, name).shape[1] - 1, 1))
    return Architecture(fits[0], width, stem, "none", None, patch, side * patch)


_LAST = {"mlp": "fc.2.weight", "linear": "fc.weight"}  # head -> its last linear layer


def _count_blocks(state_dict: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    found = {(int(m[1]), int(m[2])) for m in map(_BLOCK.match, state_dict) if m}
    stages = range(1, max(stage for stage, _ in found) + 1)
    return tuple(1 + max((b for s, b in found if s == stage), default=-1) for stage in stages)


def _array(state_dict: Mapping[str, np.ndarray], key: str, ndim: int, name: str) -> np.ndarray:
    if key not in state_dict:
        first = ", ".join(list(state_dict)[:3]) or "nothing"
        raise InputError(f"{name} lacks the key {key} of a ResNet; it holds {first}, ...")
    if state_dict[key].ndim != ndim:
        raise InputError(
            f"{name}: {key} has shape {state_dict[key].shape}, expected {ndim} dimensions."
        )
    return state_dict[key]
