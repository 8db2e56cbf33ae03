"""`moco-tf probe`."""

import argparse

from moco_tf.commands.flags import accuracies, add_fields, beside
from moco_tf.commands.parser import Outcome, Parser, fail
from moco_tf.commands.starting import start_with_images
from moco_tf.config import make_config
from moco_tf.errors import InputError
from moco_tf.evaluate.probe_config import ProbeConfig, check_quick


def add(command: Parser) -> None:
    """Adds the arguments of the command."""
    command.add_argument("folder", metavar="RUN", help="run folder or converted file")
    command.add_argument(
        "--quick", action="store_true", help="closed-form ridge classifier, seconds"
    )
    command.add_argument(
        "--no-baselines", dest="compare", action="store_false",
        help="with --quick: this encoder's number alone",
    )  # fmt: skip
    rates = f"{ProbeConfig.model_fields['lr'].description} [30]"
    command.add_argument("--lr", nargs="+", metavar="X", default=argparse.SUPPRESS, help=rates)
    add_fields(command, ProbeConfig(run=""), {"run", "lr"})


def run(folder: str, quick: bool, compare: bool, json: bool, **flags) -> Outcome:
    changes = flags | {"run": folder}
    config = make_config(ProbeConfig(run=""), changes)
    if quick:
        check_quick(changes)
    elif not compare:
        raise InputError(
            "--no-baselines is of --quick; the official protocol has none. Leave it out."
        )
    start_with_images(config.run, config.data)
    from moco_tf.evaluate.probe import probe
    from moco_tf.evaluate.probe_report import BackboneChangedError
    from moco_tf.evaluate.ridge_probe import ridge_probe
    from moco_tf.training.reporting import Reporter

    reporter = Reporter(json_mode=json)
    try:
        if quick:
            summary = ridge_probe(config, compare=compare, reporter=reporter)
        else:
            summary = probe(config, reporter=reporter)
    except BackboneChangedError as error:
        fail(str(error))
        return {}, "", False
    heads = summary["heads"] if len(config.lr) > 1 else ()
    lines = [f"learning rate {head['lr']:g}: {accuracies(head)}" for head in heads]
    lines += [accuracies(summary) + (beside(summary, "top1") if quick else "")]
    return summary, "\n".join([*lines, summary["protocol"], *summary.get("advice", ())]), True
