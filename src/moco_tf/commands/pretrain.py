"""`moco-tf pretrain`."""

import json
import os
from pathlib import Path
from typing import Any

from moco_tf.cluster import find_cluster
from moco_tf.commands.flags import add_field
from moco_tf.commands.starting import start_tensorflow
from moco_tf.config import Config, make_config
from moco_tf.errors import InputError
from moco_tf.recipes import DEFAULT_RECIPE, RECIPES


def add(commands) -> None:
    """Adds the command to the subparsers."""
    pretrain = commands.add_parser(
        "pretrain", help="train an encoder on unlabelled images", allow_abbrev=False
    )
    pretrain.add_argument("recipe", nargs="?", help="[shapes]", metavar="RECIPE")
    pretrain.add_argument("--config", metavar="FILE.yaml", help="fields from a YAML file")
    for name, field in Config.model_fields.items():
        if name != "recipe":
            add_field(pretrain, name, field)
    pretrain.add_argument(
        "--workers",
        metavar="HOST:PORT,...",
        help="processes that train together, the same on each [those of TF_CONFIG or SLURM]",
    )
    pretrain.add_argument(
        "--worker-index", metavar="X", help="which of the workers this is, from 0"
    )
    pretrain.set_defaults(run=_pretrain)


def resolve_config(recipe: str | None, yaml_file: str | None, flags: dict[str, Any]) -> Config:
    """Returns the recipe's config, changed by the YAML file and then by the flags.

    The file may name the recipe itself, as `recipe: NAME`.
    """
    fields = _read_yaml(yaml_file) if yaml_file is not None else {}
    named = fields.pop("recipe", None)
    if recipe and named and recipe != named:
        raise InputError(
            f"config={yaml_file} is for the recipe {named!r}; received recipe={recipe!r}. "
            f"Leave one of them out."
        )
    recipe = recipe or named or DEFAULT_RECIPE
    if recipe not in RECIPES:
        raise InputError(f"unknown recipe {recipe!r}. Known recipes: {', '.join(RECIPES)}.")
    return make_config(RECIPES[recipe].config, fields | flags)


def _read_yaml(file: str) -> dict[str, Any]:
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            keys = [key.value for key, _ in node.value]
            double = sorted({str(key) for key in keys if keys.count(key) > 1})
            if double:
                raise InputError(f"config={file} gives the field {double[0]!r} twice.")
            return super().construct_mapping(node, deep)

    try:
        values = yaml.load(Path(file).read_text(encoding="utf-8"), Loader)  # a safe one
    except OSError as error:
        raise InputError(f"config={file} could not be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"config={file} is not YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"config={file} must hold 'field: value' lines.")
    return {str(name): value for name, value in values.items()}


def _pretrain(options) -> int:
    flags = {name: value for name, value in vars(options).items() if name in Config.model_fields}
    flags.pop("recipe")
    config = resolve_config(options.recipe, options.config, flags)
    cluster = find_cluster(options.workers, options.worker_index, os.environ)
    start_tensorflow()
    from moco_tf.reporting import Reporter
    from moco_tf.train import pretrain

    reporter = Reporter(json_mode=options.json)
    if cluster:
        reporter.line(f"this is {cluster.name(cluster.index)} of {len(cluster.workers)}")
    summary = pretrain(config, reporter=reporter, cluster=cluster)
    if options.json:
        print(json.dumps(summary))
        return 0
    reporter.line(f"done: step {summary['step']}, {summary['seconds']:.0f} s")
    found = {
        "trained": summary["knn_top1"],
        "untrained": summary["knn_top1_untrained"],
        "raw pixels": summary["knn_top1_pixels"],
    }
    shown = [f"{what} {top1:.1f}%" for what, top1 in found.items() if top1 is not None]
    if shown:
        reporter.line("kNN top-1: " + "   ".join(shown))
    return 0
