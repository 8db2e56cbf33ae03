"""Runs at a glance: which there are, how far each is, and how two of them differ.

Of a checkpoint only the header is read, and no array. Imports no TensorFlow.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from moco_tf.config import Config
from moco_tf.errors import DamagedError, InputError
from moco_tf.files.digests import read_json
from moco_tf.files.store import copy_advice, is_url
from moco_tf.runs import checkpoint, checkpoint_file
from moco_tf.runs import folder as run_folder
from moco_tf.runs.config_file import CONFIG, as_written, read_config

DEPTH = 4  # folders below the one given
RUNNING, DONE, INTERRUPTED, DAMAGED = "running", "done", "interrupted", "damaged"
# Where a run is, or what it needs to be there, and not what it computes.
PLACES = {"run_dir", "data_path"}


def list_runs(folder: Path | str) -> list[dict[str, Any]]:
    """Returns what `about_run` says of the run in `folder`, or of all pre-training runs below it.

    Raises:
        InputError: there is no such folder, or it is in an object store.
    """
    if is_url(str(folder)) or not Path(folder).is_dir():
        advice = copy_advice(folder) or f"{folder} is not a folder. Give one that holds runs."
        raise InputError(advice)
    return [about_run(path) for path in _run_folders(Path(folder))]


def _run_folders(folder: Path) -> Iterator[Path]:
    """The run folders in order of their paths. What lies in a run is not another one."""
    for base, folders, files in os.walk(folder):
        path = Path(base)
        if CONFIG in files:
            folders.clear()
            if not _is_result(path):
                yield path
        elif len(path.relative_to(folder).parts) >= DEPTH:
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def _is_result(folder: Path) -> bool:
    """Whether the folder is of a probe or a fine-tuning, or its config.json is something else's."""
    try:
        found = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and not {"recipe", "data", "encoder"} <= found.keys()


def about_run(run_dir: Path) -> dict[str, Any]:
    """Returns what is known of a run without its arrays.

    "state" is running (a process of this machine holds the folder), done (summary.json is of the
    newest checkpoint, so that the run came to its end or to `max_steps`), interrupted, or damaged.
    "epochs_done" are the whole ones at the newest checkpoint. Accuracies are in percent.
    """
    known: dict[str, Any] = {"run": str(run_dir), "state": DAMAGED, "process": None}
    names = ("step", "loss", "knn_top1", "knn_top1_untrained", "knn_top1_pixels", "seconds")
    known |= dict.fromkeys(("recipe", "data", "epochs", "epochs_done", *names, "problem"))
    try:
        config = read_config(run_dir)
        step, saved = newest_saved(run_dir)
        summary = summary_of_run(run_dir)
    except InputError as error:
        return known | {"problem": str(error)}
    known |= config.model_dump(include={"recipe", "data", "epochs"})
    process = run_folder.holder(run_dir)
    ended = summary is not None and summary.get("step", -1) >= (step or 0)
    newest = summary if ended and summary else saved
    known |= {name: newest.get(name) for name in names}
    epochs = saved.get("epoch", 0)
    if config.max_steps is None and step is not None and isinstance(epochs, int):
        ended = ended and epochs >= config.epochs  # it may have been given more since
    return known | {
        "state": RUNNING if process else DONE if ended else INTERRUPTED,
        "process": process,
        "epochs_done": epochs,
    }


def newest_saved(run_dir: Path) -> tuple[int | None, dict[str, Any]]:
    """Returns the newest checkpoint's step, or None, and what is beside its arrays.

    That is empty where the header cannot be read: `moco-tf check` tells why.
    """
    found = checkpoint.newest(run_folder.checkpoint_folder(run_dir))
    if found is None:
        return None, {}
    known = checkpoint_file.header(found[1])
    return found[0], known[1] if known else {}


def summary_of_run(run_dir: Path) -> dict[str, Any] | None:
    """Returns what summary.json holds; None: the run has not come to an end yet.

    Raises:
        InputError: if it is damaged.
    """
    path = run_dir / run_folder.SUMMARY
    try:
        return read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, DamagedError) as error:
        raise InputError(f"{path} is damaged: {error}. See: moco-tf check {run_dir}.") from None


def compare_runs(first: Path | str, second: Path | str) -> dict[str, Any]:
    """Returns the fields of the configs in which two runs differ, and the results of both.

    Returns:
        "runs": both folders; "config": field -> [of the first, of the second], with a dot where a
        field has fields of its own; "results": the same for each number of their summaries, of a
        run that has not ended for those of its newest checkpoint; "versions": packages that differ.

    Raises:
        InputError: one of them is no run folder, or damaged.
    """
    folders = [Path(one) for one in (first, second)]
    configs = [_flat(_config(one)) for one in folders]
    results = [_results(one) for one in folders]
    versions = [_versions(one) for one in folders]
    return {
        "runs": [str(one) for one in folders],
        "config": {k: v for k, v in _pairs(configs).items() if v[0] != v[1]},
        "results": _pairs(results),
        "versions": {k: v for k, v in _pairs(versions).items() if v[0] != v[1]},
    }


def _config(run_dir: Path) -> dict[str, Any]:
    config: Config = read_config(run_dir)
    fields = as_written(config)
    return {name: value for name, value in fields.items() if name not in PLACES}


def _results(run_dir: Path) -> dict[str, Any]:
    """The numbers and digests of the summary, or else of the newest checkpoint."""
    step, saved = newest_saved(run_dir)
    summary = summary_of_run(run_dir)
    found = summary if summary and summary.get("step", -1) >= (step or 0) else saved
    kinds = (int, float, str)
    values = {n: v for n, v in found.items() if isinstance(v, kinds) and not isinstance(v, bool)}
    return {n: v for n, v in values.items() if n not in ("images", "encoder")}


def _versions(run_dir: Path) -> dict[str, Any]:
    try:
        return read_json(run_dir / run_folder.VERSIONS)
    except (OSError, DamagedError):  # of an older run, or damaged, which `check` tells
        return {}


def _flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The fields, those of a field with its own ones under names with a dot."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        inner = isinstance(value, dict)
        found |= _flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return found


def _pairs(both: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys([*both[0], *both[1]])
    return {name: [one.get(name) for one in both] for name in names}
