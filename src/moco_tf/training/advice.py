"""What is off in a config for these images and this machine, why, and the value to use.

Pure functions of the config and of `Facts`, which cost nothing to know: `pretrain` and `estimate`
print the same. Following a suggestion silences it. Imports no TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from moco_tf.config import Config
from moco_tf.config.method import V3
from moco_tf.names.encoder import ALL
from moco_tf.training.facts import SMALL_IMAGES_SHARE, Facts

# K / images from which on a suggestion is made: at a quarter 3 % of the queries meet an earlier key
# of their own image among the negatives. The official recipes are at 0.05 (ImageNet, 0.1 %) and
# 0.08 (CIFAR-10, 0.3 %).
LARGEST_QUEUE_SHARE = 0.25

# m^steps, what is left of the key encoder's first, random weights at the end of a run. At 46 % (780
# steps) m = 0.999 was 2.0 and 0.9 points better than 0.99 (docs/results.md); more was not measured.
# Official runs end below 1e-80.
LARGEST_INITIAL_SHARE = 0.5
KEY_MOMENTA = (0.999, 0.996, 0.99)  # least of the recipes: 0.99; 0.97 did not learn the shapes

# BatchNorm of fewer images loses accuracy: 23.7 % error at 16 images, 24.8 at 8, 27.3 at 4
# (arXiv:1803.08494, table 2).
SMALLEST_GROUP, OFFICIAL_GROUP = 8, 32


@dataclass(frozen=True)
class Suggestion:
    """Set `field`, now `value`, to `suggest`."""

    field: str
    value: int | float | str | None
    suggest: int | float | str
    reason: str

    @property
    def line(self) -> str:
        """The suggestion as a sentence, with the flag to type."""
        flag = f"--{self.field.replace('_', '-')}"
        return f"suggestion: {flag} {self.suggest} (now {self.value}): {self.reason}"


def suggestions(config: Config, facts: Facts) -> list[Suggestion]:
    """Returns what to change, most telling first; empty if nothing is off."""
    queue = () if config.method == V3 else (_queue, _groups, _key_momentum)
    checks = (*queue, _learning_rate, _devices, _small)
    return [found for check in checks for found in check(config, facts)]


def own_keys_in_queue(queue_size: float, images: float) -> float:
    """How many keys of a query's own image the queue holds, on average, from earlier epochs.

    Every image comes once an epoch at a random place, so that its last key is n - u + p images old,
    u and p uniform in [0, n): K^2 / 2n^2 up to K = n, and K / n - 1/2 from there on.

    Args:
        queue_size: K, over the number of keys that an image adds a step.
        images: n.
    """
    if queue_size <= images:
        return queue_size**2 / (2 * images**2)
    return queue_size / images - 0.5


def _queue(config: Config, facts: Facts) -> Iterator[Suggestion]:
    size, directions = config.queue_size, 2 if config.symmetric else 1
    keys = directions * config.batch_size  # a step
    most = int(LARGEST_QUEUE_SHARE * directions * facts.images)
    largest = max(most // keys * keys, keys)
    if size > most and size > largest:
        own = directions * own_keys_in_queue(size / directions, facts.images)
        yield Suggestion(
            "queue_size", size, largest, f"the queue holds the keys of "
            f"{_short(size / directions / facts.images)} epochs of {facts.images} images: on "
            f"average {_short(own)} of a query's negatives are earlier keys of its own image, and "
            f"the oldest key is {size / keys:.0f} steps old",
        )  # fmt: skip
    elif size % keys:
        yield Suggestion(
            "queue_size", size, max(size // keys * keys, keys),
            f"the official code asks for a multiple of the {keys} keys of a step; here the ring "
            f"wraps around, and the keys of a step do not leave it together",
        )  # fmt: skip


def _groups(config: Config, facts: Facts) -> Iterator[Suggestion]:
    batch, group = config.batch_size, config.group_images
    if batch == group:
        reason = (
            "with one BatchNorm group on all devices shuffling changes nothing: queries and keys "
            "are normalised with the same images, which tells which belong together"
        )
        sizes = [n for n in range(2, min(OFFICIAL_GROUP, batch // 2) + 1) if batch % n == 0]
        if sizes and sizes[-1] >= min(SMALLEST_GROUP, batch // 2):
            yield Suggestion("group_size", group, sizes[-1], reason)
        elif 2 * group <= facts.images:
            yield Suggestion("batch_size", batch, 2 * group, reason)
    elif group < SMALLEST_GROUP and batch >= 2 * SMALLEST_GROUP:
        parts = facts.devices * config.accumulation_steps
        sizes = [n for n in range(SMALLEST_GROUP, batch // 2 + 1) if batch % (n * parts) == 0]
        if sizes:
            reason = "BatchNorm over so few images loses accuracy (arXiv:1803.08494)"
            yield Suggestion("group_size", group, sizes[0], reason)


def _key_momentum(config: Config, facts: Facts) -> Iterator[Suggestion]:
    left = config.key_momentum**facts.steps
    if config.init or left <= LARGEST_INITIAL_SHARE:
        return
    reason = (
        f"after {facts.steps} steps m^steps = {left:.0%} of the key encoder are still its first, "
        f"random weights"
    )
    fits = [m for m in KEY_MOMENTA if m**facts.steps <= LARGEST_INITIAL_SHARE]
    if fits:
        yield Suggestion("key_momentum", config.key_momentum, fits[0], reason)
        return
    steps = math.log(LARGEST_INITIAL_SHARE) / math.log(KEY_MOMENTA[-1])
    epochs = math.ceil(steps * config.epochs / facts.steps)
    if config.key_momentum > KEY_MOMENTA[-1]:
        yield Suggestion("key_momentum", config.key_momentum, KEY_MOMENTA[-1], reason)
    yield Suggestion(
        "epochs", config.epochs, epochs,
        f"{reason}, and a smaller m than {KEY_MOMENTA[-1]} makes the keys change too fast",
    )  # fmt: skip


def _learning_rate(config: Config, facts: Facts) -> Iterator[Suggestion]:
    unscaled = config.lr_scaling == "absolute" and config.batch_size != 256
    if unscaled and config.learning_rate == facts.recipe_learning_rate:
        linear = config.learning_rate * config.batch_size / 256
        yield Suggestion(
            "lr_scaling", "absolute", "linear",
            f"the recipe's rate {config.learning_rate:g} is for a batch of 256; linear scaling "
            f"makes it {linear:g} for {config.batch_size}",
        )  # fmt: skip


def _devices(config: Config, facts: Facts) -> Iterator[Suggestion]:
    if not facts.gpus and facts.devices > 1:
        reason = "virtual devices share the processor's cores: they cost time and gain none"
        yield Suggestion("devices", config.devices, 1, reason)
    group = config.group_size
    if config.devices is not None or facts.gpus <= facts.devices or group == ALL:
        return
    groups = config.batch_size // group
    reason = (
        f"{facts.gpus} GPUs, but the {groups} BatchNorm groups of a batch spread evenly over no "
        f"more than {facts.devices}"
    )
    parts = facts.gpus * config.accumulation_steps
    sizes = [n for n in range(2, group + 1) if config.batch_size % (n * parts) == 0]
    whole = parts * group
    batch = math.ceil(config.batch_size / whole) * whole
    if sizes and sizes[-1] >= SMALLEST_GROUP:
        yield Suggestion("group_size", group, sizes[-1], reason)
    elif batch <= facts.images:
        yield Suggestion("batch_size", config.batch_size, batch, reason)


def _small(config: Config, facts: Facts) -> Iterator[Suggestion]:
    share = facts.small_images / facts.images
    smallest = config.smallest_image
    if facts.short_side and share > SMALL_IMAGES_SHARE and facts.short_side >= smallest:
        yield Suggestion(
            "image_size", config.image_size, facts.short_side,
            f"{share:.0%} of the images are smaller than the crop and are enlarged",
        )  # fmt: skip


def _short(number: float) -> str:
    """Two digits, or all before the point."""
    return f"{number:.2g}" if number < 100 else f"{number:.0f}"
