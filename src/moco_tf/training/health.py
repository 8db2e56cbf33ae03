"""Whether a run learns, told in plain words from the numbers that it logs."""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from moco_tf.config import Config
from moco_tf.config.method import V3
from moco_tf.names.encoder import VITS

MANY_BLANK = 0.1  # of the images: from there on they may be why the features collapse

# A dip: so many logging points are, in their mean, below those before them, by this share of them
# and by so many standard errors that chance gives such a mean. The numbers are ours.
DIP_POINTS, POINTS_BEFORE = 3, 10
DIP_SHARE, DIP_ERRORS = 0.2, 5
RECENT = DIP_POINTS + POINTS_BEFORE  # points before one that tell whether a dip begins there


class HealthWatch:
    """Says what is off at the logging points of this process, each line once."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._top1: list[float] = []

    def new_messages(self, step: int, values: dict, settings: dict[str, Any]) -> list[str]:
        """Returns those of `health_messages` that were not said before."""
        messages = health_messages(values, step=step, earlier=self._top1, **settings)
        self._top1 = [*self._top1, values["top1"]][-RECENT:]
        new = [message for message in messages if message not in self._said]
        self._said.update(new)
        return new


def health_settings(config: Config) -> dict[str, Any]:
    """Returns what `health_messages` takes from a config."""
    if config.method == V3:  # two directions, each times 2 T, and the negatives are of the batch
        steadier = "" if config.freeze_patch_projection else "--freeze-patch-projection true, or "
        return {
            "dim": config.dim,
            "queue_size": config.batch_size - 1,
            "keys_per_step": 1,
            "directions": 2 * 2 * config.temperature,
            "leaks": False,
            "steadier": f"{steadier}a smaller learning rate" if config.encoder in VITS else "",
        }
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
    earlier: Sequence[float] = (),
    steadier: str = "",
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
        earlier: top1 of the logging points before.
        steadier: what to do where top1 dips; "": nothing is said of dips.
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
    course = [*earlier, values["top1"]]
    if steadier and len(course) - 1 in dips(course, queue_size + 1):
        messages.append(
            f"health: the in-batch accuracy dips at step {step}, to {values['top1']:.1f} %: the "
            f"training is unstable (arXiv:2104.02057, section 4). Try {steadier}."
        )
    return messages


def dips(top1: Sequence[float], batch_size: int) -> list[int]:
    """Returns where a curve of in-batch accuracies, in percent, begins to dip.

    A dip shows that the training of a ViT is unstable: arXiv:2104.02057, section 4, where a spike
    in the gradient of the patches' projection comes first. A slow fall is no dip.

    Args:
        batch_size: images that each accuracy is of, which says how far chance moves it.
    """

    def is_low(end: int) -> bool:
        start = end - DIP_POINTS
        if start < POINTS_BEFORE:
            return False
        before, now = fmean(top1[start - POINTS_BEFORE : start]), fmean(top1[start:end])
        chance = math.sqrt(before * (100 - before) / (DIP_POINTS * batch_size))
        return before - now > max(DIP_SHARE * before, DIP_ERRORS * chance)

    low = [is_low(end) for end in range(len(top1) + 1)]
    return [place for place, (before, now) in enumerate(pairwise(low)) if now and not before]
