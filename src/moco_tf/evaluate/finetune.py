"""Fine-tuning: a run's encoder and a classifier trained together on all or a few labels.

The config is unpacked here, once; `EndToEnd` takes numbers, arrays and functions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf import checkpoint, encoder_file, run_folder
from moco_tf.config import Config, check_devices
from moco_tf.data.pipeline import labelled_crops, normalize, readable
from moco_tf.data.sources import Images
from moco_tf.distribute import default_devices, make_strategy
from moco_tf.encoder_file import QUERY_ENCODER, Snapshot, load_snapshot
from moco_tf.evaluate.classifier import evaluate, initial_kernel
from moco_tf.evaluate.end_to_end import HEAD, EndToEnd
from moco_tf.evaluate.features import assign
from moco_tf.evaluate.finetune_config import FinetuneConfig
from moco_tf.evaluate.labelled import Labelled, open_labelled, test_batches
from moco_tf.evaluate.subset import balanced_subset
from moco_tf.evaluate.training import Progress, arrays_of, restore, train
from moco_tf.models import build_encoder
from moco_tf.reporting import Reporter
from moco_tf.schedules import learning_rate

CHOSEN = "labelled_images.txt"
ENCODER = "encoder.safetensors"


def finetune(config: FinetuneConfig, *, reporter: Reporter | None = None) -> dict[str, Any]:
    """Trains encoder and classifier end to end; goes on where its folder stopped.

    Returns:
        What `summary.json` holds.

    Raises:
        InputError: anything wrong with the run, the config, the data or the folder.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
    """
    reporter = reporter or Reporter()
    snapshot = load_snapshot(config.run, warn=reporter.line)
    group_size = config.group_size or snapshot.config.group_size
    config.check_group_size(group_size)
    strategy = make_strategy(config.devices or default_devices(config.batch_size // group_size))
    check_devices(config.batch_size, group_size, strategy.num_replicas_in_sync)
    data = open_labelled(
        config.data,
        snapshot.config,
        max_bad_images=config.max_bad_images,
        cache=Path(config.run) if Path(config.run).is_dir() else None,
    )
    chosen = balanced_subset(np.asarray(data.train.labels), config.label_fraction, config.seed)
    data = data._replace(train=data.train.subset(chosen))
    config = config.model_copy(
        update={"data": config.data or snapshot.config.data, "group_size": group_size}
    )
    network = build_network(config, snapshot, data.classes, strategy)
    tuned = {
        "encoder_step": 0 if config.from_scratch else snapshot.step,
        "encoder_sha256": None if config.from_scratch else _digest(snapshot),
        "image_size": snapshot.config.image_size,
        "train_images": data.train.count,
        "images": data.train.identity,
        "test_images": data.test.count,
        "classes": data.classes,
    }
    out = config.out  # not before here: what is wrong with run or data must leave no folder behind
    with run_folder.locked(out, flag=config.folder_flag):
        run_folder.claim(out, config)
        _list_chosen(out, data.train, chosen)
        try:
            progress = _train(config, network, data, tuned, out, reporter)
        finally:
            reporter.close()
        summary = _summarize(config, progress)
        summary["state_sha256"] = checkpoint.digest(arrays_of(network))
        _save_encoder(out / ENCODER, network, snapshot.config, summary, data.class_names)
        run_folder.write_json(out / "summary.json", summary)
    return summary


def build_network(
    config: FinetuneConfig, snapshot: Snapshot, classes: int, strategy: tf.distribute.Strategy
) -> EndToEnd:
    """Returns the network at its first step: the backbone of `snapshot`, or a random one.

    The classifier starts as the linear probe's does, weights N(0, 0.01) and bias 0.
    """
    pretraining = snapshot.config
    compute_dtype = "bfloat16" if config.precision == "mixed_bfloat16" else "float32"
    with strategy.scope():
        encoder = build_encoder(
            pretraining.encoder,
            image_size=pretraining.image_size,
            stem=pretraining.stem,
            width=pretraining.width,
            head="linear",
            dim=classes,
            group_size=config.group_size,
            group_layout="contiguous",
            running_statistics="mean",
            dtype=config.precision,
            seed=config.seed,
        )
    if not config.from_scratch:
        assign(encoder.backbone, snapshot.state, config.run)
    kernel, bias = encoder.model.get_layer(HEAD).variables
    kernel.assign(initial_kernel(kernel.shape[0], classes, config.seed))
    bias.assign(tf.zeros_like(bias))
    return EndToEnd(
        encoder.model,
        strategy=strategy,
        preprocess=lambda images: normalize(images, pretraining.normalization, compute_dtype),
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )


def _train(
    config: FinetuneConfig,
    network: EndToEnd,
    data: Labelled,
    tuned: dict[str, Any],
    out: Path,
    reporter: Reporter,
) -> Progress:
    replicas = network.strategy.num_replicas_in_sync
    unit = replicas * (config.group_size or 1)
    shape = {
        "batch_size": min(config.batch_size, -(-data.train.count // unit) * unit),
        "image_size": tuned["image_size"],
    }
    epoch_steps = -(-data.train.count // shape["batch_size"])
    progress = restore(out, network, tuned, warn=reporter.line)
    reporter.start(out, config.epochs * epoch_steps, progress.step)
    reporter.line(
        f"fine-tuning {_start(config, tuned)} on {config.data}, {data.train.count} images "
        f"+ {data.test.count} test, {data.classes} classes; batch {shape['batch_size']} in groups "
        f"of {config.group_size} on {replicas} device(s); learning rates {config.rates[0]:g} and "
        f"{config.rates[1]:g} (classifier), cosine; {epoch_steps} steps an epoch, "
        f"{config.epochs * epoch_steps} in all"
    )
    if progress.step:
        reporter.line(f"resumed at step {progress.step}")
    crops = labelled_crops(
        data.train,
        min_area=config.crop_min_area,
        seed=config.seed,
        start_step=progress.step,
        wrap=True,
        **shape,
    )
    train(
        network,
        readable(crops),
        lambda: evaluate(network.evaluate_step, test_batches(data.test, **shape)),
        progress,
        epochs=config.epochs,
        epoch_steps=epoch_steps,
        images_per_step=shape["batch_size"],
        rates=lambda step: [
            _cosine(rate, step, config.epochs, epoch_steps) for rate in config.rates
        ],
        heads=config.rates[:1],
        log_every=config.log_every,
        checkpoint_every=config.checkpoint_every,
        after_first_epoch=lambda: None,
        folder=run_folder.checkpoint_folder(out),
        reporter=reporter,
    )
    return progress


def _cosine(base: float, step: int, epochs: int, epoch_steps: int) -> float:
    return learning_rate(
        step,
        steps_per_epoch=epoch_steps,
        epochs=epochs,
        base=base,
        schedule="cosine",
        milestones=(),
        drop=1.0,
        unit="step",
        first_epoch=0,
    )


def _digest(snapshot: Snapshot) -> str:
    """SHA-256 of the query encoder's arrays."""
    return checkpoint.digest(
        {name: array for name, array in snapshot.state.items() if name.startswith(QUERY_ENCODER)}
    )


