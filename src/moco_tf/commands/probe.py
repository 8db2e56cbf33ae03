"""`moco-tf probe`."""

import argparse
import json

from moco_tf.commands.flags import accuracies, add_field, beside, fail
from moco_tf.commands.starting import check_data, start_tensorflow
from moco_tf.config import make_config
from moco_tf.evaluate.probe_config import ProbeConfig, check_quick


def add(commands) -> None:
    """Adds the command to the subparsers."""
    probe = commands.add_parser(
        "probe", help="accuracy of a linear classifier on a run's features", allow_abbrev=False
    )
    probe.add_argument("run_of_encoder", metavar="RUN")
    probe.add_argument("--quick", action="store_true", help="closed-form ridge classifier, seconds")
    probe.add_argument(
        "--no-baselines", action="store_true", help="with --quick: this encoder's number alone"
    )
    rates = ProbeConfig.model_fields["lr"].description
    probe.add_argument("--lr", nargs="+", metavar="L", default=argparse.SUPPRESS, help=rates)
    for name, field in ProbeConfig.model_fields.items():
        if name not in ("run", "lr"):
            add_field(probe, name, field, "--out" if name == "run_dir" else None)
    probe.set_defaults(run=_probe)


def _probe(options) -> int:
    changes = {n: v for n, v in vars(options).items() if n in ProbeConfig.model_fields}
    changes["run"] = options.run_of_encoder
    config = make_config(ProbeConfig(run=""), changes)
    if options.quick:
        check_quick(changes)
    elif options.no_baselines:
        return fail("--no-baselines is of --quick; the official protocol has none. Leave it out.")
    from moco_tf.runs.snapshot import images_of, peek

    check_data(images_of(peek(config.run), config.data, config.run))
    start_tensorflow()
    from moco_tf.evaluate.probe import probe
    from moco_tf.evaluate.probe_report import BackboneChangedError
    from moco_tf.evaluate.ridge_probe import ridge_probe
    from moco_tf.training.reporting import Reporter

    reporter = Reporter(json_mode=options.json)
    try:
        if options.quick:
            summary = ridge_probe(config, compare=not options.no_baselines, reporter=reporter)
        else:
            summary = probe(config, reporter=reporter)
    except BackboneChangedError as error:
        fail(str(error))
        return 1
    if options.json:
        print(json.dumps(summary))
        return 0
    if len(config.lr) > 1:
        for head in summary["heads"]:
            reporter.line(f"learning rate {head['lr']:g}: {accuracies(head)}")
    others = beside(summary, "top1") if options.quick else ""
    reporter.line(f"{accuracies(summary)}{others}\n{summary['protocol']}")
    for line in summary.get("advice", ()):
        reporter.line(line)
    return 0
