"""A run folder: config.json, versions.json, checkpoints, and the lock of the process training it.

Everything in it is written under a temporary name and renamed, so a reader never meets half a file.
Imports no TensorFlow.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from moco_tf.config import AnyConfig, Config
from moco_tf.errors import DamagedError, InputError
from moco_tf.files.atomic import (
    make_folder,
    not_through_a_link,
    take_lock,
    write_error,
)
from moco_tf.files.digests import check_json_digest, read_json, write_json
from moco_tf.files.store import copy_advice, is_url
from moco_tf.names.data import absolute, is_records, is_there, paths_of
from moco_tf.names.encoder import RESNETS

CONFIG = "config.json"
ARCHITECTURE = "architecture.json"  # of a backbone that is not one of the ResNets
VERSIONS = "versions.json"
SUMMARY = "summary.json"
METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"
TRACKING = "tracking.json"  # of an experiment tracker
LOCK = ".lock"


def checkpoint_folder(run_dir: Path | str) -> Path:
    """Returns the folder that holds the checkpoints of the run in `run_dir`."""
    return Path(run_dir) / "checkpoints"


def claim(run_dir: Path, config: AnyConfig) -> bool:
    """Makes `run_dir` the folder of `config`'s run; returns whether the run was there already.

    A new folder gets config.json and versions.json. In an existing run config.json stays as it is,
    but for more epochs and `data_path`, and versions.json names what the present process runs on.

    Raises:
        InputError: if the folder holds something that is no run, a link where a folder should be,
            or a run whose config differs in a field outside its `runtime_fields`.
    """
    run_dir = Path(run_dir)
    resumed = check(run_dir, config)
    if isinstance(config, Config) and (path := absolute(config.data)) is not None:
        config = config.model_copy(update={"data_path": path})
    if not resumed:
        make_folder(run_dir)
        if architecture := getattr(config, "architecture", None):
            write_json(run_dir / ARCHITECTURE, json.loads(architecture))
        write_json(run_dir / CONFIG, as_written(config))
    else:
        there, now = read_config_of(type(config), run_dir), recorded(run_dir, config)
        names = config.growing_fields | config.recorded_fields
        grown = there.model_copy(update={name: getattr(now, name) for name in names})
        if grown != there:
            write_json(run_dir / CONFIG, as_written(grown))
    write_json(run_dir / VERSIONS, versions())
    return resumed


def as_written(config: AnyConfig) -> dict[str, Any]:
    """The config as config.json holds it: with the architecture's digest, not the whole of it."""
    fields = config.model_dump(mode="json")
    architecture = fields.get("architecture") or ""
    if architecture.startswith("{"):  # no digest yet
        fields["architecture"] = hashlib.sha256(architecture.encode()).hexdigest()
    return fields


def check(run_dir: Path, config: AnyConfig) -> bool:
    """Raises what `claim` would, and returns what it would; changes nothing."""
    _refuse_foreign(run_dir, config.folder_flag)
    for folder in (checkpoint_folder(run_dir), Path(run_dir) / TENSORBOARD):
        if folder.is_symlink():  # its maker could have us write and delete elsewhere
            raise InputError(
                f"{folder} is a link, and is not written through. Put the folder itself there."
            )
    resumed = (run_dir / CONFIG).exists()
    if resumed:
        _refuse_other_config(run_dir, read_config_of(type(config), run_dir), config)
    return resumed


def recorded(run_dir: Path, config: AnyConfig) -> AnyConfig:
    """Returns `config` with what the run in the folder has recorded and `config` leaves open."""
    there = read_config_of(type(config), run_dir)
    names = config.recorded_fields - set(_recorded(config))
    return config.model_copy(update={name: getattr(there, name) for name in names})


def _recorded(config: AnyConfig) -> list[str]:
    """The recorded fields that `config` gives."""
    fields = type(config).model_fields
    return [n for n in config.recorded_fields if getattr(config, n) != fields[n].default]


@contextlib.contextmanager
def locked(run_dir: Path, *, flag: str = "--run-dir") -> Iterator[Callable[[], None]]:
    """Holds the run folder for this process; creates the folder. Freed also by a kill.

    A new folder in which no run was begun is taken away again. Gives a function that raises
    `InputError` if the folder has been removed, moved or replaced meanwhile.

    Args:
        flag: the option that names the folder, for what an error advises.

    Raises:
        InputError: if another process holds it, or the folder holds something that is no run.
    """
    run_dir = Path(run_dir)
    _refuse_foreign(run_dir, flag)
    new = not run_dir.exists()
    make_folder(run_dir)

    def in_use() -> str:
        file.seek(0)
        return (
            f"run_dir={run_dir} is in use: process {file.read().strip() or '?'} is training in it. "
            f"Wait for it to end, or use another {flag}."
        )

    with open(run_dir / LOCK, "a+", encoding="utf-8", opener=not_through_a_link) as file:
        take_lock(file, in_use)
        try:
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"{os.getpid()}\n".encode())
        except OSError as error:
            raise write_error(run_dir / LOCK, 0, error) from None
        try:
            yield lambda: _refuse_replaced(run_dir, file.fileno())
        finally:
            if new and _is_held(run_dir, file.fileno()) and not (run_dir / CONFIG).exists():
                # NFS keeps an open file under another name, and what ended the run is to be told.
                with contextlib.suppress(OSError):
                    for hidden in run_dir.glob(".*"):
                        hidden.unlink()
                    run_dir.rmdir()


