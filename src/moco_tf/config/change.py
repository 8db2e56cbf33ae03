"""A config changed by fields: as text from a command line, or as values from YAML or Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from moco_tf.augmentation.named import decided_fields
from moco_tf.config.folder import AnyConfig, short_repr
from moco_tf.config.method import OF_METHOD, check_given, other_method
from moco_tf.errors import InputError, near_name


def make_config(base: AnyConfig, changes: Mapping[str, Any]) -> AnyConfig:
    """Returns `base` with `changes` (field name to value, text allowed).

    Raises:
        InputError: for an unknown field or a value of the wrong type or range, in one line.
    """
    known = type(base).model_fields
    changes = without_mask(changes)
    for name in changes:
        if name not in known:
            near = near_name(name, known)
            hint = f"Did you mean {near}?" if near else f"Known fields: {', '.join(sorted(known))}."
            raise InputError(f"unknown field {short_repr(name)}. {hint}")
    own, pretrains = getattr(base, "recipe", None), "method" in known
    if pretrains and changes.get("recipe", own) != own:
        raise InputError(only_a_name(changes["recipe"]))
    changed = {name: _from_text(name, known[name], value) for name, value in changes.items()}
    needed = known.keys() - type(base).recorded_fields - {"recipe"}
    fields, whole = base.model_dump(), needed <= changes.keys()
    method = changed.get("method")
    if not whole and method in OF_METHOD and method != fields["method"]:
        defaults = {name: field.default for name, field in known.items()}
        fields = other_method(fields, defaults, method)
    try:
        config = type(base).model_validate(fields | changed)
    except ValidationError as error:
        raise InputError(_one_line(error)) from None
    if pretrains and not whole:
        values = dict(config)
        try:
            check_given(values["method"], values["encoder"], changes)
        except ValueError as error:
            raise InputError(str(error)) from None
        for name in set(decided_fields(values["augmentation"])) & changes.keys():
            raise InputError(
                f"{name}={changes[name]} has no effect: the augmentation describes that itself. "
                f"Leave {name} out, or change the description."
            )
    return config


def without_mask(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves out a field of earlier versions; raises `InputError` if it is on."""
    if values.get("mask_same_image", False) not in (False, "false"):
        raise InputError(
            "mask_same_image is no longer offered. A run that has it on is read by the version "
            "that wrote it, which its versions.json names."
        )
    return {name: value for name, value in values.items() if name != "mask_same_image"}


def only_a_name(recipe: Any) -> str:
    return (
        f"recipe={short_repr(recipe)} would be a name without its settings. Start from the recipe: "
        f"moco_tf.recipes.RECIPES[{short_repr(recipe)}].config, changed with "
        f"moco_tf.config.make_config."
    )


def _from_text(name: str, field: Any, value: Any) -> Any:
    """Reads what pydantic would not: `none`, and comma-separated lists. YAML's yes is no number."""
    kinds = [field.annotation, *get_args(field.annotation)]
    several = tuple in [get_origin(kind) for kind in kinds]
    if isinstance(value, bool) and bool not in kinds and "off" not in get_args(field.annotation):
        raise InputError(f"{name} takes no yes or no; received {name}={value}.")
    if several and isinstance(value, (int, float)):
        return (value,)
    if not isinstance(value, str):
        return value
    if value.lower() in ("none", "null") and field.default is None:
        return None
    if several:
        return tuple(part for part in value.replace(" ", "").split(",") if part)
    return value


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    if not first["loc"] or first["type"] == "value_error":  # a sentence of our own
        return str(first["msg"]).removeprefix("Value error, ")
    name = first["loc"][0]
    return f"{name}: {first['msg']}; received {name}={short_repr(first['input'])}."
