"""From a `Config` to the images of a run, its devices, and its batches of views."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import tensorflow as tf

from moco_tf.config import Config
from moco_tf.config.batch_groups import (
    check_accumulation,
    check_devices,
    check_enough_images,
    check_xla,
)
from moco_tf.data.augment.padded import padded_shape
from moco_tf.data.order import StepOrder
from moco_tf.data.pipeline import steps_per_epoch, views_of
from moco_tf.data.readable import ReadableBatches
from moco_tf.data.sources import Images, check_sizes, open_images
from moco_tf.data.view_making import (
    DeviceColor,
    DeviceCrop,
    DeviceImages,
    FunctionViews,
    HostViews,
)
from moco_tf.distribute.cluster import Cluster
from moco_tf.distribute.connect import wait_for_workers
from moco_tf.distribute.strategy import default_devices, make_strategy
from moco_tf.training.memory import without_collector

HELD_BYTES = 2**30  # of a set of images, uint8, that a device keeps in its memory
HELD_SIDE = 96  # pixels, on a CPU


def build_making(config: Config, train: Images, strategy: tf.distribute.Strategy | None = None):
    """Returns where the views are made, one of the ways in `data.view_making`.

    A device other than the CPU takes what it can. On a CPU only small images of one size, a batch
    at a time, are faster that way: large ones leave its caches.

    Args:
        strategy: whose devices hold the images, if any do; none: only the host half is needed.
    """
    gpu = bool(tf.config.list_physical_devices("GPU"))
    settings = config.views, config.image_size
    if config.augment_on == "host" or config.views[0].family == "simclr":
        return HostViews(*settings)
    pixels = train.pixels
    small = pixels is not None and max(config.image_size, *pixels.shape[1:3]) <= HELD_SIDE
    if pixels is not None and pixels.nbytes <= HELD_BYTES and (gpu or small):
        held = _on_every_device(pixels, strategy) if strategy else lambda: pixels
        return DeviceImages(*settings, held)
    if config.augment_on == "device_resize" and padded_shape(train.sizes, config.image_size):
        return DeviceCrop(*settings)
    if config.augment_on.startswith("device") or gpu:
        return DeviceColor(*settings)
    return HostViews(*settings)


def build_finish(
    config: Config, train: Images | None, strategy: tf.distribute.Strategy
) -> Callable:
    """Returns the device's part of the augmentation: a view as it comes -> uint8 [b, S, S, 3]."""
    if train is None:
        return lambda images: images
    on_device = build_making(config, train, strategy).on_device
    if strategy.num_replicas_in_sync > 1:  # each has images of its own, see `_on_every_device`
        return on_device
    return tf.function(on_device, autograph=False)  # traced once for both encoders


def _on_every_device(array, strategy) -> Callable:
    """Returns a function that gives, in a replica, the array that is kept on its device.

    No variable of the strategy: that would come from the first worker over the network.
    """
    devices = strategy.extended.worker_devices if strategy.num_replicas_in_sync > 1 else ()
    if len(devices) < 2:
        held = tf.Variable(array, trainable=False)
        return lambda: held
    copies = []
    for device in devices:
        with tf.device(device):
            copies.append(tf.Variable(array, trainable=False))

    def own() -> tf.Variable:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return copies[int(tf.get_static_value(replica)) % len(copies)]

    return own


@without_collector()  # views are traced
def build_batches(config: Config, train: Images, start_step: int, rows=None, augment=None):
    """Returns an iterator over the two views of each batch, from `start_step` on.

    Args:
        rows: of each batch, those that this worker reads; none: all.
        augment: the function that makes the views; none: the config's augmentation does.
    """
    making = FunctionViews(augment, config.image_size) if augment else build_making(config, train)
    epoch_steps = steps_per_epoch(train.count, config.batch_size)
    sizes = train.count, config.batch_size, epoch_steps
    order = StepOrder(config.seed, *sizes, rows=rows, start=start_step)
    order.keyed = config.order == "keyed"
    if train.unreadable is not None:
        order.unreadable = train.unreadable
    return ReadableBatches(train, order, views_of(train, making, order))


def build_strategy(config: Config, cluster: Cluster | None = None) -> tf.distribute.Strategy:
    """Returns the strategy of the run: the config's devices, or all that its groups spread over.

    Args:
        cluster: the processes that train together, each with that many devices.

    Raises:
        InputError: if the groups do not spread over the devices, or there are not so many.
    """
    workers = len(cluster.workers) if cluster else 1
    devices = config.devices or default_devices(config.divisible, workers)
    sizes, microbatches = (config.batch_size, config.group_size), config.accumulation_steps
    check_devices(*sizes, devices, workers, microbatches)
    check_accumulation(*sizes, devices * workers, microbatches)
    check_xla(config.group_size, devices * workers, config.xla)
    if cluster:
        wait_for_workers(cluster, config.worker_timeout)
    return make_strategy(devices, cluster, config.worker_timeout)


def build_images(
    config: Config,
    told: Callable[[str], None] = lambda _: None,
    source: Any = None,
) -> tuple[Images, Images | None]:
    """Returns (training images, test images or None) of the run, not all of them looked at.

    Args:
        source: what Python gave as the images, of which `config.data` has the text alone.

    Raises:
        InputError: nothing there, too many unreadable or too small, or not one whole batch.
    """
    train, test = open_images(
        config.data if source is None else source,
        max_bad_images=config.max_bad_images,
        seed=config.seed,
        image_size=config.image_size,
        look="headers" if config.augment_on == "device_resize" else "some",
        told=told,
    )
    check_sizes(train, config.image_size, config.max_small_images, config.smallest_image)
    sizes, devices = (config.batch_size, config.group_size), config.devices or 1
    check_enough_images(train.count, *sizes, devices, config.accumulation_steps)
    return replace(train, unreadable={}), replace(test, unreadable={}) if test else None