def holder(run_dir: Path) -> int | None:
    """Returns the process of this machine that trains in `run_dir`, if any; takes no lock."""
    try:
        process = int((run_dir / LOCK).read_text(encoding="utf-8"))
        with contextlib.suppress(PermissionError):  # another user's
            os.kill(process, 0)  # sends nothing
    except (OSError, ValueError, OverflowError):
        return None
    try:
        locks = Path("/proc/locks").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return process
    held = {fields[4] for fields in map(str.split, locks) if fields[1] == "FLOCK"}
    return process if str(process) in held else None


def read_config(run_dir: Path | str) -> Config:
    """Returns the config of the pre-training run in `run_dir`; see `read_config_of`."""
    return read_config_of(Config, run_dir)


def read_config_of(kind: type[AnyConfig], run_dir: Path | str) -> AnyConfig:
    """Returns the config of the run in `run_dir`.

    Raises:
        InputError: if there is no such run, or its config.json is not a config.
    """
    path = Path(run_dir) / CONFIG
    try:
        text, _ = check_json_digest(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            copy_advice(run_dir)
            or f"{run_dir} is not a run folder: it has no {CONFIG}. "
            f"Give the --run-dir of a pre-training run."
        ) from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}.") from None
    except DamagedError as error:
        raise InputError(
            f"{path} is not the config of a run: {error}. Restore it, or start again in another "
            f"{kind.folder_flag}; if it was edited by hand, take its last field, sha256, out."
        ) from None
    try:
        return _with_architecture(kind.model_validate_json(text), Path(run_dir))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if field == "run":  # which only what starts from a run has
            raise InputError(_of_other_kind(run_dir, kind)) from None
        reason = first["msg"].removeprefix("Value error, ")
        if "no longer offered" in reason:
            raise InputError(f"{path}: {reason}") from None
        problem = f"{field}: {reason}" if field else reason
        raise InputError(
            f"{path} is not the config of a run ({problem}). "
            f"Restore it, or start again in another {kind.folder_flag}."
        ) from None


def _with_architecture(config: AnyConfig, run_dir: Path) -> AnyConfig:
    """The config with the architecture that its config.json names by digest."""
    if getattr(config, "architecture", None) is None:
        return config
    path = run_dir / ARCHITECTURE
    try:
        tree = read_json(path)
    except (OSError, DamagedError) as error:
        raise InputError(
            f"{path} is not the architecture of the run: {error}. Restore it."
        ) from None
    # As models/architecture.to_text writes it.
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"))
    if hashlib.sha256(text.encode()).hexdigest() != config.architecture:  # type: ignore[attr-defined]
        raise InputError(f"{path} is not the architecture that {CONFIG} names. Restore it.")
    return config.model_copy(update={"architecture": text})


def _of_other_kind(run_dir: Path | str, kind: type[AnyConfig]) -> str:
    if kind is Config:
        return (
            f"{run_dir} holds results of a probe or a fine-tuning, not a pre-training run. Give "
            f"the run, or the file encoder.safetensors of a fine-tuning."
        )
    return f"{run_dir} holds a pre-training run. Use another {kind.folder_flag}."


def versions() -> dict[str, str | None]:
    """Returns the version of Python and of every package that decides a run's numbers."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in ("tensorflow", "keras", "numpy", "moco-tf"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def _refuse_foreign(run_dir: Path, flag: str) -> None:
    if not run_dir.exists():
        return
    if not run_dir.is_dir():
        raise InputError(f"run_dir={run_dir} is a file, not a folder. Use another {flag}.")
    names = sorted(entry.name for entry in run_dir.iterdir())
    # A process that is killed between both files leaves the architecture alone.
    visible = [name for name in names if not name.startswith(".") and name != ARCHITECTURE]
    if visible and CONFIG not in names:
        raise InputError(
            f"run_dir={run_dir} is not empty and is not a run folder: it has no {CONFIG}, but "
            f"holds {visible[0]}. Use another {flag}."
        )


def _refuse_replaced(run_dir: Path, descriptor: int) -> None:
    """Else checkpoints would go where no run is, or into another process's run."""
    if not _is_held(run_dir, descriptor):
        raise InputError(
            f"run_dir={run_dir} has been removed, moved, closed or replaced while this run used "
            f"it. Put it back and run the same command again; what was saved is in it."
        )


def _is_held(run_dir: Path, descriptor: int) -> bool:
    """Whether the lock at `run_dir` is the file that was opened."""
    try:
        return os.path.samestat(os.stat(run_dir / LOCK), os.fstat(descriptor))
    except OSError:
        return False


def _refuse_other_config(run_dir: Path, there: AnyConfig, now: AnyConfig) -> None:
    old, new = as_written(there), as_written(now)
    fixed = (old.keys() - now.recorded_fields | set(_recorded(now))) - now.runtime_fields
    different = [name for name in old if name in fixed and old[name] != new[name]]
    more = {name for name in now.growing_fields if new[name] > old[name]}
    different = [name for name in different if name not in more]
    if old.get("architecture") and not new["architecture"] and "normalization" in different:
        different.remove("normalization")  # which the backbone decides
    if _same_backbone(old, new) and "encoder" in different:
        different.remove("encoder")
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


def _same_backbone(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two configs, as written, have one architecture, be it by another file's name.

    It counts as the same before the model is read, which then tells.
    """
    if not old.get("architecture") or new["encoder"] in RESNETS:
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
