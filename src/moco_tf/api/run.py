"""A run of pre-training, as Python sees it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moco_tf.config import Config, short_repr
from moco_tf.errors import DamagedError, InputError
from moco_tf.files.digests import read_json
from moco_tf.runs import checkpoint, checkpoint_file
from moco_tf.runs import folder as run_folder
from moco_tf.runs.config_file import read_config
from moco_tf.runs.snapshot import peek
from moco_tf.training.progress import Progress, progress_of, summary_of

if TYPE_CHECKING:
    import keras
    import pandas

    from moco_tf.api.report import Report

STOPPED = "stopped_early"  # in a summary: the run has not come to its end


class Run(os.PathLike[str]):
    """A run folder. It may be given wherever the path of one may.

    `pretrain` returns one and `load_run` opens one; nothing is read before it is asked for.

    Attributes:
        folder: where config.json, the checkpoints, metrics.jsonl and summary.json are. That of a
            run in an object store is its URL.
    """

    def __init__(self, folder: str | os.PathLike[str], summary: dict[str, Any] | None = None):
        self.folder: Path | str = path_of(folder)
        self._summary = summary

    def __fspath__(self) -> str:
        return str(self.folder)

    __str__ = __fspath__

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def report(self, **settings: Any) -> Report:
        """Writes report.html into the folder and returns it; a notebook shows it.

        Args:
            settings: `out`, `data`, `pictures`, `layout` and `reporter`, see
                `moco_tf.api.report.report`.
        """
        from moco_tf.api.report import report

        return report([str(self)], **settings)

    @property
    def config(self) -> Config:
        """The config that the run was trained with."""
        return read_config(self.folder)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What summary.json holds: "step", "loss", "knn_top1", "state_sha256" and others.

        Of a run that has not come to its end it tells the newest checkpoint, and "stopped_early"
        is True.

        Raises:
            InputError: there is no checkpoint yet, or the files are damaged.
        """
        return self._summary or _summary(Path(self))

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl: logging points ("loss") and evaluations ("knn_top1").

        Each has its "step". None stands for a number that was not finite.
        """
        path = Path(self) / run_folder.METRICS
        try:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}.") from None
        try:
            return [json.loads(line) for line in lines if line.endswith("\n")]
        except ValueError:
            raise InputError(f"{path} is damaged. See: moco-tf check {self}.") from None

    def metrics_frame(self) -> pandas.DataFrame:
        """The same as a pandas.DataFrame, one row for each; needs pandas."""
        import pandas

        return pandas.DataFrame(self.metrics)

    @cached_property
    def encoder(self) -> keras.Model:
        """The encoder as `load_encoder(run)` gives it: normalised images to pooled features."""
        from moco_tf.exporting.plain import load_encoder

        return load_encoder(self)

    def neighbours(self, *queries: Any, **settings: Any) -> list[dict[str, Any]]:
        """The images of the run's data that its encoder finds most similar to each query.

        Args:
            queries: paths of pictures, names of images in the data, or arrays uint8 [h, w, 3].
            settings: `data`, `k`, `features`, `out`: see `moco_tf.api.neighbours.neighbours`.

        Returns:
            For each query {"query", "image", "class", "neighbours"}.
        """
        from moco_tf.api.neighbours import neighbours

        return neighbours(str(self), queries, **settings)["queries"]


AnyRun = Run | str | os.PathLike[str]


def load_run(folder: str | os.PathLike[str]) -> Run:
    """Returns the run in `folder`, finished or not.

    Raises:
        InputError: `folder` is no run folder, or holds no checkpoint yet.
    """
    run = Run(folder)
    if Path(run).is_file():
        raise InputError(f"{run} is a file. Give a run's folder, or the file to load_encoder.")
    peek(Path(run))
    return run


def path_of(path: str | os.PathLike[str]) -> Path | str:
    """Returns `path` with the user's folder for "~"; a URL as it is."""
    text = text_of(path)
    return text if "://" in text else Path(text)


def text_of(path: str | os.PathLike[str]) -> str:
    """Returns `path` as the text that a command line would get from a shell."""
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(
            f"a folder or a file must be text or a path; received {short_repr(path)}, a "
            f"{type(path).__name__}."
        )
    return os.path.expanduser(os.fspath(path))


def texts_of(fields: Mapping[str, Any], *, run_dir: Any, **others: Any) -> dict[str, Any]:
    """Returns `fields`, and the others that are not None; paths as text."""
    given = {**fields, **{name: value for name, value in others.items() if value is not None}}
    given |= {} if run_dir is None else {"run_dir": text_of(run_dir)}
    return {n: os.fspath(v) if isinstance(v, os.PathLike) else v for n, v in given.items()}


def _summary(folder: Path) -> dict[str, Any]:
    from moco_tf.training.reporting import to_stderr

    peek(folder)  # which raises where there is no run, or no checkpoint
    checkpoints = run_folder.checkpoint_folder(folder)
    path = folder / run_folder.SUMMARY
    try:
        found = read_json(path) if path.exists() else None
    except DamagedError as error:
        raise InputError(f"{path} is damaged: {error}. See: moco-tf check {folder}.") from None
    if found and found.get("step", 0) >= (checkpoint.newest_step(checkpoints) or 0):
        return found
    loaded = checkpoint.load_latest(checkpoints, warn=to_stderr)
    if loaded is None:
        raise InputError(f"run folder {folder} holds no checkpoint any more.")
    arrays, step, extra = loaded
    progress = progress_of(Progress, extra, step=step, folder=checkpoints)
    return summary_of(progress) | {"state_sha256": checkpoint_file.digest(arrays), STOPPED: True}
