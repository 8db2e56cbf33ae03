"""pretrain(config): from a `Config` to a run folder with a trained encoder.

The config is unpacked here, once; everything below takes numbers, arrays and functions.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

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
    check_augment,
)
from moco_tf.config import RECORDED_FIELDS, Config
from moco_tf.data.failures import failure_of_step
from moco_tf.data.found import left_out
from moco_tf.data.pipeline import steps_per_epoch
from moco_tf.data.sources import Images
from moco_tf.data.view_function import checked_function
from moco_tf.distribute.cluster import Cluster
from moco_tf.distribute.workers import Workers
from moco_tf.errors import InputError
from moco_tf.evaluate.ending import ending_lines
from moco_tf.evaluate.label_free import SIGNALS
from moco_tf.evaluate.opening import OTHER_IMAGES, advice, describe, notes
from moco_tf.files.digests import write_json
from moco_tf.files.store import cache_folder
from moco_tf.methods.moco import MoCo
from moco_tf.runs import checkpoint, variables
from moco_tf.runs import folder as run_folder
from moco_tf.runs.backbone import backbone_lines, find_backbone
from moco_tf.runs.extension import more_epochs
from moco_tf.runs.initial_weights import InitialWeights, read_initial_weights
from moco_tf.runs.objects import with_objects
from moco_tf.runs.remote import working_folder
from moco_tf.runs.storage import RunStorage
from moco_tf.training.callbacks import Callback, called
from moco_tf.training.divergence import DivergenceWatch
from moco_tf.training.loop import Loop, Plan
from moco_tf.training.memory import peak_memory_bytes
from moco_tf.training.pretraining_job import PretrainingJob, baselines
from moco_tf.training.progress import Progress, progress_of, summary_of
from moco_tf.training.reporting import NullReporter, Reporter
from moco_tf.training.trackers import check_tracker

# What one of several workers may have otherwise than the others; all else decides what is computed.
OWN_FIELDS = {
    *("run_dir", "max_bad_images", "max_small_images", "preemption_seconds", "init", "track"),
    *RECORDED_FIELDS,
} - {"augment_function"}
FOUND_FIELDS = ("architecture", "encoder", "normalization")  # of a backbone
MONITORED = ("knn_top1", *SIGNALS)  # fields of `Progress`


def pretrain(
    config: Config,
    *,
    reporter: Reporter | None = None,
    cluster: Cluster | None = None,
    extend: bool = False,
    callbacks: Sequence[Callback] = (),
    augment: Callable | None = None,
    source: Any = None,
    backbone: Any = None,
) -> dict:
    """Trains as `config` says, from the last whole checkpoint of its run folder if there is one.

    Args:
        cluster: the processes that train together, each calling this; the first one reports and
            writes the run folder, which the others need not see.
        extend: more epochs than the run in the folder had are welcome also where the learning rate
            depends on them, and jumps.
        callbacks: see `moco_tf.pretrain`.
        augment: function(image, seed) that makes the views instead of the config's augmentation:
            uint8 [h, w, 3] and int64 [2] -> uint8 [S, S, 3]. A pure function in TensorFlow ops; no
            two views of a run have the same seed.
        source: the images, as `open_images` takes them, instead of those that `config.data` names;
            the run records their text there. Each process of a cluster gives its own.
        backbone: a `keras.Model` from images [b, S, S, 3] to features [b, D] or [b, h, w, D], in
            place of `config.encoder`; its weights are what the encoders begin with.

    Returns:
        What `summary.json` holds.

    Raises:
        InputError: anything wrong with the config, the data or the folder.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
        Unsaved: SIGTERM arrived, and `preemption_seconds` do not suffice for another save.
        WorkerLostError: another process of the cluster is gone.
    """
    check_tracker(config.track)
    config = with_objects(config, source, backbone, augment)
    name = config.run_dir or f"runs/{config.recipe}"
    workers = Workers(build_strategy(config, cluster), cluster, config.worker_timeout)
    reporter = (reporter or Reporter()) if workers.chief else NullReporter()
    with contextlib.ExitStack() as held:
        with workers.startup():
            run = _open(name, config, held, workers, reporter, source, backbone, augment)
        held.callback(reporter.close)
        summary = _train(run, extend, callbacks)
    for line in ending_lines(summary, name, run.train, run.test):
        reporter.line(line)
    return summary


@dataclass(frozen=True)
class _Opened:
    """A run before anything is built."""

    config: Config
    run_dir: Path
    workers: Workers
    reporter: Reporter
    storage: RunStorage
    train: Images
    test: Images | None
    weights: InitialWeights | None  # to begin with; none: those drawn by the seed
    augment: Callable | None


def _open(
    name: str,
    config: Config,
    held: contextlib.ExitStack,
    workers: Workers,
    reporter: Reporter,
    source: Any,
    backbone: Any,
    augment: Callable | None,
) -> _Opened:
    """Locks the folder, reads what the run begins with, and opens the images."""
    run_dir, remote, check_lock, weights = Path(name), None, _nothing, None
    if workers.chief:
        run_dir, remote = held.enter_context(working_folder(name, reporter.line))
        check_lock = held.enter_context(run_folder.locked(run_dir))
        saved = checkpoint.newest_step(run_folder.checkpoint_folder(run_dir))
        if not config.is_resnet:
            reporter.stage(f"reading the backbone {config.encoder}")
        config, weights = find_backbone(config, backbone, None if saved is None else run_dir)
        if run_folder.check(run_dir, config):
            config = run_folder.recorded(run_dir, config)
        if config.init and saved is None:
            weights = read_initial_weights(config, run_dir, warn=reporter.line)
            config = config.model_copy(update={"init_sha256": weights.sha256})
    check_augment(config, augment)
    cache = run_dir if workers.chief or run_dir.is_dir() else cache_folder()
    reporter.stage(f"reading the images of {config.data}")
    train, test = build_images(config, cache, reporter.stage, source)
    if augment is not None:
        augment = checked_function(augment, train, config.image_size)
    storage = RunStorage(run_folder.checkpoint_folder(run_dir), check_lock, remote)
    return _Opened(config, run_dir, workers, reporter, storage, train, test, weights, augment)


def _nothing() -> None:
    """What a worker checks that writes nothing."""


def _train(run: _Opened, extend: bool, callbacks: Sequence[Callback]) -> dict:
    workers, reporter, train = run.workers, run.reporter, run.train
    epoch_steps = steps_per_epoch(train.count, run.config.batch_size)
    config, longer = _agreed(run, epoch_steps, extend)
    rate = build_schedule(config, epoch_steps)
    _tell(run, config, rate(0), epoch_steps, longer)
    reporter.stage("building the encoders")
    with workers.collective():  # variables begin with the values of the chief
        whole_views = None if run.augment else train
        method = build_method(config, workers.strategy, whole_views)
    monitor, pixels = None, None
    if workers.chief:
        monitor, pixels = _monitors(config, method, train, run.test, run.augment)
    given = bool(config.init or config.architecture)  # weights that are not drawn by the seed
    progress = _begun(run, config, method, given)
    total_steps = config.epochs * epoch_steps
    last_step = min(total_steps, config.max_steps if config.max_steps is not None else total_steps)
    reporter.start(
        run.run_dir,
        last_step,
        progress.step,
        healthy=_healthy(config, train),
        before=progress.written,
        track=config.track,
        config=config.model_dump(mode="json"),
    )
    if progress.step:
        reporter.line(f"resumed at step {progress.step}")
        if progress.images != train.identity:
            reporter.line(OTHER_IMAGES)
    progress.images = train.identity
    if monitor and not progress.step:
        _evaluate_untrained(progress, monitor, pixels, reporter)
    plan = Plan(
        last_step,
        epoch_steps,
        images_per_step=config.batch_size,
        log_every=config.log_every,
        checkpoint_every=config.checkpoint_every,
        preemption_seconds=config.preemption_seconds,
        save_first=given and not progress.step,  # then nobody needs them any more
    )
    loop = Loop(
        _job(config, method, progress, rate, monitor, run.storage.folder, reporter),
        build_batches(config, train, progress.step, method.envelope.own_rows(), run.augment),
        plan,
        failed=partial(_failed, config, train, epoch_steps),
        storage=run.storage,
        workers=workers,
        reporter=reporter,
    )
    with called(callbacks, reporter, loop):
        loop.run()
    summary = _summary(progress, method, train, run.test)
    if workers.chief:
        write_json(run.run_dir / run_folder.SUMMARY, summary)
        reporter.end(summary)
    workers.barrier()
    return summary


def _agreed(run: _Opened, epoch_steps: int, extend: bool) -> tuple[Config, str]:
    """The config that all workers go by, and a line on it where its run had fewer epochs."""
    workers, config, longer = run.workers, run.config, ""
    if not config.is_resnet:  # which the chief alone has found
        found = {name: getattr(config, name) for name in FOUND_FIELDS}
        config = config.model_copy(update=workers.from_chief(found))
    fixed = config.model_dump_json(exclude=OWN_FIELDS)
    workers.refuse_different({"config": fixed, "set of images": run.train.identity})
    with workers.startup():
        if workers.chief:
            config, longer = _extended(config, run.run_dir, run.storage.folder, epoch_steps, extend)
    known = workers.from_chief({name: getattr(config, name) for name in RECORDED_FIELDS})
    if not workers.chief:  # which alone sees the folder
        config = config.model_copy(update=known)
    return config, longer


def _tell(run: _Opened, config: Config, first_rate: float, epoch_steps: int, longer: str) -> None:
    """Reports what is trained, on what, and what is off in the config of a new run."""
    train, replicas = run.train, run.workers.strategy.num_replicas_in_sync
    run.reporter.line(describe(config, train, run.test, replicas, first_rate, epoch_steps))
    new = checkpoint.newest_step(run.storage.folder) is None
    hints = [one.line for one in advice(config, train, replicas)] if new else []
    first = [*backbone_lines(config), run.weights.line if run.weights else "", longer]
    for line in filter(None, (*first, *notes(config, train, run.test), *hints)):
        run.reporter.line(line)


def _begun(run: _Opened, config: Config, method: MoCo, given: bool) -> Progress:
    """How far the run is. The method gets the state that is saved, or the weights given."""
    workers, progress = run.workers, Progress()
    with workers.startup():
        if workers.chief:
            run_folder.claim(run.run_dir, config)  # only now: bad data leave no run behind
            progress = _restore(run.run_dir, method, run.reporter)
            if run.weights:
                run.weights.assign(method.state())
    progress = Progress(**workers.from_chief(asdict(progress)))
    if progress.step or given:
        workers.assign_from_chief(method.state())
    return progress


def _job(
    config: Config,
    method: MoCo,
    progress: Progress,
    rate: Callable[[int], float],
    monitor: Callable[[], dict[str, float]] | None,
    checkpoints: Path,
    reporter: Reporter,
) -> PretrainingJob:
    # With float16 a step that overflows changes nothing.
    scale = method.envelope.optimizer.loss_scale if config.precision == "mixed_float16" else None
    return PretrainingJob(
        method,
        progress,
        DivergenceWatch(method.envelope.tensor_names, checkpoints, scale),
        reporter,
        train_step=build_step(config, method),
        rate=rate,
        monitor=monitor,
        monitored=MONITORED,
        knn_every=config.knn_every,
    )


def _summary(progress: Progress, method: MoCo, train: Images, test: Images | None) -> dict:
    """What `summary.json` holds."""
    return summary_of(progress) | {
        "left_out": left_out(train, test),
        "peak_memory_bytes": peak_memory_bytes(),
        "state_sha256": checkpoint.digest(variables.arrays_of(method.state())),
    }


def _healthy(config: Config, train: Images) -> dict[str, Any]:
    """Settings of `health_messages`."""
    directions = 2 if config.symmetric else 1
    return {
        "dim": config.dim,
        "queue_size": config.queue_size,
        "directions": directions,
        "keys_per_step": directions * config.batch_size,
        "blank_share": train.blank_share,
    }


def _evaluate_untrained(progress: Progress, monitor, pixels, reporter: Reporter) -> None:
    """The baselines: of the encoder before its first step and, with labels, of the pixels."""
    reporter.stage("evaluating the untrained encoder")
    untrained = monitor()
    for name, value in untrained.items():
        setattr(progress, f"{name}_untrained", value)
    if pixels:
        reporter.stage("kNN of the raw pixels")
        progress.knn_top1_pixels = pixels()
    reporter.evaluation(0, untrained, baselines(progress))


def _failed(config: Config, train: Images, epoch_steps: int, error, *, step: int) -> InputError:
    """What to raise where a batch could not be read, here or, without an error, elsewhere."""
    if error is None:
        return InputError(
            f"an image could not be read by another worker after step {step}, which is saved. "
            f"{train.mend}"
        )
    return failure_of_step(
        error,
        images=train,
        advice=""
        if config.augment_function is None
        else f"{config.augment_function} made its views: if that is at fault, mend it and go on.",
        seed=config.seed,
        step=step,
        batch_size=config.batch_size,
        epoch_steps=epoch_steps,
    )


def _monitors(config: Config, method: MoCo, train: Images, test: Images | None, augment):
    """Returns what is evaluated, as functions: {name: value} of the encoder, kNN of the pixels.

    Without labels the first leaves kNN out, and the second is None.
    """
    knn_top1, pixels, signals = build_monitors(config, method)
    split = build_split(config, train, test)
    views = build_views(config, train, test, augment=augment)
    if split is None:
        return partial(signals, views), None
    return lambda: {"knn_top1": knn_top1(split)} | signals(views), partial(pixels, split)


def _restore(run_dir: Path, method: MoCo, reporter: Reporter) -> Progress:
    folder = run_folder.checkpoint_folder(run_dir)
    restored = checkpoint.load_latest(folder, warn=reporter.line)
    if restored is None:
        return Progress()
    arrays, step, extra = restored
    progress = progress_of(Progress, extra, step=step, folder=folder)
    variables.assign(method.state(), arrays)
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
