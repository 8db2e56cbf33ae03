"""Fine-tuning: a run's encoder and a classifier trained together on all or a few labels.

The config is unpacked here, once; `Finetuner` takes numbers, arrays and functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf.config.batch_groups import check_devices
from moco_tf.data.augment.erasing import erase
from moco_tf.data.augment.rand_augment import rand_augment
from moco_tf.data.pipeline import NORMALIZATIONS, labelled_crops
from moco_tf.distribute.strategy import default_devices, make_strategy
from moco_tf.evaluate.end_to_end import Finetuner
from moco_tf.evaluate.finetune_config import FinetuneConfig
from moco_tf.evaluate.finetune_network import build_network
from moco_tf.evaluate.finetune_report import describe, list_chosen, save_encoder, summarize
from moco_tf.evaluate.labelled import Labelled, open_labelled, provenance_of
from moco_tf.evaluate.mixing import draw_mix
from moco_tf.evaluate.progress import Progress, restore
from moco_tf.evaluate.subset import balanced_subset
from moco_tf.evaluate.training import ADVICE, ClassifierJob, on_test_images, train
from moco_tf.files.digests import write_json
from moco_tf.runs import checkpoint_file, variables
from moco_tf.runs import folder as run_folder
from moco_tf.runs.encoders import check_size
from moco_tf.runs.snapshot import QUERY_ENCODER, EncoderCheckpoint, load_snapshot
from moco_tf.runs.storage import RunStorage
from moco_tf.training.divergence import DivergenceWatch
from moco_tf.training.reporting import Reporter
from moco_tf.training.schedules import warm_cosine

ENCODER = "encoder.safetensors"


def finetune(
    config: FinetuneConfig, source: Any = None, *, reporter: Reporter | None = None
) -> dict[str, Any]:
    """Trains encoder and classifier end to end; goes on where its folder stopped.

    Args:
        source: the images, as `open_labelled` takes them, instead of those that `config.data`
            names.

    Returns:
        What `summary.json` holds.

    Raises:
        InputError: anything wrong with the run, the config, the data or the folder.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
    """
    reporter = reporter or Reporter()
    snapshot = load_snapshot(config.run, warn=reporter.line)
    check_size(snapshot, config.run)
    config.check_encoder(snapshot.config)
    group_size = config.groups_like(snapshot.config.group_size)
    config.check_group_size(group_size)
    if config.devices:
        make_strategy(config.devices)  # the CPU is split before TensorFlow has used it
    data = open_labelled(
        config.data if source is None else source,
        snapshot.config,
        max_bad_images=config.max_bad_images,
        say=reporter.line,
        split=config.split,
    )
    chosen = balanced_subset(np.asarray(data.train.labels), config.label_fraction, config.seed)
    data = data._replace(train=data.train.subset(chosen))
    # No more groups than hold the images: the same on any number of devices.
    batch_size = min(config.batch_size, -(-data.train.count // group_size) * group_size)
    strategy = make_strategy(config.devices or default_devices(batch_size // group_size))
    check_devices(batch_size, group_size, strategy.num_replicas_in_sync)
    resolved = {"data": config.data or snapshot.config.data, "group_size": group_size}
    config = config.model_copy(update=resolved | {"batch_size": batch_size})
    network = build_network(config, snapshot, data.classes, strategy)
    provenance = {
        "encoder_step": 0 if config.from_scratch else snapshot.step,
        "encoder_sha256": None if config.from_scratch else _digest(snapshot),
        **provenance_of(data, snapshot.config),
    }
    out = config.out  # not before here: what is wrong with run or data must leave no folder behind
    with run_folder.locked(out, flag=config.folder_flag) as check_lock:
        run_folder.claim(out, config)
        storage = RunStorage(run_folder.checkpoint_folder(out), check_lock)
        progress = restore(out, network, provenance, 1, reporter.line)
        # Only now: that of other images is refused.
        list_chosen(out, data.train, data.indices[chosen])
        try:
            _train(config, network, data, progress, storage, reporter)
        finally:
            reporter.close()
        state = checkpoint_file.digest(variables.arrays_of(network.state()))
        summary = summarize(config, asdict(progress)) | data.found | {"state_sha256": state}
        save_encoder(out / ENCODER, network, snapshot.config, summary, data.class_names)
        write_json(out / run_folder.SUMMARY, summary)
    return summary


def _train(
    config: FinetuneConfig,
    network: Finetuner,
    data: Labelled,
    progress: Progress,
    storage: RunStorage,
    reporter: Reporter,
) -> None:
    shape = {"batch_size": config.batch_size, "image_size": progress.provenance["image_size"]}
    epoch_steps = -(-data.train.count // config.batch_size)
    replicas = network.strategy.num_replicas_in_sync
    crops = labelled_crops(
        data.train,
        min_area=config.crop_min_area,
        seed=config.seed,
        start_step=progress.step,
        wrap=True,
        interpolation=config.interpolation,
        augment=_augmentation(config, progress.provenance["normalization"]),
        **shape,
    )
    side = progress.provenance["image_size"]
    job = ClassifierJob(
        network,
        progress,
        DivergenceWatch(network.tensor_names, storage.folder, advice=ADVICE),
        rates=lambda step: [_rate(config, rate, step, epoch_steps) for rate in config.rates],
        heads=config.rates[:1],
        evaluation=on_test_images(network, data, reporter, **shape),
        inputs=lambda step: (tf.constant(_mix(config, step, side)),) if config.mixes else (),
    )
    train(
        job,
        crops,
        config,
        data,
        batch_size=config.batch_size,
        images_per_step=config.batch_size,
        epoch_steps=epoch_steps,
        description=describe(config, progress.provenance, replicas, epoch_steps),
        storage=storage,
        strategy=network.strategy,
        reporter=reporter,
    )


def _rate(config: FinetuneConfig, base: float, step: int, epoch_steps: int) -> float:
    return warm_cosine(
        step,
        steps_per_epoch=epoch_steps,
        epochs=config.epochs,
        base=base,
        warmup_epochs=config.warmup_epochs,
        first=config.warmup_lr,
        last=config.min_lr,
    )


def _mix(config: FinetuneConfig, step: int, side: int) -> np.ndarray:
    return draw_mix(config.seed, step, side=side, mixup=config.mixup, cutmix=config.cutmix)


def _augmentation(config: FinetuneConfig, normalization: str) -> Callable | None:
    """What is done to a training crop: see `labelled_crops`."""
    if config.rand_augment is None and not config.random_erasing:
        return None
    mean, std = NORMALIZATIONS[normalization]

    def augment(image, seed):
        if config.rand_augment is not None:
            image = rand_augment(image, seed, config.rand_augment)
        if config.random_erasing:
            seed += tf.constant([2**32, 0], tf.int64)  # not the numbers of RandAugment
            image = erase(image, seed, config.random_erasing, mean, std)
        return image

    return augment


def _digest(snapshot: EncoderCheckpoint) -> str:
    """SHA-256 of the query encoder's arrays."""
    return checkpoint_file.digest(
        {name: array for name, array in snapshot.state.items() if name.startswith(QUERY_ENCODER)}
    )
