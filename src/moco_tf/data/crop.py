"""RandomResizedCrop: which part of an image a view shows, and how it is resized."""

import math

import tensorflow as tf

TRIES = 10
RATIO = (3 / 4, 4 / 3)


def random_crop_window(draws, height, width, min_area):
    """Returns a random window, int32 [4]: top, left, height, width.

    Up to ten tries of a uniform area in [min_area, 1] of the image and a log-uniform aspect in
    [3/4, 4/3]; if none fits, the largest central window of an aspect in that range.

    Args:
        draws: uniform numbers in [0, 1), [10, 4]: area, aspect, top and left of each try.
        height, width: size of the image, pixels, int scalars.

    Source: torchvision's RandomResizedCrop.
    """
    draws = tf.cast(draws, tf.float64)
    h, w = tf.cast(height, tf.float64), tf.cast(width, tf.float64)
    area = h * w * (min_area + (1 - min_area) * draws[:, 0])
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    aspect = tf.exp(low + (high - low) * draws[:, 1])
    widths, heights = tf.round(tf.sqrt(area * aspect)), tf.round(tf.sqrt(area / aspect))
    tops = tf.floor(draws[:, 2] * (h - heights + 1))
    lefts = tf.floor(draws[:, 3] * (w - widths + 1))
    fits = (widths > 0) & (widths <= w) & (heights > 0) & (heights <= h)
    tries = tf.stack([tops, lefts, heights, widths], axis=1)  # [10, 4]
    first = tf.gather(tries, tf.argmax(fits))
    window = tf.where(tf.reduce_any(fits), first, _central_window(h, w))
    return tf.cast(window, tf.int32)


def _central_window(h, w):
    crop_w = tf.where(w / h > RATIO[1], tf.round(h * RATIO[1]), w)
    crop_h = tf.where(w / h < RATIO[0], tf.round(w / RATIO[0]), h)
    return tf.stack([(h - crop_h) // 2, (w - crop_w) // 2, crop_h, crop_w])


def resize(image, size, method="bilinear", antialias=True):
    """Returns uint8 [size[0], size[1], 3]: `image` [h, w, 3] resized, rounded to 8 bits.

    Bilinear with antialiasing is Pillow's filter, less its rounding between the two passes.
    """
    resized = tf.image.resize(image, size, method, antialias=antialias)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
