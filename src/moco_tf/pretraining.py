"""pretrain(config): from a `Config` to a run folder with a trained encoder.

The config is unpacked here, once; everything below takes numbers, arrays and functions.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from moco_tf.build import (
    build_batches,
    build_images,
    build_method,
    build_monitors,
    build_schedule,
    build_split,
    build_step,
    build_strategy,
    build_views,
)
from moco_tf.config import RECORDED_FIELDS, Config
from moco_tf.data.failures import LEFT_OUT, failure_of_step
from moco_tf.data.found import found_lines, left_out
from moco_tf.data.pipeline import steps_per_epoch
from moco_tf.data.sources import Images
from moco_tf.distribute.cluster import Cluster
from moco_tf.distribute.workers import Workers
from moco_tf.errors import DivergedError, InputError, WorkerLostError
from moco_tf.evaluate.ending import ending_lines
from moco_tf.evaluate.label_free import SIGNALS
from moco_tf.files.digests import write_json
from moco_tf.methods.moco import MoCo
from moco_tf.recipes import RECIPES
from moco_tf.runs import checkpoint
from moco_tf.runs import folder as run_folder
from moco_tf.runs.background_save import AsyncCheckpointer
from moco_tf.runs.extension import more_epochs
from moco_tf.runs.initial_weights import InitialWeights, read_initial_weights
from moco_tf.runs.remote import RemoteFolder, cache_folder, working_folder
from moco_tf.training.advice import Facts, short_sides, suggestions
from moco_tf.training.clock import StepClock
from moco_tf.training.divergence import refuse_diverged
from moco_tf.training.memory import give_back_freed_memory, peak_memory_bytes
from moco_tf.training.progress import Progress, progress_of
from moco_tf.training.reporting import NullReporter, Reporter
from moco_tf.training.signals import Interrupted, StopSignals, Unsaved

# What one of several workers may have otherwise than the others; all else decides what is computed.
OWN_FIELDS = {
    *("run_dir", "max_bad_images", "max_small_images", "preemption_seconds", "init"),
    *RECORDED_FIELDS,
}
MONITORED = ("knn_top1", *SIGNALS)  # fields of `Progress`


def pretrain(
    config: Config,
    *,
    reporter: Reporter | None = None,
    cluster: Cluster | None = None,
    extend: bool = False,
) -> dict:
    """Trains as `config` says, from the last whole checkpoint of its run folder if there is one.

    Args:
        cluster: the processes that train together, each calling this; the first one reports and
            writes the run folder, which the others need not see.
        extend: more epochs than the run in the folder had are welcome also where the learning rate
            depends on them, and jumps.

    Returns:
        What `summary.json` holds.

    Raises:
        InputError: anything wrong with the config, the data or the folder.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
        Unsaved: SIGTERM arrived, and `preemption_seconds` do not suffice for another save.
        WorkerLostError: another process of the cluster is gone.
    """
    name = config.run_dir or f"runs/{config.recipe}"
    workers = Workers(build_strategy(config, cluster), cluster, config.worker_timeout)
    reporter = (reporter or Reporter()) if workers.chief else NullReporter()
    with contextlib.ExitStack() as held:
        with workers.startup():
            run_dir, remote, check_lock = Path(name), None, _nothing
            weights = None
            if workers.chief:
                run_dir, remote = held.enter_context(working_folder(name))
                check_lock = held.enter_context(run_folder.locked(run_dir))
                if run_folder.check(run_dir, config):
                    config = run_folder.recorded(run_dir, config)
                saved = checkpoint.newest_step(run_folder.checkpoint_folder(run_dir))
                if config.init and saved is None:
                    weights = read_initial_weights(config, run_dir, warn=reporter.line)
                    config = config.model_copy(update={"init_sha256": weights.sha256})
            own = workers.chief or run_dir.is_dir()
            reporter.stage(f"reading the images of {config.data}")
            images = build_images(config, run_dir if own else cache_folder(), reporter.stage)
        held.callback(reporter.close)
        kept = RunStorage(run_folder.checkpoint_folder(run_dir), check_lock, remote)
        summary = _pretrain(config, run_dir, reporter, workers, kept, *images, weights, extend)
    for line in ending_lines(summary, name, *images):
        reporter.line(line)
    return summary


def _nothing() -> None:
    """What a worker checks that writes nothing, and what follows a save on this machine."""


class RunStorage(NamedTuple):
    """Where a run's state is kept."""

    folder: Path  # of the checkpoints
    check_lock: Callable[[], None]  # raises `InputError` if nothing may be written there any more
    remote: RemoteFolder | None

    def send(self) -> None:
        """Copies what was saved to where it belongs."""
        if self.remote:
            self.remote.push()

    def exit_message(self, config: Config, chief: bool) -> str:
        """Returns what a process says whose time is over."""
        newest = self.remote.newest_step() if self.remote else checkpoint.newest_step(self.folder)
        kept = f"checkpoint {newest} is kept" if newest is not None else "no checkpoint was written"
        return (
            f"too little was left of preemption_seconds={config.preemption_seconds:g}; "
            f"{kept if chief else 'the first worker says what is kept'}. The same command goes on "
            f"from there."
        )


