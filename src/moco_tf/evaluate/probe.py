"""The official linear classification protocol on a run's encoder (arXiv:1911.05722, section 4.1).

The config is unpacked here, once; `LinearProbe` takes numbers, arrays and functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tensorflow as tf

from moco_tf import checkpoint, run_folder
from moco_tf.data.pipeline import labelled_crops, normalize, readable
from moco_tf.distribute import default_devices, make_strategy
from moco_tf.evaluate.features import load_encoder
from moco_tf.evaluate.labelled import Labelled, open_labelled, test_batches
from moco_tf.evaluate.linear import LinearProbe, add, backbone_digest, means
from moco_tf.evaluate.probe_config import ProbeConfig, beside
from moco_tf.evaluate.probe_report import check_backbone, describe, logged, summarize
from moco_tf.evaluate.probe_state import Progress, arrays_of, restore, save_head
from moco_tf.interruption import Interrupted, StopSignals
from moco_tf.reporting import Interval, Reporter
from moco_tf.schedules import learning_rate

CROP_MIN_AREA, LR_DROP = 0.08, 0.1


def probe(config: ProbeConfig, *, reporter: Reporter | None = None) -> dict[str, Any]:
    """Trains a linear classifier on frozen features; goes on where its folder stopped.

    Returns:
        What `summary.json` holds.

    Raises:
        InputError: anything wrong with the run, the config, the data or the folder.
        BackboneChangedError: the backbone is not what it was before the first epoch.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
    """
    reporter = reporter or Reporter()
    strategy = make_strategy(config.devices or default_devices(config.batch_size))
    config.check_devices(strategy.num_replicas_in_sync)
    with strategy.scope():
        encoder, pretraining, step = load_encoder(config.run, warn=reporter.line)
    data = open_labelled(
        config.data,
        pretraining,
        max_bad_images=config.max_bad_images,
        cache=Path(config.run) if Path(config.run).is_dir() else None,
    )
    config = config.model_copy(update={"data": config.data or pretraining.data})
    linear = LinearProbe(
        encoder.backbone,
        strategy=strategy,
        heads=len(config.lr),
        classes=data.classes,
        seed=config.seed,
        preprocess=lambda images: normalize(images, pretraining.normalization),
    )
    probed = {
        "encoder_step": step,
        "encoder_sha256": backbone_digest(encoder.backbone),
        "image_size": pretraining.image_size,
        "train_images": data.train.count,
        "test_images": data.test.count,
        "classes": data.classes,
    }
    # Not before here: what is wrong with run or data must not leave a folder behind.
    out = Path(config.run_dir or beside(config.run, "probe"))
    with run_folder.locked(out, flag=config.folder_flag):
        run_folder.claim(out, config)
        try:
            return _probe(config, linear, data, probed, out, reporter)
        finally:
            reporter.close()


def _probe(
    config: ProbeConfig,
    linear: LinearProbe,
    data: Labelled,
    probed: dict[str, Any],
    out: Path,
    reporter: Reporter,
) -> dict[str, Any]:
    replicas = linear.strategy.num_replicas_in_sync
    batch_size = min(config.batch_size, -(-data.train.count // replicas) * replicas)
    shape = {"batch_size": batch_size, "image_size": probed["image_size"]}
    epoch_steps = -(-data.train.count // batch_size)
    progress = restore(out, linear, probed, warn=reporter.line)
    reporter.start(out, config.epochs * epoch_steps, progress.step)
    reporter.line(describe(config, probed, replicas, epoch_steps))
    if progress.step:
        reporter.line(f"resumed at step {progress.step}")
    order = {"seed": config.seed, "start_step": progress.step}
    _train(
        config,
        linear,
        readable(labelled_crops(data.train, min_area=CROP_MIN_AREA, **order, **shape)),
        lambda: linear.evaluate(test_batches(data.test, **shape)),
        progress,
        epoch_steps=epoch_steps,
        images_per_step=data.train.count / epoch_steps,
        folder=run_folder.checkpoint_folder(out),
        reporter=reporter,
    )
    summary = summarize(config, asdict(progress))
    summary["state_sha256"] = checkpoint.digest(arrays_of(linear))
    save_head(out, linear, summary, data.class_names)
    run_folder.write_json(out / "summary.json", summary)
    return summary


def _train(
    config: ProbeConfig,
    linear: LinearProbe,
    batches: Iterator[Any],
    evaluate: Callable[[], dict[str, list[float]]],
    progress: Progress,
    *,
    epoch_steps: int,
    images_per_step: float,
    folder: Path,
    reporter: Reporter,
) -> None:
    """The loop: one compiled step a batch; the host waits for it at logging points only."""
    last_step = config.epochs * epoch_steps
    interval, sums = Interval(), None

    def save(tag=None):
        checkpoint.save(
            folder, arrays_of(linear), step=progress.step, extra=asdict(progress), tag=tag
        )

    with StopSignals() as stop:
        while progress.step < last_step:
            with interval.waiting():
                images, labels = next(batches)
            rates = _rates(config, progress.step, epoch_steps)
            sums = add(sums, linear.train_step(images, labels, tf.constant(rates)))
            interval.steps += 1
            progress.step += 1
            epoch, into_epoch = divmod(progress.step, epoch_steps)
            best = False
            if not into_epoch or stop.signal or progress.step % config.log_every == 0:
                trained, sums = means(sums), None  # of all images since the last logging point
                timing = interval.close(images_per_step)
                progress.seconds += timing.pop("seconds")
                progress.loss = trained["loss"]
                tested = None
                if not into_epoch:
                    with interval.apart() as spent:
                        tested = evaluate()
                    progress.seconds += spent.seconds
                    best = progress.note(tested)
                row = {"epoch": (progress.step - 1) // epoch_steps, "lr": rates[0]} | timing
                reporter.metrics(progress.step, row | logged(config.lr, trained, tested))
            if epoch == 1 and not into_epoch:
                check_backbone(progress.probed["encoder_sha256"], backbone_digest(linear.backbone))
            if best:
                save(tag="best_top1")
            if not into_epoch or stop.signal or progress.step % config.checkpoint_every == 0:
                with interval.apart():
                    save()
            if stop.signal and progress.step < last_step:
                raise Interrupted(stop.signal, progress.step)


def _rates(config: ProbeConfig, step: int, epoch_steps: int) -> list[float]:
    """The learning rate of each head at a step."""
    return [
        learning_rate(
            step,
            steps_per_epoch=epoch_steps,
            epochs=config.epochs,
            base=base,
            schedule="step",
            milestones=config.drops,
            drop=LR_DROP,
            unit="epoch",
            first_epoch=0,
        )
        for base in config.lr
    ]
