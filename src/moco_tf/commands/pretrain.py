"""`moco-tf pretrain`."""

import json
import os
import sys
import time
from collections import Counter
from typing import Any

from moco_tf.cluster import find_cluster
from moco_tf.commands.flags import add_field
from moco_tf.commands.starting import start_tensorflow
from moco_tf.config import RECORDED_FIELDS, Config, make_config, shown
from moco_tf.errors import InputError
from moco_tf.recipes import DEFAULT_RECIPE, RECIPES

MOST_YAML_BYTES = 2**16  # read in half a second


def add(commands) -> None:
    """Adds the command to the subparsers."""
    pretrain = commands.add_parser(
        "pretrain", help="train an encoder on unlabelled images", allow_abbrev=False
    )
    pretrain.add_argument("recipe", nargs="?", help="[shapes]", metavar="RECIPE")
    pretrain.add_argument("--config", metavar="FILE.yaml", help="fields from a YAML file")
    for name, field in Config.model_fields.items():
        if name not in ("recipe", *RECORDED_FIELDS):
            add_field(pretrain, name, field)
    pretrain.add_argument(
        "--extend",
        action="store_true",
        help="with more --epochs than the run had: let the rate of a cosine schedule jump",
    )
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
            f"config={yaml_file} is for the recipe {shown(named)}; received recipe={recipe!r}. "
            f"Leave one of them out."
        )
    recipe = recipe or named or DEFAULT_RECIPE
    if not isinstance(recipe, str) or recipe not in RECIPES:
        raise InputError(f"unknown recipe {shown(recipe)}. Known recipes: {', '.join(RECIPES)}.")
    return make_config(RECIPES[recipe].config, fields | flags)


def _read_yaml(file: str) -> dict[str, Any]:
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            keys = Counter(k.value for k, _ in node.value if isinstance(k, yaml.ScalarNode))
            double = sorted(key for key, count in keys.items() if count > 1)
            if double:
                raise InputError(f"config={file} gives the field {double[0]!r} twice.")
            return super().construct_mapping(node, deep)

    try:
        with open(file, "rb") as opened:
            text = opened.read(MOST_YAML_BYTES + 1)
        if len(text) > MOST_YAML_BYTES:
            raise InputError(
                f"config={file} has more than {MOST_YAML_BYTES} bytes. A config is some lines of "
                f"'field: value'."
            )
        values = yaml.load(text.decode("utf-8"), Loader)  # a safe one
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"config={file} could not be read: {error.strerror}.") from None
    except Exception as error:  # what the parser raises depends on what is wrong
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"config={file} is not YAML: {reason}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise InputError(f"config={file} must hold 'field: value' lines.")
    return values


def _pretrain(options) -> int:
    began = time.monotonic()
    flags = {name: value for name, value in vars(options).items() if name in Config.model_fields}
    flags.pop("recipe")
    config = resolve_config(options.recipe, options.config, flags)
    cluster = find_cluster(options.workers, options.worker_index, os.environ)
    out = sys.stderr if options.json else sys.stdout
    print(f"{time.monotonic() - began:6.1f} s  starting TensorFlow", file=out, flush=True)
    start_tensorflow()
    from moco_tf.reporting import Reporter
    from moco_tf.train import pretrain

    reporter = Reporter(json_mode=options.json, began=began)
    if cluster:
        reporter.line(f"this is {cluster.name(cluster.index)} of {len(cluster.workers)}")
    summary = pretrain(config, reporter=reporter, cluster=cluster, extend=options.extend)
    if options.json:
        print(json.dumps(summary))
    return 0