def _pretrain(
    config: Config,
    run_dir: Path,
    reporter: Reporter,
    workers: Workers,
    kept: RunStorage,
    train: Images,
    test: Images | None,
    weights: InitialWeights | None,
    extend: bool,
) -> dict:
    strategy = workers.strategy
    fixed = config.model_dump_json(exclude=OWN_FIELDS)
    workers.refuse_different({"config": fixed, "set of images": train.identity})
    epoch_steps, longer = steps_per_epoch(train.count, config.batch_size), ""
    with workers.startup():
        if workers.chief:
            config, longer = _extended(config, run_dir, kept.folder, epoch_steps, extend)
    known = workers.from_chief({name: getattr(config, name) for name in RECORDED_FIELDS})
    if not workers.chief:  # which alone sees the folder
        config = config.model_copy(update=known)
    total_steps = config.epochs * epoch_steps
    last_step = min(total_steps, config.max_steps if config.max_steps is not None else total_steps)
    rate = build_schedule(config, epoch_steps)
    reporter.line(_describe(config, train, test, strategy, rate(0), epoch_steps, total_steps))
    given = [weights.line if weights else "", longer]
    new = checkpoint.newest_step(kept.folder) is None
    advice = _advice(config, train, strategy, total_steps) if new else []
    for line in [*filter(None, given), *_notes(train, test, config.image_size), *advice]:
        reporter.line(line)
    reporter.stage("building the encoders")
    with workers.collective():  # variables begin with the values of the chief
        method = build_method(config, strategy, train)
    monitor, pixels = _monitors(config, method, train, test) if workers.chief else (None, None)
    progress = Progress()
    with workers.startup():
        if workers.chief:
            run_folder.claim(run_dir, config)  # only now: bad data must not leave a run behind
            progress = _restore(run_dir, method, reporter)
            if weights:
                weights.assign(method.state())
    progress = Progress(**workers.from_chief(asdict(progress)))
    if progress.step or config.init:
        workers.assign_from_chief(method.state())
    directions = 2 if config.symmetric else 1
    healthy: dict[str, Any] = {
        "dim": config.dim,
        "queue_size": config.queue_size,
        "directions": directions,
    }
    healthy["keys_per_step"] = directions * config.batch_size
    healthy["blank_share"] = train.blank_share
    reporter.start(run_dir, last_step, progress.step, healthy=healthy, before=progress.written)
    if progress.step:
        reporter.line(f"resumed at step {progress.step}")
        if progress.images != train.identity:
            reporter.line(
                "the training images are not those of before: from here on the run is not what it "
                "would have been"
            )
    progress.images = train.identity
    if monitor and not progress.step:
        reporter.stage("evaluating the untrained encoder")
        untrained = monitor()
        for name, value in untrained.items():
            setattr(progress, f"{name}_untrained", value)
        if pixels:
            reporter.stage("kNN of the raw pixels")
            progress.knn_top1_pixels = pixels()
        reporter.evaluation(0, untrained, _baselines(progress))
    _train(
        config,
        method,
        workers,
        build_step(config, method),
        build_batches(config, train, progress.step, method.envelope.own_rows()),
        progress,
        last_step=last_step,
        epoch_steps=epoch_steps,
        rate=rate,
        monitor=monitor,
        failed=partial(
            failure_of_step,
            images=train,
            seed=config.seed,
            batch_size=config.batch_size,
            epoch_steps=epoch_steps,
        ),
        kept=kept,
        reporter=reporter,
    )
    summary = asdict(progress)
    del summary["images"], summary["epoch"], summary["knn_due"], summary["written"]
    summary |= {
        "left_out": left_out(train, test),
        "peak_memory_bytes": peak_memory_bytes(),
        "state_sha256": checkpoint.digest(_arrays(method)),
    }
    if workers.chief:
        write_json(run_dir / run_folder.SUMMARY, summary)
    workers.barrier()
    return summary


