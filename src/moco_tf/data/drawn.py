"""What was drawn for one view, by name: the numbers that the code of the views goes by."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from moco_tf.augmentation.view import Jitter, View
from moco_tf.data.augment.crop import TRIES
from moco_tf.data.augment.simclr import simclr_window
from moco_tf.data.augment.views import (
    BLUR,
    CROP_DRAWS,
    FACTORS,
    GRAY,
    HORIZONTAL,
    JITTER,
    ORDER,
    SIGMA,
    SOLARIZE,
    TURNS,
    VERTICAL,
    jitter_factors,
    seed_pair,
    view_draws,
)
from moco_tf.data.view_making import window

FACTOR_NAMES = ("brightness", "contrast", "saturation", "hue")


@dataclass(frozen=True)
class Drawn:
    """The draws of one view. None or False: that step was not done."""

    crop: tuple[int, int, int, int]  # top, left, height and width in the image, pixels
    jitter: dict[str, float] | None  # factors in the order in which they are applied; hue in turns
    gray: bool
    blur: float | None  # sigma, pixels of the view
    solarize: int | None  # threshold
    horizontal_flip: bool
    vertical_flip: bool
    quarter_turns: int  # anticlockwise


def drawn_for(view: View, size: tuple[int, int], *, seed: int, position: int, number: int) -> Drawn:
    """Returns what training draws for view `number` (0 or 1) of an image.

    Args:
        view: without anything left open.
        size: height and width of the image, pixels.
        seed: of the run.
        position: the image's place in the whole run; see `seed_pair`.
    """
    draws = view_draws(seed, position, number)
    if view.family == "simclr":
        crop = simclr_window(seed_pair(seed, position, number), *size, view.crop)
    else:
        crop = window(tf.reshape(draws[:CROP_DRAWS], [TRIES, 4]), *size, view.crop)
    u = draws[CROP_DRAWS:]

    def below(place: int, probability: float) -> bool:
        return bool(u[place] < probability)

    jittered = view.jitter and below(JITTER, view.jitter.probability)
    top, left, height, width = crop.numpy().tolist()
    blur, solarize = view.blur, view.solarize
    sigma = None
    if blur and below(BLUR, blur.probability):
        sigma = float(blur.sigma[0] + (blur.sigma[1] - blur.sigma[0]) * u[SIGMA])
    return Drawn(
        (top, left, height, width),
        _jitter(view.jitter, u) if view.jitter and jittered else None,
        below(GRAY, view.gray),
        sigma,
        solarize.threshold if solarize and below(SOLARIZE, solarize.probability) else None,
        below(HORIZONTAL, view.horizontal_flip),
        below(VERTICAL, view.vertical_flip),
        int(4 * u[TURNS]) if view.quarter_turns else 0,
    )


def _jitter(jitter: Jitter, u: tf.Tensor) -> dict[str, float]:
    factors = jitter_factors(u[FACTORS], jitter.strengths).numpy().tolist()
    order = tf.argsort(u[ORDER]).numpy().tolist()
    return {FACTOR_NAMES[place]: factors[place] for place in order}


def drawn_lines(view: View, drawn: Drawn, size: tuple[int, int]) -> list[str]:
    """Says each step in the order in which it is done, with its numbers.

    Args:
        size: height and width of the image, pixels.
    """
    top, left, height, width = drawn.crop
    share = height * width / (size[0] * size[1])
    lines = [f"crop {width} x {height} at ({left}, {top}), {share:.0%} of the image"]
    factors = drawn.jitter or {}
    shown = [f"{n} {f:+.3f}" if n == "hue" else f"{n} x {f:.2f}" for n, f in factors.items()]
    words = {
        "jitter": f"jitter: {', '.join(shown)}" if drawn.jitter else "",
        "gray": "gray" if drawn.gray else "",
        "blur": "" if drawn.blur is None else f"blur, sigma {drawn.blur:.2f}",
        "solarize": "" if drawn.solarize is None else f"solarize from {drawn.solarize} on",
    }
    lines += [words[name] for name in view.operations if words[name]]
    lines += ["flip left to right"] * drawn.horizontal_flip
    lines += ["flip top to bottom"] * drawn.vertical_flip
    lines += [f"turned by {90 * drawn.quarter_turns} degrees"] * bool(drawn.quarter_turns)
    left_out = [name for name in view.operations if not words[name]]
    return [*lines, *([f"no {', no '.join(left_out)}"] if left_out else [])]
