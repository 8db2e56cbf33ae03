"""`moco-tf finetune`."""

from moco_tf.api.evaluate import finetune
from moco_tf.commands.flags import accuracies, add_fields, add_report
from moco_tf.commands.parser import Outcome, Parser
from moco_tf.evaluate.finetune_config import finetune_recipe


def add(command: Parser) -> None:
    """Adds the arguments of the command."""
    command.add_argument("folder", metavar="RUN", help="run folder or converted file")
    add_report(command)
    named = "deit" if {"deit", "--recipe=deit"} & set(command.words) else "plain"
    command.description = f"{command.description}; defaults in [] are those of the recipe {named}"
    add_fields(command, finetune_recipe(named), {"run"})


def run(folder: str, json: bool, run_dir: str | None = None, **fields) -> Outcome:
    from moco_tf.training.reporting import Reporter

    summary = finetune(folder, out=run_dir, reporter=Reporter(json_mode=json), **fields)
    return summary, f"{accuracies(summary)}\n{summary['protocol']}", True
