"""`moco-tf preview`."""

import sys
from pathlib import Path

from moco_tf.api import starting
from moco_tf.api.settings import resolve_config
from moco_tf.commands.flags import add_recipe
from moco_tf.commands.parser import Outcome, Parser


def add(command: Parser) -> None:
    """Adds the arguments of the command."""
    add_recipe(command)
    command.add_argument("--out", metavar="FILE", help=".html page or .png picture of the views")
    command.add_argument("--overwrite", action="store_true", help="replace an existing file")


def run(
    recipe: str | None, config: str | None, out: str | None, overwrite: bool, json: bool, **flags
) -> Outcome:
    target = None if out is None else Path(out).expanduser()
    if target is not None:
        starting.check_page(target, overwrite, (".html", ".png"))
    console = sys.stderr if json else sys.stdout
    settings = resolve_config(
        recipe, config, flags, say=lambda line: print(line, file=console, flush=True)
    )
    starting.check_data(settings.data)
    starting.start_tensorflow()
    from moco_tf.look.preview import preview
    from moco_tf.look.preview_sheet import advice_lines, fact_lines
    from moco_tf.training.reporting import Reporter

    result = preview(settings, target, Reporter(json_mode=json))
    lines = [*fact_lines(result), *(f"advice: {line}" for line in advice_lines(result))]
    wrote = f"wrote {out}" if out else "the views: --out preview.html, or --out preview.png"
    return result, "\n".join([*lines, wrote]), True
