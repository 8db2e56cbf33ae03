"""Whether a run learns, told in plain words from the numbers that it logs."""

import math
from typing import Any

from moco_tf.config import Config
from moco_tf.config.method import V3

MANY_BLANK = 0.1  # of the images: from there on they may be why the features collapse


def health_settings(config: Config) -> dict[str, Any]:
    """Returns what `health_messages` takes from a config."""
    if config.method == V3:  # two directions, each times 2 T, and the negatives are of the batch
        loss = {"directions": 2 * 2 * config.temperature, "leaks": False}
        return {"dim": config.dim, "queue_size": config.batch_size - 1, "keys_per_step": 1} | loss
    directions = 2 if config.symmetric else 1
    return {
        "dim": config.dim,
        "queue_size": config.queue_size,
        "keys_per_step": directions * config.batch_size,
        "directions": directions,
    }


def health_messages(
    values: dict,
    *,
    dim: int,
    queue_size: int,
    keys_per_step: int,
    directions: float,
    step: int,
    blank_share: float = 0.0,
    leaks: bool = True,
) -> list[str]:
    """Plain-language lines for what is off in the values of a logging point.

    Args:
        values: loss, top1 (percent) and feature_std (of unit features; 1 / sqrt(dim) if they
            fill the sphere).
        keys_per_step: keys enqueued a step. While the first, random keys are being replaced, and
            for a few steps more, little is said.
        queue_size: negatives of a query.
        directions: comparisons whose losses are added up, 2 if symmetric, times their weight.
        leaks: whether BatchNorm can tell which images belong together.
        blank_share: of the images, how many are black or of one colour.
    """
    if not all(math.isfinite(values[name]) for name in ("loss", "feature_std")):
        return [
            "health: the loss is not a number any more: the run has diverged. Stop it, and start "
            "again with a smaller learning rate, or in float32."
        ]
    messages = []
    blank = f"Look at the data first: {blank_share:.0%} of the images are black or of one colour. "
    data = blank if blank_share >= MANY_BLANK else ""
    if values["feature_std"] < 0.1 / math.sqrt(dim):
        messages.append(
            f"health: the features have collapsed: they are nearly equal for all images. {data}"
            "Check the learning rate and the augmentations."
        )
    settled = step > 200 + queue_size // keys_per_step
    guessing = math.log(1 + queue_size)
    if settled and abs(values["loss"] / directions - guessing) < 0.01:
        messages.append(
            "health: the loss is still that of guessing, log(1 + negatives): nothing is learned. "
            "Check the learning rate and that both views show one image."
        )
    if leaks and settled and values["top1"] > 99.9:
        messages.append(
            "health: the task is solved too easily (top-1 above 99.9 %): BatchNorm may leak which "
            "images belong together, or the augmentations are too weak."
        )
    return messages
