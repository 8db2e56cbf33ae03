"""pretrain(config): from a `Config` to a run folder with a trained encoder.

The config is unpacked here, once; everything below takes numbers, arrays and functions.
"""

import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from moco_tf import checkpoint, run_folder
from moco_tf.config import Config, check_devices
from moco_tf.data.pipeline import normalize, steps_per_epoch, two_views
from moco_tf.data.sources import open_images
from moco_tf.distribute import make_strategy
from moco_tf.errors import InputError
from moco_tf.evaluate.features import embedding
from moco_tf.evaluate.knn import knn_top1_features, knn_top1_pixels, monitor_split
from moco_tf.methods.moco import MoCo
from moco_tf.methods.shuffle import random_permutation
from moco_tf.models import build_encoder
from moco_tf.reporting import Reporter
from moco_tf.schedules import learning_rate


class Interrupted(Exception):  # noqa: N818 - not an error: the run is saved and can go on
    """Ctrl-C or SIGTERM: the step was finished and saved. `exit_code` is 130 or 143."""

    def __init__(self, signal_number: int, step: int):
        super().__init__(f"interrupted at step {step}; saved. The same command goes on from there.")
        self.exit_code = 128 + signal_number


def build_method(config: Config, strategy: tf.distribute.Strategy) -> MoCo:
    """Returns the untrained method that `config` describes, on the devices of `strategy`."""
    compute_dtype = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}.get(
        config.precision, "float32"
    )
    settings = {
        "image_size": config.image_size,
        "stem": config.stem,
        "width": config.width,
        "head": config.head,
        "dim": config.dim,
        "group_size": config.group_size,
        "group_layout": config.group_layout,
        "running_statistics": config.running_statistics,
        "dtype": config.precision,
        "seed": config.seed,
    }
    with strategy.scope():
        query = build_encoder(config.encoder, **settings)
        key = build_encoder(config.encoder, **settings)
    return MoCo(
        query,
        key,
        strategy=strategy,
        queue_size=config.queue_size,
        dim=config.dim,
        batch_size=config.batch_size,
        group_size=config.group_size,
        group_layout=config.group_layout,
        running_statistics=config.running_statistics,
        key_momentum=config.key_momentum,
        temperature=config.temperature,
        symmetric=config.symmetric,
        sgd_momentum=config.sgd_momentum,
        weight_decay=config.weight_decay,
        seed=config.seed,
        preprocess=lambda images: normalize(images, config.normalization, compute_dtype),
        xla=config.xla,
        loss_scaling=config.precision == "mixed_float16",
    )


def pretrain(config: Config, *, reporter: Reporter | None = None) -> dict:
    """Trains as `config` says, from the last whole checkpoint of its run folder if there is one.

    Returns:
        What `summary.json` holds.

    Raises:
        InputError: anything wrong with the config, the data or the folder.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
    """
    run_dir = Path(config.run_dir or f"runs/{config.recipe}")
    with run_folder.locked(run_dir):
        run_folder.claim(run_dir, config)
        return _pretrain(config, run_dir, reporter or Reporter())


