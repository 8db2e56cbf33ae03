"""What `encoder` may be: a ResNet or a ViT of ours, a Keras application, or a .keras file.

Imports no TensorFlow, so that a wrong name is told at once.
"""

from __future__ import annotations

import importlib.util
import math
import re
from functools import cache
from pathlib import Path
from typing import Any, Final

from moco_tf.errors import near_name

RESNETS = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "wide_resnet50_2",
    "wide_resnet101_2",
)
VITS: dict[str, dict[str, Any]] = {
    "vit_small": {"width": 384, "depth": 12, "heads": 12, "stem": "patch"},
    "vit_base": {"width": 768, "depth": 12, "heads": 12, "stem": "patch"},
    # One block fewer: the stem costs about as much.
    "vit_conv_small": {"width": 384, "depth": 11, "heads": 12, "stem": "conv"},
    "vit_conv_base": {"width": 768, "depth": 11, "heads": 12, "stem": "conv"},
    "vit_tiny": {"width": 192, "depth": 12, "heads": 3, "stem": "patch"},  # timm's
}
OURS = (*RESNETS, *VITS)  # whose name is all there is to know of their architecture
ALL: Final = "all"  # as a group size of BatchNorm: the whole batch
CONV_PATCH = 16  # pixels, of the convolutional stem: four convolutions, each halves the sides
GIVEN = "model"  # a keras.Model, given to `pretrain` as backbone
KERAS = "keras:"
SUFFIX = ".keras"


def has_batch_norm(name: str) -> bool:
    """Whether an encoder of ours has BatchNorm in its backbone; of a Keras model that is open."""
    return name in RESNETS or VITS.get(name, {}).get("stem") == "conv"


@cache
def application_names() -> tuple[str, ...]:
    """The models of the installed `keras.applications`, read from its source without importing."""
    keras = importlib.util.find_spec("keras")
    if keras is None or keras.origin is None:
        return ()
    source = Path(keras.origin).with_name("applications") / "__init__.py"
    return tuple(sorted(set(re.findall(r" as ([A-Z]\w+)", source.read_text(encoding="utf-8")))))


def check_encoder(name: str) -> str:
    """Returns `name` if it is an encoder's.

    Raises:
        ValueError: if it is none; names what is near.
    """
    if name in (*OURS, GIVEN) or (name.endswith(SUFFIX) and not name.startswith(KERAS)):
        return name
    known = application_names()
    if name.startswith(KERAS) and name.removeprefix(KERAS) in known:
        return name
    wanted, of_keras = name.removeprefix(KERAS), name.startswith(KERAS)
    if not of_keras and (ours := near_name(wanted, OURS)):
        hint = f"Did you mean {ours}?"
    elif near := near_name(wanted, known):
        hint = f"Did you mean {KERAS}{near}?"
    elif of_keras:
        hint = f"keras.applications has {', '.join(known)}."
    else:
        hint = f"Use one of {', '.join(OURS)}."
    raise ValueError(
        f"encoder must be a ResNet, a ViT, {KERAS}NAME of keras.applications or a file that ends "
        f"in {SUFFIX}; received encoder={name[:200]!r}. {hint}"
    )


def is_same_backbone(one: str, other: str) -> bool:
    """Whether two values of `encoder` may name one backbone that is none of ours.

    A file may lie elsewhere on another machine: what is in it tells.
    """
    if one in OURS or other in OURS:
        return False
    return one == other or not (one.startswith(KERAS) or other.startswith(KERAS))


def check_vit(*, width: int, heads: int, image_size: int, patch_size: int) -> None:
    """Raises `ValueError` unless heads divide the width, and patches the image."""
    if width % heads or width % 4:
        step = math.lcm(heads, 4)
        near = max(width // step, 1) * step
        raise ValueError(
            f"the width of a ViT must be a multiple of its heads and of 4; received vit_width="
            f"{width}, heads={heads}. Use vit_width={near}."
        )
    if image_size % patch_size:
        near = max(image_size // patch_size, 1) * patch_size
        raise ValueError(
            f"image_size must be a multiple of patch_size; received image_size={image_size}, "
            f"patch_size={patch_size}. Use image_size={near}."
        )
