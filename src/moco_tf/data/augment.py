"""The augmentations of MoCo v1, v2 and of the CIFAR demo: one vector of draws makes one view.

Every operation returns an 8-bit image, as torchvision's on Pillow images do.
"""

import tensorflow as tf

from moco_tf.data import color
from moco_tf.data.blur import gaussian_blur
from moco_tf.data.crop import TRIES

CROP_DRAWS = 4 * TRIES
DRAWS = CROP_DRAWS + 16
MAX_JITTER = {"v1": (0.4, 0.4, 0.4, 0.4), "v2": (0.4, 0.4, 0.4, 0.1), "demo": (0.4, 0.4, 0.4, 0.1)}
BLUR_SIGMA = (0.1, 2.0)


def view_draws(seed, position, view):
    """Uniform numbers in [0, 1), [DRAWS]: a function of (seed, position, view).

    Args:
        seed: int scalar of the run.
        position: int64 scalar, the image's place in the whole run: epoch * images + place.
        view: 0 for the query's view, 1 for the key's.
    """
    pair = tf.stack([tf.cast(seed, tf.int64), 2 * tf.cast(position, tf.int64) + view])
    return tf.random.stateless_uniform([DRAWS], pair, alg="philox")


def jitter_factors(draws, strengths):
    """Factors [4] of brightness, contrast, saturation (1 - s to 1 + s) and hue (-s to s)."""
    strengths = tf.constant(strengths)
    low = tf.concat([tf.maximum(1 - strengths[:3], 0), -strengths[3:]], axis=0)
    high = tf.concat([1 + strengths[:3], strengths[3:]], axis=0)
    return low + (high - low) * draws


def augment(crop, draws, kind):
    """Returns uint8 [S, S, 3]: the resized crop after the operations of `kind`.

    v1: gray .2, jitter always, flip .5. v2: jitter .8, gray .2, blur .5, flip .5.
    demo: flip .5, jitter .8, gray .2.

    Args:
        crop: uint8 [S, S, 3].
        draws: the last 16 of `view_draws`.
        kind: "v1", "v2" or "demo".

    Source: arXiv:1911.05722 section 3.3 (v1); arXiv:2003.04297 section 2 (v2).
    """
    u = draws
    factors, order = jitter_factors(u[1:5], MAX_JITTER[kind]), tf.argsort(u[5:9])
    gray = u[9] < 0.2
    image = tf.cast(crop, tf.float32)
    if kind == "v1":
        image = _apply(gray, color.grayscale, image)
        image = color.jitter(image, factors, order)
    else:
        image = _apply(u[0] < 0.8, lambda x: color.jitter(x, factors, order), image)
        image = _apply(gray, color.grayscale, image)
    if kind == "v2":
        sigma = BLUR_SIGMA[0] + (BLUR_SIGMA[1] - BLUR_SIGMA[0]) * u[11]
        image = _apply(u[10] < 0.5, lambda x: gaussian_blur(x, sigma), image)
    # A flip commutes exactly with all of these, so the demo's early flip may come last.
    return tf.cast(flip(image, u[12]), tf.uint8)


def flip(image, draw):
    """`image` [S, S, 3], left and right exchanged if the uniform `draw` is below 0.5."""
    return _apply(draw < 0.5, lambda x: tf.reverse(x, axis=[1]), image)


def _apply(condition, function, image):
    result = tf.cond(condition, lambda: function(image), lambda: image)
    return tf.ensure_shape(result, image.shape)
