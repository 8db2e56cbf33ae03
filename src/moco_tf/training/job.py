"""What the loop trains, and how far: that differs in pre-training, probe and fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from moco_tf.errors import InputError
from moco_tf.training.divergence import DivergenceWatch


class Job(Protocol):
    """What is trained: its step, and what is logged and evaluated.

    Attributes:
        progress: step, epoch, seconds, images_per_second, written and evaluation_due are the
            loop's to set.
        evaluates_first: at the end of an epoch the evaluation comes before the log line, because
            its results are part of it.
        watch: of numbers that must stay finite.
    """

    progress: Any
    evaluates_first: bool
    watch: DivergenceWatch

    def step(self, batch: Any) -> None:
        """Takes one step, from `progress.step` on."""

    def wait(self) -> None:
        """Returns when the device has taken the last step."""

    def row(self, regular: bool) -> dict[str, float]:
        """Returns what is logged, with lr. Irregular: the next regular row is to hold it too."""

    def evaluation_due(self, epoch: int, last: bool) -> bool:
        """Whether to evaluate after the last step of an epoch, or of the run."""

    def evaluate(self) -> None:
        """Evaluates; may be interrupted at any place."""

    def note_evaluation(self) -> list[str]:
        """Keeps and reports what `evaluate` found; returns tags of the checkpoint it deserves."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that a step changes."""

    def extra(self) -> Mapping[str, Any]:
        """`progress` as a checkpoint holds it."""


class BadImages(Protocol):
    """Unreadable images that batches pass over."""

    def row(self) -> dict[str, float]:
        """Returns what is logged of them."""

    def any_new(self) -> bool:
        """Whether this worker's last batch passes over one that was not met before."""

    def note(self, step: int) -> InputError | None:
        """Notes those of all workers in the batch after `step`; returns what to raise, if any."""


@dataclass(frozen=True)
class Plan:
    """How far and how often.

    Attributes:
        images_per_step: on average, for the speed.
        preemption_seconds: see `StopSignals`.
        log_epochs: the end of an epoch is a logging point too.
        save_first: save before the first step.
    """

    last_step: int
    epoch_steps: int
    images_per_step: float
    log_every: int
    checkpoint_every: int
    preemption_seconds: float | None = None
    log_epochs: bool = False
    save_first: bool = False