def _train(
    config: Config,
    method: MoCo,
    workers: Workers,
    train_step: Callable,
    batches,
    progress: Progress,
    *,
    last_step: int,
    epoch_steps: int,
    rate: Callable[[int], float],
    monitor: Callable[[], dict[str, float]] | None,
    failed: Callable[..., InputError],
    kept: RunStorage,
    reporter: Reporter,
) -> None:
    """The loop: one compiled step a batch; now and then a log line, evaluation or checkpoint."""
    interval = StepClock()
    compiling = True
    unchecked_steps: dict[
        int, tuple[tf.Tensor, tf.Tensor]
    ] = {}  # at the steps since the last look at them
    exit_message = partial(kept.exit_message, config, workers.chief)
    envelope = method.envelope
    guarded = config.precision == "mixed_float16"  # a step that overflows changes nothing

    def stop_if_diverged(arrays):
        if not guarded:
            refuse_diverged(unchecked_steps, envelope.tensor_names, arrays, kept.folder)
        elif (
            unchecked_steps and float(envelope.optimizer.loss_scale) <= 1
        ):  # nothing is left to halve
            last = max(unchecked_steps)
            refuse_diverged({last: unchecked_steps[last]}, envelope.tensor_names, {}, kept.folder)
        unchecked_steps.clear()

    def save(*tags):
        if not workers.chief:
            stop_if_diverged({})
            return
        progress.seconds += interval.lap()
        with interval.excluded():
            saver.wait()
            kept.check_lock()
            progress.written = reporter.written()
            arrays = _arrays(method)
            stop_if_diverged(arrays)
            saver.save(arrays, step=progress.step, extra=asdict(progress), tags=tags)

    def leave_if(signal):
        if signal:
            saver.wait()
            workers.barrier()  # the chief has saved
            raise Interrupted(signal, progress.step)

    def next_views():
        if compiling:
            reporter.stage("compiling the first step")
        views = failure = None
        with interval.waiting():
            try:
                views = next(batches)
            except tf.errors.OpError as error:
                failure = error
            anywhere = workers.all_reduce_max(failure is not None)
        if not anywhere:
            return views
        save(None)
        saver.wait()
        workers.barrier()  # the chief has saved
        if failure:
            raise failed(failure, step=progress.step)
        raise InputError(
            f"an image could not be read by another worker after step {progress.step}, which is "
            f"saved. {LEFT_OUT}"
        )

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
        """To its end or not at all; returns the tags of the checkpoint it deserves."""
        best, progress.knn_due = progress.knn_top1_best, True
        with interval.excluded() as spent:
            stop.run_interruptible(evaluate_now)
        if progress.knn_due:
            return []
        progress.seconds += spent.seconds
        values = {name: getattr(progress, name) for name in MONITORED}
        values = {name: value for name, value in values.items() if value is not None}
        if values:
            reporter.evaluation(progress.step, values, _baselines(progress))
        if progress.knn_top1 is None:
            return []
        progress.knn_top1_best = max(progress.knn_top1, best or 0.0)
        return ["best_knn"] if best is None or progress.knn_top1 > best else []

    def evaluate_now():
        values = _finite(monitor, reporter)
        for name in MONITORED:
            setattr(progress, name, values.get(name))
        progress.knn_due = False

    with (
        StopSignals(config.preemption_seconds, exit_message) as stop,
        AsyncCheckpointer(kept.folder, kept.check_lock, kept.send) as saver,
    ):
        if progress.knn_due:
            if monitor:
                save(*evaluate(), None)
            progress.knn_due = progress.knn_due and workers.chief
            leave_if(workers.all_reduce_max(stop.signal or 0))
        if not last_step or (config.init and not progress.step):
            save(None)  # from here on nobody needs what `init` names
        while progress.step < last_step:
            saver.check()
            view1, view2 = next_views()
            lr = rate(progress.step)
            with workers.collective():
                scalars = train_step(view1, view2, progress.step, lr)
            progress.step += 1
            interval.steps += 1
            unchecked_steps[progress.step] = scalars["loss"], scalars.pop("first_nonfinite")
            if compiling:
                float(scalars["loss"])  # waits for the device
                reporter.line(f"first step after {interval.end_of_first_step():.1f} s")
                give_back_freed_memory()
                compiling = False
            epoch, into_epoch = divmod(progress.step, epoch_steps)
            progress.epoch = epoch
            last = progress.step == last_step
            tags: list[str | None] = []
            if last or stop.signal or progress.step % config.log_every == 0:
                log(scalars, lr)
            due = not into_epoch and config.knn_every and epoch % config.knn_every == 0
            if monitor and (due or last):
                tags += evaluate()
            wanted = stop.signal if progress.knn_due or not last else None
            try:
                signal = workers.all_reduce_max(
                    wanted or 0
                )  # of any of them: all leave after one step
            except WorkerLostError:
                save(*tags, None)  # the step is whole
                raise
            regular = not into_epoch or progress.step % config.checkpoint_every == 0
            if regular or last or signal:
                tags.append(None)
            if stop.signal:
                saver.wait()
                if (saver.seconds or 0) > stop.seconds_left():
                    raise Unsaved(stop.signal, progress.step, exit_message())
            if tags:
                save(*tags)
            leave_if(signal)


