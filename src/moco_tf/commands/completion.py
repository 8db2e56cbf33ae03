"""`moco-tf completion`."""

from typing import Any

from moco_tf.commands.parser import Outcome, Parser

SHELLS = ("bash", "zsh", "fish")


def add(command: Parser) -> None:
    """Adds the arguments of the command."""
    command.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))


def run(shell: str, json: bool) -> Outcome:
    """Returns the script. What is neither a choice nor a switch is completed as a file."""
    import shtab

    from moco_tf.commands.cli import _parser

    parser = _parser()
    commands: Any = next(action for action in parser._actions if action.choices)
    for command in commands.choices.values():
        for action in command._actions:
            if action.nargs in (None, "*") and not action.choices:
                action.complete = shtab.FILE
    script = shtab.complete(parser, shell)
    return {"shell": shell, "script": script}, script, True