def _list_chosen(out: Path, train: Images, chosen) -> None:
    """Which training images are used: their files, or their places where there are no files."""
    names = train.files or [str(index) for index in chosen]
    text = "".join(f"{name}\n" for name in names)
    run_folder.write_atomically(out / CHOSEN, text.encode())


def _start(config: FinetuneConfig, tuned: dict[str, Any]) -> str:
    if config.from_scratch:
        return f"the architecture of {config.run} from random weights"
    return f"the encoder of {config.run} (step {tuned['encoder_step']})"


def _summarize(config: FinetuneConfig, progress: Progress) -> dict[str, Any]:
    tuned, test_images = progress.probed, progress.probed["test_images"]
    results = {name: getattr(progress, name)[0] for name in ("top1", "top5", "top1_best", "loss")}
    share = (
        "all labels"
        if config.label_fraction == 1
        else f"{config.label_fraction:.3g} of the labels, the same number of each class"
    )
    protocol = (
        f"Fine-tuning of {_start(config, tuned)}, all layers, with a linear classifier on the "
        f"pooled features, on {tuned['train_images']} training images of {config.data} ({share}, "
        f"seed {config.seed}). SGD, learning rates {config.rates[0]:g} (backbone) and "
        f"{config.rates[1]:g} (classifier), cosine over {config.epochs} epochs, momentum "
        f"{config.momentum:g}, weight decay {config.weight_decay:g}, batch "
        f"{config.batch_size} in BatchNorm groups of {config.group_size}; training crops of area "
        f"{config.crop_min_area:g} to 1, resized to {tuned['image_size']}, flipped half the time. "
        f"Top-1 and top-5 on the centre crops of all {test_images} test images after the last "
        f"epoch; top1_best is the best epoch's, chosen on these test images."
    )
    return (
        results
        | {name: tuned[name] for name in ("classes", "train_images", "test_images")}
        | {"protocol": protocol, "label_fraction": config.label_fraction}
        | {"from_scratch": config.from_scratch, "epochs": config.epochs, "step": progress.step}
        | {"seconds": progress.seconds, "encoder_step": tuned["encoder_step"]}
    )


def _save_encoder(
    path: Path, network: EndToEnd, pretraining: Config, summary: dict[str, Any], class_names
) -> None:
    """encoder.safetensors: the tuned encoder, its classifier as a linear head; a RUN for others."""
    arrays = arrays_of(network)
    state = {name: array for name, array in arrays.items() if name.startswith(QUERY_ENCODER)}
    config = pretraining.model_copy(update={"head": "linear", "dim": summary["classes"]})
    origin = {
        "source": str(path.parent),
        "format": "finetune",
        "epoch": summary["epochs"],
        "class_names": list(class_names),
        "protocol": summary["protocol"],
    }
    snapshot = Snapshot(state, config, summary["step"], origin)
    run_folder.write_atomically(path, encoder_file.to_bytes(snapshot))
