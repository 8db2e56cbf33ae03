"""What `encoder` may be: a ResNet of ours, a Keras application, or a .keras file.

Imports no TensorFlow, so that a wrong name is told at once.
"""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path

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
GIVEN = "model"  # a keras.Model, given to `pretrain` as backbone
KERAS = "keras:"
SUFFIX = ".keras"


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
    if name in (*RESNETS, GIVEN) or (name.endswith(SUFFIX) and not name.startswith(KERAS)):
        return name
    known = application_names()
    if name.startswith(KERAS) and name.removeprefix(KERAS) in known:
        return name
    wanted, of_keras = name.removeprefix(KERAS), name.startswith(KERAS)
    if not of_keras and (ours := near_name(wanted, RESNETS)):
        hint = f"Did you mean {ours}?"
    elif near := near_name(wanted, known):
        hint = f"Did you mean {KERAS}{near}?"
    elif of_keras:
        hint = f"keras.applications has {', '.join(known)}."
    else:
        hint = f"Use one of {', '.join(RESNETS)}."
    raise ValueError(
        f"encoder must be a ResNet, {KERAS}NAME of keras.applications or a file that ends in "
        f"{SUFFIX}; received encoder={name[:200]!r}. {hint}"
    )


def is_same_backbone(one: str, other: str) -> bool:
    """Whether two values of `encoder` may name one backbone that is no ResNet of ours.

    A file may lie elsewhere on another machine: what is in it tells.
    """
    if one in RESNETS or other in RESNETS:
        return False
    return one == other or not (one.startswith(KERAS) or other.startswith(KERAS))
