"""From a `Config` to the objects of a run: method, batches, step, schedule."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf.config import Config
from moco_tf.config.batch_groups import check_accumulation, check_devices, check_enough_images
from moco_tf.data.augment.padded import padded_shape
from moco_tf.data.pipeline import normalize, two_views
from moco_tf.data.sources import Images, check_sizes, open_images
from moco_tf.data.stream import Elements
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
from moco_tf.errors import InputError
from moco_tf.methods.moco import MoCo
from moco_tf.methods.shuffle import random_permutation
from moco_tf.models.recompute import recomputing
from moco_tf.runs.encoders import untrained_encoder
from moco_tf.training.optimizer import UpdateRule
from moco_tf.training.schedules import learning_rate
from moco_tf.training.sgd import sgd_update
from moco_tf.training.step import Network, StepEnvelope

HELD_BYTES = 2**30  # of a set of images, uint8, that a device keeps in its memory
HELD_SIDE = 96  # pixels, on a CPU


def build_method(
    config: Config, strategy: tf.distribute.Strategy, train: Images | None = None
) -> MoCo:
    """Returns the untrained method that `config` describes, on the devices of `strategy`.

    Args:
        train: the images, of which `build_batches` gives the views; none: whole views come.
    """
    if config.head == "none":
        raise InputError(
            "pre-training needs a projection head; received head=none. Use linear or mlp."
        )
    compute_dtype = config.precision.removeprefix("mixed_")
    finish = build_finish(config, train, strategy)
    with strategy.scope():
        query = untrained_encoder(config, dtype=config.precision)
        key = untrained_encoder(config, dtype=config.precision)
    envelope = StepEnvelope(
        Network(query, recomputing(query) if config.recompute else None),
        strategy=strategy,
        batch_size=config.batch_size,
        group_size=config.group_size,
        group_layout=config.group_layout,
        accumulation_steps=config.accumulation_steps,
        rule=UpdateRule(
            partial(sgd_update, momentum=config.sgd_momentum, weight_decay=config.weight_decay)
        ),
        running_statistics=config.running_statistics,
        preprocess=lambda view: normalize(finish(view), config.normalization, compute_dtype),
        xla=use_xla(config),
        loss_scaling=config.precision == "mixed_float16",
        dtype="float64" if config.precision == "float64" else "float32",
    )
    return MoCo(
        Network(key, stream=1),
        envelope=envelope,
        queue_size=config.queue_size,
        dim=config.dim,
        key_momentum=config.key_momentum,
        temperature=config.temperature,
        symmetric=config.symmetric,
        seed=config.seed,
    )


def use_xla(config: Config) -> bool:
    """Whether the encoders are compiled with XLA: if asked for, for it measured slower on CPUs.

    Nothing has been measured on a GPU, so there too it is left to the user.
    """
    return config.xla == "on"


def build_step(config: Config, method: MoCo) -> Callable:
    """Returns the compiled step: (view 1, view 2, number, learning rate) -> scalars to log."""
    directions = 2 if config.symmetric else 1

    @tf.function(autograph=False)
    def compiled(view1, view2, number, rate):
        permutations = random_permutation(config.seed, number, directions, config.batch_size)
        return method.train_step(view1, view2, permutations, rate)[0]

    # NumPy's: TensorFlow keeps for good each of Python's numbers that it made a tensor of.
    return lambda view1, view2, number, rate: compiled(
        view1, view2, tf.constant(np.int64(number)), tf.constant(np.float32(rate))
    )


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
    return build_making(config, train, strategy).on_device


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


def build_batches(config: Config, train: Images, start_step: int, rows=None, augment=None):
    """Returns an iterator over the two views of each batch, from `start_step` on.

    Args:
        rows: of each batch, those that this worker reads; none: all.
        augment: the function that makes the views; none: the config's augmentation does.
    """
    making = FunctionViews(augment, config.image_size) if augment else build_making(config, train)
    sizes = {"batch_size": config.batch_size, "seed": config.seed, "start_step": start_step}
    return Elements(two_views(train, making, **sizes, rows=rows))


def build_strategy(config: Config, cluster: Cluster | None = None) -> tf.distribute.Strategy:
    """Returns the strategy of the run: the config's devices, or all that its groups spread over.

    Args:
        cluster: the processes that train together, each with that many devices.

    Raises:
        InputError: if the groups do not spread over the devices, or there are not so many.
    """
    groups, workers = config.batch_size // config.group_size, len(cluster.workers) if cluster else 1
    devices = config.devices or default_devices(groups, workers)
    sizes, microbatches = (config.batch_size, config.group_size), config.accumulation_steps
    check_devices(*sizes, devices, workers, microbatches)
    check_accumulation(*sizes, devices * workers, microbatches)
    if cluster:
        wait_for_workers(cluster, config.worker_timeout)
    return make_strategy(devices, cluster, config.worker_timeout)


def build_images(
    config: Config,
    cache: Path | None,
    told: Callable[[str], None] = lambda _: None,
    source: Any = None,
) -> tuple[Images, Images | None]:
    """Returns (training images, test images or None) of the run; the others as in `open_images`.

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
        cache=cache,
        told=told,
    )
    check_sizes(train, config.image_size, config.max_small_images, config.smallest_image)
    sizes, devices = (config.batch_size, config.group_size), config.devices or 1
    check_enough_images(train.count, *sizes, devices, config.accumulation_steps)
    return train, test


def build_schedule(config: Config, epoch_steps: int) -> Callable[[int], float]:
    """Returns the learning rate as a function of the step."""

    def rate(step: int) -> float:
        earlier = (epochs for until, epochs in config.earlier_schedules if step < until)
        return learning_rate(
            step,
            steps_per_epoch=epoch_steps,
            epochs=next(earlier, config.epochs),
            base=config.scaled_learning_rate,
            schedule=config.schedule,
            milestones=config.milestones,
            drop=config.lr_drop,
            unit=config.schedule_unit,
            first_epoch=config.first_epoch,
        )

    return rate
