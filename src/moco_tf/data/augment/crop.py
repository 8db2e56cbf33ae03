"""RandomResizedCrop: which part of an image a view shows, and how it is resized."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import tensorflow as tf
from PIL import Image

TRIES = 10
ASPECT = (3 / 4, 4 / 3)
LONG = 8  # sides of a square: of an image that is longer once resized, only the middle is made


def random_crop_window(draws, height, width, min_area, max_area=1.0, aspect=ASPECT):
    """Returns random windows, int32 [..., 4]: top, left, height, width.

    Up to ten tries of a uniform area in [min_area, max_area] of the image and a log-uniform aspect;
    if none fits, the largest central window of an aspect in that range.

    Args:
        draws: uniform numbers in [0, 1), [..., 10, 4]: area, aspect, top and left of each try.
        height, width: size of the image, pixels, int scalars.
        min_area, max_area: shares of the image's area.
        aspect: smallest and largest width / height.

    Source: torchvision's RandomResizedCrop.
    """
    draws = tf.cast(draws, tf.float64)
    h, w = tf.cast(height, tf.float64), tf.cast(width, tf.float64)
    area = h * w * (min_area + (max_area - min_area) * draws[..., 0])
    low, high = map(math.log, aspect)
    drawn = tf.exp(low + (high - low) * draws[..., 1])
    widths, heights = tf.round(tf.sqrt(area * drawn)), tf.round(tf.sqrt(area / drawn))
    tops = tf.floor(draws[..., 2] * (h - heights + 1))
    lefts = tf.floor(draws[..., 3] * (w - widths + 1))
    fits = (widths > 0) & (widths <= w) & (heights > 0) & (heights <= h)
    tries = tf.stack([tops, lefts, heights, widths], axis=-1)  # [..., 10, 4]
    first = tf.gather(tries, tf.argmax(fits, axis=-1), axis=-2, batch_dims=len(draws.shape) - 2)
    window = tf.where(tf.reduce_any(fits, axis=-1)[..., None], first, _central_window(h, w, aspect))
    return tf.cast(window, tf.int32)


def _central_window(h, w, aspect):
    crop_w = tf.where(w / h > aspect[1], tf.round(h * aspect[1]), w)
    crop_h = tf.where(w / h < aspect[0], tf.round(w / aspect[0]), h)
    return tf.stack([(h - crop_h) // 2, (w - crop_w) // 2, crop_h, crop_w])


def resized_crops(image, windows, side, filters=None):
    """Returns uint8 [V, side, side, 3]: parts of `image` resized by Pillow, on the host.

    Args:
        image: uint8 [h, w, 3].
        windows: int [V, 4]: top, left, height and width of each part.
        filters: "bilinear" or "bicubic" for each part; none: bilinear.
    """
    filters = filters or ["bilinear"] * windows.shape[0]
    crops = tf.numpy_function(
        lambda whole, parts: resize_with_pillow(whole, parts, side, filters),
        [image, windows],
        tf.uint8,
        stateful=False,
    )
    return tf.ensure_shape(crops, [windows.shape[0], side, side, 3])


def resize_with_pillow(
    image: np.ndarray, windows: np.ndarray, side: int, filters: Sequence[str]
) -> np.ndarray:
    """uint8 [V, side, side, 3] of arrays, as `resized_crops`."""
    crops = np.empty((len(windows), side, side, 3), np.uint8)
    for crop, (top, left, height, width), name in zip(
        crops, windows.tolist(), filters, strict=True
    ):
        # The part is cut out first: pixels beside the window must not weigh in at its edges.
        part = Image.fromarray(image[top : top + height, left : left + width])
        crop[:] = np.asarray(part.resize((side, side), PILLOW[name]))
    return crops


def resized_crops_batch(images, windows, side, interpolation="bilinear"):
    """`resized_crops`, one of each image of a batch, as matrix products on any device.

    Args:
        images: uint8 [B, h, w, 3].
        windows: int [B, 4].
        interpolation: "bilinear" or "bicubic", of all.

    Returns:
        uint8 [B, side, side, 3]; of Pillow's a grey level off where rounding is a tie, and where
        Pillow (from 13 on) resizes much taller windows along the columns first.
    """
    weights = partial(resize_weights, side=side, interpolation=interpolation)
    rows = weights(windows[:, 0], windows[:, 2], images.shape[1])  # [B, side, h]
    columns = weights(windows[:, 1], windows[:, 3], images.shape[2])
    pixels = tf.cast(tf.transpose(images, [0, 3, 1, 2]), tf.float32)  # [B, 3, h, w]
    across = _eight_bits(tf.matmul(pixels, columns[:, None], transpose_b=True))
    resized = _eight_bits(tf.matmul(rows[:, None], across))
    return tf.cast(tf.transpose(resized, [0, 2, 3, 1]), tf.uint8)


def resize_weights(begin, length, size, side, interpolation="bilinear"):
    """Pillow's weights along one axis, float32 [B, side, size]; zero outside the window.

    Args:
        begin, length: int [B], where the window starts and how long it is, pixels.
        size, side: pixels of the image and of the result along that axis.
    """
    length = tf.cast(length, tf.float64)[:, None, None]
    place = tf.cast(tf.range(size), tf.float64) - tf.cast(begin, tf.float64)[:, None, None]
    scale = length / side
    centre = (tf.cast(tf.range(side), tf.float64)[:, None] + 0.5) * scale  # [B, side, 1]
    weight = KERNELS[interpolation](tf.abs(place + 0.5 - centre) / tf.maximum(scale, 1))
    weight = tf.where((place >= 0) & (place < length), weight, 0)
    return tf.cast(weight / tf.reduce_sum(weight, axis=-1, keepdims=True), tf.float32)


def _triangle(distance):
    return tf.maximum(1 - distance, 0)


def _cubic(distance):
    """Keys's kernel with a = -0.5, of a radius of 2."""
    inside = (1.5 * distance - 2.5) * distance * distance + 1
    outside = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return tf.where(distance < 1, inside, tf.where(distance < 2, outside, 0))


