"""Before a run trains: its folder, its images, what its workers agree on, where it begins."""

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from moco_tf.building import Method, build_images, build_schedule, with_precision
from moco_tf.config import RECORDED_FIELDS, Config
from moco_tf.data.order import MOST_SORTED
from moco_tf.data.sources import Images
from moco_tf.data.view_function import checked_function
from moco_tf.distribute.workers import Workers
from moco_tf.evaluate.opening import advice, describe, notes
from moco_tf.names.encoder import is_same_backbone
from moco_tf.runs import checkpoint, variables
from moco_tf.runs import folder as run_folder
from moco_tf.runs.backbone import backbone_lines, find_backbone
from moco_tf.runs.extension import more_epochs
from moco_tf.runs.initial_weights import InitialWeights, read_initial_weights
from moco_tf.runs.objects import check_augment
from moco_tf.runs.storage import RunStorage
from moco_tf.runs.working_folder import working_folder
from moco_tf.training.progress import Progress, progress_of
from moco_tf.training.reporting import Reporter

# What one of several workers may have otherwise than the others; all else decides what is computed.
OWN_FIELDS = {
    *("run_dir", "max_bad_images", "max_small_images", "preemption_seconds", "init", "track"),
    *RECORDED_FIELDS,
} - {"augment_function"}
FOUND_FIELDS = ("architecture", "encoder", "normalization")  # of a backbone


@dataclass(frozen=True)
class OpenedRun:
    """A run before anything is built."""

    config: Config
    run_dir: Path
    workers: Workers
    reporter: Reporter
    storage: RunStorage
    train: Images
    test: Images | None
    there: Config | None  # of the run that goes on; none: it is new, or this is a worker
    saved: int | None  # step of the newest checkpoint; none: there is none, or it is a worker
    weights: InitialWeights | None  # to begin with; none: those drawn by the seed
    augment: Callable | None


def open_run(
    name: str,
    config: Config,
    held: contextlib.ExitStack,
    workers: Workers,
    reporter: Reporter,
    source: Any,
    backbone: Any,
    augment: Callable | None,
) -> OpenedRun:
    """Locks the folder, reads what the run begins with, and opens the images."""
    run_dir, remote, check_lock, weights, saved = Path(name), None, _nothing, None, None
    there = None
    if workers.chief:
        run_dir, remote = held.enter_context(working_folder(name, reporter.line))
        check_lock = held.enter_context(run_folder.locked(run_dir))
        saved = checkpoint.newest_step(run_folder.checkpoint_folder(run_dir))
        if not config.is_ours:
            reporter.stage(f"reading the backbone {config.encoder}")
        config, weights = find_backbone(config, backbone, None if saved is None else run_dir)
        there = run_folder.check(run_dir, config)
        if there:
            config = run_folder.recorded(there, config)
        config = with_precision(config, there)
        if config.init and saved is None:
            weights = read_initial_weights(config, run_dir, warn=reporter.line)
            config = config.model_copy(update={"init_sha256": weights.sha256})
    check_augment(config, augment)
    reporter.stage(f"reading the images of {config.data}")
    train, test = build_images(config, reporter.stage, source)
    if workers.chief and not there and train.count > MOST_SORTED:
        config = config.model_copy(update={"order": "keyed"})
    if augment is not None:
        augment = checked_function(augment, train, config.image_size)
    storage = RunStorage(run_folder.checkpoint_folder(run_dir), check_lock, remote)
    return OpenedRun(
        config, run_dir, workers, reporter, storage, train, test, there, saved, weights, augment
    )


def _nothing() -> None:
    """What a worker checks that writes nothing."""


def agreed_config(run: OpenedRun, epoch_steps: int, extend: bool) -> tuple[Config, str]:
    """The config that all workers go by, and a line on it where its run had fewer epochs."""
    workers, config, longer = run.workers, run.config, ""
    # Every worker takes part, whatever its encoder is: it has yet to be seen that they are alike.
    found = workers.from_chief({name: getattr(config, name) for name in FOUND_FIELDS})
    if is_same_backbone(config.encoder, found["encoder"]):  # which the chief alone has found
        config = config.model_copy(update=found)
    precision = workers.from_chief(config.precision)
    if config.precision == "auto":  # which the chief alone has settled
        config = config.model_copy(update={"precision": precision})
    fixed = config.model_dump_json(exclude=OWN_FIELDS)
    workers.refuse_different({"config": fixed, "set of images": run.train.identity})
    with workers.startup():
        if workers.chief:
            config, longer = _extended(config, run.there, run.saved or 0, epoch_steps, extend)
    known = workers.from_chief({name: getattr(config, name) for name in RECORDED_FIELDS})
    if not workers.chief:  # which alone sees the folder
        config = config.model_copy(update=known)
    return config, longer


def tell(run: OpenedRun, config: Config, first_rate: float, epoch_steps: int, longer: str) -> None:
    """Reports what is trained, on what, and what is off in the config of a new run."""
    train, replicas = run.train, run.workers.strategy.num_replicas_in_sync
    run.reporter.line(describe(config, train, run.test, replicas, first_rate, epoch_steps))
    hints = [one.line for one in advice(config, train, replicas)] if run.saved is None else []
    first = [*backbone_lines(config), run.weights.line if run.weights else "", longer]
    for line in filter(None, (*first, *notes(config, train, run.test), *hints)):
        run.reporter.line(line)


def begin(run: OpenedRun, config: Config, method: Method, given: bool) -> Progress:
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


def _restore(run_dir: Path, method: Method, reporter: Reporter) -> Progress:
    folder = run_folder.checkpoint_folder(run_dir)
    restored = checkpoint.load_latest(folder, warn=reporter.line)
    if restored is None:
        return Progress()
    arrays, step, extra = restored
    progress = progress_of(Progress, extra, step=step, folder=folder)
    variables.assign(method.state(), arrays)
    return progress


def _extended(
    config: Config, there: Config | None, step: int, epoch_steps: int, allowed: bool
) -> tuple[Config, str]:
    """The config to go on with, and a line on it where its run had fewer epochs."""
    before = there.epochs if there else config.epochs
    if before == config.epochs:
        return config, ""
    return more_epochs(
        config.model_copy(update={"epochs": before}),
        config.epochs,
        step=step,
        rate_of=partial(build_schedule, epoch_steps=epoch_steps),
        allowed=allowed,
    )
