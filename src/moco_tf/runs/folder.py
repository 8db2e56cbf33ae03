"""A run folder: config.json, versions.json, checkpoints, and the lock of the process training it.

Everything in it is written under a temporary name and renamed, so a reader never meets half a file.
Imports no TensorFlow.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from moco_tf.config import AnyConfig, Config
from moco_tf.errors import InputError
from moco_tf.files.atomic import (
    make_folder,
    not_through_a_link,
    take_lock,
    write_error,
)
from moco_tf.files.digests import write_json
from moco_tf.names.data import absolute
from moco_tf.runs.config_file import ARCHITECTURE, CONFIG, as_written, read_config_of
from moco_tf.runs.same_config import given_records, refuse_other_config

VERSIONS = "versions.json"
SUMMARY = "summary.json"
METRICS = "metrics.jsonl"
BAD_IMAGES = "bad_images.jsonl"  # that the run has met
TENSORBOARD = "tensorboard"
REPORT = "report.html"  # may be made again at any time
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
    there = check(run_dir, config)
    if isinstance(config, Config) and (path := absolute(config.data)) is not None:
        config = config.model_copy(update={"data_path": path})
    if there is None:
        make_folder(run_dir)
        if architecture := getattr(config, "architecture", None):
            write_json(run_dir / ARCHITECTURE, json.loads(architecture))
        write_json(run_dir / CONFIG, as_written(config))
    else:
        now = recorded(there, config)
        names = config.growing_fields | config.recorded_fields
        grown = there.model_copy(update={name: getattr(now, name) for name in names})
        if grown != there:
            write_json(run_dir / CONFIG, as_written(grown))
    write_json(run_dir / VERSIONS, versions() | {"hardware": hardware()})
    return there is not None


def check(run_dir: Path, config: AnyConfig) -> AnyConfig | None:
    """Returns the config of the run that is there, if one is; raises what `claim` would."""
    _refuse_foreign(run_dir, config.folder_flag)
    for folder in (checkpoint_folder(run_dir), Path(run_dir) / TENSORBOARD):
        if folder.is_symlink():  # its maker could have us write and delete elsewhere
            raise InputError(
                f"{folder} is a link, and is not written through. Put the folder itself there."
            )
    if not (run_dir / CONFIG).exists():
        return None
    there = read_config_of(type(config), run_dir)
    refuse_other_config(run_dir, there, config)
    return there


def recorded(there: AnyConfig, config: AnyConfig) -> AnyConfig:
    """Returns `config` with what the run that is there has recorded and `config` leaves open."""
    names = config.recorded_fields - set(given_records(config))
    return config.model_copy(update={name: getattr(there, name) for name in names})


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


def hardware() -> str:
    """Returns the processors, and NVIDIA's GPUs if there are any, that this process may use."""
    found = re.findall(r"^model name\s*: (.*)$", _text(Path("/proc/cpuinfo")), re.MULTILINE)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    named = [f"{cores} x {found[0] if found else platform.processor() or platform.machine()}"]
    gpus = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    for gpu in gpus:
        named += re.findall(r"^Model:\s*(.*)$", _text(gpu), re.MULTILINE)
    return ", ".join(named)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return ""


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
