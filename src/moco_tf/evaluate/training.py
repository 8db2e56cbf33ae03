"""Training a classifier on labelled images, its features frozen or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from moco_tf.data.failures import failure_of_step
from moco_tf.data.stream import Elements
from moco_tf.distribute.workers import Workers
from moco_tf.evaluate.classifier import add, evaluate, means
from moco_tf.evaluate.counted import counted
from moco_tf.evaluate.finetune_config import FinetuneConfig
from moco_tf.evaluate.labelled import Labelled, test_batches
from moco_tf.evaluate.probe_config import ProbeConfig
from moco_tf.evaluate.progress import SUMS, Progress
from moco_tf.runs import variables
from moco_tf.runs.storage import RunStorage
from moco_tf.training.divergence import DivergenceWatch
from moco_tf.training.job import Plan
from moco_tf.training.loop import Loop
from moco_tf.training.reporting import Reporter

ADVICE = "Use a smaller --lr, with another --out."
RESTORE = "Restore the file and run the command again, or start anew in another --out."


class Trainable(Protocol):
    """What is trained: `LinearProbe` or `Finetuner`."""

    def train_step(self, images: Any, labels: Any, rates: Any, *inputs: Any) -> Mapping[str, Any]:
        """One step; returns `classifier.batch_sums`, "step_loss" and "first_nonfinite"."""

    def evaluate_step(self, images: Any, labels: Any) -> Mapping[str, Any]:
        """Returns the `classifier.batch_sums` of one batch."""

    def state(self) -> Mapping[str, tf.Variable]:
        """Everything that a step changes, by name."""


def logged(
    rates: tuple[float, ...],
    trained: dict[str, list[float]],
    tested: dict[str, list[float]] | None,
) -> dict[str, float]:
    """One flat row: loss, top1, val_top1 ... of the first head; of each, "_lr30", if several."""
    values = {name: trained[name] for name in ("loss", "top1")}
    if tested is not None:
        values |= {f"val_{name}": tested[name] for name in ("loss", "top1", "top5")}
    row = {name: heads[0] for name, heads in values.items()}
    if len(rates) > 1:
        for name, heads in values.items():
            row |= {f"{name}_lr{rate:g}": v for rate, v in zip(rates, heads, strict=True)}
    return row


class ClassifierJob:
    """A classifier as the `Loop` trains it: judged after each epoch, the best one is kept.

    Args:
        rates: step -> learning rates, as `model.train_step` takes them.
        heads: learning rates that name the classifiers in the logs, where there are several.
        evaluation: of `on_test_images`.
        inputs: step -> what else `model.train_step` takes.
        after_first_epoch: called after the first evaluation.
    """

    evaluates_first = True

    def __init__(
        self,
        model: Trainable,
        progress: Progress,
        watch: DivergenceWatch,
        *,
        rates: Callable[[int], list[float]],
        heads: tuple[float, ...],
        evaluation: Callable[[], dict[str, list[float]]],
        inputs: Callable[[int], tuple[Any, ...]] = lambda step: (),
        after_first_epoch: Callable[[], None] = lambda: None,
    ):
        self.model, self.progress, self.watch = model, progress, watch
        self._rates, self._heads, self._evaluation = rates, heads, evaluation
        self._inputs, self._after_first_epoch = inputs, after_first_epoch
        self._tested: dict[str, list[float]] | None = None

    def step(self, batch: Any) -> None:
        """One step of all heads."""
        (images, labels), progress = batch, self.progress
        rates = tf.constant(self._rates(progress.step))
        found = self.model.train_step(images, labels, rates, *self._inputs(progress.step))
        progress.sums = add(progress.sums, {name: found[name] for name in SUMS})
        self._loss = found["step_loss"]
        self.watch.add(progress.step + 1, self._loss, found["first_nonfinite"])

    def wait(self) -> None:
        """For the loss of the last step."""
        float(self._loss)

    def row(self, regular: bool) -> dict[str, float]:
        """Means of all images since the last regular row; the evaluation if it was just made."""
        trained = means(self.progress.sums)
        self.progress.sums = None if regular else self.progress.sums
        self.progress.loss = trained["loss"]
        tested, self._tested = self._tested, None
        lr = self._rates(self.progress.step - 1)[0]
        return {"lr": lr} | logged(self._heads, trained, tested)

    def evaluation_due(self, epoch: int, last: bool) -> bool:
        """After each epoch."""
        return True

    def evaluate(self) -> None:
        """On all test images."""
        self._tested = self._evaluation()
        if self.progress.epoch == 1:
            self._after_first_epoch()

    def note_evaluation(self) -> list[str]:
        """Keeps the results; the best top-1 so far is a checkpoint to keep."""
        return ["best_top1"] if self.progress.note(self._tested or {}) else []

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that a step changes."""
        return variables.arrays_of(self.model.state())

    def extra(self) -> dict[str, Any]:
        """All fields of `Progress`, as JSON."""
        extra = dict(vars(self.progress))
        if self.progress.sums is not None:
            extra["sums"] = {n: np.asarray(v).tolist() for n, v in self.progress.sums.items()}
        return extra


def on_test_images(
    model: Trainable, data: Labelled, reporter: Reporter, *, batch_size: int, image_size: int
) -> Callable[[], dict[str, list[float]]]:
    """Returns a function that returns {"loss", "top1", "top5"}, of each head."""

    def evaluation() -> dict[str, list[float]]:
        batches = test_batches(data.test, batch_size=batch_size, image_size=image_size)
        batches = counted(batches, data.test.count, "test images", reporter.line)
        return evaluate(model.evaluate_step, batches)

    return evaluation


def train(
    job: ClassifierJob,
    crops: tf.data.Dataset,
    config: ProbeConfig | FinetuneConfig,
    data: Labelled,
    *,
    batch_size: int,
    epoch_steps: int,
    images_per_step: float,
    description: str,
    storage: RunStorage,
    strategy: tf.distribute.Strategy,
    reporter: Reporter,
) -> None:
    """Runs the loop for `config.epochs`.

    Args:
        crops: of the training images from the job's step on, in the order of `config.seed`.
        images_per_step: see `Plan`.
        description: said at the start.

    Raises:
        What `Loop.run` does.
    """
    progress = job.progress
    plan = Plan(
        config.epochs * epoch_steps,
        epoch_steps,
        images_per_step=images_per_step,
        log_every=config.log_every,
        checkpoint_every=config.checkpoint_every,
        preemption_seconds=config.preemption_seconds,
        log_epochs=True,
    )
    reporter.start(storage.folder.parent, plan.last_step, progress.step, before=progress.written)
    reporter.line(description)
    if progress.step:
        reporter.line(f"resumed at step {progress.step}")
    order = {"seed": config.seed, "batch_size": batch_size, "epoch_steps": epoch_steps}
    Loop(
        job,
        Elements(crops),
        plan,
        failed=partial(failure_of_step, images=data.train, advice=RESTORE, **order),
        storage=storage,
        workers=Workers(strategy, None),
        reporter=reporter,
    ).run()
