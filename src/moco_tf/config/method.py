"""Which fields belong to which method, optimizer and encoder, and what goes together.

Imports no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moco_tf.errors import InputError
from moco_tf.names.encoder import ALL, CONV_PATCH, VITS, check_vit

V3 = "moco-v3"
OF_METHOD = {  # fields that one method alone has
    "moco": ("queue_size", "symmetric"),
    V3: ("mlp_dim", "momentum_schedule"),
}
_WHY = {
    "moco": "MoCo v3 has no queue and is always symmetric",
    V3: "v1 and v2 have no predictor, and a constant momentum",
}
_BEGIN: dict[str, dict[str, Any]] = {  # what another method than the recipe's begins with
    "moco": {"head": "mlp", "group_size": 32},
    V3: {"head": "v3", "group_size": ALL, "knn_features": "pooled"},
}
_OF_VITS = ("patch_size", "freeze_patch_projection", "vit_width", "vit_depth")


def other_method(fields: Mapping[str, Any], defaults: Mapping[str, Any], method: str) -> dict:
    """Returns the fields of a recipe as another method takes them."""
    left: dict[str, Any] = {name: defaults[name] for name in OF_METHOD[fields["method"]]}
    return dict(fields) | left | _BEGIN[method]


def check_given(method: str, encoder: str, given: Mapping[str, Any]) -> None:
    """Raises `ValueError` for fields that have no effect, whatever their values."""
    for name in OF_METHOD[_other(method)]:
        if name in given:
            raise ValueError(_no_effect(name, given[name], method))
    if encoder in VITS and "width" in given:
        raise ValueError(
            f"width is for ResNets alone; received width={given['width']} with encoder={encoder}. "
            f"Use --vit-width."
        )


def check_method(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raises `ValueError` where the method, its optimizer and its schedule do not go together."""
    method, optimizer = fields["method"], fields["optimizer"]
    for name in OF_METHOD[_other(method)]:
        if fields[name] != defaults[name]:
            raise ValueError(_no_effect(name, fields[name], method))
    if fields["head"] == "v3" and method != V3:
        raise ValueError(
            f"head=v3 needs method={V3}; received method={method}. Use --head mlp, or "
            f"--method {V3}."
        )
    if optimizer == "adamw" and fields["sgd_momentum"] != defaults["sgd_momentum"]:
        raise ValueError(
            f"sgd_momentum has no effect with optimizer=adamw; received sgd_momentum="
            f"{fields['sgd_momentum']:g}. Leave it out."
        )
    warmup, epochs = fields["warmup_epochs"], fields["epochs"]
    if warmup >= epochs:
        raise ValueError(
            f"warmup_epochs must be less than epochs={epochs}; received warmup_epochs={warmup}. "
            f"Use --warmup-epochs {epochs // 10}."
        )


def check_encoder_fields(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raises `ValueError` where the sizes of a ViT do not fit, or the encoder is none."""
    encoder = fields["encoder"]
    if encoder not in VITS:
        for name in _OF_VITS:
            if fields[name] != defaults[name]:
                raise ValueError(
                    f"{name} is for ViTs alone; received {name}={fields[name]} with encoder="
                    f"{encoder}. Use {name}={str(defaults[name]).lower()}."
                )
        return
    kind = VITS[encoder]
    if kind["stem"] == "conv" and fields["patch_size"] != CONV_PATCH:
        raise ValueError(
            f"patch_size of {encoder} must be {CONV_PATCH}, that of its convolutions; received "
            f"patch_size={fields['patch_size']}. Use --patch-size {CONV_PATCH}."
        )
    check_vit(
        width=fields["vit_width"] or kind["width"],
        heads=kind["heads"],
        image_size=fields["image_size"],
        patch_size=fields["patch_size"],
    )


def check_heads(method: str, head: str) -> None:
    """Raises `InputError` for heads that `method` cannot be pre-trained with."""
    fits = "v3" if method == V3 else "linear or mlp"
    if head == "none":
        raise InputError(f"pre-training needs a projection head; received head=none. Use {fits}.")
    if (method == V3) != (head == "v3"):
        raise InputError(f"head must be {fits} with method={method}; received head={head}.")


def _other(method: str) -> str:
    return "moco" if method == V3 else V3


def _no_effect(name: str, value: Any, method: str) -> str:
    other = _other(method)
    return (
        f"{name} has no effect with method={method}: {_WHY[other]}; received {name}={value}. Leave "
        f"{name} out, or use --method {other}."
    )
