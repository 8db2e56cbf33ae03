"""What a linear probe says: its curves, its summary, its protocol, and that nothing else moved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moco_tf.errors import BackboneChangedError
from moco_tf.evaluate.classifier import MOMENTUM, WEIGHT_DECAY
from moco_tf.evaluate.labelled import Labelled
from moco_tf.evaluate.linear import LinearProbe
from moco_tf.evaluate.probe_config import ProbeConfig
from moco_tf.evaluate.ridge import GRID
from moco_tf.runs import checkpoint
from moco_tf.runs import folder as run_folder

TOO_HIGH = 10  # times the loss of guessing


def check_backbone(before: str, now: str) -> None:
    """Raises `BackboneChangedError` unless both digests of the backbone's arrays are equal."""
    if before != now:
        raise BackboneChangedError(
            f"the backbone has changed in the first epoch: SHA-256 {before[:12]} when loaded, "
            f"{now[:12]} now. A probe must leave it bit-identical; its numbers would be wrong."
        )


def summarize(config: ProbeConfig, progress: dict[str, Any]) -> dict[str, Any]:
    """Returns the summary: of the head that is best in the last epoch, and of each of them."""
    names = ("top1", "top5", "top1_best")
    heads: list[dict[str, Any]] = [
        {"lr": rate, "loss": loss if math.isfinite(loss) else None}
        | {name: progress[name][number] for name in names}
        for number, (rate, loss) in enumerate(zip(config.lr, progress["loss"], strict=True))
    ]
    chosen = max(heads, key=lambda head: head["top1"])  # the first of equal ones
    provenance = progress["provenance"]
    return (
        {name: chosen[name] for name in (*names, "lr", "loss")}
        | {name: provenance[name] for name in ("classes", "train_images", "test_images")}
        | {"protocol": protocol(config, provenance, chosen["lr"]), "heads": heads}
        | {"advice": advice(heads, provenance["classes"])}
        | {"epochs": config.epochs, "step": progress["step"], "seconds": progress["seconds"]}
        | {name: provenance[name] for name in ("encoder_step", "encoder_sha256")}
    )


def advice(heads: Sequence[Mapping[str, Any]], classes: int) -> list[str]:
    """Returns lines on a learning rate that was no good choice, and which ones to try.

    Args:
        heads: of each rate "lr", "top1" (percent) and "loss", None if that is no number.
    """
    chosen = max(heads, key=lambda head: head["top1"])
    best = {head["lr"] for head in heads if head["top1"] == chosen["top1"]}
    lowest = min(heads, key=lambda head: head["lr"])
    smallest, largest = lowest["lr"], max(head["lr"] for head in heads)
    guessing = math.log(classes)

    def too_large(head: Mapping[str, Any]) -> bool:
        return head["loss"] is None or head["loss"] > TOO_HIGH * guessing

    if len(heads) > 1 and best == {largest}:
        return [
            f"the largest of the learning rates, {largest:g}, did best: a larger one may be "
            f"better. {_try(largest, 10**0.5)}"
        ]
    if too_large(chosen) and too_large(lowest):
        loss = chosen["loss"]
        ends = "is not a number any more" if loss is None else f"ends at {loss:.3g}"
        return [
            f"with learning rate {chosen['lr']:g} the loss {ends}; that of guessing is "
            f"{guessing:.3g}: the rate is too large for these features. {_try(smallest, 10**-0.5)}"
        ]
    if len(heads) > 1 and best == {smallest}:
        return [
            f"the smallest of the learning rates, {smallest:g}, did best: a smaller one may be "
            f"better. {_try(smallest, 10**-0.5)}"
        ]
    return []


def _try(rate: float, factor: float) -> str:
    others = (float(f"{rate * factor**n:.1g}") for n in range(1, 4))
    return f"Try --lr {rate:g} {' '.join(f'{other:g}' for other in others)} with another --out."


