"""`moco-tf pretrain`."""

from moco_tf.api.pretrain import pretrain
from moco_tf.api.settings import resolve_config
from moco_tf.commands.flags import add_recipe, add_report
from moco_tf.commands.parser import Outcome, Parser


def add(command: Parser) -> None:
    """Adds the arguments of the command."""
    add_recipe(command)
    command.add_argument(
        "--extend",
        action="store_true",
        help="with more --epochs than the run had: let the rate of a cosine schedule jump",
    )
    command.add_argument(
        "--workers",
        metavar="HOST:PORT,...",
        help="processes that train together, the same on each [those of TF_CONFIG or SLURM]",
    )
    add_report(command)
    command.add_argument("--worker-index", metavar="X", help="which worker this is, from 0")


def run(recipe: str | None, config: str | None, json: bool, **settings) -> Outcome:
    from moco_tf.training.reporting import Reporter

    reporter = Reporter(json_mode=json)
    others = {name: settings.pop(name) for name in ("extend", "workers", "worker_index", "report")}
    resolved = resolve_config(recipe, config, settings, say=reporter.stage)
    done = pretrain(resolved, reporter=reporter, on_interrupt="raise", **others)
    return done.summary, "", True
