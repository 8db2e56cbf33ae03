"""Pillow's Gaussian blur: three passes of an extended box filter along each axis."""

import tensorflow as tf

RADIUS = 2  # of one pass; enough for every sigma up to MAX_SIGMA
MAX_SIGMA = 2.8


def box_kernel(sigma):
    """Weights of one pass, [5], for a standard deviation of `sigma` (0 to 2.8) after three."""
    variance = tf.square(tf.cast(sigma, tf.float32)) / 3
    inner = tf.floor((tf.sqrt(12 * variance + 1) - 1) / 2)  # whole taps on each side: 0 or 1
    part = (2 * inner + 1) * (inner * (inner + 1) - 3 * variance)
    part /= 6 * (variance - tf.square(inner + 1))
    weight = 1 / (2 * (inner + part) + 1)
    distance = tf.abs(tf.range(-RADIUS, RADIUS + 1, dtype=tf.float32))
    return tf.where(distance <= inner, weight, tf.where(distance <= inner + 1, part * weight, 0.0))


def gaussian_blur(image, sigma):
    """Blurs `image`, float32 [H, W, 3] of whole numbers; edges replicate, 8 bits a pass."""
    kernel = box_kernel(sigma)
    for axis in (1, 0):
        for _ in range(3):
            image = _pass(image, kernel, axis)
    return image


def _pass(image, kernel, axis):
    size = tf.shape(image)[axis]
    first, last = tf.gather(image, [0], axis=axis), tf.gather(image, [size - 1], axis=axis)
    padded = tf.concat([first] * RADIUS + [image] + [last] * RADIUS, axis=axis)
    total = tf.zeros_like(image)
    for tap in range(2 * RADIUS + 1):
        begin = tf.one_hot(axis, 3, on_value=tap, dtype=tf.int32)
        total += kernel[tap] * tf.slice(padded, begin, tf.shape(image))
    return tf.floor(total + 0.5)
