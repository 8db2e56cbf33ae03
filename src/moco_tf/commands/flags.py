"""A parser that says what is wrong in one line, and one flag for each field of a config."""

import argparse
import sys
from typing import Any

from pydantic import TypeAdapter, ValidationError

from moco_tf.errors import near_name


def fail(message: str) -> int:
    print(f"moco-tf: error: {message}", file=sys.stderr)
    return 2


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line."""

    def error(self, message):
        known = self._option_string_actions
        words = [w.rstrip(":").partition("=")[0] for w in message.split() if w.startswith("-")]
        near = next(filter(None, (near_name(w, known) for w in words if w not in known)), None)
        hint = f"Did you mean {near}?" if near else f"See {self.prog} --help."
        self.exit(fail(f"{message.rstrip('.')}. {hint}"))


def add_field(parser, name: str, field: Any, flag: str | None = None) -> None:
    flags = [flag or "--" + name.replace("_", "-")]
    options: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS}
    options["help"] = f"{field.description} [{field.default}]".replace("%", "%%")
    if field.annotation is bool:
        options |= {"const": "true", "metavar": "BOOL", "type": truth}
        parser.add_argument(*flags, nargs="?", **options)
        off = "--no-" + name.replace("_", "-")
        parser.add_argument(
            off, dest=name, action="store_const", const="false", default=argparse.SUPPRESS
        )
    else:
        parser.add_argument(*flags, metavar="X", **options)


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


def share(text: str) -> float:
    """Parses a flag that is a share, 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1; received {text}")
    return value


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
