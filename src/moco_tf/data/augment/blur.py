"""Pillow's Gaussian blur: three passes of an extended box filter along each axis."""

import tensorflow as tf

MAX_SIGMA = 2.8  # with two pixels on each side in one pass


def box_kernel(sigma):
    """Weights of one pass at distance 0, 1 and 2, [..., 3], of three that blur by `sigma`.

    Args:
        sigma: standard deviation after the three passes, 0 to 2.8, pixels, [...].
    """
    variance = tf.square(tf.cast(sigma, tf.float32)) / 3
    inner = tf.floor((tf.sqrt(12 * variance + 1) - 1) / 2)  # whole taps on each side: 0 or 1
    part = (2 * inner + 1) * (inner * (inner + 1) - 3 * variance)
    part /= 6 * (variance - tf.square(inner + 1))
    weight = 1 / (2 * (inner + part) + 1)
    beyond = part * weight
    return tf.stack(
        [weight, tf.where(inner < 1, beyond, weight), tf.where(inner < 1, 0.0, beyond)], axis=-1
    )


def gaussian_blur(image, kernel):
    """Blurs planes of whole numbers, float32 [..., H, W]; edges replicate, 8 bits a pass.

    Args:
        kernel: three weights of `box_kernel`, scalars or [..., 1, 1]; (1, 0, 0) blurs nothing.
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
    padded = tf.concat([first, first, image, last, last], axis=axis)
    size = tf.shape(image)[axis]

    def at(shift):
        taps = slice(shift, shift + size)
        return padded[..., taps] if axis == -1 else padded[..., taps, :]

    centre, near, far = kernel
    return tf.floor(centre * image + near * (at(1) + at(3)) + far * (at(0) + at(4)) + 0.5)
