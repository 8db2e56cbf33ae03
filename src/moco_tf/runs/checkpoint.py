"""The checkpoints of a run: a file per kept step, checked by digest when written and when read.

Arrays of any names are stored; `state()` of a method names them.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from moco_tf.errors import DamagedError, InputError
from moco_tf.files.atomic import link_atomically, make_folder, write_atomically
from moco_tf.files.store import Stamp, stamp
from moco_tf.runs import checkpoint_file
from moco_tf.runs.checkpoint_file import State

KEEP = 2  # whole checkpoints of a run, beside the tagged ones
_STEP_NAME = re.compile(r"step-(\d{8,})\.safetensors")


def save(
    folder: Path,
    state: Mapping[str, np.ndarray],
    *,
    step: int,
    extra: Mapping[str, Any],
    keep: int = KEEP,
    tag: str | None = None,
    same_as: Path | None = None,
    verified: dict[str, Stamp] | None = None,
) -> Path:
    """Writes a checkpoint and returns its path; a reader sees the whole file or none.

    The file is written under a temporary name, read back, and renamed. Only then older steps are
    deleted, so that `keep` whole ones remain; newer steps than `step` are left alone.

    Args:
        folder: where the checkpoints of one run lie; created if need be.
        state: name to array, of any shape.
        step: number of training steps behind this state, 0 or more.
        extra: anything that JSON can hold.
        keep: whole checkpoints to keep, 1 or more.
        tag: writes TAG.safetensors in place of step-NNNNNNNN.safetensors, and deletes nothing.
        same_as: a checkpoint just saved of the same state; where the file system can link, it gets
            a second name in place of being written once more.
        verified: names and stamps of files that were read back, which are not read again unless
            they have changed. The file saved is added.

    Raises:
        InputError: if the disk is full or the folder cannot be written to.
    """
    if keep < 1:
        raise InputError(f"keep must be at least 1; received keep={keep}.")
    folder = Path(folder)
    path = folder / (f"{tag}.safetensors" if tag else f"step-{step:08d}.safetensors")
    make_folder(folder)
    for leftover in folder.glob(".*.safetensors.tmp"):  # of a process that was killed
        leftover.unlink(missing_ok=True)
    if same_as is None or not link_atomically(same_as, path):
        write_atomically(
            path, checkpoint_file.to_bytes(state, step=step, extra=extra), verify=_check_read_back
        )
    verified = {} if verified is None else verified
    with contextlib.suppress(OSError):  # the folder has been taken away
        verified[path.name] = stamp(path.stat())
    if tag is None:
        _delete_older(folder, step, keep, verified)
    return path


def load_latest(
    folder: Path, *, warn: Callable[[str], None]
) -> tuple[State, int, dict[str, Any]] | None:
    """Returns (state, step, extra) of the newest whole checkpoint, or None if there is none yet.

    A damaged file is named in a call of `warn`, and the one before it is taken.

    Raises:
        InputError: if there are checkpoints and all of them are damaged.
    """
    damaged = []
    for _, path in _by_step(Path(folder)):
        try:
            return checkpoint_file.read(path)
        except FileNotFoundError:  # deleted by the training process in the meantime
            continue
        except DamagedError as error:
            damaged.append(path.name)
            warn(f"checkpoint {path} is damaged ({error}); taking the one before it.")
    if damaged:
        raise InputError(
            f"every checkpoint in {folder} is damaged: {', '.join(damaged)}. "
            f"Restore one from a copy, or start again in another folder."
        )
    return None


def newest_step(folder: Path) -> int | None:
    """Returns the step of the newest checkpoint in `folder`, or None if there is none."""
    found = newest(folder)
    return found and found[0]


def newest(folder: Path) -> tuple[int, Path] | None:
    """Returns step and file of the newest checkpoint in `folder`, or None if there is none."""
    return next(iter(_by_step(Path(folder))), None)


def load(path: Path) -> tuple[State, int, dict[str, Any]]:
    """Returns (state, step, extra) of one checkpoint file.

    Raises:
        InputError: if the file is absent or damaged.
    """
    try:
        return checkpoint_file.read(Path(path))
    except FileNotFoundError:
        raise InputError(f"no checkpoint {path}.") from None
    except DamagedError as error:
        raise InputError(
            f"checkpoint {path} is damaged ({error}). Use another one of the same folder."
        ) from None


def _by_step(folder: Path) -> list[tuple[int, Path]]:
    """(step, path) of the numbered checkpoints, newest first; temporary and tagged ones are not."""
    if not folder.is_dir():
        return []
    matches = ((_STEP_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted(((int(match[1]), path) for match, path in matches if match), reverse=True)


def _check_read_back(path: Path) -> None:
    try:
        checkpoint_file.read(path)
    except DamagedError as error:
        raise InputError(
            f"the checkpoint just written came back damaged ({error}). Nothing older was deleted; "
            f"check the disk of {path.parent}."
        ) from None


def _delete_older(folder: Path, step: int, keep: int, verified: dict[str, Stamp]) -> None:
    """Deletes the checkpoints before the `keep` newest whole ones; `step` is known to be whole."""
    older = [path for number, path in _by_step(folder) if number < step]
    whole = 1
    while whole < keep and len(older) > 1:  # the very last one is kept in any case
        path = older.pop(0)
        with contextlib.suppress(DamagedError, OSError):
            if verified.get(path.name) != stamp(path.stat()):
                checkpoint_file.read(path)
            whole += 1
    if whole == keep:
        for surplus in older:
            surplus.unlink(missing_ok=True)
