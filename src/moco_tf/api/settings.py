"""The config of a pre-training run: of a recipe, a file, or what the data suggest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from moco_tf.api.choice import starting_point
from moco_tf.config import Config, data_from_here, make_config, short_repr
from moco_tf.errors import DamagedError, InputError, near_name
from moco_tf.files.digests import FIELD, check_json_digest
from moco_tf.recipes import RECIPES

MOST_YAML_BYTES = 2**16  # read in half a second


def resolve_config(
    recipe: str | Config | None,
    file: str | None,
    flags: dict[str, Any],
    *,
    runs: bool = True,
    say: Callable[[str], None] = lambda _: None,
    source: Any = None,
) -> Config:
    """Returns the recipe's config, or the one given, changed by the file and then by the flags.

    The file is YAML, which may name the recipe itself, as `recipe: NAME`, or the config.json of a
    run. Where no recipe is named, see `starting_point`.

    Args:
        runs: whether a run that is there goes on with its own settings if no recipe is named.
        say: called with a line on what was chosen.
        source: see `starting_point`.
    """
    fields = _read_file(file) if file is not None else {}
    whole = fields.pop(FIELD, None) is not None or fields.keys() >= Config.model_fields.keys()
    named = fields.pop("recipe", None)
    if recipe and named and recipe != named:
        raise InputError(
            f"config={file} is for the recipe {short_repr(named)}; received recipe={recipe!r}. "
            f"Leave one of them out."
        )
    recipe, given = recipe or named, fields | flags
    views = given.get("augmentation")
    if isinstance(views, str) and views.endswith((".yaml", ".yml", ".json")):
        given["augmentation"] = _read_file(views, "augmentation")
    if isinstance(recipe, Config):
        return make_config(recipe, given)
    if recipe is None:
        base, run_dir = starting_point(given, runs=runs, say=say, source=source)
        return make_config(base, {"run_dir": run_dir} | given if run_dir else given)
    if whole and named:
        config = make_config(Config().model_copy(update={"recipe": named}), given)
        return config.model_copy(update={"data": data_from_here(config)})
    if not isinstance(recipe, str) or recipe not in RECIPES:
        near = near_name(recipe, RECIPES) if isinstance(recipe, str) else None
        hint = f"Did you mean {near}? " if near else ""
        raise InputError(
            f"unknown recipe {short_repr(recipe)}. {hint}Known recipes: {', '.join(RECIPES)}."
        )
    return make_config(RECIPES[recipe].config, given)


def _read_file(file: str, argument: str = "config") -> dict[str, Any]:
    """Returns the fields in a YAML file, of which JSON is a part. A digest in it is checked."""
    import yaml

    given = f"{argument}={file}"

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            keys = Counter(k.value for k, _ in node.value if isinstance(k, yaml.ScalarNode))
            double = sorted(key for key, count in keys.items() if count > 1)
            if double:
                raise InputError(f"{given} gives the field {double[0]!r} twice.")
            return super().construct_mapping(node, deep)

    try:
        with open(file, "rb") as opened:
            text = opened.read(MOST_YAML_BYTES + 1)
        if len(text) > MOST_YAML_BYTES:
            raise InputError(
                f"{given} has more than {MOST_YAML_BYTES} bytes. It should be some lines of "
                f"'field: value'."
            )
        values = yaml.load(text.decode("utf-8"), Loader)  # a safe one
        if isinstance(values, dict) and FIELD in values:
            check_json_digest(text)
    except InputError:
        raise
    except DamagedError as error:
        raise InputError(
            f"{given} is damaged: {error}. If it was edited by hand, take its last field, "
            f"{FIELD}, out."
        ) from None
    except OSError as error:
        raise InputError(f"{given} could not be read: {error.strerror}.") from None
    except Exception as error:  # what the parser raises depends on what is wrong
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{given} is not YAML: {reason}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise InputError(f"{given} must hold 'field: value' lines.")
    return values
