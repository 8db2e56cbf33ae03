"""What `moco-tf check` finds in a run folder, a folder of results or an encoder's file.

A kill at any moment leaves whole files, files under temporary names, and logs whose last entry is
half there: none of them is damage. Nothing is changed, and no lock is taken. Imports no TensorFlow.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from moco_tf.errors import DamagedError, InputError
from moco_tf.files.digests import check_json_digest, check_lines_digest, check_zip_digest
from moco_tf.files.store import copy_advice
from moco_tf.runs import checkpoint, checkpoint_file
from moco_tf.runs import folder as run_folder
from moco_tf.runs.config_file import ARCHITECTURE, CONFIG
from moco_tf.runs.folder import LOCK, METRICS, REPORT, SUMMARY, TENSORBOARD, TRACKING, VERSIONS
from moco_tf.runs.log_digests import Digests, check_log, event_files, parse_log_digests

# What `finetune` writes beside the files of every training, and what `probe --quick` keeps.
ENCODER, CHOSEN, FEATURES = "encoder.safetensors", "labelled_images.txt", "features.safetensors"
BASELINES = "baselines.json"  # of `knn` and `probe --quick`
CHECKPOINTS = run_folder.checkpoint_folder("").name
MISSING = "it is missing"
# Judges the bytes of a file: returns fields of its `Verdict`, or raises `DamagedError`.
Judge = Callable[[bytes], dict[str, Any]]


@dataclass(frozen=True)
class Verdict:
    """What is to be said of one file."""

    file: str  # its place in the run folder
    sha256: str | None = None  # of its bytes, where they could be read
    carried: bool = False  # whether a digest or checksums of it are kept, in it or in a checkpoint
    damage: str | None = None
    note: str | None = None
    step: int | None = None  # of a checkpoint
    state_sha256: str | None = None  # of its arrays
    logs: Digests = field(default_factory=dict)  # what a checkpoint says of logs


def check_run(run: Path | str) -> dict[str, Any]:
    """Returns what is whole and what is not.

    Returns:
        run, whole, damaged (file and reason of the first, or None), step and state_sha256 (of the
        newest whole checkpoint, or None), training (id of a process, or None), files (each with
        file, sha256, carried, damage and note), leftovers and unknown (names).

    Raises:
        InputError: if `run` is none of these, or may not be read.
    """
    path = Path(run)
    names: list[str] = []
    if path.is_file() and path.suffix == ".safetensors":
        verdicts = [_judge(path, path.name, None)]
        last = None if verdicts[0].damage else verdicts[0]
    elif path.is_dir() and (_is_results(path.resolve()) or (path / CHECKPOINTS).is_dir()):
        before = {file.relative_to(path).as_posix() for file in path.rglob("*")}
        verdicts = _judge_folder(path, path)
        others = _others(path, path, {verdict.file for verdict in verdicts})
        names = [name for name in others if name.rstrip("/") in before]  # not of a later save
        last = _newest([v for v in verdicts if v.file.startswith(f"{CHECKPOINTS}/")])
    else:
        raise InputError(
            copy_advice(run)
            or f"{run} is not a run folder: it has no {CONFIG}. Give the --run-dir of a "
            f"pre-training run, a folder of results in it, or an {ENCODER}."
        )
    bad = next((verdict for verdict in verdicts if verdict.damage), None)
    shown = ("file", "sha256", "carried", "damage", "note")
    leftovers = [name for name in names if Path(name).match(".*.tmp")]
    return {
        "run": str(run),
        "whole": bad is None,
        "damaged": {"file": bad.file, "reason": bad.damage} if bad else None,
        "step": last.step if last else None,
        "state_sha256": last.state_sha256 if last else None,
        "training": run_folder.holder(path),
        "files": [{name: getattr(verdict, name) for name in shown} for verdict in verdicts],
        "leftovers": leftovers,
        "unknown": [name for name in names if name not in leftovers],
    }


def _carries(check: Callable[[bytes], tuple[bytes, str | None]]) -> Judge:
    return lambda data: {"carried": check(data)[1] is not None}


def _summary(folder: Path, checkpoints: list[Verdict], data: bytes) -> dict[str, Any]:
    """A checkpoint of its step was there, and a later one may be now."""
    text, digest = check_json_digest(data)
    summary = json.loads(text)
    step = summary.get("step")
    same = _newest([v for v in checkpoints if v.step == step])
    if same is not None and summary.get("state_sha256") not in (None, same.state_sha256):
        raise DamagedError(f"its state_sha256 is not that of {same.file}")
    # Looked up only now: a run that ends meanwhile has saved before it wrote the summary.
    last = checkpoint.newest_step(folder / CHECKPOINTS)
    if isinstance(step, int) and step > (last or 0):
        there = f"the last one is of step {last}" if last is not None else "there is none"
        raise DamagedError(f"it is of step {step}, but of checkpoints {there}")
    return {"carried": digest is not None}


def _checkpoint(path: Path) -> dict[str, Any]:
    """Also an encoder or features."""
    _, step, extra, state = checkpoint_file.inspect(path)
    if path.stem.startswith("step-") and path.stem != f"step-{step:08d}":
        raise DamagedError(f"it is the checkpoint of step {step}")
    logs = parse_log_digests(extra.get("written"))
    return {"carried": True, "step": step, "state_sha256": state, "logs": logs}


def _judge(path: Path, name: str, judge: Judge | None) -> Verdict:
    """Without `judge` it is a checkpoint: too large to hold, but it does not change. A log may."""
    sha256 = None
    try:
        with open(path, "rb") as file:
            data = file.read() if judge else b""
            digest = hashlib.sha256(data) if judge else hashlib.file_digest(file, "sha256")
        sha256 = digest.hexdigest()
        return Verdict(name, sha256, **(judge(data) if judge else _checkpoint(path)))
    except FileNotFoundError:
        return Verdict(name, damage=MISSING)
    except PermissionError as error:
        raise InputError(f"cannot read {path}: {error.strerror}.") from None
    except OSError as error:
        return Verdict(name, damage=f"it cannot be read: {error.strerror}")
    except DamagedError as error:
        return Verdict(name, sha256, damage=str(error))


def _judge_folder(root: Path, folder: Path) -> list[Verdict]:
    """Returns a verdict on each file that belongs to the run in `root`, as far as in `folder`."""

    def judged(path: Path, judge: Judge | None) -> Verdict:
        name = path.relative_to(root).as_posix()
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
            return Verdict(name, damage="it is a link that leaves the run folder")
        if os.path.lexists(path) and not path.is_file():
            return Verdict(name, damage="it is not a file")
        return _judge(path, name, judge)

    found = sorted((folder / CHECKPOINTS).glob("[!.]*.safetensors"), reverse=True)
    checkpoints = [judged(path, None) for path in found]
    checkpoints = [v for v in checkpoints if v.damage != MISSING]  # deleted in the meantime
    logs = last.logs if (last := _newest(checkpoints)) else {}
    judges: dict[str, Judge | None] = {
        CONFIG: _carries(check_json_digest),
        ARCHITECTURE: _carries(check_json_digest),
        VERSIONS: _carries(check_json_digest),
        SUMMARY: partial(_summary, folder, checkpoints),
        ENCODER: None,
        CHOSEN: _carries(check_lines_digest),
        FEATURES: None,
        BASELINES: _carries(check_json_digest),
        TRACKING: _carries(check_json_digest),
    }
    verdicts = [
        judged(folder / name, judge)
        for name, judge in judges.items()
        if (name == CONFIG and checkpoints) or os.path.lexists(folder / name)
    ]
    growing = [p for p in (folder / METRICS, *event_files(folder)) if os.path.lexists(p)]
    names = {path.relative_to(folder).as_posix() for path in growing} | logs.keys()
    verdicts += checkpoints
    verdicts += [judged(folder / n, partial(check_log, n, logs.get(n))) for n in sorted(names)]
    sizes = sorted(folder.glob(".images-*.npz"))  # of the images
    verdicts += [judged(path, _carries(check_zip_digest)) for path in sizes]
    for inner in sorted(path for path in folder.iterdir() if _is_results(path)):
        verdicts += _judge_folder(root, inner)
    return verdicts


def _is_results(folder: Path) -> bool:
    """Whether it holds what a run, a probe or a fine-tuning begins or ends with; no link does."""
    return not folder.is_symlink() and any(
        (folder / name).exists() for name in (CONFIG, VERSIONS, SUMMARY, FEATURES)
    )


def _newest(verdicts: list[Verdict]) -> Verdict | None:
    """Of the whole ones that are the checkpoint of a step, the last."""
    numbered = [v for v in verdicts if v.step is not None and Path(v.file).stem.startswith("step-")]
    return max(numbered, key=lambda v: v.step or 0, default=None)


def _others(root: Path, folder: Path, judged: set[str]) -> Iterator[str]:
    """Names of all that does not belong to the run: temporary files of a killed process too."""
    for path in sorted(folder.iterdir()):
        name = path.relative_to(root).as_posix()
        own = path.name in (CHECKPOINTS, TENSORBOARD) and path.is_dir()
        if own or any(file.startswith(f"{name}/") for file in judged):
            yield from _others(root, path, judged)
        elif name not in judged and path.name not in (LOCK, REPORT):
            yield f"{name}/" if path.is_dir() else name
