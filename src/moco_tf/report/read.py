"""What a folder of a run or of its results tells, as far as it is there. Imports no TensorFlow."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from moco_tf.config import Config
from moco_tf.errors import DamagedError, InputError
from moco_tf.files.digests import read_json
from moco_tf.files.store import copy_advice
from moco_tf.recipes import RECIPES
from moco_tf.runs import checkpoint
from moco_tf.runs import folder as run_folder
from moco_tf.runs.config_file import CONFIG, as_written, read_config

Row = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """A folder of a run, or of the results of a probe or a fine-tuning."""

    path: Path
    fields: dict[str, Any]  # of config.json, or nothing for results in closed form
    config: Config | None  # of a run
    rows: list[Row]  # of metrics.jsonl, each step once, by step
    summary: dict[str, Any]
    versions: dict[str, Any]
    missing: tuple[str, ...]  # sentences
    results: tuple[Found, ...]  # of the folders in it

    @property
    def name(self) -> str:
        """What the folder is called."""
        return self.path.resolve().name

    @property
    def step(self) -> int:
        """How far it is known to be."""
        return max([self.summary.get("step") or 0, *(row["step"] for row in self.rows)])

    @cached_property
    def saved(self) -> int | None:
        """Step of the newest checkpoint."""
        return checkpoint.newest_step(run_folder.checkpoint_folder(self.path))

    @property
    def speed(self) -> float | None:
        """Images a second of the training, where it is known."""
        speed = self.summary.get("images_per_second")
        return speed if _is_number(speed) else None

    @property
    def logged(self) -> list[Row]:
        """The logging points."""
        return [row for row in self.rows if "loss" in row]

    @property
    def evaluated(self) -> list[Row]:
        """The evaluations; that of step 0 is the untrained encoder's."""
        return [row for row in self.rows if "loss" not in row]

    @property
    def usual(self) -> dict[str, Any]:
        """The fields of the run's recipe; where there is none, every field's default."""
        if self.config is None:
            return {}
        recipe = RECIPES.get(self.config.recipe)
        return as_written(recipe.config if recipe else Config())

    @cached_property
    def epoch_steps(self) -> int | None:
        """Steps of an epoch, as the rows tell: None where they are all of the first one.

        Epoch e has the steps e n + 1 to (e + 1) n. Where several n fit, it is the one by which the
        last step is the end, or else the largest.
        """
        rows = [
            (row["step"] - 1, row["epoch"]) for row in self.logged if _is_number(row.get("epoch"))
        ]
        most = min((step // epoch for step, epoch in rows if epoch), default=None)
        if most is None:
            return None
        least = max(step // (epoch + 1) + 1 for step, epoch in rows)
        epochs = self.fields.get("epochs") or 1
        ends = [n for n in range(least, most + 1) if n * epochs == self.step]
        return ends[0] if ends else most


def read(run: str | Path) -> Found:
    """Returns what the folder `run` tells.

    Raises:
        InputError: if it is no folder of a run or of results, or its config.json is damaged.
    """
    path = Path(run)
    missing: list[str] = []
    say = missing.append
    if not any((path / name).is_file() for name in (CONFIG, run_folder.SUMMARY)):
        raise InputError(
            copy_advice(run)
            or f"{run} is not a run folder: it has no {CONFIG}. Give the --run-dir of a "
            f"pre-training run, or a folder of results in it."
        )
    fields = _json(path / CONFIG, say) or {}
    there = (path / CONFIG).is_file()
    config = None if "run" in fields or not there else read_config(path)
    fields = as_written(config) if config else fields  # an older run's has the newer fields, too
    summary = _json(path / run_folder.SUMMARY, say)
    rows = _rows(path / run_folder.METRICS, say) if fields else []
    found = Found(
        path,
        fields,
        config,
        rows,
        summary or {},
        (_json(path / run_folder.VERSIONS, say) or {}) if fields else {},
        (),
        tuple(_results(path)) if config else (),
    )
    if summary is None or summary.get("step", 0) < found.step:
        process = run_folder.holder(path)
        state = f"Process {process} is training in it" if process else "It has not come to its end"
        say(f"{state}: the last step that it tells of is {found.step}.")
    if config and found.saved is None:
        say("It holds no checkpoint, so there is no encoder to look at.")
    return replace(found, missing=tuple(missing))


def _results(path: Path) -> list[Found]:
    """The results of probes and fine-tunings in the folder of a run."""
    inner = sorted(one for one in path.iterdir() if one.is_dir() and not one.is_symlink())
    results = []
    for folder in inner:
        summary = folder / run_folder.SUMMARY
        if summary.is_file() and folder.name != run_folder.checkpoint_folder("").name:
            try:
                results.append(read(folder))
            except InputError:  # none of ours
                continue
    return results


def _json(path: Path, say: Callable[[str], None]) -> dict[str, Any] | None:
    try:
        return read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, DamagedError) as error:
        say(f"{path.name} cannot be read: {error}.")
        return None


def _rows(path: Path, say: Callable[[str], None]) -> list[Row]:
    """The rows, by step. Of a step that is there twice, as after a kill, the last one counts."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        say(f"{path.name} cannot be read ({error.strerror}), so there are no curves.")
        return []
    rows: dict[tuple[bool, int], Row] = {}
    for line in lines:
        row = _row(line)
        if row:
            rows["loss" in row, row["step"]] = row
    if not rows:
        say(f"{path.name} holds no rows yet, so there are no curves.")
    return sorted(rows.values(), key=lambda row: (row["step"], "loss" not in row))


def _row(line: str) -> Row | None:
    """A row of numbers; None where it was cut off, or is another thing."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        return None
    return {name: value for name, value in row.items() if _is_number(value) or value is None}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
