"""The augmentations of MoCo v1, v2 and of the CIFAR demo: one vector of draws makes one view.

`augment` takes one image and does only what its draws ask for; `augment_batch` does everything to
every image of a batch, without a branch, and keeps what the draws ask for. The results are equal.
Every operation returns an 8-bit image, as torchvision's on Pillow images do.
"""

import tensorflow as tf

from moco_tf.data.augment import color
from moco_tf.data.augment.blur import box_kernel, gaussian_blur
from moco_tf.data.augment.crop import TRIES

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
    """Factors [..., 4] of brightness, contrast, saturation (1 - s to 1 + s) and hue (-s to s)."""
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
    planes = _planes(crop)
    if kind == "v1":
        planes = _apply(gray, color.grayscale, planes)
        planes = color.jitter(planes, factors, order)
    else:
        planes = _apply(u[0] < 0.8, lambda x: color.jitter(x, factors, order), planes)
        planes = _apply(gray, color.grayscale, planes)
    if kind == "v2":
        kernel = tf.unstack(box_kernel(_sigma(u[11])))
        planes = _apply(
            u[10] < 0.5, lambda x: tuple(gaussian_blur(plane, kernel) for plane in x), planes
        )
    # A flip commutes exactly with all of these, so the demo's early flip may come last.
    return flip(_image(planes), u[12])


def augment_batch(crops, draws, kind):
    """Returns uint8 [B, S, S, 3]: `augment` of every crop, [B, S, S, 3], by its draws, [B, 16]."""
    u = draws
    factors, orders = jitter_factors(u[:, 1:5], MAX_JITTER[kind]), tf.argsort(u[:, 5:9])
    gray = (u[:, 9] < 0.2)[:, None, None]
    planes = _planes(crops)
    if kind == "v1":
        planes = _where(gray, color.grayscale(planes), planes)
        planes = color.jitter_batch(planes, factors, orders, tf.ones_like(u[:, 0], tf.bool))
    else:
        planes = color.jitter_batch(planes, factors, orders, u[:, 0] < 0.8)
        planes = _where(gray, color.grayscale(planes), planes)
    if kind == "v2":
        kernels = tf.where((u[:, 10] < 0.5)[:, None], box_kernel(_sigma(u[:, 11])), [1.0, 0.0, 0.0])
        kernel = tf.unstack(kernels[:, None, None], axis=-1)  # three of [B, 1, 1]
        planes = tuple(gaussian_blur(plane, kernel) for plane in planes)
    image = _image(planes)
    return tf.where((u[:, 12] < 0.5)[:, None, None, None], tf.reverse(image, axis=[2]), image)


def flip(image, draw):
    """`image` [S, S, 3], left and right exchanged if the uniform `draw` is below 0.5."""
    return tf.ensure_shape(
        tf.cond(draw < 0.5, lambda: tf.reverse(image, axis=[1]), lambda: image), image.shape
    )


def _sigma(draw):
    return BLUR_SIGMA[0] + (BLUR_SIGMA[1] - BLUR_SIGMA[0]) * draw


def _planes(image):
    return tuple(tf.unstack(tf.cast(image, tf.float32), 3, axis=-1))


def _image(planes):
    return tf.cast(tf.stack(planes, axis=-1), tf.uint8)


def _apply(condition, function, planes):
    changed = tf.cond(condition, lambda: function(planes), lambda: planes)
    return tuple(tf.ensure_shape(plane, planes[0].shape) for plane in changed)


def _where(condition, new, old):
    return tuple(tf.where(condition, *pair) for pair in zip(new, old, strict=True))
