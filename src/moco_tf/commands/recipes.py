"""`moco-tf recipes`."""

from moco_tf.commands.parser import Outcome, Parser
from moco_tf.recipes import RECIPES


def add(command: Parser) -> None:
    """Adds nothing: the command has no arguments."""


def run(json: bool) -> Outcome:
    listed = {
        name: {"config": r.config.model_dump(), "source": r.source, "expect": r.expect}
        for name, r in RECIPES.items()
    }
    text = "\n".join(f"{name}\n    {r.source}\n    {r.expect}" for name, r in RECIPES.items())
    return listed, text, True
