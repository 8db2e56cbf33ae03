"""Batches of two views, of labelled crops, and for evaluation.

The order is a full permutation an epoch, a function of (seed, epoch, place); a view is a function
of (seed, position, view). So a run can go on at any step, and nothing is buffered to shuffle.
"""

import numpy as np
import tensorflow as tf

from moco_tf.data.augment.crop import (
    TRIES,
    random_crop_window,
    resized_crops,
    resized_middle,
)
from moco_tf.data.augment.views import CROP_DRAWS, flip, seed_pair, view_draws
from moco_tf.data.decode import decoded
from moco_tf.data.order import StepOrder
from moco_tf.data.readable import batches_of_readable, read_in_place_of, readable_batches
from moco_tf.data.stream import mapped
from moco_tf.errors import InputError

NORMALIZATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "pixels": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
}
PREFETCHED_BATCHES = 4


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Whole batches in `count` images: the last incomplete one is dropped.

    Raises:
        InputError: if there is no whole batch.
    """
    if batch_size > count:
        raise InputError(
            f"batch_size must be at most the number of images, {count}; received "
            f"batch_size={batch_size}. Use a smaller --batch-size."
        )
    return count // batch_size


def two_views(images, making, *, batch_size, seed, start_step, rows=None, steps=None):
    """Returns a dataset of (view 1, view 2); each is what `making.on_host` gives, in batches.

    Element i is step `start_step + i` of the run, whenever it is made.

    Args:
        images: `Images`.
        making: one of the ways in `view_making`.
        rows: of each batch, which rows [b] are read, in that order: a worker's own; none: all B.
        steps: after how many batches it ends; none: never.
    """
    epoch_steps = steps_per_epoch(images.count, batch_size)
    order = StepOrder(seed, images.count, batch_size, epoch_steps, rows=rows, start=start_step)
    order.end = None if steps is None else start_step + steps
    return views_of(images, making, order)


def views_of(images, making, order: StepOrder):
    """`two_views` in an order that is given."""
    size = order.batch_size if order.rows is None else len(order.rows)
    views = lambda index, position: making.on_host(images, index, order.seed, position)  # noqa: E731
    elements = order.dataset()
    if order.end is not None:  # its last batch may be smaller
        elements = elements.filter(lambda index, _: index >= 0)
    batches = mapped(elements, views).batch(size, drop_remainder=order.end is None)
    return batches.prefetch(PREFETCHED_BATCHES)


def labelled_crops(
    images,
    *,
    batch_size,
    image_size,
    min_area,
    seed,
    start_step,
    wrap=False,
    interpolation="bilinear",
    augment=None,
):
    """Returns an endless dataset of (uint8 [B, S, S, 3], int64 labels [B]) to train a classifier.

    A random resized crop of each image once an epoch, flipped with probability a half. The last
    batch of an epoch is kept: it is filled up with images of label -1, which must not count.
    Element i is step `start_step + i`, of ceil(count / batch_size) an epoch.

    Args:
        images: `Images` with labels.
        min_area: smallest crop as a fraction of the image's area.
        wrap: fill the last batch up with images of the epoch that have had their turn instead.
        interpolation: "bilinear" or "bicubic".
        augment: what else is done to an image: (uint8 [S, S, 3], a seed of its own, int64 [2]) ->
            uint8 [S, S, 3].
    """
    steps = -(-images.count // batch_size)
    labels = tf.constant(images.labels, tf.int64)

    def example(index, position):
        place = tf.maximum(index, 0)
        draws = view_draws(seed, position, 0)
        image = decoded(images, place)
        tries = tf.reshape(draws[:CROP_DRAWS], [1, TRIES, 4])
        height, width = tf.unstack(tf.shape(image)[:2])
        windows = random_crop_window(tries, height, width, min_area)
        cropped = resized_crops(image, windows, image_size, [interpolation])[0]
        label = tf.where(index < 0, tf.constant(-1, tf.int64), labels[place])
        flipped = flip(cropped, draws[CROP_DRAWS])
        return augment(flipped, seed_pair(seed, position, 1)) if augment else flipped, label

    order = StepOrder(seed, images.count, batch_size, steps, wrap, start=start_step)
    batches = mapped(order.dataset(), example).batch(batch_size, drop_remainder=True)
    return batches.prefetch(PREFETCHED_BATCHES)


def eval_batches(images, *, indices, image_size, batch_size):
    """Yields uint8 [b, S, S, 3] in the order of `indices`; the last batch may be smaller.

    Unreadable images are left out or stood in for, as `images` says; see `read_in_place_of`.

    An image of S x S is taken whole; another is resized to a short side of 256/224 S (bilinear,
    antialiased) and its centre is cropped.

    Raises:
        InputError: if an image cannot be read; see `failure`.
    """

    def prepare(index, place):
        image = decoded(images, index)
        crop = tf.ensure_shape(centre_crop(image, image_size), [image_size, image_size, 3])
        return crop if images.max_bad is None else (crop, place)

    indices = np.asarray(indices, np.int64)
    indices = indices if images.max_bad is None else read_in_place_of(images, indices)
    steps = -(-len(indices) // batch_size)
    order = StepOrder(0, len(indices), batch_size, steps, end=steps, listed=indices)
    rows = order.dataset().filter(lambda index, _: index >= 0)
    crops = mapped(rows, prepare)
    if images.max_bad is not None:
        whole = crops.ignore_errors().batch(batch_size).prefetch(PREFETCHED_BATCHES)
        return batches_of_readable(images, indices, whole)
    batches = crops.batch(batch_size).prefetch(PREFETCHED_BATCHES)
    return readable_batches(images, order, batches)


def centre_crop(image, size):
    """uint8 [size, size, 3] of the middle of `image`; see `eval_batches`."""
    sides = tf.cast(tf.shape(image)[:2], tf.int64)

    def resized():
        target = round(size * 256 / 224)
        return resized_middle(image, target * sides // tf.reduce_min(sides), size)

    whole = tf.reduce_all(sides == size)
    return tf.cond(whole, lambda: tf.cast(image, tf.uint8), resized)


def normalize(images, normalization, dtype="float32"):
    """(images / 255 - mean) / std on the device: uint8 [..., 3] to `dtype`."""
    mean, std = (tf.constant(v, tf.float32) for v in NORMALIZATIONS[normalization])
    return tf.cast((tf.cast(images, tf.float32) / 255 - mean) / std, dtype)
