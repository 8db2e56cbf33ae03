"""pretrain(config): from a `Config` to a run folder with a trained encoder.

The config is unpacked here, once; everything below takes numbers, arrays and functions.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from moco_tf.building import (
    Method,
    build_batches,
    build_method,
    build_schedules,
    build_step,
    build_strategy,
)
from moco_tf.config import Config
from moco_tf.data.pipeline import steps_per_epoch
from moco_tf.distribute.cluster import Cluster
from moco_tf.distribute.workers import Workers
from moco_tf.evaluate.ending import ending_lines
from moco_tf.evaluate.label_free import SIGNALS
from moco_tf.evaluate.monitor import Untrained, evaluate_untrained, evaluations
from moco_tf.evaluate.opening import OTHER_IMAGES
from moco_tf.files.digests import write_json
from moco_tf.pretraining.bad_images import BadImages
from moco_tf.pretraining.opening import (
    OpenedRun,
    agreed_config,
    begin,
    open_run,
    tell,
)
from moco_tf.pretraining.outcome import failed, healthy, summary_with
from moco_tf.report.after import report_pretraining
from moco_tf.report.album import Album, Monitor, with_pictures
from moco_tf.runs import folder as run_folder
from moco_tf.runs.config_file import as_written
from moco_tf.runs.objects import with_objects
from moco_tf.training.callbacks import Callback, called
from moco_tf.training.divergence import DivergenceWatch
from moco_tf.training.job import Plan
from moco_tf.training.loop import Loop
from moco_tf.training.pretraining_job import PretrainingJob
from moco_tf.training.progress import Progress
from moco_tf.training.reporting import NullReporter, Reporter
from moco_tf.training.trackers import check_tracker

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
    report: bool = False,
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
        report: write report.html at the end, too.

    Returns:
        What `summary.json` holds.

    Raises:
        InputError: anything wrong with the config, the data or the folder.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
        Unsaved: SIGTERM arrived, and `preemption_seconds` do not suffice for another save.
        WorkerLostError: another process of the cluster is gone.
    """
    if cluster is None or cluster.chief:  # which alone reports
        check_tracker(config.track)
    config = with_objects(config, source, backbone, augment)
    name = config.folder
    workers = Workers(build_strategy(config, cluster), cluster, config.worker_timeout)
    reporter = (reporter or Reporter()) if workers.chief else NullReporter()
    with contextlib.ExitStack() as held:
        with workers.startup():
            run = open_run(name, config, held, workers, reporter, source, backbone, augment)
        held.callback(reporter.close)
        summary, reported = _train(run, extend, callbacks, report)
    for line in ending_lines(summary, name, run.train, run.test, reported):
        reporter.line(line)
    return summary


def _train(
    run: OpenedRun, extend: bool, callbacks: Sequence[Callback], report: bool
) -> tuple[dict, bool]:
    workers, reporter, train = run.workers, run.reporter, run.train
    epoch_steps = steps_per_epoch(train.count, run.config.batch_size)
    config, longer = agreed_config(run, epoch_steps, extend)
    schedules = build_schedules(config, epoch_steps)
    tell(run, config, schedules["lr"](0), epoch_steps, longer)
    reporter.stage("building the encoders")
    with workers.collective():  # variables begin with the values of the chief
        whole_views = None if run.augment else train
        method = build_method(config, workers.strategy, whole_views)
    monitor, pixels, album, reported = None, None, None, False
    if workers.chief:
        monitor, pixels = evaluations(config, method, train, run.test, run.augment)
    given = bool(config.init or config.architecture)  # weights that are not drawn by the seed
    progress = begin(run, config, method, given)
    total_steps = config.epochs * epoch_steps
    last_step = min(total_steps, config.max_steps if config.max_steps is not None else total_steps)
    reporter.start(
        run.run_dir,
        last_step,
        progress.step,
        healthy=healthy(config, train),
        before=progress.written,
        track=config.track,
        config=as_written(config),
    )
    if progress.step:
        reporter.line(f"resumed at step {progress.step}")
        if progress.images != train.identity:
            reporter.line(OTHER_IMAGES)
    same = progress.images == train.identity
    progress.images = train.identity
    if monitor and report:
        album = Album(config, train, run.test, method.query.encoder, run.augment)
        monitor = _pictured(monitor, album, progress, reporter)
    untrained = None
    if monitor and not progress.step:
        evaluate = partial(evaluate_untrained, progress, monitor, pixels, reporter)
        untrained = Untrained(method.query.variables, evaluate)
    plan = Plan(
        last_step,
        epoch_steps,
        images_per_step=config.batch_size,
        log_every=config.log_every,
        checkpoint_every=config.checkpoint_every,
        preemption_seconds=config.preemption_seconds,
        save_first=given and not progress.step,  # then nobody needs them any more
    )
    own_rows = method.envelope.own_rows()
    batches = build_batches(config, train, progress.step, own_rows, run.augment)
    of_run = run.run_dir, workers, reporter
    before = progress.step if same else None
    bad_images = BadImages(batches, config.max_bad_images, *of_run, before)
    loop = Loop(
        _job(config, method, progress, schedules, monitor, run.storage.folder, reporter),
        batches,
        plan,
        failed=partial(failed, config, train, epoch_steps),
        storage=run.storage,
        workers=workers,
        reporter=reporter,
        bad_images=bad_images,
        beginning=untrained,
    )
    with called(callbacks, reporter, loop):
        loop.run()
    summary = summary_with(config, progress, method, train, run.test) | bad_images.row()
    if workers.chief:
        write_json(run.run_dir / run_folder.SUMMARY, summary)
        reporter.end(summary)
        if album:
            reporter.stage("looking at what it has learned")
            reported = report_pretraining(run.run_dir, config, album, reporter.line)
    workers.barrier()
    return summary, reported


def _pictured(monitor: Monitor, album: Album, progress: Progress, reporter: Reporter) -> Monitor:
    """The monitor; with it TensorBoard gets pictures."""

    def show(sheets: dict[str, Any]) -> None:
        reporter.pictures(progress.step, sheets)

    return with_pictures(monitor, album, not progress.step, show, reporter.line)


def _job(
    config: Config,
    method: Method,
    progress: Progress,
    schedules: Mapping[str, Callable[[int], float]],
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
        schedules=schedules,
        monitor=monitor,
        monitored=MONITORED,
        knn_every=config.knn_every,
    )