KERNELS = {"bilinear": _triangle, "bicubic": _cubic}
PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def _eight_bits(values):
    return tf.clip_by_value(tf.floor(values + 0.5), 0, 255)


def resize(image, size, method="bilinear", antialias=True):
    """Returns uint8 [size[0], size[1], 3]: `image` [h, w, 3] resized, rounded to 8 bits.

    Bilinear with antialiasing is Pillow's filter, less its rounding between the two passes; unlike
    `resized_crops` it can be part of an exported graph.
    """
    return _rounded(tf.image.resize(image, size, method, antialias=antialias))


def resized_middle(image, size, side):
    """Returns uint8 [side, side, 3]: the middle of `resize(image, size)`.

    Along an axis that gets longer than `LONG` sides, only the pixels that the middle needs are
    read, so that work and memory do not grow with the length of a line or a panorama. There the
    result is the filter's to within a grey level; of all other images it is bit for bit that of
    the whole.

    Args:
        image: uint8 [h, w, 3].
        size: int64 [2], at least `side`.
    """
    old, low = tf.cast(tf.shape(image)[:2], tf.float64), tf.cast(size - side, tf.float64)
    low, size = tf.round(low / 2), tf.cast(size, tf.float64)
    scale, long = size / old, size > LONG * side
    reach = tf.maximum(1 / scale, 1) + 1  # of the filter, and a pixel more
    begin = tf.where(long, tf.maximum(tf.floor(low / scale - reach), 0), 0)
    end = tf.where(long, tf.minimum(tf.math.ceil((low + side) / scale + reach), old), old)
    first = tf.where(long, low, 0)  # of the resized pixels that are made
    (top, left), (bottom, right) = (tf.unstack(tf.cast(edge, tf.int64)) for edge in (begin, end))
    resized = tf.raw_ops.ScaleAndTranslate(
        images=image[None, top:bottom, left:right],
        size=tf.where(long, side, tf.cast(size, tf.int32)),
        scale=tf.cast(scale, tf.float32),
        translation=tf.cast(begin * scale - first, tf.float32),
        kernel_type="triangle",
        antialias=True,
    )[0]
    top, left = tf.unstack(tf.cast(low - first, tf.int64))
    return _rounded(resized[top : top + side, left : left + side])


def _rounded(values):
    return tf.cast(tf.clip_by_value(tf.round(values), 0, 255), tf.uint8)
