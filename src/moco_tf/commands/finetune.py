"""`moco-tf finetune`."""

import json

from moco_tf.commands.flags import accuracies, add_field
from moco_tf.commands.starting import check_data, start_tensorflow
from moco_tf.config import make_config
from moco_tf.evaluate.finetune_config import FinetuneConfig


def add(commands) -> None:
    """Adds the command to the subparsers."""
    finetune = commands.add_parser(
        "finetune", help="train encoder and classifier together on labels", allow_abbrev=False
    )
    finetune.add_argument("run_of_encoder", metavar="RUN")
    for name, field in FinetuneConfig.model_fields.items():
        if name != "run":
            add_field(finetune, name, field, "--out" if name == "run_dir" else None)
    finetune.set_defaults(run=_finetune)


def _finetune(options) -> int:
    changes = {n: v for n, v in vars(options).items() if n in FinetuneConfig.model_fields}
    changes["run"] = options.run_of_encoder
    config = make_config(FinetuneConfig(run=""), changes)
    from moco_tf.runs.snapshot import images_of, peek

    check_data(images_of(peek(config.run), config.data, config.run))
    start_tensorflow()
    from moco_tf.evaluate.finetune import finetune
    from moco_tf.training.reporting import Reporter

    reporter = Reporter(json_mode=options.json)
    summary = finetune(config, reporter=reporter)
    if options.json:
        print(json.dumps(summary))
        return 0
    reporter.line(f"{accuracies(summary)}\n{summary['protocol']}")
    return 0
