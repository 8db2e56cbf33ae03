"""Reads every image of a source, in parallel, and says which cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf.data.decode import decoded
from moco_tf.data.found import left_out
from moco_tf.data.images import Images
from moco_tf.data.sample import look_at
from moco_tf.data.sources import open_images
from moco_tf.data.stream import Elements, mapped
from moco_tf.data.telling import telling_without_decoders
from moco_tf.names.data import text_of

TOLD_EVERY = 2.0  # seconds


def check_data(data: Any, told: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Returns what can be read of the images of a source, those of its test part too.

    Args:
        data: what `open_images` takes.
        told: called with a line on how far it is, now and then.

    Returns:
        data, whole (whether all can be read), images (their number), unreadable (file and reason of
        each) and left_out (other files, by kind).

    Raises:
        InputError: there is nothing to read, or none of what is looked at first can be read.
    """
    parts = [part for part in open_images(data, look="some", max_bad_images=1) if part]
    bad = [
        {"file": part.name_of(place), "reason": why}
        for part in parts
        for place, why in unreadable(part, told).items()
    ]
    return {
        "data": text_of(data),
        "whole": not bad,
        "images": sum(part.count for part in parts),
        "unreadable": bad,
        "left_out": left_out(*parts),
    }


def unreadable(images: Images, told: Callable[[str], None]) -> dict[int, str]:
    """Returns the images that cannot be read, by index, each with the reason."""
    numbers = tf.data.Dataset.range(images.count)
    read = mapped(numbers, lambda index: (index, tf.shape(decoded(images, index))[0]))
    good = np.zeros(images.count, bool)
    with telling_without_decoders(told, TOLD_EVERY) as tell:
        for index, _ in Elements(read.ignore_errors().as_numpy_iterator()):
            good[index] = True
            tell(f"{index + 1} of {images.count} images read")
        found = {n: look_at(images, n) for n in np.flatnonzero(~good).tolist()}
    return {n: why for n, why in found.items() if isinstance(why, str)}
