"""Pre-training as the loop sees it: the step of a method, its log line, its evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from moco_tf.errors import DivergedError
from moco_tf.runs import variables
from moco_tf.training.divergence import DivergenceWatch
from moco_tf.training.progress import Progress
from moco_tf.training.reporting import Reporter


class PretrainingJob:
    """A method as the `Loop` trains it.

    Args:
        method: has `state()`, all variables that a step changes.
        train_step: (view 1, view 2, step, what `schedules` give) -> scalars to log, "loss" and
            "first_nonfinite" among them.
        schedules: functions of the step, by the names that are logged: "lr" and others.
        monitor: returns numbers for the fields `monitored` of `progress`; none: no evaluations.
        knn_every: epochs between two evaluations; 0: only at the end.
    """

    evaluates_first = False

    def __init__(
        self,
        method: Any,
        progress: Progress,
        watch: DivergenceWatch,
        reporter: Reporter,
        *,
        train_step: Callable,
        schedules: Mapping[str, Callable[[int], float]],
        monitor: Callable[[], dict[str, float]] | None,
        monitored: Collection[str],
        knn_every: int,
    ):
        self.method, self.progress, self.watch, self.reporter = method, progress, watch, reporter
        self._monitored, self._knn_every = monitored, knn_every
        self._train_step, self._schedules, self._monitor = train_step, schedules, monitor

    def step(self, batch) -> None:
        """One step of the method."""
        step = self.progress.step
        self._scheduled = {name: value(step) for name, value in self._schedules.items()}
        self._scalars = self._train_step(*batch, step, *self._scheduled.values())
        first = self._scalars.pop("first_nonfinite")
        self.watch.add(step + 1, self._scalars["loss"], first)

    def wait(self) -> None:
        """For the loss of the last step."""
        float(self._scalars["loss"])

    def row(self, regular: bool) -> dict[str, float]:
        """The numbers of the last step."""
        values = {name: float(value) for name, value in self._scalars.items()}
        self.progress.loss = values["loss"] if math.isfinite(values["loss"]) else None
        return self._scheduled | values

    def evaluation_due(self, epoch: int, last: bool) -> bool:
        """At the end, and each `knn_every` epochs."""
        every = self._knn_every
        return self._monitor is not None and (last or bool(every and epoch % every == 0))

    def evaluate(self) -> None:
        """Of the query encoder, as it is."""
        values = _finite(self._monitor, self.reporter)
        for name in self._monitored:
            setattr(self.progress, name, values.get(name))

    def note_evaluation(self) -> list[str]:
        """A row of its own; the best kNN so far is a checkpoint to keep."""
        progress, best = self.progress, self.progress.knn_top1_best
        values = {name: getattr(progress, name) for name in self._monitored}
        values = {name: value for name, value in values.items() if value is not None}
        if values:
            self.reporter.evaluation(progress.step, values, baselines(progress))
        if progress.knn_top1 is None:
            return []
        progress.knn_top1_best = max(progress.knn_top1, best or 0.0)
        return ["best_knn"] if best is None or progress.knn_top1 > best else []

    def arrays(self) -> dict[str, np.ndarray]:
        """The method's state."""
        return variables.arrays_of(self.method.state())

    def extra(self) -> dict:
        """All fields of `Progress`."""
        return asdict(self.progress)


def baselines(progress: Progress) -> dict[str, float]:
    """What was measured before the first step, as far as it is known."""
    ends = ("_untrained", "_pixels")
    known = {name: value for name, value in asdict(progress).items() if value is not None}
    return {name: value for name, value in known.items() if name.endswith(ends)}


def _finite(monitor, reporter: Reporter) -> dict[str, float]:
    """The values, or none, with a line that says so, of features that are no numbers any more."""
    try:
        return monitor()
    except DivergedError as error:
        reporter.line(f"evaluation: {error}")
        return {}
