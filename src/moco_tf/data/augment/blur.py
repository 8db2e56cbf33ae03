"""Pillow's Gaussian blur: three passes of an extended box filter along each axis."""

import math

import tensorflow as tf


def kernel_reach(sigma: float) -> int:
    """Pixels on each side that one pass of a blur by up to `sigma` pixels needs."""
    return int((math.sqrt(4 * sigma**2 + 1) - 1) / 2) + 1


def box_kernel(sigma, reach=2):
    """Weights of one pass at distance 0, 1, ... `reach`, of three that blur by `sigma`.

    Args:
        sigma: standard deviation after the three passes, pixels, [...].
        reach: at least `kernel_reach` of the largest.

    Returns:
        float32 [..., reach + 1].
    """
    variance = tf.square(tf.cast(sigma, tf.float32)) / 3
    inner = tf.floor((tf.sqrt(12 * variance + 1) - 1) / 2)  # whole taps on each side
    part = (2 * inner + 1) * (inner * (inner + 1) - 3 * variance)
    part /= 6 * (variance - tf.square(inner + 1))
    weight = 1 / (2 * (inner + part) + 1)
    beyond = part * weight
    taps = [weight]
    for distance in range(1, reach + 1):
        last = tf.where(inner < distance - 1, 0.0, beyond)
        taps.append(tf.where(inner < distance, last, weight))
    return tf.stack(taps, axis=-1)


def gaussian_blur(image, kernel):
    """Blurs planes of whole numbers, float32 [..., H, W]; edges replicate, 8 bits a pass.

    Args:
        kernel: weights of `box_kernel`, scalars or [..., 1, 1]; (1, 0, 0) blurs nothing.
    """
    for axis in (-1, -2):
        for _ in range(3):
            image = _pass(image, kernel, axis)
    return image


def _pass(image, kernel, axis):
    if axis == -1:
        edges = image[..., :1], image[..., -1:]
    else:
        edges = image[..., :1, :], image[..., -1:, :]
    first, last = edges
    reach = len(kernel) - 1
    padded = tf.concat([first] * reach + [image] + [last] * reach, axis=axis)
    size = tf.shape(image)[axis]

    def at(shift):
        taps = slice(shift, shift + size)
        return padded[..., taps] if axis == -1 else padded[..., taps, :]

    total = kernel[0] * image
    for distance, weight in enumerate(kernel[1:], 1):
        total += weight * (at(reach - distance) + at(reach + distance))
    return tf.floor(total + 0.5)
