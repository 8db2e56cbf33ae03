"""`moco-tf probe`."""

import argparse

from moco_tf.api.evaluate import probe
from moco_tf.commands.flags import accuracies, add_fields, add_report, beside
from moco_tf.commands.parser import Outcome, Parser, fail
from moco_tf.errors import BackboneChangedError
from moco_tf.evaluate.probe_config import ProbeConfig


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
    add_report(command)
    rates = f"{ProbeConfig.model_fields['lr'].description} [30]"
    command.add_argument("--lr", nargs="+", metavar="X", default=argparse.SUPPRESS, help=rates)
    add_fields(command, ProbeConfig(run=""), {"run", "lr"})


def run(
    folder: str, quick: bool, compare: bool, json: bool, run_dir: str | None = None, **fields
) -> Outcome:
    from moco_tf.training.reporting import Reporter

    reporter = Reporter(json_mode=json)
    try:
        summary = probe(
            folder, quick=quick, baselines=compare, out=run_dir, reporter=reporter, **fields
        )
    except BackboneChangedError as error:
        fail(str(error))
        return {}, "", False
    heads = summary.get("heads", ())
    several = heads if len(heads) > 1 else ()
    lines = [f"learning rate {head['lr']:g}: {accuracies(head)}" for head in several]
    lines += [accuracies(summary) + (beside(summary, "top1") if quick else "")]
    return summary, "\n".join([*lines, summary["protocol"], *summary.get("advice", ())]), True
