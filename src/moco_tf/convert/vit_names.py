"""A ViT's names in a file of PyTorch's: timm's, as MoCo v3 has them, or torchvision's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from moco_tf.errors import InputError

Arrays = dict[str, np.ndarray]
FIRST = "blocks.0.attn.qkv.weight"
_OTHERS = "encoder.layers.encoder_layer_0.self_attention.in_proj_weight"
_TRUNK = re.compile(r"(cls_token|pos_embed)$|(patch_embed\.proj|blocks\.\d{1,4}|norm)\.")
# timm's module -> torchvision's.
_OUTSIDE = {
    "cls_token": "class_token",
    "pos_embed": "encoder.pos_embedding",
    "patch_embed.proj": "conv_proj",
    "norm": "encoder.ln",
    "head": "heads.head",
}
_INSIDE = {
    "norm1": "ln_1",
    "attn.qkv": "self_attention.in_proj",
    "attn.proj": "self_attention.out_proj",
    "norm2": "ln_2",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.3",
}
_OLDER = {"mlp.linear_1": "mlp.0", "mlp.linear_2": "mlp.3"}  # of torchvision before 0.13
_ORDER = ("cls_token", "pos_embed", "patch_embed", "blocks", "norm", "head")


def vit_paths(names: Iterable[str]) -> dict[str, str]:
    """Returns the dotted paths below which ViTs lie, to what their names are: "timm" or other."""
    found = {}
    for name in names:
        for first, kind in ((FIRST, "timm"), (_OTHERS, "torchvision")):
            if name == first or name.endswith(f".{first}"):
                found[name.removesuffix(first).rstrip(".")] = kind
    return found


def timm_names(arrays: Mapping[str, np.ndarray], kind: str) -> dict[str, str]:
    """Returns names below the path of a ViT, to timm's; the head and what else is there is not."""
    named = {name: name if kind == "timm" else _from_torchvision(name) for name in arrays}
    return {name: own for name, own in named.items() if _TRUNK.match(own)}


def _from_torchvision(name: str) -> str:
    block = re.fullmatch(r"encoder\.layers\.encoder_layer_(\d{1,4})\.(.+)[._](weight|bias)", name)
    if block:
        module = _OLDER.get(block[2], block[2])
        inside = {theirs: ours for ours, theirs in _INSIDE.items()}
        return f"blocks.{block[1]}.{inside.get(module, module)}.{block[3]}"
    for ours, theirs in _OUTSIDE.items():
        if name == theirs or name.startswith(f"{theirs}."):
            return ours + name.removeprefix(theirs)
    return f"?{name}"


def to_torchvision(arrays: Mapping[str, np.ndarray], target: str) -> Arrays:
    """Returns a ViT with timm's names by torchvision's.

    Raises:
        InputError: for a convolutional stem, which torchvision's ViTs do not have.
    """
    if "patch_embed.proj.0.weight" in arrays:
        raise InputError(
            f"{target}: torchvision has no ViT with MoCo v3's convolutional stem. Use --to timm."
        )
    named = {}
    for name, array in arrays.items():
        block = re.fullmatch(r"blocks\.(\d+)\.(.+)\.(weight|bias)", name)
        if block:
            joint = "_" if block[2] == "attn.qkv" else "."
            layer = f"encoder.layers.encoder_layer_{block[1]}.{_INSIDE[block[2]]}"
            named[f"{layer}{joint}{block[3]}"] = array
        else:
            module = next(m for m in _OUTSIDE if name == m or name.startswith(f"{m}."))
            named[_OUTSIDE[module] + name.removeprefix(module)] = array
    return named


def timm_order(name: str) -> tuple:
    """Sort key: the order in which timm registers a ViT's modules, and so lists its names."""
    first, *rest = name.split(".")
    block = int(rest[0]) if rest and rest[0].isdecimal() else 0
    inside = ".".join(rest[1:-1]) if first == "blocks" else ""
    modules = list(_INSIDE)
    place = modules.index(inside) if inside in modules else 0
    return _ORDER.index(first), block, place, name.endswith("bias"), name
