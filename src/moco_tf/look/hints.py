"""What a look at the pictures advises before training. Imports no TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from moco_tf.config import Config

MOSTLY = 0.9  # share of the pictures
NO_SIDE_IS_UP = 1.15  # `Survey.upright` below which no side of the pictures is told from the others
ENLARGED = 4.0  # times a side: a crop that is enlarged more is blurred
REDUCED = 4.0  # times a side: from there on most of what is decoded is thrown away
CONTEXT = "Set it in the augmentation: docs/augmentation.md"


def hints(config: Config, facts: Mapping[str, Any]) -> list[str]:
    """Returns sentences on what to change, of the facts that `moco-tf preview --json` prints."""
    checks = (_size, _color, _direction, _copies, _labels)
    return [found for check in checks for found in check(config, facts)]


def crop_facts(config: Config, height: int, width: int) -> dict[str, Any]:
    """Returns what the crops leave of an image of this size, pixels, a square of their area each.

    "enlarged" is how much longer a side of the view is than one of the smallest crop; below 1 it is
    shorter.
    """
    least = min(view.crop.min_area or 0.0 for view in config.views)
    most = max(view.crop.max_area for view in config.views)
    smallest, largest = (math.sqrt(area * height * width) for area in (least, most))
    return {
        "image": [width, height],
        "min_area": least,
        "smallest": round(smallest, 1),
        "largest": round(largest, 1),
        "view": config.image_size,
        "enlarged": round(config.image_size / smallest, 2),
    }


def _size(config: Config, facts: Mapping[str, Any]) -> Iterator[str]:
    crop, side = facts["crop"], config.image_size
    width, height = crop["image"]
    if crop["enlarged"] > ENLARGED and min(width, height) >= 8:
        yield (
            f"the smallest crop of a picture of {width} x {height} is about {crop['smallest']:.0f} "
            f"pixels a side and is enlarged {crop['enlarged']:.1f} times. Use a smaller "
            f"--image-size (now {side}), or a larger --crop-min-area (now {crop['min_area']:g})"
        )
    short = min(width, height)
    if short > REDUCED * side:
        yield (
            f"the pictures' short side is {short} pixels, {short / side:.0f} times the view's. "
            f"'moco-tf pack SOURCE TARGET --short-side {2 * side}' makes reading them faster"
        )


def _color(config: Config, facts: Mapping[str, Any]) -> Iterator[str]:
    gray, coloured = facts["channels"]["gray"], facts["channels"]["colour"]
    share = gray / max(gray + coloured, 1)
    jitters = [view.jitter for view in config.views if view.jitter]
    if share >= MOSTLY and any(one.saturation or one.hue for one in jitters):
        yield (
            f"{share:.0%} of the pictures are in gray levels: saturation, hue and the step to gray "
            f"change nothing. Jitter brightness and contrast more instead (0.6). {CONTEXT}"
        )
    elif 0.1 <= share < MOSTLY and not all(view.gray for view in config.views):
        yield (
            f"{share:.0%} of the pictures are in gray levels, and no view of the others is made "
            f"gray: colour alone then tells many pictures apart. Use gray 0.2. {CONTEXT}"
        )


def _direction(config: Config, facts: Mapping[str, Any]) -> Iterator[str]:
    upright = facts["upright"]
    turned = any(view.vertical_flip or view.quarter_turns for view in config.views)
    if upright is None or turned == (upright < NO_SIDE_IS_UP):
        return
    if not turned:
        yield (
            f"top and bottom of the pictures differ no more than left and right ({upright:.2f} "
            f"times; photographs 1.4 or more). If they are seen from above, or under a microscope, "
            f"use --augmentation satellite, or microscopy where a colour means something"
        )
    elif upright > 1.3:
        yield (
            f"top and bottom of the pictures differ {upright:.2f} times as much as left and right, "
            f"as in photographs, and the views are turned upside down. Use --augmentation v2 if a "
            f"side is up"
        )


def _copies(config: Config, facts: Mapping[str, Any]) -> Iterator[str]:
    pairs = facts["near_duplicates"]
    if pairs:
        first = pairs[0]
        yield (
            f"{len(pairs)} pairs of {facts['looked_at']} pictures are nearly the same (as "
            f"{first['first']} and {first['second']}). A copy of a query among its negatives is "
            f"pushed away. Take copies out"
        )


def _labels(config: Config, facts: Mapping[str, Any]) -> Iterator[str]:
    if not facts["classes"] and config.knn_every:
        yield (
            "there are no labels: training is judged by its label-free signals. With a few "
            "labelled pictures in CLASS folders it would tell kNN accuracy"
        )
