"""`moco-tf finetune`."""

from moco_tf.commands.flags import accuracies, add_fields
from moco_tf.commands.parser import Outcome, Parser
from moco_tf.commands.starting import start_with_images
from moco_tf.config import make_config
from moco_tf.evaluate.finetune_config import FinetuneConfig


def add(command: Parser) -> None:
    """Adds the arguments of the command."""
    command.add_argument("folder", metavar="RUN", help="run folder or converted file")
    add_fields(command, FinetuneConfig(run=""), {"run"})


def run(folder: str, json: bool, **flags) -> Outcome:
    config = make_config(FinetuneConfig(run=""), flags | {"run": folder})
    start_with_images(config.run, config.data)
    from moco_tf.evaluate.finetune import finetune
    from moco_tf.training.reporting import Reporter

    summary = finetune(config, reporter=Reporter(json_mode=json))
    return summary, f"{accuracies(summary)}\n{summary['protocol']}", True
