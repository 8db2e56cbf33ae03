"""Colour operations on 8-bit images, as Pillow computes them.

Images are float32 [H, W, 3] that hold whole numbers from 0 to 255, and so are the results.
"""

import tensorflow as tf


def luma(image):
    """ITU-R 601 luma, rounded to a whole number: [H, W, 1]."""
    weights = tf.constant([19595, 38470, 7471], tf.int32)
    total = tf.reduce_sum(tf.cast(image, tf.int32) * weights, axis=-1, keepdims=True)
    return tf.cast((total + 32768) // 65536, tf.float32)


def blend(base, image, factor):
    """`base + factor * (image - base)`, truncated to a whole number in [0, 255]."""
    return tf.floor(tf.clip_by_value(base + factor * (image - base), 0, 255))


def brightness(image, factor):
    """Blend with black."""
    return blend(tf.zeros_like(image), image, factor)


def contrast(image, factor):
    """Blend with the image's mean luma, rounded to a whole number."""
    mean = tf.reduce_mean(tf.cast(luma(image), tf.float64))
    return blend(tf.cast(tf.floor(mean + 0.5), tf.float32), image, factor)


def saturation(image, factor):
    """Blend with the luma of each pixel."""
    return blend(luma(image), image, factor)


def hue(image, factor):
    """Hue shifted by `factor` turns (-0.5 to 0.5) in Pillow's 8-bit HSV, wrapping around."""
    h, s, v = _rgb_to_hsv(image)
    shift = tf.cast(tf.cast(factor * 255, tf.int32), tf.float32)
    return _hsv_to_rgb(tf.math.floormod(h + shift, 256), s, v)


def grayscale(image):
    """Luma in three channels."""
    return tf.repeat(luma(image), 3, axis=-1)


def solarize(image, threshold=128):
    """Values from `threshold` on are inverted."""
    return tf.where(image < threshold, image, 255 - image)


def jitter(image, factors, order):
    """Brightness, contrast, saturation and hue in the given order.

    Args:
        factors: [4], of brightness, contrast, saturation and hue.
        order: int [4], a permutation of 0 (brightness), 1, 2 and 3 (hue).
    """
    operations = (brightness, contrast, saturation, hue)
    for position in range(4):
        code = order[position]
        # The default arguments bind this round's image: branches are traced later.
        image = tf.switch_case(
            code,
            [
                lambda op=op, k=k, image=image: op(image, factors[k])
                for k, op in enumerate(operations)
            ],
        )
        image.set_shape([None, None, 3])
    return image


def _rgb_to_hsv(image):
    r, g, b = tf.unstack(image, axis=-1)
    v, low = tf.reduce_max(image, axis=-1), tf.reduce_min(image, axis=-1)
    spread = v - low
    safe = tf.where(spread > 0, spread, 1)
    rc, gc, bc = (v - r) / safe, (v - g) / safe, (v - b) / safe
    h = tf.where(r == v, bc - gc, tf.where(g == v, 2 + rc - bc, 4 + gc - rc))
    h = tf.math.floormod(h / 6 + 1, 1)
    s = spread / tf.where(v > 0, v, 1)
    gray = spread == 0
    h8 = tf.clip_by_value(tf.floor(h * 255), 0, 255)
    s8 = tf.clip_by_value(tf.floor(s * 255), 0, 255)
    return tf.where(gray, 0.0, h8), tf.where(gray, 0.0, s8), v


def _hsv_to_rgb(h, s, v):
    position = h * 6 / 255
    sector = tf.floor(position)
    f, s = position - sector, s / 255
    p = _round(v * (1 - s))
    q = _round(v * (1 - s * f))
    t = _round(v * (1 - s * (1 - f)))
    sector = tf.cast(sector, tf.int32) % 6
    choices = [(v, t, p), (q, v, p), (p, v, t), (p, q, v), (t, p, v), (v, p, q)]
    channels = []
    for channel in range(3):
        value = choices[0][channel]
        for index in range(1, 6):
            value = tf.where(sector == index, choices[index][channel], value)
        channels.append(value)
    return tf.stack(channels, axis=-1)


def _round(x):
    return tf.clip_by_value(tf.floor(x + 0.5), 0, 255)
