"""A flag for each field of a config, and how accuracies are told."""

import argparse
import inspect
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from moco_tf.commands.parser import Parser
from moco_tf.config import RECORDED_FIELDS, FolderConfig
from moco_tf.recipes import DEFAULT_RECIPE, RECIPES

_WITHOUT_VALUE = ("--json", "--extend", "--help")


class ShownChoices(tuple):
    """Choices for the help and for completion; the config checks them, of a file as of a flag."""

    def __contains__(self, value: object) -> bool:
        return True


def add_recipe(parser: Parser, without: Collection[str] = ()) -> None:
    """RECIPE, --config and a flag for each field of `Config`, with the recipe's own defaults."""
    named = recipe_among(parser.words)
    recipe = named or DEFAULT_RECIPE
    why = "" if named else ", taken where neither a recipe nor --data is given"
    parser.description = (
        f"{parser.description}; defaults in [] are those of the recipe {recipe}{why}"
    )
    parser.add_argument(
        "recipe", nargs="?", metavar="RECIPE", choices=ShownChoices(RECIPES),
        help=f"{', '.join(RECIPES)}; none: chosen by the data",
    )  # fmt: skip
    parser.add_argument(
        "--config", metavar="FILE", help="fields from a YAML file, or a run's config.json"
    )
    add_fields(parser, RECIPES[recipe].config, {"recipe", *RECORDED_FIELDS, *without})


def add_report(parser: Parser) -> None:
    """--no-report."""
    parser.add_argument(
        "--no-report", dest="report", action="store_false", help="write no report.html at the end"
    )


def recipe_among(words: Sequence[str]) -> str | None:
    """Returns the recipe that a command line names; the value of an option is none."""
    for before, word in pairwise(["", *words]):
        value = before.startswith("--") and "=" not in before and before[:5] != "--no-"
        if word in RECIPES and (not value or before in _WITHOUT_VALUE):
            return word
    return None


def add_fields(parser: Parser, config: FolderConfig, without: Collection[str]) -> None:
    """Adds a flag for each field but those `without`; the help shows the values of `config`.

    A flag that is not given is left out of the parsed options. Its text is read by the config.
    """
    for name, field in type(config).model_fields.items():
        if name in without:
            continue
        flag = config.folder_flag if name == "run_dir" else "--" + name.replace("_", "-")
        help_text = f"{field.description} [{_text(getattr(config, name))}]".replace("%", "%%")
        options = {"dest": name, "default": argparse.SUPPRESS, "help": help_text}
        kinds = field.annotation, *get_args(field.annotation)
        choices = [one for kind in kinds if get_origin(kind) is Literal for one in get_args(kind)]
        choices = [] if int in map(_plain, kinds) else choices or field.examples or []
        if field.annotation is bool:
            both = ShownChoices(("true", "false"))
            parser.add_argument(flag, nargs="?", const="true", choices=both, type=truth, **options)
            options |= {"action": "store_const", "const": "false", "help": "switch it off"}
            parser.add_argument("--no-" + flag.removeprefix("--"), **options)
        elif choices:
            parser.add_argument(flag, choices=ShownChoices(choices), **options)
        else:
            parser.add_argument(flag, metavar="X", **options)


def take_defaults(parser: Parser, function: Callable) -> None:
    """Gives the options the defaults of `function`'s arguments of the same names."""
    known = inspect.signature(function).parameters
    named = [action.dest for action in parser._actions if action.dest in known]
    parser.set_defaults(**{name: known[name].default for name in named})


def _plain(kind: Any) -> Any:
    """A type without what `Annotated` adds to it."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _text(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def truth(text: str) -> str:
    """Parses a flag that is true or false: a word after it that is neither was not meant for it."""
    try:
        TypeAdapter(bool).validate_python(text)  # as the config will read it
    except ValidationError:
        raise argparse.ArgumentTypeError(
            f"must be true or false; received {text}. If that is another argument, write it before "
            f"the flag"
        ) from None
    return text


def accuracies(values: dict[str, Any]) -> str:
    """The line that a classifier's evaluation ends with."""
    return (
        f"top-1 {values['top1']:.2f}%  top-5 {values['top5']:.2f}%  "
        f"best top-1 {values['top1_best']:.2f}%"
    )


def beside(values: dict[str, Any], name: str) -> str:
    """What follows an accuracy on its line: those of the baselines, where they were computed."""
    untrained, pixels = values[f"{name}_untrained"], values[f"{name}_pixels"]
    if untrained is None:
        return ""
    seed = values["untrained_seed"]
    return f"  (untrained, seed {seed}: {untrained:.2f}%, raw pixels: {pixels:.2f}%)"
