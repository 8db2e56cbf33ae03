"""Whether a run folder's config and a new one are of the same run. Imports no TensorFlow."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from moco_tf.config import AnyConfig, Config
from moco_tf.errors import InputError
from moco_tf.files.store import is_url
from moco_tf.names.data import absolute, is_records, is_there, paths_of
from moco_tf.names.encoder import OURS
from moco_tf.runs.config_file import as_written


def refuse_other_config(run_dir: Path, there: AnyConfig, now: AnyConfig) -> None:
    old, new = as_written(there), as_written(now)
    fixed = (old.keys() - now.recorded_fields | set(given_records(now))) - now.runtime_fields
    different = [name for name in old if name in fixed and old[name] != new[name]]
    more = {name for name in now.growing_fields if new[name] > old[name]}
    different = [name for name in different if name not in more]
    if old.get("architecture") and not new["architecture"] and "normalization" in different:
        different.remove("normalization")  # which the backbone decides
    if _same_backbone(old, new) and "encoder" in different:
        different.remove("encoder")
    if "precision" in different and new["precision"] == "auto":  # the run's own is kept
        different.remove("precision")
    for name in {"data", "init"} & set(different):
        if same_path((old[name], old.get(f"{name}_path")), new[name]):
            different.remove(name)
    if different:
        local = isinstance(now, Config) and not is_url(now.run_dir or "")
        alone = f": moco-tf pretrain --run-dir {shlex.quote(str(run_dir))}" if local else ""
        listed = ", ".join(_difference(name, old[name], new[name]) for name in different)
        raise InputError(
            f"run_dir={run_dir} holds a run with another configuration: {listed}. "
            f"Use another {now.folder_flag}, or the run's own values to continue it{alone}."
        )


def given_records(config: AnyConfig) -> list[str]:
    """The recorded fields that `config` gives."""
    fields = type(config).model_fields
    return [n for n in config.recorded_fields if getattr(config, n) != fields[n].default]


def _same_backbone(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two configs, as written, have one architecture, be it by another file's name.

    It counts as the same before the model is read, which then tells.
    """
    if not old.get("architecture") or new["encoder"] in OURS:
        return False
    return new["architecture"] in (None, old["architecture"])


def _difference(name: str, old: object, new: object) -> str:
    """What differs in a field; of one with fields of its own only those that do."""
    if not (isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys()):
        return f"{name} ({old} there, {new} now)"
    changed = [key for key in old if old[key] != new[key]]
    return ", ".join(_difference(f"{name}.{key}", old[key], new[key]) for key in changed)


def same_path(there: Iterable[str | None], now: str | None) -> bool:
    """Whether a value of `data` or `init` names what the known ones do, be it by another path.

    Where these lead nowhere any more, `now` may be where their images went.
    """
    known = [one for one in there if one is not None]
    if now is None or now in known or not known:
        return now in known
    if is_records(now) or any(map(is_records, known)):
        same = absolute(now) in map(absolute, known)
        return same or (all(map(is_records, (now, *known))) and not any(map(is_there, known)))
    # What is in a store is nowhere on this machine.
    new, *old = ((Path(one),) if is_url(one) else paths_of(one) for one in (now, *known))
    if not new or () in old:
        return False
    present = [[path.resolve() for path in paths] for paths in old if _exist(paths)]
    return [path.resolve() for path in new] in present or not present


def _exist(paths: Iterable[Path]) -> bool:
    return all(path.exists() for path in paths)