def _baselines(progress: Progress) -> dict[str, float]:
    """What was measured before the first step, as far as it is known."""
    ends = ("_untrained", "_pixels")
    known = {name: value for name, value in asdict(progress).items() if value is not None}
    return {name: value for name, value in known.items() if name.endswith(ends)}


def _monitors(config: Config, method: MoCo, train: Images, test: Images | None):
    """Returns what is evaluated, as functions: {name: value} of the encoder, kNN of the pixels.

    Without labels the first leaves kNN out, and the second is None.
    """
    knn_top1, pixels, signals = build_monitors(config, method)
    split, views = build_split(config, train, test), build_views(config, train, test)
    if split is None:
        return partial(signals, views), None
    return lambda: {"knn_top1": knn_top1(split)} | signals(views), partial(pixels, split)


def _finite(monitor, reporter: Reporter) -> dict[str, float]:
    """The values, or none, with a line that says so, of features that are no numbers any more."""
    try:
        return monitor()
    except DivergedError as error:
        reporter.line(f"evaluation: {error}")
        return {}


def _restore(run_dir: Path, method: MoCo, reporter: Reporter) -> Progress:
    folder = run_folder.checkpoint_folder(run_dir)
    restored = checkpoint.load_latest(folder, warn=reporter.line)
    if restored is None:
        return Progress()
    arrays, step, extra = restored
    progress = progress_of(Progress, extra, step=step, folder=folder)
    checkpoint.assign(method.state(), arrays)
    return progress


def _extended(
    config: Config, run_dir: Path, checkpoints: Path, epoch_steps: int, allowed: bool
) -> tuple[Config, str]:
    """The config to go on with, and a line on it where its run had fewer epochs."""
    resumed = (run_dir / run_folder.CONFIG).exists()
    before = run_folder.read_config(run_dir).epochs if resumed else config.epochs
    if before == config.epochs:
        return config, ""
    return more_epochs(
        config.model_copy(update={"epochs": before}),
        config.epochs,
        step=checkpoint.newest_step(checkpoints) or 0,
        rate_of=partial(build_schedule, epoch_steps=epoch_steps),
        allowed=allowed,
    )


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


def _advice(config, train: Images, strategy, total_steps: int) -> list[str]:
    """Lines on what is off in the config for these images, as far as it costs nothing to know."""
    recipe = RECIPES.get(config.recipe)
    facts = Facts(
        images=train.count,
        steps=total_steps,
        devices=strategy.num_replicas_in_sync,
        gpus=len(tf.config.list_physical_devices("GPU")),
        short_sides=short_sides(train.sizes),
        small_images=len(train.smaller_than(config.image_size)),
        recipe_learning_rate=recipe.config.learning_rate if recipe else None,
    )
    return [found.line for found in suggestions(config, facts)]


def _notes(train: Images, test: Images | None, image_size: int) -> list[str]:
    """Lines on what was found, and on images that are left out, show nothing or are enlarged."""
    notes = found_lines(train, test)
    if test and test.why_unlabelled:
        notes.append(f"{test.why_unlabelled}: kNN uses held-out training images")
    small = train.smaller_than(image_size)
    if len(small):
        first = f", the first is {train.files[small[0]]}" if train.files else ""
        notes.append(f"{len(small)} images are smaller than the crop and are enlarged{first}")
    return notes
