"""The official linear classification protocol on a run's encoder.

That of arXiv:1911.05722, section 4.1, or of arXiv:2104.02057; `probe_config.py` has the numbers.

The config is unpacked here, once; `LinearProbe` takes numbers, arrays and functions.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from moco_tf.data.pipeline import labelled_crops, normalize
from moco_tf.distribute.strategy import default_devices, make_strategy
from moco_tf.evaluate.labelled import Labelled, open_labelled, provenance_of
from moco_tf.evaluate.linear import LinearProbe, backbone_digest
from moco_tf.evaluate.probe_config import ProbeConfig
from moco_tf.evaluate.probe_report import check_backbone, describe, save_head, summarize
from moco_tf.evaluate.progress import restore
from moco_tf.evaluate.training import ADVICE, ClassifierJob, on_test_images, train
from moco_tf.files.digests import write_json
from moco_tf.runs import checkpoint_file, variables
from moco_tf.runs import folder as run_folder
from moco_tf.runs.encoders import load_encoder
from moco_tf.runs.storage import RunStorage
from moco_tf.training.divergence import DivergenceWatch
from moco_tf.training.reporting import Reporter
from moco_tf.training.schedules import learning_rate

CROP_MIN_AREA, LR_DROP = 0.08, 0.1


def probe(
    config: ProbeConfig, source: Any = None, *, reporter: Reporter | None = None
) -> dict[str, Any]:
    """Trains a linear classifier on frozen features; goes on where its folder stopped.

    Args:
        source: the images, as `open_labelled` takes them, instead of those that `config.data`
            names.

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
        config.data if source is None else source,
        pretraining,
        max_bad_images=config.max_bad_images,
        say=reporter.line,
        split=config.split,
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
    provenance = {
        "encoder_step": step,
        "encoder_sha256": backbone_digest(encoder.backbone),
        **provenance_of(data, pretraining),
    }
    # Not before here: what is wrong with run or data must not leave a folder behind.
    out = config.out()
    with run_folder.locked(out, flag=config.folder_flag) as check_lock:
        run_folder.claim(out, config)
        storage = RunStorage(run_folder.checkpoint_folder(out), check_lock)
        try:
            return _probe(config, linear, data, provenance, out, storage, reporter)
        finally:
            reporter.close()


def _probe(
    config: ProbeConfig,
    linear: LinearProbe,
    data: Labelled,
    provenance: dict[str, Any],
    out: Path,
    storage: RunStorage,
    reporter: Reporter,
) -> dict[str, Any]:
    replicas = linear.strategy.num_replicas_in_sync
    batch_size = min(config.batch_size, -(-data.train.count // replicas) * replicas)
    shape = {"batch_size": batch_size, "image_size": provenance["image_size"]}
    config = config.model_copy(update={"batch_size": batch_size})  # which the rates go by
    epoch_steps = -(-data.train.count // batch_size)
    progress = restore(out, linear, provenance, len(config.lr), reporter.line)
    job = ClassifierJob(
        linear,
        progress,
        DivergenceWatch(linear.tensor_names, storage.folder, of_state=False, advice=ADVICE),
        rates=lambda step: _rates(config, step, epoch_steps),
        heads=config.lr,
        evaluation=on_test_images(linear, data, reporter, **shape),
        after_first_epoch=lambda: check_backbone(
            progress.provenance["encoder_sha256"], backbone_digest(linear.backbone)
        ),
    )
    order = {"seed": config.seed, "start_step": progress.step}
    train(
        job,
        labelled_crops(data.train, min_area=CROP_MIN_AREA, **order, **shape),
        config,
        data,
        batch_size=batch_size,
        images_per_step=data.train.count / epoch_steps,
        epoch_steps=epoch_steps,
        description=describe(config, provenance, replicas, epoch_steps),
        storage=storage,
        strategy=linear.strategy,
        reporter=reporter,
    )
    summary = summarize(config, asdict(progress))
    summary |= data.found
    summary["state_sha256"] = checkpoint_file.digest(variables.arrays_of(linear.state()))
    save_head(out, linear, summary, data.class_names)
    write_json(out / run_folder.SUMMARY, summary)
    return summary


def _rates(config: ProbeConfig, step: int, epoch_steps: int) -> list[float]:
    """The learning rate of each head at a step."""
    return [
        learning_rate(
            step,
            steps_per_epoch=epoch_steps,
            epochs=config.epochs,
            base=base,
            schedule=config.schedule,
            milestones=config.drops,
            drop=LR_DROP,
            unit="epoch",
            first_epoch=0,
        )
        for base in config.rates
    ]
