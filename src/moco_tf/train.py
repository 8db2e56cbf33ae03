"""pretrain(config): from a `Config` to a run folder with a trained encoder.

The config is unpacked here, once; everything below takes numbers, arrays and functions.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from moco_tf import checkpoint, run_folder
from moco_tf.assembly import (
    build_batches,
    build_images,
    build_method,
    build_monitors,
    build_schedule,
    build_split,
    build_step,
    build_strategy,
)
from moco_tf.config import Config
from moco_tf.data.pipeline import first_unreadable, reason, steps_per_epoch
from moco_tf.data.sources import Images
from moco_tf.diverged import refuse_diverged
from moco_tf.errors import DivergedError, InputError
from moco_tf.interruption import Interrupted, StopSignals, Unsaved
from moco_tf.methods.moco import MoCo
from moco_tf.reporting import Interval, Reporter, peak_memory_bytes
from moco_tf.saving import Saver


@dataclass
class Progress:
    """How far a run is, beside its arrays; every checkpoint keeps it. Accuracies in percent."""

    step: int = 0
    epoch: int = 0  # whole ones
    images: str | None = None  # identity of the training data, whose order is shuffled
    seconds: float = 0.0
    loss: float | None = None
    images_per_second: float | None = None
    knn_top1: float | None = None
    knn_top1_best: float | None = None
    knn_top1_untrained: float | None = None
    knn_top1_pixels: float | None = None
    knn_due: bool = False  # a signal came before or during the evaluation after this step


def pretrain(config: Config, *, reporter: Reporter | None = None) -> dict:
    """Trains as `config` says, from the last whole checkpoint of its run folder if there is one.

    Returns:
        What `summary.json` holds.

    Raises:
        InputError: anything wrong with the config, the data or the folder.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
        Unsaved: SIGTERM arrived, and `preemption_seconds` do not suffice for another save.
    """
    run_dir = Path(config.run_dir or f"runs/{config.recipe}")
    reporter = reporter or Reporter()
    with run_folder.locked(run_dir) as still_held:
        run_folder.check(run_dir, config)
        try:
            return _pretrain(config, run_dir, reporter, still_held)
        finally:
            reporter.close()


def _pretrain(
    config: Config, run_dir: Path, reporter: Reporter, still_held: Callable[[], None]
) -> dict:
    strategy = build_strategy(config)
    train, test = build_images(config, cache=run_dir)
    epoch_steps = steps_per_epoch(train.count, config.batch_size)
    total_steps = config.epochs * epoch_steps
    last_step = min(total_steps, config.max_steps if config.max_steps is not None else total_steps)
    method = build_method(config, strategy, train)
    rate = build_schedule(config, epoch_steps)
    split = build_split(config, train, test)
    monitors = [partial(top1, split) for top1 in build_monitors(config, method)] if split else None
    run_folder.claim(run_dir, config)  # only now: bad data must not leave a run behind
    progress = _restore(run_dir, method, reporter)
    calls = 2 if config.symmetric else 1
    healthy = {"dim": config.dim, "queue_size": config.queue_size, "calls": calls}
    healthy["keys_per_step"] = calls * config.batch_size
    reporter.start(run_dir, last_step, progress.step, healthy=healthy)
    reporter.line(_describe(config, train, test, strategy, rate(0), epoch_steps, total_steps))
    for line in _notes(train, test, config.image_size):
        reporter.line(line)
    if progress.step:
        reporter.line(f"resumed at step {progress.step}")
        if progress.images != train.identity:
            reporter.line(
                "the training images are not those of before: from here on the run is not what it "
                "would have been"
            )
    progress.images = train.identity
    if monitors and not progress.step:
        progress.knn_top1_untrained, progress.knn_top1_pixels = (m() for m in monitors)
    _train(
        config,
        method,
        build_batches(config, train, progress.step),
        progress,
        last_step=last_step,
        epoch_steps=epoch_steps,
        rate=rate,
        knn_top1=monitors[0] if monitors else None,
        unreadable=lambda step: first_unreadable(
            train,
            seed=config.seed,
            step=step,
            batch_size=config.batch_size,
            epoch_steps=epoch_steps,
        ),
        folder=run_folder.checkpoint_folder(run_dir),
        still_held=still_held,
        reporter=reporter,
    )
    summary = asdict(progress)
    del summary["images"], summary["epoch"], summary["knn_due"]
    summary |= {
        "peak_memory_bytes": peak_memory_bytes(),
        "state_sha256": checkpoint.digest(_arrays(method)),
    }
    run_folder.write_json(run_dir / "summary.json", summary)
    return summary


def _train(
    config: Config,
    method: MoCo,
    batches,
    progress: Progress,
    *,
    last_step: int,
    epoch_steps: int,
    rate: Callable[[int], float],
    knn_top1: Callable[[], float] | None,
    unreadable: Callable[[int], str | None],
    folder: Path,
    still_held: Callable[[], None],
    reporter: Reporter,
) -> None:
    """The loop: one compiled step a batch, and now and then a log line, kNN or checkpoint."""
    train_step = build_step(config, method)
    interval = Interval()
    compiling = True
    losses: dict[int, tf.Tensor] = {}  # of the steps since the last look at them
    guarded = config.precision == "mixed_float16"  # a step that overflows changes nothing

    def stop_if_diverged(arrays):
        if not guarded:
            refuse_diverged(losses, arrays, folder)
        losses.clear()

    def save(*tags):
        progress.seconds += interval.take()
        with interval.apart():
            saver.wait()
            arrays = _arrays(method)
            stop_if_diverged(arrays)
            saver.begin(arrays, step=progress.step, extra=asdict(progress), tags=tags)

    def stop_if_signalled():
        if stop.signal:
            saver.wait()
            raise Interrupted(stop.signal, progress.step)

    def next_views():
        with interval.waiting():
            try:
                return next(batches)
            except tf.errors.OpError as error:
                save(None)
                saver.wait()
                raise InputError(
                    f"{unreadable(progress.step) or 'an image'} could not be read "
                    f"({reason(error)}) after step {progress.step}, which is saved. The next "
                    f"start leaves unreadable files of a folder out."
                ) from None

    def log(scalars, lr):
        values = {name: float(value) for name, value in scalars.items()}
        timing = interval.close(config.batch_size)
        progress.loss = values["loss"] if math.isfinite(values["loss"]) else None
        progress.images_per_second = timing["images_per_second"]
        progress.seconds += timing.pop("seconds")
        row = {"epoch": (progress.step - 1) // epoch_steps, "lr": lr}
        reporter.metrics(progress.step, row | values | timing)
        if progress.loss is None:
            saver.wait()  # so that the checkpoint that is told is the last one
        stop_if_diverged({})

    def evaluate():
        """kNN, to its end or not at all; returns the tags of the checkpoint it deserves."""
        best, progress.knn_due = progress.knn_top1_best, True
        with interval.apart() as spent:
            stop.unless_stopped(knn_now)
        if progress.knn_due:
            return []
        progress.seconds += spent.seconds
        if progress.knn_top1 is None:
            return []
        reporter.evaluation(progress.step, {"knn_top1": progress.knn_top1})
        progress.knn_top1_best = max(progress.knn_top1, best or 0.0)
        return ["best_knn"] if best is None or progress.knn_top1 > best else []

    def knn_now():
        progress.knn_top1 = _finite(knn_top1, reporter)
        progress.knn_due = False

    with (
        StopSignals(config.preemption_seconds, lambda: _last_words(config, folder)) as stop,
        Saver(folder, still_held) as saver,
    ):
        if knn_top1 and progress.knn_due:
            save(*evaluate(), None)
            stop_if_signalled()
        while progress.step < last_step:
            saver.look()
            view1, view2 = next_views()
            lr = rate(progress.step)
            step = tf.constant(progress.step, tf.int64)
            scalars = train_step(view1, view2, step, tf.constant(lr, tf.float32))
            progress.step += 1
            interval.steps += 1
            losses[progress.step] = scalars["loss"]
            if compiling:
                float(scalars["loss"])  # waits for the device
                reporter.line(f"first step after {interval.end_of_first_step():.1f} s")
                compiling = False
            epoch, into_epoch = divmod(progress.step, epoch_steps)
            progress.epoch = epoch
            last = progress.step == last_step
            tags: list[str | None] = []
            if last or stop.signal or progress.step % config.log_every == 0:
                log(scalars, lr)
            due = not into_epoch and config.knn_every and epoch % config.knn_every == 0
            if knn_top1 and (due or last):
                tags += evaluate()
            regular = not into_epoch or progress.step % config.checkpoint_every == 0
            if regular or last or stop.signal:
                tags.append(None)
            if stop.signal:
                saver.wait()
                if (saver.seconds or 0) > stop.seconds_left():
                    raise Unsaved(stop.signal, progress.step, _last_words(config, folder))
            if tags:
                save(*tags)
            if progress.knn_due or not last:
                stop_if_signalled()
        if not last_step:
            save(None)


def _last_words(config: Config, folder: Path) -> str:
    newest = checkpoint.newest_step(folder)
    kept = "no checkpoint was written yet" if newest is None else f"checkpoint {newest} is kept"
    return (
        f"too little was left of preemption_seconds={config.preemption_seconds:g}; {kept}. "
        f"The same command goes on from there."
    )


def _finite(knn_top1, reporter: Reporter) -> float | None:
    """The accuracy, or None, with a line that says so, of features that are no numbers any more."""
    try:
        return knn_top1()
    except DivergedError as error:
        reporter.line(f"kNN: {error}")
        return None


def _restore(run_dir: Path, method: MoCo, reporter: Reporter) -> Progress:
    restored = checkpoint.load_latest(run_folder.checkpoint_folder(run_dir), warn=reporter.line)
    if restored is None:
        return Progress()
    arrays, _, extra = restored
    checkpoint.assign(method.state(), arrays)
    return Progress(**extra)


def _arrays(method: MoCo) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in method.state().items()}


def _describe(config, train, test, strategy, first_rate, epoch_steps, total_steps) -> str:
    scaling = (
        f"{config.learning_rate:g} x {config.batch_size}/256"
        if config.lr_scaling == "linear"
        else "absolute"
    )
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU device"
    stop = "" if config.max_steps is None else f", up to step {min(config.max_steps, total_steps)}"
    return (
        f"{config.recipe}: {config.encoder} on {config.data}, {train.count} images"
        f"{f' + {test.count} test' if test else ''}; batch {config.batch_size} in groups of "
        f"{config.group_size} on {strategy.num_replicas_in_sync} {kind}(s); learning rate "
        f"{config.scaled_learning_rate:g} ({scaling}), first {first_rate:g}; "
        f"{epoch_steps} steps an epoch, {total_steps} in all{stop}"
    )


def _notes(train: Images, test: Images | None, image_size: int) -> list[str]:
    """Lines on images that are left out or enlarged."""
    skipped = train.skipped_line(), test.skipped_line("test ") if test else ""
    notes = [line for line in skipped if line]
    if test and test.why_unlabelled:
        notes.append(f"{test.why_unlabelled}: kNN uses held-out training images")
    small = train.smaller_than(image_size)
    if len(small):
        first = f", the first is {train.files[small[0]]}" if train.files else ""
        notes.append(f"{len(small)} images are smaller than the crop and are enlarged{first}")
    return notes