def _pretrain(config: Config, run_dir: Path, reporter: Reporter) -> dict:
    strategy = make_strategy(config.devices)
    check_devices(config.batch_size, config.group_size, strategy.num_replicas_in_sync)
    train, test = open_images(
        config.data,
        max_bad_images=config.max_bad_images,
        seed=config.seed,
        image_size=config.image_size,
    )
    epoch_steps = steps_per_epoch(train.count, config.batch_size)
    total_steps = config.epochs * epoch_steps
    last_step = min(total_steps, config.max_steps if config.max_steps is not None else total_steps)
    method = build_method(config, strategy)
    split = monitor_split(train, test, seed=config.seed)
    embed = embedding(
        method.query, features=config.knn_features, normalization=config.normalization
    )
    votes = {"image_size": config.image_size, "k": config.knn_k}

    def knn_top1():
        if split is None:
            return None
        return knn_top1_features(split, embed, t=config.knn_temperature, **votes)

    def rate(step):
        return learning_rate(
            step,
            steps_per_epoch=epoch_steps,
            epochs=config.epochs,
            base=config.scaled_learning_rate,
            schedule=config.schedule,
            milestones=config.milestones,
            drop=config.lr_drop,
            unit=config.schedule_unit,
            first_epoch=config.first_epoch,
        )

    folder = run_folder.checkpoint_folder(run_dir)
    step = 0
    extra: dict = {"seconds": 0.0, "knn": {}, "best_knn": -1.0}
    restored = checkpoint.load_latest(folder, warn=reporter.line)
    if restored:
        state, step, extra = restored
        _assign(method.state(), state)
    reporter.start(run_dir, last_step, epoch_steps, step)
    reporter.line(_describe(config, train, test, strategy, rate(0), epoch_steps, total_steps))
    if train.skipped:
        shown = ", ".join(train.skipped[:3]) + (" ..." if len(train.skipped) > 3 else "")
        reporter.line(f"skipped {len(train.skipped)} unreadable images: {shown}")
    if restored:
        reporter.line(f"resumed at step {step}")
    if split and step == 0:
        pixels = knn_top1_pixels(split, temperature=config.knn_temperature, **votes)
        extra["knn"] = {"pixels": pixels, "untrained": knn_top1()}

    def save(tag=None):
        return checkpoint.save(folder, _arrays(method), step=step, extra=extra, tag=tag)

    calls = 2 if config.symmetric else 1

    @tf.function
    def train_step(view1, view2, step, rate):
        permutations = random_permutation(config.seed, step, calls, config.batch_size)
        return method.train_step(view1, view2, permutations, rate)[0]

    batches = iter(
        two_views(
            train,
            batch_size=config.batch_size,
            image_size=config.image_size,
            augmentation=config.augmentation,
            crop_min_area=config.crop_min_area,
            color_strength=config.color_strength,
            seed=config.seed,
            start_step=step,
        )
    )
    interval = _Interval()
    scalars: dict = {}
    loss = extra.get("loss")
    with _StopSignals() as stop:
        saved = restored is not None
        while step < last_step:
            started = time.perf_counter()
            view1, view2 = _next(batches)
            interval.waited += time.perf_counter() - started
            scalars = train_step(
                view1, view2, tf.constant(step, tf.int64), tf.constant(rate(step), tf.float32)
            )
            step, saved = step + 1, False
            interval.steps += 1
            end_of_epoch = step % epoch_steps == 0
            if step % config.log_every == 0 or step == last_step or stop.signal:
                values = {name: float(value) for name, value in scalars.items()}
                loss = extra["loss"] = values["loss"]
                timing = interval.close(config.batch_size)
                extra["seconds"] += timing.pop("seconds")
                extra["images_per_second"] = timing["images_per_second"]
                epoch = (step - 1) // epoch_steps
                row = {"epoch": epoch, "lr": rate(step - 1), **values, **timing}
                reporter.metrics(step, row, dim=config.dim, queue_size=config.queue_size)
            due = config.knn_every and end_of_epoch and step // epoch_steps % config.knn_every == 0
            if split and (due or step == last_step):
                started = time.perf_counter()
                extra["knn"]["last"] = knn_top1()
                reporter.evaluation(step, {"knn_top1": extra["knn"]["last"]})
                if extra["knn"]["last"] > extra["best_knn"]:
                    extra["best_knn"] = extra["knn"]["last"]
                    save(tag="best_knn")
                extra["seconds"] += time.perf_counter() - started
                interval.restart()
            if end_of_epoch or step % config.checkpoint_every == 0 or stop.signal:
                save()
                saved = True
                interval.restart()
            if stop.signal and step < last_step:
                reporter.close()
                raise Interrupted(stop.signal, step)
        if not saved:
            save()
    summary = {
        "step": step,
        "loss": loss,
        "knn_top1": extra["knn"].get("last"),
        "knn_top1_untrained": extra["knn"].get("untrained"),
        "knn_top1_pixels": extra["knn"].get("pixels"),
        "images_per_second": extra.get("images_per_second"),
        "seconds": extra["seconds"],
        "peak_memory_bytes": _peak_memory_bytes(),
        "state_sha256": checkpoint.digest(_arrays(method)),
    }
    run_folder.write_json(run_dir / "summary.json", summary)
    reporter.close()
    return summary


def _arrays(method: MoCo) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in method.state().items()}


def _assign(variables: dict[str, tf.Variable], arrays: dict[str, np.ndarray]) -> None:
    if set(variables) != set(arrays):
        odd = sorted(set(variables) ^ set(arrays))[0]
        raise InputError(f"the checkpoint does not fit this config: {odd!r} is in one only.")
    for name, variable in variables.items():
        if tuple(variable.shape) != arrays[name].shape:
            raise InputError(
                f"the checkpoint does not fit this config: {name!r} has shape "
                f"{arrays[name].shape}, expected {tuple(variable.shape)}."
            )
        variable.assign(arrays[name])


def _next(batches):
    try:
        return next(batches)
    except tf.errors.OpError as error:
        message = " ".join(str(error.message).split())[:300]
        raise InputError(f"an image could not be read while training: {message}") from None


def _describe(config, train, test, strategy, first_rate, epoch_steps, total_steps) -> str:
    scaling = (
        f"{config.learning_rate:g} x {config.batch_size}/256"
        if config.lr_scaling == "linear"
        else "absolute"
    )
    return (
        f"{config.recipe}: {config.encoder} on {train.name}, {train.count} images"
        f"{f' + {test.count} test' if test else ''}; batch {config.batch_size} in groups of "
        f"{config.group_size} on {strategy.num_replicas_in_sync} device(s); learning rate "
        f"{config.scaled_learning_rate:g} ({scaling}), first {first_rate:g}; "
        f"{epoch_steps} steps an epoch, {total_steps} in all"
    )


def _peak_memory_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class _Interval:
    """Wall time, and time spent waiting for data, since the last logging point."""

    def __init__(self):
        self.restart()

    def restart(self):
        """Starts anew, leaving out what happened since the last close (saving, evaluation)."""
        self.started, self.waited, self.steps = time.perf_counter(), 0.0, 0

    def close(self, batch_size: int) -> dict:
        seconds = time.perf_counter() - self.started
        result = {
            "images_per_second": self.steps * batch_size / seconds,
            "data_wait": min(self.waited / seconds, 1.0),
            "seconds": seconds,
        }
        self.restart()
        return result


class _StopSignals:
    """While open, SIGINT and SIGTERM only set `signal`, so that the step ends and is saved."""

    def __init__(self):
        self.signal: int | None = None

    def __enter__(self):
        self._old = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._old[number] = signal.signal(number, self._note)
            except ValueError:  # not in the main thread: nobody can signal us here
                break
        return self

    def _note(self, number, frame):
        self.signal = number

    def __exit__(self, *exc_info):
        for number, handler in self._old.items():
            signal.signal(number, handler)
