"""A view of an image, as a `View` of `moco_tf.augmentation` describes it: one vector of draws each.

`augment` takes one image and does only what its draws ask for; `augment_batch` does everything to
every image of a batch, without a branch, and keeps what the draws ask for. The results are equal.
Every operation returns an 8-bit image, as torchvision's on Pillow images do.
"""

import tensorflow as tf

from moco_tf.data.augment import color
from moco_tf.data.augment.blur import box_kernel, gaussian_blur, kernel_reach
from moco_tf.data.augment.crop import TRIES

CROP_DRAWS = 4 * TRIES
DRAWS = CROP_DRAWS + 16
# Which of the last 16 draws decides on what. What a run computes depends on these places.
JITTER, FACTORS, ORDER, GRAY, BLUR, SIGMA = 0, slice(1, 5), slice(5, 9), 9, 10, 11
HORIZONTAL, VERTICAL, TURNS, SOLARIZE = 12, 13, 14, 15


def seed_pair(seed, position, view):
    """The seed of one view, int64 [2]: no other view of the run has it.

    Args:
        seed: int scalar of the run.
        position: int64 scalar, the image's place in the whole run: epoch * images + place.
        view: 0 for the query's view, 1 for the key's.
    """
    return tf.stack([tf.cast(seed, tf.int64), 2 * tf.cast(position, tf.int64) + view])


def seed_of_normal(seed):
    """The seed of an image's normal numbers, int64 [2], from that of its uniform ones."""
    return tf.stack([seed[0] + 2**31, seed[1]])  # a run's own seed is smaller


def view_draws(seed, position, view):
    """Uniform numbers in [0, 1), [DRAWS]: a function of (seed, position, view); see `seed_pair`."""
    return tf.random.stateless_uniform([DRAWS], seed_pair(seed, position, view), alg="philox")


def jitter_factors(draws, strengths):
    """Factors [..., 4] of brightness, contrast, saturation (1 - s to 1 + s) and hue (-s to s)."""
    strengths = tf.constant(strengths)
    low = tf.concat([tf.maximum(1 - strengths[:3], 0), -strengths[3:]], axis=0)
    high = tf.concat([1 + strengths[:3], strengths[3:]], axis=0)
    return low + (high - low) * draws


def augment(crop, draws, view):
    """Returns uint8 [S, S, 3]: the resized crop after the other operations of `view`.

    Args:
        crop: uint8 [S, S, 3].
        draws: the last 16 of `view_draws`.
        view: `View` of torchvision's family.

    Source: arXiv:1911.05722 section 3.3 (v1); arXiv:2003.04297 section 2 (v2).
    """
    u, planes = draws, _planes(crop)
    for name in view.operations:
        if name == "jitter":
            factors, order = jitter_factors(u[FACTORS], view.jitter.strengths), tf.argsort(u[ORDER])
            planes = _apply(
                u[JITTER],
                view.jitter.probability,
                lambda x, f=factors, o=order: color.jitter(x, f, o, hue_too=view.jitter.hue > 0),
                planes,
            )
        elif name == "gray":
            planes = _apply(u[GRAY], view.gray, color.grayscale, planes)
        elif name == "blur":
            kernel = tf.unstack(_kernel(u[SIGMA], view.blur))
            planes = _apply(
                u[BLUR],
                view.blur.probability,
                lambda x, k=kernel: tuple(_blurred(plane, k) for plane in x),
                planes,
            )
        else:
            planes = _apply(
                u[SOLARIZE],
                view.solarize.probability,
                lambda x: color.solarize(x, view.solarize.threshold),
                planes,
            )
    # A flip commutes exactly with all of these, so the demo's early flip may come last.
    image = flip(_image(planes), u[HORIZONTAL], view.horizontal_flip)
    return turned(image, u, view)


def augment_batch(crops, draws, view):
    """Returns uint8 [B, S, S, 3]: `augment` of every crop, [B, S, S, 3], by its draws, [B, 16]."""
    u, planes = draws, _planes(crops)
    for name in view.operations:
        if name == "jitter":
            planes = color.jitter_batch(
                planes,
                jitter_factors(u[:, FACTORS], view.jitter.strengths),
                tf.argsort(u[:, ORDER]),
                u[:, JITTER] < view.jitter.probability,
                hue_too=view.jitter.hue > 0,
            )
        elif name == "gray":
            gray = (u[:, GRAY] < view.gray)[:, None, None]
            planes = _where(gray, color.grayscale(planes), planes)
        elif name == "blur":
            kernels = _kernel(u[:, SIGMA], view.blur)
            nothing = [1.0] + [0.0] * (kernels.shape[-1] - 1)
            kernels = tf.where((u[:, BLUR] < view.blur.probability)[:, None], kernels, nothing)
            kernel = tf.unstack(kernels[:, None, None], axis=-1)  # each [B, 1, 1]
            planes = tuple(gaussian_blur(plane, kernel) for plane in planes)
        else:
            inverted = (u[:, SOLARIZE] < view.solarize.probability)[:, None, None]
            planes = _where(inverted, color.solarize(planes, view.solarize.threshold), planes)
    return _oriented_batch(_image(planes), u, view)


def flip(image, draw, probability=0.5, axis=1):
    """`image` [S, S, 3] with its sides exchanged, if the uniform `draw` is below `probability`."""
    if not probability:
        return image
    return tf.ensure_shape(
        tf.cond(draw < probability, lambda: tf.reverse(image, axis=[axis]), lambda: image),
        image.shape,
    )


def turned(image, draws, view):
    """`image` [S, S, 3] after the vertical flip and the quarter turns (anticlockwise) of `view`."""
    image = flip(image, draws[VERTICAL], view.vertical_flip, axis=0)
    if not view.quarter_turns:
        return image
    turns = tf.cast(4 * draws[TURNS], tf.int32)
    return tf.ensure_shape(tf.image.rot90(image, turns), image.shape)


def _oriented_batch(images, u, view):
    def where(condition, new, old):
        return tf.where(condition[:, None, None, None], new, old)

    for place, probability, axis in (
        (HORIZONTAL, view.horizontal_flip, 2),
        (VERTICAL, view.vertical_flip, 1),
    ):
        if probability:
            images = where(u[:, place] < probability, tf.reverse(images, axis=[axis]), images)
    if view.quarter_turns:  # as a transposition and two flips
        turns = tf.cast(4 * u[:, TURNS], tf.int32)
        images = where(turns % 2 == 1, tf.transpose(images, [0, 2, 1, 3]), images)
        images = where((turns == 1) | (turns == 2), tf.reverse(images, axis=[1]), images)
        images = where(turns >= 2, tf.reverse(images, axis=[2]), images)
    return images


def _kernel(draw, blur):
    low, high = blur.sigma
    return box_kernel(low + (high - low) * draw, kernel_reach(high))


def _planes(image):
    return tuple(tf.unstack(tf.cast(image, tf.float32), 3, axis=-1))


def _image(planes):
    return tf.cast(tf.stack(planes, axis=-1), tf.uint8)


_blurred = tf.function(gaussian_blur, autograph=False)  # traced once for all planes


def _apply(draw, probability, function, planes):
    if probability >= 1:
        return function(planes)
    changed = tf.cond(draw < probability, lambda: function(planes), lambda: planes)
    return tuple(tf.ensure_shape(plane, planes[0].shape) for plane in changed)


def _where(condition, new, old):
    return tuple(tf.where(condition, *pair) for pair in zip(new, old, strict=True))
