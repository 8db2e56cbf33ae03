"""All files of a run folder, and of the folders of results in it, judged in a fixed order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from moco_tf.errors import DamagedError
from moco_tf.files.digests import read_json
from moco_tf.runs import folder as run_folder
from moco_tf.runs.check.verdicts import (
    MISSING,
    Verdict,
    judge_archive,
    judge_checkpoint,
    judge_events,
    judge_json,
    judge_lines,
    judge_rows,
)
from moco_tf.runs.checkpoint import newest_step
from moco_tf.runs.folder import CONFIG, METRICS, SUMMARY, TENSORBOARD, VERSIONS
from moco_tf.runs.log_digests import event_files

# What `finetune` writes beside the files of every training, and what `probe --quick` keeps.
ENCODER, CHOSEN, FEATURES = "encoder.safetensors", "labelled_images.txt", "features.safetensors"
BASELINES = "baselines.json"  # of `knn` and `probe --quick`
CHECKPOINTS = run_folder.checkpoint_folder("").name
SIZES = ".images-*.npz"
JUDGES: dict[str, Callable[[Path, str], Verdict]] = {
    CONFIG: judge_json,
    VERSIONS: judge_json,
    SUMMARY: judge_json,
    ENCODER: judge_checkpoint,
    CHOSEN: judge_lines,
    FEATURES: judge_checkpoint,
    BASELINES: judge_json,
}


def is_results(folder: Path) -> bool:
    """Whether it holds what a run, a probe or a fine-tuning begins or ends with; no link does."""
    return not folder.is_symlink() and any(
        (folder / name).exists() for name in (CONFIG, VERSIONS, SUMMARY, FEATURES)
    )


def judge_folder(root: Path, folder: Path) -> list[Verdict]:
    """Returns a verdict on each file that belongs to the run in `root`, as far as in `folder`."""

    def judged(path: Path, judge: Callable[..., Verdict], *arguments) -> Verdict:
        name = path.relative_to(root).as_posix()
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
            return Verdict(name, damage="it is a link that leaves the run folder")
        if os.path.lexists(path) and not path.is_file():
            return Verdict(name, damage="it is no file")
        return judge(path, name, *arguments)

    found = sorted((folder / CHECKPOINTS).glob("[!.]*.safetensors"), reverse=True)
    checkpoints = [judged(path, judge_checkpoint) for path in found]
    checkpoints = [v for v in checkpoints if v.damage != MISSING]  # deleted in the meantime
    last = newest(checkpoints)
    logs = dict(last.written if last else {})
    wanted = {CONFIG} if checkpoints else set()
    small = [
        judged(folder / name, judge)
        for name, judge in JUDGES.items()
        if name in wanted or os.path.lexists(folder / name)
    ]
    verdicts = [*(_compared(v, root, checkpoints) for v in small), *checkpoints]
    if METRICS in logs or os.path.lexists(folder / METRICS):
        verdicts.append(judged(folder / METRICS, judge_rows, logs.pop(METRICS, None)))
    events = {path.relative_to(folder).as_posix() for path in event_files(folder)}
    for name in sorted(events | logs.keys()):
        verdicts.append(judged(folder / name, judge_events, logs.get(name)))
    verdicts += [judged(path, judge_archive) for path in sorted(folder.glob(SIZES))]
    for inner in sorted(path for path in folder.iterdir() if is_results(path)):
        verdicts += judge_folder(root, inner)
    return verdicts


def newest(verdicts: list[Verdict]) -> Verdict | None:
    """Of the whole ones that are the checkpoint of a step, the last."""
    numbered = [v for v in verdicts if v.step is not None and Path(v.file).stem.startswith("step-")]
    return max(numbered, key=lambda v: v.step or 0, default=None)


def others(root: Path, folder: Path) -> Iterator[str]:
    """Names of all that does not belong to the run: temporary files of a killed process too."""
    own = {*JUDGES, METRICS, run_folder.LOCK}
    for path in sorted(folder.iterdir()):
        name = path.relative_to(root).as_posix()
        if path.name in (CHECKPOINTS, TENSORBOARD) and path.is_dir():
            for inner in sorted(path.iterdir()):
                own_kind = (
                    inner in event_files(folder)
                    if path.name == TENSORBOARD
                    else inner.match("[!.]*.safetensors")
                )
                if not own_kind:
                    yield inner.relative_to(root).as_posix()
        elif is_results(path):
            yield from others(root, path)
        elif path.name not in own and not path.match(SIZES):
            yield f"{name}/" if path.is_dir() else name


def _compared(summary: Verdict, root: Path, checkpoints: list[Verdict]) -> Verdict:
    """The verdict on a summary: a checkpoint of its step was there, and a later one may be now."""
    if summary.damage or Path(summary.file).name != SUMMARY:
        return summary
    try:
        said = read_json(root / summary.file)
    except (OSError, DamagedError):  # replaced in the meantime
        return summary
    step = said.get("step")
    same = newest([v for v in checkpoints if v.step == step])
    if same is not None and said.get("state_sha256") not in (None, same.state_sha256):
        return replace(summary, damage=f"its state_sha256 is not that of {same.file}")
    # Looked up only now: a run that ends meanwhile has saved before it wrote the summary.
    last = newest_step((root / summary.file).with_name(CHECKPOINTS))
    if isinstance(step, int) and step > (last or 0):
        there = "there is none" if last is None else f"the last one is of step {last}"
        return replace(summary, damage=f"it is of step {step}, but of checkpoints {there}")
    return summary
