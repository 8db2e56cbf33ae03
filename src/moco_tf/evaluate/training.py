"""Training a classifier on labelled images, its features frozen or not: how far it is, the loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from moco_tf.errors import InputError
from moco_tf.evaluate.classifier import add, means
from moco_tf.evaluate.heads import SUMS, check_heads
from moco_tf.runs import checkpoint
from moco_tf.runs import folder as run_folder
from moco_tf.runs.log_digests import Digests
from moco_tf.training.clock import StepClock
from moco_tf.training.progress import progress_of
from moco_tf.training.reporting import Reporter
from moco_tf.training.signals import Interrupted, StopSignals

RESTORE = "Restore the file and run the command again, or start anew in another --out."


class Trainable(Protocol):
    """What the loop trains: `LinearProbe` or `Finetuner`."""

    def train_step(self, images: Any, labels: Any, rates: Any) -> Mapping[str, Any]:
        """One step; returns the `classifier.batch_sums` of the batch."""

    def state(self) -> Mapping[str, tf.Variable]:
        """Everything that a step changes, by name."""


@dataclass
class Progress:
    """How far a probe is, beside its arrays. Accuracies in percent, one of each head."""

    step: int = 0
    seconds: float = 0.0
    provenance: dict[str, Any] = field(default_factory=dict)  # which encoder, on which images
    written: Digests | None = None  # of the logs
    sums: dict[str, list[float] | float] | None = None  # `batch_sums` since the last logging point
    loss: list[float] | None = None
    top1: list[float] | None = None  # of the last whole epoch, on the test images
    top5: list[float] | None = None
    top1_best: list[float] | None = None

    def note(self, tested: dict[str, list[float]]) -> bool:
        """Keeps the results of an epoch; returns whether one of its top-1 is the best so far."""
        before = self.top1_best or [-math.inf] * len(tested["top1"])
        self.top1, self.top5 = tested["top1"], tested["top5"]
        self.top1_best = [max(pair) for pair in zip(before, tested["top1"], strict=True)]
        return max(tested["top1"]) > max(before)


def restore(
    out: Path, model: Trainable, provenance: dict[str, Any], heads: int, warn: Callable[[str], None]
) -> Progress:
    """Gives `model` the arrays of the newest checkpoint in `out`, if any; returns its progress.

    Args:
        provenance: which encoder, on which images.
        heads: classifiers that are trained.

    Raises:
        InputError: if the checkpoint is of another encoder or of other images, or not one that
            this version writes.
    """
    folder = run_folder.checkpoint_folder(out)
    restored = checkpoint.load_latest(folder, warn=warn)
    if restored is None:
        return Progress(provenance=provenance)
    arrays, step, extra = restored
    if "probed" in extra:  # the field's former name
        extra["provenance"] = extra.pop("probed")
    progress = progress_of(Progress, extra, step=step, folder=folder)
    there = progress.provenance
    different = [name for name in provenance if there.get(name) != provenance[name]]
    if different:
        listed = ", ".join(f"{n} ({there.get(n)} there, {provenance[n]} now)" for n in different)
        raise InputError(
            f"{out} holds results of another encoder or of other images: {listed}. "
            f"Use another --out, or remove that folder."
        )
    check_heads(extra, heads, out)
    checkpoint.assign(model.state(), arrays)
    if progress.sums is not None:
        progress.sums = {n: tf.constant(v, tf.float32) for n, v in progress.sums.items()}
    return progress


def arrays_of(model: Trainable) -> dict[str, np.ndarray]:
    """Everything that a step changes, as a checkpoint holds it."""
    return {name: variable.numpy() for name, variable in model.state().items()}


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


def train(
    model: Trainable,
    batches: Iterator[Any],
    evaluate: Callable[[], dict[str, list[float]]],
    progress: Progress,
    *,
    epochs: int,
    epoch_steps: int,
    images_per_step: float,
    rates: Callable[[int], list[float]],
    heads: tuple[float, ...],
    log_every: int,
    checkpoint_every: int,
    after_first_epoch: Callable[[], None],
    failed: Callable[..., InputError],
    folder: Path,
    reporter: Reporter,
) -> None:
    """The loop: one compiled step a batch; the host waits for it at logging points only.

    Args:
        rates: step -> learning rates, as `model.train_step` takes them.
        heads: learning rates that name the classifiers in the logs, where there are several.
        failed: `failure_of_step` of the images.
        folder: of the checkpoints.

    Raises:
        InputError: an image cannot be read any more; the state is saved.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
    """
    last_step = epochs * epoch_steps
    interval, finite = StepClock(), True

    def save(tag=None):
        progress.written = reporter.written()
        extra = {name: value for name, value in vars(progress).items() if name != "sums"}
        if progress.sums is not None:
            extra["sums"] = {n: np.asarray(v).tolist() for n, v in progress.sums.items()}
        checkpoint.save(folder, arrays_of(model), step=progress.step, extra=extra, tag=tag)

    with StopSignals() as stop:
        while progress.step < last_step:
            with interval.waiting():
                try:
                    images, labels = next(batches)
                except tf.errors.OpError as error:
                    save()
                    raise failed(error, step=progress.step, advice=RESTORE) from None
            lr = rates(progress.step)
            sums = model.train_step(images, labels, tf.constant(lr))
            progress.sums = add(progress.sums, {n: sums[n] for n in SUMS})
            interval.steps += 1
            progress.step += 1
            epoch, into_epoch = divmod(progress.step, epoch_steps)
            best = False
            regular = not into_epoch or progress.step % log_every == 0
            if regular or stop.signal:
                trained = means(progress.sums)  # of all images since the last logging point
                progress.sums = None if regular else progress.sums
                timing = interval.close(images_per_step)
                progress.seconds += timing.pop("seconds")
                progress.loss = trained["loss"]
                tested = None
                if not into_epoch:
                    with interval.excluded() as spent:
                        tested = evaluate()
                    progress.seconds += spent.seconds
                    best = progress.note(tested)
                row = {"epoch": (progress.step - 1) // epoch_steps, "lr": lr[0]} | timing
                reporter.metrics(progress.step, row | logged(heads, trained, tested))
                if finite and not np.isfinite(trained["loss"]).any():
                    finite = False
                    reporter.line("the loss is no number any more: use a lower learning rate")
            if epoch == 1 and not into_epoch:
                after_first_epoch()
            if best:
                save(tag="best_top1")
            if not into_epoch or stop.signal or progress.step % checkpoint_every == 0:
                with interval.excluded():
                    save()
            if stop.signal and progress.step < last_step:
                raise Interrupted(stop.signal, progress.step)
