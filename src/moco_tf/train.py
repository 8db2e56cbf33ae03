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
from moco_tf.interruption import Interrupted, StopSignals
from moco_tf.methods.moco import MoCo
from moco_tf.reporting import Interval, Reporter, peak_memory_bytes
from moco_tf.written import Digests


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
    written: Digests | None = None  # of the logs


def pretrain(config: Config, *, reporter: Reporter | None = None) -> dict:
    """Trains as `config` says, from the last whole checkpoint of its run folder if there is one.

    Returns:
        What `summary.json` holds.

    Raises:
        InputError: anything wrong with the config, the data or the folder.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
    """
    run_dir = Path(config.run_dir or f"runs/{config.recipe}")
    reporter = reporter or Reporter()
    with run_folder.locked(run_dir):
        run_folder.check(run_dir, config)
        try:
            return _pretrain(config, run_dir, reporter)
        finally:
            reporter.close()


def _pretrain(config: Config, run_dir: Path, reporter: Reporter) -> dict:
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
    reporter.start(run_dir, last_step, progress.step, healthy=healthy, before=progress.written)
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
        reporter=reporter,
    )
    summary = asdict(progress)
    del summary["images"], summary["epoch"], summary["written"]
    summary |= {
        "peak_memory_bytes": peak_memory_bytes(),
        "state_sha256": checkpoint.digest(_arrays(method)),
    }
    run_folder.write_json(run_dir / run_folder.SUMMARY, summary)
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
    reporter: Reporter,
) -> None:
    """The loop: one compiled step a batch, and now and then a log line, kNN or checkpoint."""
    train_step = build_step(config, method)
    interval = Interval()
    saved, compiling = progress.step > 0, True
    looks: dict[int, tuple[tf.Tensor, tf.Tensor]] = {}  # at the steps since the last look at them
    guarded = config.precision == "mixed_float16"  # a step that overflows changes nothing

    def stop_if_diverged(arrays):
        if not guarded:
            refuse_diverged(looks, method.places, arrays, folder)
        looks.clear()

    def save(tag=None):
        progress.written = reporter.written()
        arrays, extra = _arrays(method), asdict(progress)
        stop_if_diverged(arrays)
        checkpoint.save(folder, arrays, step=progress.step, extra=extra, tag=tag)

    with StopSignals() as stop:
        while progress.step < last_step:
            with interval.waiting():
                try:
                    view1, view2 = next(batches)
                except tf.errors.OpError as error:
                    save()
                    raise InputError(
                        f"{unreadable(progress.step) or 'an image'} could not be read "
                        f"({reason(error)}) after step {progress.step}, which is saved. The next "
                        f"start leaves unreadable files of a folder out."
                    ) from None
            lr = rate(progress.step)
            step = tf.constant(progress.step, tf.int64)
            scalars = train_step(view1, view2, step, tf.constant(lr, tf.float32))
            progress.step += 1
            interval.steps += 1
            looks[progress.step] = scalars["loss"], scalars.pop("first_broken")
            if compiling:
                float(scalars["loss"])  # waits for the device
                reporter.line(f"first step after {interval.end_of_first_step():.1f} s")
                compiling = False
            epoch, into_epoch = divmod(progress.step, epoch_steps)
            progress.epoch = epoch
            last, saved = progress.step == last_step, False
            if last or stop.signal or progress.step % config.log_every == 0:
                values = {name: float(value) for name, value in scalars.items()}
                timing = interval.close(config.batch_size)
                progress.loss = values["loss"] if math.isfinite(values["loss"]) else None
                progress.images_per_second = timing["images_per_second"]
                progress.seconds += timing.pop("seconds")
                row = {"epoch": (progress.step - 1) // epoch_steps, "lr": lr}
                reporter.metrics(progress.step, row | values | timing)
                stop_if_diverged({})
            due = not into_epoch and config.knn_every and epoch % config.knn_every == 0
            if knn_top1 and (due or last):
                with interval.apart() as spent:
                    progress.knn_top1 = _finite(knn_top1, reporter)
                progress.seconds += spent.seconds
                if progress.knn_top1 is not None:
                    reporter.evaluation(progress.step, {"knn_top1": progress.knn_top1})
                    if progress.knn_top1 > (progress.knn_top1_best or -1):
                        progress.knn_top1_best = progress.knn_top1
                        save(tag="best_knn")
            if not into_epoch or stop.signal or progress.step % config.checkpoint_every == 0:
                with interval.apart():
                    save()
                saved = True
            if stop.signal and not last:
                raise Interrupted(stop.signal, progress.step)
        if not saved:
            save()


def _finite(knn_top1: Callable[[], float], reporter: Reporter) -> float | None:
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
