"""From a config to a run's objects: where the views are finished, and that it does not matter."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from moco_tf.building import (
    build_batches,
    build_finish,
    build_making,
    build_method,
    build_step,
    build_strategy,
    use_xla,
)
from moco_tf.config import make_config
from moco_tf.data.sources import Images, from_arrays
from moco_tf.data.view_making import DeviceColor, DeviceCrop, DeviceImages, HostViews
from moco_tf.recipes import RECIPES

SHAPES = RECIPES["shapes"].config
FILES = Images("files", 8, lambda index: index, True)
SMALL_FILES = replace(FILES, sizes=np.full((8, 2), 80))
LARGE_FILES = replace(FILES, sizes=np.full((8, 2), 81))


def held(side, count=8):
    return from_arrays("held", np.zeros((count, side, side, 3), np.uint8))


@pytest.mark.parametrize(
    ("images", "changes", "gpus", "way"),
    [
        (held(32), {}, 0, DeviceImages),
        (held(32), {}, 1, DeviceImages),
        (held(32), {"augment_on": "device"}, 0, DeviceImages),
        (held(32), {"augment_on": "host"}, 1, HostViews),
        (held(32), {"augmentation": "simclr"}, 1, HostViews),
        (held(32), {"image_size": 128}, 0, HostViews),  # leaves a CPU's caches
        (held(128), {}, 0, HostViews),
        (held(128), {}, 1, DeviceImages),
        (FILES, {}, 0, HostViews),
        (FILES, {}, 1, DeviceColor),
        (FILES, {"augment_on": "device"}, 0, DeviceColor),
        (FILES, {"augment_on": "host"}, 1, HostViews),
        (FILES, {"augment_on": "device_resize"}, 1, DeviceColor),  # of sizes that are not known
        (LARGE_FILES, {"augment_on": "device_resize"}, 1, DeviceColor),
        (SMALL_FILES, {"augment_on": "device_resize"}, 0, DeviceCrop),
        (SMALL_FILES, {}, 1, DeviceColor),
    ],
)
def test_where_views_are_finished(monkeypatch, images, changes, gpus, way):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU"] * gpus)
    assert type(build_making(make_config(SHAPES, changes), images)) is way


def test_a_set_too_large_for_the_device_stays_on_the_host(monkeypatch):
    images = held(32)
    monkeypatch.setattr("moco_tf.building.batches.HELD_BYTES", images.pixels.nbytes - 1)
    assert type(build_making(SHAPES, images)) is HostViews


def test_xla_only_when_asked_for():
    assert [use_xla(make_config(SHAPES, {"xla": x})) for x in ("auto", "off", "on")] == [
        False,
        False,
        True,
    ]


def files_of_two_sizes(count=16):
    """Encoded images of noise, 40 x 40 and 30 x 44 in turns, and one too large for a canvas."""
    rng = np.random.default_rng(0)
    sizes = np.array([(40, 40), (30, 44)] * (count // 2), np.int32)
    sizes[3] = (40, 90)
    pixels = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    table = tf.constant([tf.io.encode_png(image).numpy() for image in pixels])
    return Images("files", count, lambda index: table[index], True, sizes=sizes)


@pytest.mark.parametrize(
    ("augment_on", "augmentation"),
    [
        ("device", "demo"),
        pytest.param("device", "v3", marks=pytest.mark.slow),
        ("device_resize", "demo"),
    ],
)
def test_the_device_finishes_the_same_views(augment_on, augmentation):
    images, views = files_of_two_sizes(), []
    for where in ("host", augment_on):
        changes = {"augment_on": where, "augmentation": augmentation}
        config = make_config(SHAPES, changes | {"batch_size": 16, "group_size": 8})
        finish = build_finish(config, images, tf.distribute.get_strategy())
        views.append([finish(view).numpy() for view in next(build_batches(config, images, 0))])
    off = np.abs(np.subtract(*views, dtype=int))
    assert views[0][0].shape == (16, 32, 32, 3)
    if augment_on == "device":
        assert not off.any()
    else:  # a grey level of the crop, which contrast and hue turn into a few
        assert (off > 1).mean() <= 0.03 and off.mean() < 0.2


@pytest.mark.long
@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("augment_on", ["device", "device_resize"])
def test_the_first_step_is_the_same_wherever_views_are_finished(augment_on, devices):
    """Some grey levels of hue between host and device (`augment_batch`): a close loss."""
    losses = []
    for where, number in (("host", 1), (augment_on, devices)):
        changes = {
            "augment_on": where,
            "augmentation": "v2",
            "batch_size": 16,
            "group_size": 4,
            "width": 8,
            "queue_size": 64,
            "symmetric": True,
            "devices": number,
            "accumulation_steps": number,
        }
        config, images = make_config(SHAPES, changes), files_of_two_sizes()
        method = build_method(config, build_strategy(config), images)
        batch = next(build_batches(config, images, 0))
        scalars = build_step(config, method)(*batch, 0, 0.1)
        losses.append(float(scalars["loss"]))
    assert abs(losses[0] - losses[1]) < 0.02 * losses[0]