def protocol(config: ProbeConfig, provenance: dict[str, Any], chosen: float) -> str:
    """What was measured, in full sentences."""
    side = provenance["image_size"]
    scaling = "not scaled"
    if config.lr_scaling == "linear":
        chosen, scaling = chosen * config.batch_size / 256, f"{chosen:g} x {config.batch_size}/256"
    text = (
        f"Linear classification on the pooled features of the query encoder at step "
        f"{provenance['encoder_step']}, frozen and in inference mode. SGD, learning rate "
        f"{chosen:g} ({scaling}), {_schedule(config)}, momentum {MOMENTUM:g}, weight decay "
        f"{WEIGHT_DECAY:g}, batch {config.batch_size} with the last partial batch kept; training "
        f"crops of area 0.08 to 1, resized to {side}, flipped half the time; test images of "
        f"another size than {side} x {side} resized to a short side of {round(side * 256 / 224)} "
        f"and cropped in the middle. Top-1 and top-5 on all {provenance['test_images']} test "
        f"images "
        f"of {config.data} after the last epoch; top1_best is the best epoch's."
    )
    if len(config.lr) > 1:
        tried = ", ".join(f"{rate:g}" for rate in config.lr)
        text += (
            f" The learning rate was chosen among {tried} by the last epoch's top-1 on these same "
            f"test images, which flatters it."
        )
    return text


def _schedule(config: ProbeConfig) -> str:
    """How the rate changes, as a clause."""
    if config.schedule == "cosine":
        return f"cosine per epoch over {config.epochs} epochs"
    drops = [epoch for epoch in config.drops if epoch < config.epochs]
    if not drops:
        return f"constant over {config.epochs} epochs"
    at = f"epoch{'s' if len(drops) > 1 else ''} {' and '.join(map(str, drops))}"
    return f"x0.1 at {at} of {config.epochs}"


def describe(
    config: ProbeConfig, provenance: dict[str, Any], devices: int, epoch_steps: int
) -> str:
    """The first line on the console."""
    rates = ", ".join(f"{rate:g}" for rate in config.rates)
    drops = f"drops at epochs {', '.join(map(str, config.drops))}"
    return (
        f"linear probe of {config.run} (step {provenance['encoder_step']}) on {config.data}, "
        f"{provenance['train_images']} images + {provenance['test_images']} test, "
        f"{provenance['classes']} "
        f"classes; batch {config.batch_size} on {devices} device(s); learning rate {rates}, "
        f"{'cosine' if config.schedule == 'cosine' else drops}; {epoch_steps} steps an epoch, "
        f"{config.epochs * epoch_steps} in all"
    )


def save_head(out: Path, linear: LinearProbe, summary: dict, class_names) -> None:
    """head.safetensors: the reported classifier alone, [D, C] and [C], with its class names."""
    number = [head["lr"] for head in summary["heads"]].index(summary["lr"])
    arrays = {"fc/kernel": linear.kernels.numpy()[number], "fc/bias": linear.biases.numpy()[number]}
    extra = {"lr": summary["lr"], "top1": summary["top1"], "class_names": list(class_names)}
    folder = run_folder.checkpoint_folder(out)
    checkpoint.save(folder, arrays, step=summary["step"], extra=extra, tag="head")


def ridge_protocol(data: Labelled, of: str, step: int, ratio: float, held_out: int) -> str:
    """Returns what `ridge_probe` has done, for whoever reads its result.

    Args:
        of: name of the data.
        step: of the encoder.
        ratio: lambda, of the mean eigenvalue.
        held_out: number of training images by which it was chosen.
    """
    return (
        f"Ridge regression on one-hot targets in closed form (centred, float64) on the pooled "
        f"features of the query encoder at step {step}, in inference mode and without "
        f"augmentation, of all {data.train.count} training images of {of}. Lambda is {ratio:g} of "
        f"the mean eigenvalue of the centred X'X, chosen among {len(GRID)} values from "
        f"{GRID[0]:g} to {GRID[-1]:g} by top-1, then squared error, on {held_out} held-out "
        f"training images (a tenth of each class). Top-1 and top-5 on all {data.test.count} test "
        f"images; there are no epochs, so top1_best is top1."
    )
