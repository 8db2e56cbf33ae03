"""From a config to a run's objects: where the views are finished, and that it does not matter."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from moco_tf.assembly import (
    build_batches,
    build_method,
    build_step,
    build_strategy,
    how_far_on_host,
    use_xla,
)
from moco_tf.config import make_config
from moco_tf.data.sources import Images, from_arrays
from moco_tf.recipes import RECIPES

SHAPES = RECIPES["shapes"].config
FILES = Images("files", 8, lambda index: index, True)
SMALL_FILES = replace(FILES, sizes=np.full((8, 2), 80))
LARGE_FILES = replace(FILES, sizes=np.full((8, 2), 81))


def held(side, count=8):
    return from_arrays("held", np.zeros((count, side, side, 3), np.uint8))


@pytest.mark.parametrize(
    ("images", "changes", "gpus", "how_far"),
    [
        (held(32), {}, 0, "place"),
        (held(32), {}, 1, "place"),
        (held(32), {"augment_on": "device"}, 0, "place"),
        (held(32), {"augment_on": "host"}, 1, "view"),
        (held(32), {"augmentation": "simclr"}, 1, "view"),
        (held(32), {"image_size": 128}, 0, "view"),  # leaves a CPU's caches
        (held(128), {}, 0, "view"),
        (held(128), {}, 1, "place"),
        (FILES, {}, 0, "view"),
        (FILES, {}, 1, "crop"),
        (FILES, {"augment_on": "device"}, 0, "crop"),
        (FILES, {"augment_on": "host"}, 1, "view"),
        (FILES, {"augment_on": "device_resize"}, 1, "crop"),  # of sizes that are not known
        (LARGE_FILES, {"augment_on": "device_resize"}, 1, "crop"),
        (SMALL_FILES, {"augment_on": "device_resize"}, 0, "canvas"),
        (SMALL_FILES, {}, 1, "crop"),
    ],
)
def test_where_views_are_finished(monkeypatch, images, changes, gpus, how_far):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU"] * gpus)
    assert how_far_on_host(make_config(SHAPES, changes), images) == how_far


def test_a_set_too_large_for_the_device_stays_on_the_host(monkeypatch):
    images = held(32)
    monkeypatch.setattr("moco_tf.assembly.HELD_BYTES", images.pixels.nbytes - 1)
    assert how_far_on_host(SHAPES, images) == "view"


def test_xla_only_when_asked_for():
    assert [use_xla(make_config(SHAPES, {"xla": x})) for x in ("auto", "off", "on")] == [
        False,
        False,
        True,
    ]


@pytest.mark.slow
def test_the_first_step_is_the_same_wherever_views_are_finished():
    """Ten grey levels of hue at most between host and device (`augment_batch`): a close loss."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 40, 40, 3), np.uint8)
    images = from_arrays("noise", pixels)
    losses = []
    for augment_on in ("host", "device"):
        changes = {
            "augment_on": augment_on,
            "augmentation": "v2",
            "batch_size": 16,
            "group_size": 8,
            "width": 8,
            "queue_size": 64,
        }
        config = make_config(SHAPES, changes)
        method = build_method(config, build_strategy(config), images)
        batch = next(build_batches(config, images, 0))
        scalars = build_step(config, method)(*batch, tf.constant(0, tf.int64), tf.constant(0.1))
        losses.append(float(scalars["loss"]))
    assert abs(losses[0] - losses[1]) < 0.02 * losses[0]
