"""How a run was made: its command, its config beside the recipe's, files. Imports no TensorFlow."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from moco_tf.config import RECORDED_FIELDS
from moco_tf.recipes import RECIPES
from moco_tf.report.page import link
from moco_tf.report.read import Found

SHOWN_NUMBERS = (  # of a summary
    *("step", "loss", "knn_top1", "knn_top1_best", "knn_top1_untrained", "knn_top1_pixels"),
    *("top1", "top5", "top1_best", "top1_untrained", "top1_pixels", "images_per_second"),
    *("seconds", "peak_memory_bytes", "state_sha256", "protocol"),
)


class Setting(NamedTuple):
    """A field of a config."""

    name: str
    value: Any
    usual: Any  # the recipe's
    marked: bool  # whether the two differ


def settings_of(found: Found) -> list[Setting]:
    """Returns the config's fields; those that differ from the recipe's are marked."""
    usual = found.usual
    return [
        Setting(
            name,
            value,
            usual.get(name),
            bool(usual) and name not in RECORDED_FIELDS and value != usual.get(name),
        )
        for name, value in found.fields.items()
        if name != "sha256"
    ]


def command_of(found: Found) -> str:
    """Returns the command that makes the same run in a folder of this name; none for a probe."""
    config = found.config
    if config is None:
        return ""
    changed = {s.name: s.value for s in settings_of(found) if s.marked and s.name != "run_dir"}
    nested = any(isinstance(value, Mapping) for value in changed.values())
    known = config.recipe in RECIPES
    if nested or not known or config.augment_function or config.earlier_schedules:
        words = ["--config", str(found.path / "config.json"), "--run-dir", f"{found.path}-again"]
    else:
        words = [config.recipe]
        for name, value in changed.items():
            text = ",".join(map(str, value)) if isinstance(value, list) else value
            text = str(text).lower() if text is None or isinstance(text, bool) else str(text)
            words.append(f"--{name.replace('_', '-')}={text}")
        words.append(f"--run-dir={found.path}")
    return shlex.join(["moco-tf", "pretrain", *words])


def differences(runs: Sequence[Found]) -> dict[str, list[Any]]:
    """Returns the fields whose values differ among runs, with the value in each."""
    names = dict.fromkeys(name for found in runs for name in found.fields)
    rows = {name: [found.fields.get(name) for found in runs] for name in names}
    left_out = {"sha256", "run_dir"}
    return {
        name: values
        for name, values in rows.items()
        if name not in left_out and any(value != values[0] for value in values)
    }


def numbers_of(found: Found) -> dict[str, Any]:
    """Returns the figures of a summary that there are."""
    return {n: found.summary[n] for n in SHOWN_NUMBERS if found.summary.get(n) is not None}


def files_of(found: Found, page: Path) -> list[tuple[str, str]]:
    """Returns (name, link) of what lies in the folder, for the page that is written to `page`."""
    names = sorted(
        f"{one.name}/" if one.is_dir() else one.name
        for one in found.path.iterdir()
        if not one.name.startswith(".") and one.resolve() != page.resolve()
    )
    return [(name, link(found.path / name, page)) for name in names]
