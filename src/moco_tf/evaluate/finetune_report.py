"""What a fine-tuning says and leaves: its first line, its summary and protocol, the encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moco_tf.config import Config
from moco_tf.data.sources import Images
from moco_tf.evaluate.end_to_end import Finetuner
from moco_tf.evaluate.finetune_config import FinetuneConfig
from moco_tf.files.atomic import write_atomically
from moco_tf.files.digests import add_lines_digest
from moco_tf.models.array_names import SEED
from moco_tf.runs import snapshot as encoder_file
from moco_tf.runs import variables
from moco_tf.runs.snapshot import QUERY_ENCODER, EncoderCheckpoint

CHOSEN = "labelled_images.txt"


def describe(
    config: FinetuneConfig, provenance: dict[str, Any], devices: int, epoch_steps: int
) -> str:
    """The first line on the console."""
    return (
        f"fine-tuning {_start(config, provenance)} on {config.data}, "
        f"{provenance['train_images']} images "
        f"+ {provenance['test_images']} test, {provenance['classes']} classes; "
        f"batch {config.batch_size} in "
        f"groups of {config.group_size} on {devices} device(s); learning rates "
        f"{config.rates[0]:g} and {config.rates[1]:g} (classifier), cosine; {epoch_steps} steps "
        f"an epoch, {config.epochs * epoch_steps} in all"
    )


def summarize(config: FinetuneConfig, progress: dict[str, Any]) -> dict[str, Any]:
    """Returns what `summary.json` holds."""
    provenance = progress["provenance"]
    results = {name: progress[name][0] for name in ("top1", "top5", "top1_best", "loss")}
    results["loss"] = results["loss"] if math.isfinite(results["loss"]) else None
    return (
        results
        | {name: provenance[name] for name in ("classes", "train_images", "test_images")}
        | {"protocol": protocol(config, provenance), "label_fraction": config.label_fraction}
        | {"from_scratch": config.from_scratch, "epochs": config.epochs}
        | {"batch_size": config.batch_size, "step": progress["step"]}
        | {"seconds": progress["seconds"], "encoder_step": provenance["encoder_step"]}
    )


def protocol(config: FinetuneConfig, provenance: dict[str, Any]) -> str:
    """What was measured, in full sentences."""
    share = (
        "all labels"
        if config.label_fraction == 1
        else f"{config.label_fraction:.3g} of the labels, balanced over the classes"
    )
    side = provenance["image_size"]
    return (
        f"Fine-tuning of {_start(config, provenance)}, all layers, with a linear classifier on the "
        f"pooled features, on {provenance['train_images']} training images of {config.data} "
        f"({share}, seed {config.seed}). {_optimizer(config)}, learning rates "
        f"{config.rates[0]:g} (backbone) and {config.rates[1]:g} (classifier), "
        f"{_schedule(config)}, {_decay(config)}, batch {config.batch_size} in BatchNorm groups of "
        f"{config.group_size}, {config.precision}; training crops of area "
        f"{config.crop_min_area:g} to 1, resized to {side}, flipped half the time"
        f"{_regularisation(config)}; test images of another size than {side} x {side} resized to "
        f"a short side of {round(side * 256 / 224)} and cropped in the middle. Top-1 and top-5 on "
        f"all {provenance['test_images']} test images after the last epoch; top1_best is the best "
        f"epoch's, chosen on these test images."
    )


def _optimizer(config: FinetuneConfig) -> str:
    return "AdamW" if config.optimizer == "adamw" else "SGD"


def _schedule(config: FinetuneConfig) -> str:
    rise = f"rising over {config.warmup_epochs} epochs from {config.warmup_lr:g}, "
    end = f" to {config.min_lr:g}" if config.min_lr else ""
    return f"{rise * bool(config.warmup_epochs)}cosine over {config.epochs} epochs{end}"


def _decay(config: FinetuneConfig) -> str:
    layers = f", {config.layer_decay:g} times the rate from each layer to the one before"
    kernels = f"weight decay {config.weight_decay:g} of kernels"
    plain = f"momentum {config.momentum:g}, weight decay {config.weight_decay:g}"
    return (kernels if config.optimizer == "adamw" else plain) + layers * (config.layer_decay < 1)


def _regularisation(config: FinetuneConfig) -> str:
    """What else is done in training, as further members of a list."""
    parts = {
        "resized with the {} filter": config.interpolation * (config.interpolation == "bicubic"),
        "RandAugment of magnitude {:g}": config.rand_augment,
        "random erasing {:g}": config.random_erasing,
        "mixup {:g}": config.mixup,
        "cutmix {:g}": config.cutmix,
        "label smoothing {:g}": config.label_smoothing,
        "drop path {:g}": config.drop_path,
    }
    return "".join(f", {text.format(value)}" for text, value in parts.items() if value)


def save_encoder(
    path: Path, network: Finetuner, pretraining: Config, summary: dict[str, Any], class_names
) -> None:
    """encoder.safetensors: the tuned encoder, its classifier as a linear head; a RUN for others."""
    arrays = variables.arrays_of(network.state())
    state = {
        name: array
        for name, array in arrays.items()
        if name.startswith(QUERY_ENCODER) and not name.endswith(SEED)
    }
    config = pretraining.model_copy(update={"head": "linear", "dim": summary["classes"]})
    provenance = {
        "source": str(path.parent),
        "format": "finetune",
        "epoch": summary["epochs"],
        "class_names": list(class_names),
        "protocol": summary["protocol"],
        "from_scratch": summary["from_scratch"],
    }
    snapshot = EncoderCheckpoint(state, config, summary["step"], provenance)
    write_atomically(path, encoder_file.to_bytes(snapshot))


def _start(config: FinetuneConfig, provenance: dict[str, Any]) -> str:
    if config.from_scratch:
        return f"the architecture of {config.run} from random weights"
    return f"the encoder of {config.run} (step {provenance['encoder_step']})"


def list_chosen(out: Path, train: Images, chosen: Sequence[int]) -> None:
    """Which training images are used: their files, or their places where there are no files."""
    names = train.files or [str(index) for index in chosen]
    write_atomically(out / CHOSEN, add_lines_digest(names))
