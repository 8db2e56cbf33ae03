"""Numbers of a run: to metrics.jsonl, TensorBoard and the console. Imports no TensorFlow."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from moco_tf.files.atomic import write_atomically, write_error
from moco_tf.runs.folder import METRICS, TENSORBOARD
from moco_tf.runs.log_digests import Digests, LogDigests, begins_with, parse_log_digests
from moco_tf.training.console import Console, Update, progress, sparkline
from moco_tf.training.health import HealthWatch
from moco_tf.training.trackers import Tracker


class Reporter:
    """Writes what a run reports. With `json_mode`, the console is stderr.

    Args:
        began: when the command did, by `time.monotonic`; none: now.
    """

    def __init__(self, json_mode: bool = False, began: float | None = None):
        self._began = time.monotonic() if began is None else began
        self.console = Console(stderr=json_mode)
        self._update: Update | None = None
        self._files = contextlib.ExitStack()
        self._health = HealthWatch()
        self._written: LogDigests | None = None
        self._knn = ""
        self._losses: list[float] = []  # of this process
        self.on_metrics: Callable[[int, dict[str, float]], None] | None = None
        self._tracker: Tracker | None = None

    def start(
        self,
        run_dir,
        last_step: int,
        resumed_step: int,
        *,
        healthy: dict[str, Any] | None = None,
        before: Digests | None = None,
        track: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Opens the files; what they show of steps after `resumed_step` is taken away.

        Args:
            healthy: settings of `health_messages`; none: health is not judged.
            before: what `written` returned before the checkpoint of `resumed_step`.
            track: name of an experiment tracker, which gets the same numbers.
            config: of the run, plain values, for TensorBoard and the tracker.
        """
        self.last_step, self._healthy = last_step, healthy
        self._path = Path(run_dir) / METRICS
        self._written = LogDigests(Path(run_dir), before)
        write_atomically(
            self._path, self._rows_of(resumed_step, parse_log_digests(before).get(METRICS))
        )
        self._rows = self._files.enter_context(self._path.open("a", encoding="utf-8"))
        from moco_tf.training.curves import Curves

        self._curves = Curves(Path(run_dir) / TENSORBOARD, resumed_step, config)
        self._files.callback(self._curves.close)
        if track:
            self._tracker = Tracker(track, Path(run_dir), config or {}, self.line)
            self._files.callback(self._tracker.close)
        self._update = self._files.enter_context(progress(self.console, last_step, resumed_step))

    def _rows_of(self, step: int, mark: Mapping[str, Any] | None) -> bytes:
        """The rows that a run goes on from: those that the checkpoint of `step` has seen.

        Args:
            mark: their digest in that checkpoint; none: all rows up to `step` are taken.
        """
        if not step:  # all is written anew
            return b""
        if mark:
            data = self._path.read_bytes() if self._path.exists() else b""
            if begins_with(data, mark):
                return data[: mark["bytes"]]
            self.line(f"{METRICS} is damaged: its rows are not those that were written; going on.")
        return "".join(rows_until(self._path, step)).encode()

    def line(self, text: str) -> None:
        """One line of text."""
        self.console.print(text, markup=False)

    def stage(self, text: str) -> None:
        """Says what begins now, and how long the command has been running."""
        self.line(f"{time.monotonic() - self._began:6.1f} s  {text}")

    def metrics(self, step: int, values: dict) -> None:
        """Writes one logging point; says once what is unhealthy. A NaN is null in JSON."""
        self._append("metrics", step, values)
        self._curves.metrics(step, values)
        loss = self._followed(values["loss"]) if self._update else f"loss {values['loss']:.3f}"
        text = f"epoch {values['epoch'] + 1}  {loss}  top1 {values['top1']:.1f}%{self._knn}"
        if "images_per_second" in values:
            text += f"  {values['images_per_second']:.0f} images/s"
        if "val_top1" in values:
            text += f"  validation top1 {values['val_top1']:.2f}%  top5 {values['val_top5']:.2f}%"
        if self._update:
            self._update(step, text)
        else:
            wait = f"  wait {values['data_wait']:.0%}" if "data_wait" in values else ""
            self.line(f"step {step}/{self.last_step}  {text}{wait}")
        if self._healthy is not None:
            for message in self._health.new_messages(step, values, self._healthy):
                self.line(message)
        if self.on_metrics:
            self.on_metrics(step, values)

    def _followed(self, loss: float) -> str:
        """The loss beside that of guessing, log(1 + K) for each direction, and its course."""
        self._losses.append(loss)
        course = "" if self.console.options.ascii_only else f" {sparkline(self._losses)}"
        if self._healthy is None:
            return f"loss {loss:.3f}{course}"
        chance = self._healthy["directions"] * math.log1p(self._healthy["queue_size"])
        return f"loss {loss:.2f} (chance {chance:.2f}){course}"

    def evaluation(self, step: int, values: dict[str, float], baselines: dict[str, float]) -> None:
        """Writes the results of an evaluation, as a row of their own.

        Args:
            values: {"knn_top1": percent, ...}; of step 0, the untrained encoder's.
            baselines: {"knn_top1_untrained": percent, "knn_top1_pixels": percent, ...}, to be
                compared with: drawn at every evaluation, as lines.
        """
        at_start = {} if step else {k: v for k, v in baselines.items() if k.endswith("_pixels")}
        self._append("evaluation", step, values | at_start)
        self._curves.evaluation(step, values, baselines)
        words = {name: f"{name.replace('_', ' ')} {value:.3f}" for name, value in values.items()}
        if "knn_top1" in values:
            self._knn = f"  kNN {values['knn_top1']:.1f}%"
            pixels = [f" (raw pixels {top1:.2f}%)" for top1 in at_start.values()]
            words["knn_top1"] = f"kNN top-1 {values['knn_top1']:.2f}%{''.join(pixels)}"
        self.line(f"step {step}{'' if step else ', untrained'}: {'  '.join(words.values())}")

    def pictures(self, step: int, sheets: Mapping[str, Any]) -> None:
        """Shows pictures, uint8 [h, w, 3], by name in TensorBoard."""
        self._curves.pictures(step, sheets)

    def end(self, summary: Mapping[str, Any]) -> None:
        """Tells the tracker what the run ended with."""
        if self._tracker:
            self._tracker.finish(summary)

    def written(self) -> Digests:
        """Digests of all that was written since the run began, for a checkpoint to carry."""
        return self._written.digests() if self._written else {}

    def close(self) -> None:
        """Closes the files; may be called again, and before `start`."""
        with contextlib.suppress(OSError):  # of what was refused before
            self._files.close()

    def _append(self, kind: str, step: int, values: dict) -> None:
        """Writes a row."""
        row = {k: v if math.isfinite(v) else None for k, v in values.items()}
        text = json.dumps({"step": step} | row) + "\n"
        try:
            self._rows.write(text)
            self._rows.flush()
        except OSError as error:
            raise write_error(self._path, len(text), error) from None
        if self._tracker:
            self._tracker.log(kind, step, values)


class NullReporter(Reporter):
    """Of a worker that is not the chief: it writes no file and says nothing."""

    def start(self, run_dir, last_step, resumed_step, **settings) -> None:
        """Opens nothing."""

    def line(self, text: str) -> None:
        """Not said."""

    def metrics(self, step: int, values: dict) -> None:
        """Not written."""

    def evaluation(self, step: int, values: dict[str, float], baselines: dict[str, float]) -> None:
        """Not written."""


def rows_until(path: Path, step: int) -> list[str]:
    """The rows of a log up to those of `step`; a broken one is dropped, which is said."""
    kept: list[str] = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines(keepends=True):
        row_step = _step_of(line)
        if row_step is None:
            print(f"{path.name}: a broken line was dropped: {line[:60]!r}", file=sys.stderr)
        elif row_step <= step:
            kept.append(line if line.endswith("\n") else line + "\n")
    return kept


def _step_of(line: str) -> int | None:
    """The step of a row; none where it was cut off by a kill, or is not a row."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return step if isinstance(step, int) else None


def to_stderr(message: str) -> None:
    """Where functions without a `Reporter` say what a user should know."""
    print(message, file=sys.stderr)
