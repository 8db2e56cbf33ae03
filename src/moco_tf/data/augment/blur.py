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
    reach, size = len(kernel) - 1, image.shape[axis]
    first, last = _part(image, 0, 1, axis), _part(image, size - 1, 1, axis)
    padded = tf.concat([first] * reach + [image] + [last] * reach, axis=axis)

    def at(shift):
        return _part(padded, shift, size, axis)

    total = kernel[0] * image
    for distance, weight in enumerate(kernel[1:], 1):
        total += weight * (at(reach - distance) + at(reach + distance))
    return tf.floor(total + 0.5)


def _part(image, start, size, axis):
    """`image[start : start + size]` along an axis, in a third of a slice's nodes."""
    begins, sizes = [0] * image.shape.rank, [-1] * image.shape.rank
    begins[axis], sizes[axis] = start, size
    return tf.slice(image, begins, sizes)
