"""`moco-tf recipes`."""

import json

from moco_tf.recipes import RECIPES


def add(commands) -> None:
    """Adds the command to the subparsers."""
    recipes = commands.add_parser("recipes", help="list the recipes", allow_abbrev=False)
    recipes.set_defaults(run=_recipes)


def _recipes(options) -> int:
    if options.json:
        listed = {
            name: {"config": r.config.model_dump(), "source": r.source, "expect": r.expect}
            for name, r in RECIPES.items()
        }
        print(json.dumps(listed))
        return 0
    for name, recipe in RECIPES.items():
        print(f"{name}\n    {recipe.source}\n    {recipe.expect}")
    return 0
