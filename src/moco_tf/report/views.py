"""What the network sees: pictures beside the views that the run draws of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from moco_tf.config import Config
from moco_tf.data.decode import decoded
from moco_tf.data.failures import readable
from moco_tf.data.listing import spread
from moco_tf.data.order import StepOrder
from moco_tf.data.sources import Images
from moco_tf.data.stream import mapped
from moco_tf.data.view_making import FunctionViews, HostViews
from moco_tf.report.images import thumbnail

PICTURES, EPOCHS = 8, 6


class Drawn(NamedTuple):
    """A picture and its views, pictures uint8 [h, w, 3]."""

    name: str
    picture: np.ndarray
    pairs: list[tuple[np.ndarray, np.ndarray]]  # of one epoch after the other


def views_of(config: Config, train: Images, augment: Callable | None = None) -> list[Drawn]:
    """Returns pictures, evenly spread, with the views that the first epochs of the run draw.

    Args:
        augment: the function that makes the views; none: the config's augmentation does.

    Raises:
        InputError: if a picture cannot be read.
    """
    making = (
        FunctionViews(augment, config.image_size)
        if augment
        else HostViews(config.views, config.image_size)
    )
    chosen = spread(train.count, PICTURES)
    indices = np.tile(chosen, EPOCHS)
    drawn = tf.data.Dataset.from_tensor_slices((indices, positions(config, train.count, chosen)))
    pairs = mapped(
        drawn, lambda index, position: making.on_host(train, index, config.seed, position)
    )
    views = [tuple(map(np.asarray, pair)) for pair in readable(pairs, train, indices, 1)]
    return [
        Drawn(
            train.name_of(index),
            thumbnail(decoded(train, tf.constant(index)).numpy()),
            [views[epoch * len(chosen) + place] for epoch in range(EPOCHS)],  # type: ignore[misc]
        )
        for place, index in enumerate(chosen)
    ]


def positions(config: Config, count: int, chosen: np.ndarray) -> np.ndarray:
    """Places of the pictures in the whole run, of the first epochs: int64 [EPOCHS * pictures].

    What is drawn for a view is a function of it: see `data/order.py`.
    """
    order = StepOrder(config.seed, count, 1, count, keyed=config.order == "keyed")
    every, found = np.arange(count), []
    for epoch in range(EPOCHS):
        places = np.empty(count, np.int64)
        places[order.at(epoch, every)] = every
        found.append(epoch * count + places[chosen])
    return np.concatenate(found)
