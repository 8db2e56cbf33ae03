"""What is known of a run before it starts, and costs nothing to know. Imports no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from moco_tf.config import Config
from moco_tf.recipes import RECIPES

SMALL_IMAGES_SHARE = 0.05  # share of images enlarged: ImageNet has a few, more blur what is learned


@dataclass(frozen=True)
class Facts:
    """What the checks look at beside the config."""

    images: int
    steps: int  # of the whole schedule
    devices: int = 1
    gpus: int = 0
    short_side: int | None = None  # pixels, that all images but a few have; None: not known
    small_images: int = 0  # smaller than the crop
    recipe_learning_rate: float | None = None  # of the recipe, for 256 images


def known_facts(config: Config, images: Any, *, devices: int, gpus: int) -> Facts:
    """Returns the facts about a run on `images`, of type `data.sources.Images`."""
    recipe, sizes = RECIPES.get(config.recipe), images.known_sizes
    small = len(images.smaller_than(config.image_size))
    looked_at = images.count if sizes is None else len(sizes)
    return Facts(
        images=images.count,
        steps=config.epochs * (images.count // config.batch_size),
        devices=devices,
        gpus=gpus,
        short_side=short_side(sizes),
        small_images=round(small * images.count / looked_at),
        recipe_learning_rate=recipe.config.learning_rate if recipe else None,
    )


def short_side(sizes: np.ndarray | None) -> int | None:
    """Returns the short side, pixels, that all images but a few have.

    Args:
        sizes: int32 [n, 2], height and width of each image; None: not known.
    """
    if sizes is None:
        return None
    sides = np.sort(sizes.min(axis=1))
    return int(sides[int(SMALL_IMAGES_SHARE * len(sides))])
