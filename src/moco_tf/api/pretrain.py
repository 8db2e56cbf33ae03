"""`moco_tf.pretrain`: from a recipe and its changes to a run."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from moco_tf.api import starting
from moco_tf.api.run import Run, texts_of
from moco_tf.api.settings import resolve_config
from moco_tf.config import Config, short_repr
from moco_tf.distribute.cluster import Cluster, find_cluster
from moco_tf.errors import InputError
from moco_tf.files.store import is_url
from moco_tf.names.data import text_or_object
from moco_tf.names.encoder import GIVEN
from moco_tf.runs import folder as run_folder
from moco_tf.runs.checkpoint import newest_step
from moco_tf.runs.initial_weights import check_initial_weights
from moco_tf.runs.objects import with_objects
from moco_tf.training.signals import Interrupted
from moco_tf.training.trackers import check_tracker

if TYPE_CHECKING:
    import keras

    from moco_tf.training.reporting import Reporter

VIEW_FIELDS = {"augmentation", "crop_min_area", "color_strength"}


def pretrain(
    recipe: str | Config | None = None,
    *,
    data: Any = None,
    backbone: keras.Model | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    augment: Any = None,
    callbacks: Sequence[Callable[[int, dict[str, float]], object]] = (),
    extend: bool = False,
    workers: str | None = None,
    worker_index: int | str | None = None,
    reporter: Reporter | None = None,
    report: bool = True,
    on_interrupt: Literal["return", "raise"] = "return",
    **fields: Any,
) -> Run:
    """Trains an encoder on unlabelled images, or goes on with the run that is in the folder.

    Ctrl-C, in a notebook "interrupt the kernel", ends the run after the step and saves it: the
    `Run` is returned, and its summary says "stopped_early". The same call goes on from there and
    ends in the same numbers, bit for bit. SIGTERM saves too, and then does what it did before the
    call: by default it ends the process. In a thread that is not the main one no signal is seen.

    Args:
        recipe: name of one of `RECIPES`, or a `Config`. None: the run in `run_dir` goes on with its
            own settings, or the data decide.
        data: what `--data` takes, as text or a path: a folder of images, an .npz file, "cifar10"
            and others; a list of folders or of files; an array, uint8 [N, h, w, 3], or (array,
            labels); or any object with a length and items that are images, pairs (image, label) or
            mappings with "image" and perhaps "label". None: the recipe's.
        backbone: a Keras model from images [b, S, S, 3] to features [b, D] or [b, h, w, D], to
            train in place of the recipe's encoder, beginning with its weights.
        run_dir: folder to write. None: runs/RECIPE.
        augment: function(image, seed) that makes a view, in place of the recipe's augmentation:
            uint8 [h, w, 3] and int64 [2] -> uint8 [S, S, 3], in TensorFlow ops; S is `image_size`.
        callbacks: functions of the step and its numbers, {"loss": ..., "lr": ..., ...}, called at
            every logging point (`log_every`), when metrics.jsonl has the row. What they return is
            ignored. The first exception of one ends the run, saved, and is raised from here. Of
            several workers only the first calls them.
        extend: more epochs than the run had are welcome also where its learning rate depends on
            them, and jumps.
        workers: "host:port,host:port,...", the processes that train together. None: what TF_CONFIG
            or SLURM name, or this process alone.
        worker_index: which of them this is, from 0.
        reporter: where the progress goes, a subclass of `moco_tf.training.reporting.Reporter`.
            None: a line in a notebook, a bar in a terminal, or lines.
        report: write report.html into the folder at the end, see `Run.report`.
        on_interrupt: "raise" raises `moco_tf.training.signals.Interrupted` when a signal has ended
            the run, as the command line does.
        fields: any field of `Config`, as `epochs=20, batch_size=512`.

    Returns:
        The run. Its `summary` is what summary.json holds.

    Raises:
        InputError: the recipe, a field, the data or the folder is wrong: in one line, with a fix.
        DivergedError: numbers are not finite any more. What was saved before stays.
        WorkerLostError: another worker is gone.
    """
    from moco_tf.training.reporting import Reporter

    _check_callbacks(callbacks)
    reporter = reporter or Reporter()
    text, source = text_or_object(data)
    objects = {"source": source, "backbone": backbone, "augment": augment}
    given = texts_of(fields, data=text, run_dir=run_dir)
    config = _settled(recipe, given, reporter.stage, **objects)
    cluster = _start(config, workers, worker_index, reporter)
    from moco_tf import pretraining

    settings: dict[str, Any] = {"cluster": cluster, "extend": extend, "callbacks": callbacks}
    settings["report"] = report
    settings |= {name: value for name, value in objects.items() if value is not None}
    try:
        return Run(config.folder, pretraining.pretrain(config, reporter=reporter, **settings))
    except Interrupted as stopped:
        if on_interrupt == "raise":
            raise
        _leave(stopped, reporter)
        return Run(config.folder)


def _leave(stopped: Interrupted, reporter: Reporter) -> None:
    """Says where the run stands; SIGTERM then does what it did before the call."""
    reporter.line(str(stopped))
    if stopped.signal == signal.SIGTERM:
        signal.raise_signal(signal.SIGTERM)


def _settled(
    recipe: str | Config | None,
    given: dict[str, Any],
    say: Callable[[str], None],
    *,
    source: Any,
    backbone: Any,
    augment: Any,
) -> Config:
    """The config that the arguments make, checked as far as this goes without TensorFlow."""
    if backbone is not None and given.setdefault("encoder", GIVEN) != GIVEN:
        raise InputError(
            f"encoder={given['encoder']} does not go with backbone=. Leave one of them out."
        )
    for name in VIEW_FIELDS & given.keys() if augment is not None else ():
        raise InputError(
            f"{name}={short_repr(given[name])} has no effect with augment=, which makes the "
            f"views. Leave one of them out."
        )
    config = resolve_config(recipe, None, given, say=say, source=source)
    config = with_objects(config, source, backbone, augment)
    if source is None:
        starting.check_data(config.data)
    return config


def _start(
    config: Config, workers: str | None, worker_index: int | str | None, reporter: Reporter
) -> Cluster | None:
    """Starts TensorFlow, once the folders and the tracker will do; returns the workers, if any."""
    cluster = find_cluster(workers, worker_index, os.environ)
    if cluster is None or cluster.chief:
        _check_folders(config)
        check_tracker(config.track)
    reporter.stage("starting TensorFlow")
    starting.start_tensorflow()
    if cluster:
        reporter.line(f"this is {cluster.name(cluster.index)} of {len(cluster.workers)}")
    return cluster


def _check_callbacks(callbacks: Any) -> None:
    if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
        raise InputError(
            f"callbacks must be a list of functions of (step, metrics); received callbacks="
            f"{short_repr(callbacks)}."
        )


def _check_folders(config: Config) -> None:
    """Raises `InputError` for a run folder, or weights to begin with, that will not do."""
    run_dir = config.folder
    if is_url(run_dir):
        return
    run_folder.check(Path(run_dir), config)
    if config.init and newest_step(run_folder.checkpoint_folder(run_dir)) is None:
        check_initial_weights(config, Path(run_dir))
