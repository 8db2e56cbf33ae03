"""Writes the pages of the reference that come from the code: commands and fields of the config."""

from __future__ import annotations

import os
import re
from argparse import _SubParsersAction
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from moco_tf.commands.cli import COMMANDS, _parser
from moco_tf.config import RECORDED_FIELDS, RUNTIME_FIELDS, Config, FolderConfig
from moco_tf.recipes import RECIPES

# The classes that Config puts together, in the order of its help.
GROUPS = [part for part in reversed(Config.__mro__[1:]) if issubclass(part, FolderConfig)][1:]


CONFIG_INTRODUCTION = """# Fields of a config

Each field is a flag of `moco-tf pretrain`, a key of a `--config` file and a keyword of
`moco_tf.pretrain`. The defaults are those of `Config`; each recipe sets its own.
A run may go on with another value of a field marked *free*. The run itself writes the fields
marked *recorded*.
"""


def write_reference(folder: Path) -> None:
    """Writes `commands.md`, `config.md` and `recipes.md` to the folder, where they differ."""
    folder.mkdir(exist_ok=True)
    pages = {
        "commands.md": commands_page(),
        "config.md": config_page(),
        "recipes.md": recipes_page(),
    }
    for name, text in pages.items():
        _update(folder / name, text)


def _update(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def copy_records(folder: Path) -> None:
    """Copies the pages outside docs/ that the site also shows, the records of measurements."""
    folder.mkdir(exist_ok=True)
    root = Path(__file__).resolve().parent.parent
    for page in [*root.glob("benchmarks/records/*.md"), root / "RELEASING.md"]:
        text = page.read_text(encoding="utf-8")
        _update(folder / page.name, text.replace("](../../docs/", "](../"))


def links_to_copies(app: object, name: str, source: list[str]) -> None:
    """Makes links to the records, or to RELEASING.md, lead to the copies (a hook of Sphinx)."""
    outside = r"\]\((\.\./)+(benchmarks/records/|(?=RELEASING\.md))"
    source[0] = re.sub(outside, "](/records/", source[0])


def commands_page() -> str:
    """Returns what `moco-tf COMMAND --help` prints, of every command."""
    os.environ["COLUMNS"] = "100"  # argparse wraps its help at the terminal's width
    parts = ["# Commands\n\nEach section is what `moco-tf COMMAND --help` prints.\n"]
    for usage, does in COMMANDS.items():
        name = usage.partition(" ")[0]
        shown = _help_of(name)
        parts.append(f"## {name}\n\n{does[0].upper()}{does[1:]}.\n\n```text\n{shown}```\n")
    return "\n".join(parts)


def config_page() -> str:
    """Returns a table of the fields of `Config` for each group of them."""
    parts = [CONFIG_INTRODUCTION]
    for group in GROUPS:
        rows = [
            f"| `{name}` | {_text(name, field)} | {_kind(field)} | {_default(field)} |"
            for name, field in Config.model_fields.items()
            if name in vars(group)["__annotations__"]
        ]
        title = re.sub(r"Fields$", "", group.__name__)
        about = (group.__doc__ or "").splitlines()[0]
        parts.append(
            f"## {title}\n\n{about}\n\n| field | is | type | default |\n|---|---|---|---|\n"
            + "\n".join(rows)
            + "\n"
        )
    return "\n".join(parts)


def recipes_page() -> str:
    """Returns each recipe: its source, what to expect, and where it leaves the defaults."""
    parts = [
        "# Recipes\n\nEach recipe is a complete config. What it does not name is as in `Config`.\n"
    ]
    base = Config().model_dump()
    for name, recipe in RECIPES.items():
        own = {
            key: value for key, value in recipe.config.model_dump().items() if value != base[key]
        }
        fields = ", ".join(f"`{key}={value!r}`" for key, value in own.items() if key != "recipe")
        parts.append(
            f"## {name}\n\nSource: {recipe.source}\n\nExpect: {recipe.expect}\n\n"
            f"{fields or 'The defaults.'}\n"
        )
    return "\n".join(parts)


def _help_of(name: str) -> str:
    """What `moco-tf NAME --help` prints."""
    commands = next(a for a in _parser([name])._actions if isinstance(a, _SubParsersAction))
    return commands.choices[name].format_help()


def _kind(field: FieldInfo) -> str:
    """The type, and the limits of a number; of a choice what there is to choose from."""
    names = list(dict.fromkeys(_names(field.annotation)))
    return ", ".join([*(f"`{name}`" for name in names), *_limits(field)])


def _limits(field: FieldInfo) -> list[str]:
    return [
        f"{sign} {value:g}"
        for bound in field.metadata
        for word, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
        if (value := getattr(bound, word, None)) is not None
    ]


def _names(annotation: Any) -> list[str]:
    """The types of a field's annotation, and the values of a `Literal`, one by one."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return [str(value) for value in parts]
    if origin is Annotated:
        limits = [limit for part in parts[1:] for limit in _limits(part)]
        return [" ".join([*_names(parts[0]), *limits])]
    if origin is tuple:
        return [f"list of {_names(parts[0])[0]}"]
    if origin in (Union, UnionType):
        return [name for part in parts for name in _names(part)]
    return ["None" if annotation is NoneType else str(annotation.__name__)]


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True)
    return f"`{value!r}`".replace("|", "\\|")


def _text(name: str, field: FieldInfo) -> str:
    marks = [
        mark
        for mark, names in (("free", RUNTIME_FIELDS), ("recorded", RECORDED_FIELDS))
        if name in names
    ]
    said = (field.description or "").replace("|", "\\|")
    return said + (f" (*{', '.join(marks)}*)" if marks else "")
