"""What `moco-tf check` finds in a run folder, a folder of results or an encoder's file.

A kill at any moment leaves whole files, files under temporary names, and logs whose last entry is
half there: none of them is damage. Nothing is changed, and no lock is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moco_tf.errors import InputError
from moco_tf.files.store import copy_advice
from moco_tf.runs.check.folder import CHECKPOINTS, ENCODER, is_results, judge_folder, newest, others
from moco_tf.runs.check.verdicts import judge_checkpoint
from moco_tf.runs.folder import CONFIG, holder


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
        verdicts = [judge_checkpoint(path, path.name)]
        last = None if verdicts[0].damage else verdicts[0]
    elif path.is_dir() and (is_results(path.resolve()) or (path / CHECKPOINTS).is_dir()):
        verdicts, names = judge_folder(path, path), list(others(path, path))
        last = newest([v for v in verdicts if v.file.startswith(f"{CHECKPOINTS}/")])
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
        "training": holder(path),
        "files": [{name: getattr(verdict, name) for name in shown} for verdict in verdicts],
        "leftovers": leftovers,
        "unknown": [name for name in names if name not in leftovers],
    }


def report(result: Mapping[str, Any]) -> list[str]:
    """Returns the lines that say it; the last one is the outcome."""
    files = result["files"]
    lines = [f"{file['file']}: {file['note']}" for file in files if file["note"]]
    bare = [file["file"] for file in files if not (file["carried"] or file["damage"])]
    if bare:
        lines.append(f"without a digest, only their form was looked at: {', '.join(bare)}")
    if result["leftovers"]:
        lines.append(f"temporary, of a save that did not end: {', '.join(result['leftovers'])}")
    if result["unknown"]:
        lines.append(f"unknown, not looked at: {', '.join(result['unknown'])}")
    if result["training"]:
        lines.append(f"process {result['training']} is training in it")
    lines += [f"damaged: {file['file']}: {file['damage']}" for file in files if file["damage"]]
    about = f"{len(files)} file{'s' if len(files) != 1 else ''}"
    if result["state_sha256"]:
        about += f", at step {result['step']} the state {result['state_sha256']}"
    not_so = "" if result["whole"] else f"not whole, first {result['damaged']['file']}"
    lines.append(f"{result['run']} is {not_so or 'whole'}: {about}")
    return ["".join(c if c.isprintable() else ascii(c)[1:-1] for c in line) for line in lines]
