"""`moco-tf pretrain`."""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from moco_tf.commands.choice import starting_point
from moco_tf.commands.flags import add_recipe
from moco_tf.commands.parser import Outcome, Parser
from moco_tf.commands.starting import check_data, start_tensorflow
from moco_tf.config import Config, data_from_here, make_config, short_repr
from moco_tf.distribute.cluster import find_cluster
from moco_tf.errors import DamagedError, InputError, near_name
from moco_tf.files.digests import FIELD, check_json_digest
from moco_tf.files.store import is_url
from moco_tf.recipes import RECIPES
from moco_tf.runs import folder as run_folder
from moco_tf.runs.checkpoint import newest_step
from moco_tf.runs.initial_weights import check_initial_weights
from moco_tf.training.trackers import check_tracker

MOST_YAML_BYTES = 2**16  # read in half a second


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
    command.add_argument("--worker-index", metavar="X", help="which worker this is, from 0")


def resolve_config(
    recipe: str | None,
    file: str | None,
    flags: dict[str, Any],
    *,
    runs: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> Config:
    """Returns the recipe's config, changed by the file and then by the flags.

    The file is YAML, which may name the recipe itself, as `recipe: NAME`, or the config.json of a
    run. Where no recipe is named, see `starting_point`.

    Args:
        runs: whether a run that is there goes on with its own settings if no recipe is named.
        say: called with a line on what was chosen.
    """
    fields = _read_file(file) if file is not None else {}
    whole = fields.pop(FIELD, None) is not None or fields.keys() >= Config.model_fields.keys()
    named = fields.pop("recipe", None)
    if recipe and named and recipe != named:
        raise InputError(
            f"config={file} is for the recipe {short_repr(named)}; received recipe={recipe!r}. "
            f"Leave one of them out."
        )
    recipe, given = recipe or named, fields | flags
    if recipe is None:
        base, run_dir = starting_point(given, runs=runs, say=say)
        return make_config(base, {"run_dir": run_dir} | given if run_dir else given)
    if whole and named:
        config = make_config(Config().model_copy(update={"recipe": named}), given)
        return config.model_copy(update={"data": data_from_here(config)})
    if not isinstance(recipe, str) or recipe not in RECIPES:
        near = near_name(recipe, RECIPES) if isinstance(recipe, str) else None
        hint = f"Did you mean {near}? " if near else ""
        raise InputError(
            f"unknown recipe {short_repr(recipe)}. {hint}Known recipes: {', '.join(RECIPES)}."
        )
    return make_config(RECIPES[recipe].config, given)


def _read_file(file: str) -> dict[str, Any]:
    """Returns the fields in a YAML file, of which JSON is a part. A digest in it is checked."""
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
        if isinstance(values, dict) and FIELD in values:
            check_json_digest(text)
    except InputError:
        raise
    except DamagedError as error:
        raise InputError(
            f"config={file} is damaged: {error}. If it was edited by hand, take its last field, "
            f"{FIELD}, out."
        ) from None
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


def _check_folders(config: Config) -> None:
    """Raises `InputError` for a run folder, or weights to begin with, that will not do."""
    run_dir = config.run_dir or f"runs/{config.recipe}"
    if is_url(run_dir):
        return
    run_folder.check(Path(run_dir), config)
    if config.init and newest_step(run_folder.checkpoint_folder(run_dir)) is None:
        check_initial_weights(config, Path(run_dir))


def run(
    recipe: str | None,
    config: str | None,
    extend: bool,
    workers: str | None,
    worker_index: str | None,
    json: bool,
    **flags,
) -> Outcome:
    began = time.monotonic()

    def say(line: str) -> None:
        out = sys.stderr if json else sys.stdout
        print(f"{time.monotonic() - began:6.1f} s  {line}", file=out, flush=True)

    settings = resolve_config(recipe, config, flags, say=say)
    cluster = find_cluster(workers, worker_index, os.environ)
    if cluster is None or cluster.chief:
        _check_folders(settings)
        check_tracker(settings.track)
    check_data(settings.data)
    say("starting TensorFlow")
    start_tensorflow()
    from moco_tf.pretraining import pretrain
    from moco_tf.training.reporting import Reporter

    reporter = Reporter(json_mode=json, began=began)
    if cluster:
        reporter.line(f"this is {cluster.name(cluster.index)} of {len(cluster.workers)}")
    return pretrain(settings, reporter=reporter, cluster=cluster, extend=extend), "", True
