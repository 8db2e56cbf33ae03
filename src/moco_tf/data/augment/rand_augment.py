"""RandAugment as DeiT uses it: two of fifteen operations, each with probability a half.

Images are uint8 [S, S, 3]; every operation returns what Pillow does on such an image.

Source: arXiv:1909.13719 with the policy "rand-m9-mstd0.5-inc1" of timm: 9 is the magnitude, 0.5 the
standard deviation around it, and with a larger magnitude every operation changes more.
"""

import math

import tensorflow as tf

from moco_tf.data.augment import color
from moco_tf.data.augment.views import seed_of_normal

LAYERS = 2
PROBABILITY = 0.5
DEVIATION, LARGEST = 0.5, 10.0  # of the magnitude
FILL = (124, 116, 104)  # where nothing of the image is: ImageNet's mean


def rand_augment(image, seed, magnitude):
    """Returns uint8 [S, S, 3]: `image` after the operations that were drawn.

    Args:
        image: uint8 [S, S, 3].
        seed: int64 [2]; no other image has it.
        magnitude: mean of the operations' strength, 0 to 10.
    """
    which, levels, signs = drawn(seed, magnitude)

    def one(place, image):
        branches = [
            lambda f=f, i=image: f(i, levels[place], signs[place]) for f in OPERATIONS.values()
        ]
        changed = tf.switch_case(which[place], [*branches, lambda: image])
        return place + 1, tf.ensure_shape(changed, image.shape)

    # A loop, so that the graph holds each operation once.
    return tf.while_loop(lambda place, _: place < LAYERS, one, [0, image])[1]


def drawn(seed, magnitude):
    """Which operations, int32 [LAYERS], their strengths, 0 to 1, and signs: float64 [LAYERS] each.

    A number that no operation has stands for none.
    """
    draws = tf.random.stateless_uniform([LAYERS, 3], seed, alg="philox")
    normal = tf.random.stateless_normal(
        [LAYERS], seed_of_normal(seed), dtype=tf.float64, alg="philox"
    )
    levels = tf.clip_by_value(magnitude + DEVIATION * normal, 0, LARGEST) / LARGEST
    which = tf.cast(draws[:, 0] * len(OPERATIONS), tf.int32)
    which = tf.where(draws[:, 1] < PROBABILITY, which, len(OPERATIONS))
    return which, levels, tf.where(draws[:, 2] > 0.5, tf.constant(-1.0, tf.float64), 1.0)


def _by_table(image, table):
    """Each channel through its own table, int32 [3, 256], clipped to a pixel's values."""
    planes = tf.transpose(tf.cast(image, tf.int32), [2, 0, 1])
    changed = tf.gather(table, tf.reshape(planes, [3, -1]), batch_dims=1)
    changed = tf.reshape(tf.clip_by_value(changed, 0, 255), tf.shape(planes))
    return tf.cast(tf.transpose(changed, [1, 2, 0]), tf.uint8)


def _histograms(image):
    """How often each value is in each channel: int32 [3, 256]."""
    values = tf.reshape(tf.transpose(tf.cast(image, tf.int32), [2, 0, 1]), [3, -1])
    return tf.math.bincount(values, minlength=256, maxlength=256, axis=-1)


def auto_contrast(image, level, sign):
    """Each channel stretched to 0 to 255."""
    values, counts = tf.range(256, dtype=tf.float64), _histograms(image)
    low = tf.reduce_min(tf.where(counts > 0, values, 255), axis=1, keepdims=True)
    high = tf.reduce_max(tf.where(counts > 0, values, 0), axis=1, keepdims=True)
    scale = 255 / tf.maximum(high - low, 1)
    stretched = tf.where(high > low, values * scale - low * scale, values)
    return _by_table(image, tf.cast(stretched, tf.int32))


def equalize(image, level, sign):
    """Each channel's values spread so that all are about as frequent."""
    counts = _histograms(image)
    last = tf.reduce_max(tf.where(counts > 0, tf.range(256), 0), axis=1)
    of_last = tf.gather(counts, last, batch_dims=1)
    step = ((tf.reduce_sum(counts, axis=1) - of_last) // 255)[:, None]
    before = tf.cumsum(counts, axis=1, exclusive=True)
    table = (step // 2 + before) // tf.maximum(step, 1)
    return _by_table(image, tf.where(step > 0, table, tf.range(256)))


def invert(image, level, sign):
    """255 less each value."""
    return 255 - image


def posterize(image, level, sign):
    """The 4 highest bits of each value, down to the highest alone (Pillow keeps one, too)."""
    wide, lost = tf.cast(image, tf.int32), 4 + tf.cast(tf.minimum(level * 4, 3), tf.int32)
    unit = tf.bitwise.left_shift(tf.constant(1), lost)
    return tf.cast(wide - wide % unit, tf.uint8)


def solarize(image, level, sign):
    """Values from a threshold on inverted, which falls from 256 to 0."""
    threshold = 256 - tf.cast(level * 256, tf.int32)
    return tf.where(tf.cast(image, tf.int32) < threshold, image, 255 - image)


def solarize_add(image, level, sign):
    """Values below 128 raised by up to 110."""
    wide = tf.cast(image, tf.int32)
    raised = tf.minimum(wide + tf.cast(level * 110, tf.int32), 255)
    return tf.cast(tf.where(wide < 128, raised, wide), tf.uint8)


def _enhanced(operation):
    def enhance(image, level, sign):
        factor = tf.cast(1 + sign * level * 0.9, tf.float32)
        planes = operation(tuple(tf.unstack(tf.cast(image, tf.float32), 3, axis=-1)), factor)
        return tf.cast(tf.stack(planes, axis=-1), tf.uint8)

    return enhance


def _sharpness(planes, factor):
    """Blend with the smoothed image, whose rim stays."""

    def smooth(plane):
        rows = plane[:-2] + plane[1:-1] + plane[2:]
        inside = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * plane[1:-1, 1:-1]
        inside = tf.floor(inside / 13 + 0.5)
        middle = tf.concat([plane[1:-1, :1], inside, plane[1:-1, -1:]], axis=1)
        return tf.concat([plane[:1], middle, plane[-1:]], axis=0)

    return tuple(color.blend(smooth(plane), (plane,), factor)[0] for plane in planes)


def shear(place):
    """Rows or columns moved in proportion to where they are, by up to 0.3: see `_changed`."""
    return lambda image, level, sign: affine(image, _changed(place, sign * level * 0.3))


def translate(place):
    """Moved sideways or up and down, by up to 0.45 of the side: see `_changed`."""

    def translated(image, level, sign):
        return affine(image, _changed(place, sign * level * 0.45 * image.shape[0]))

    return translated


def _changed(place, value):
    """The matrix of `affine` that changes nothing, but for the value at one place."""
    return [value if n == place else float(n in (0, 4)) for n in range(6)]


def rotate(image, level, sign):
    """Turned around the middle by up to 30 degrees."""
    angle = -sign * level * (30 * math.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    middle = image.shape[0] / 2
    rows = (cos, sin, middle - (cos + sin) * middle), (-sin, cos, middle - (cos - sin) * middle)
    return affine(image, [*rows[0], *rows[1]])


def affine(image, matrix):
    """Returns uint8 [S, S, 3]: pixel (x, y) is `image` at (a x + b y + c, d x + e y + f).

    Interpolated with cubic polynomials of 4 x 4 pixels, as Pillow's transform does (its a is -1);
    `FILL` where that is outside.
    """
    side, (a, b, c, d, e, f) = image.shape[0], matrix
    y, x = tf.meshgrid(*[tf.range(side, dtype=tf.float64) + 0.5] * 2, indexing="ij")
    x, y = a * x + b * y + c, d * x + e * y + f
    inside = (x >= 0) & (x < side) & (y >= 0) & (y < side)
    left, top = tf.floor(x - 0.5), tf.floor(y - 0.5)
    pixels = tf.reshape(tf.cast(image, tf.float64), [side * side, 3])

    def row(down):
        line = tf.clip_by_value(tf.cast(top, tf.int32) + down, 0, side - 1) * side
        columns = [tf.clip_by_value(tf.cast(left, tf.int32) + n, 0, side - 1) for n in _AROUND]
        taken = [tf.gather(pixels, line + column) for column in columns]
        return _cubic(taken, (x - 0.5 - left)[..., None])

    found = _cubic([row(down) for down in _AROUND], (y - 0.5 - top)[..., None])
    found = tf.cast(tf.clip_by_value(found, 0, 255), tf.uint8)
    return tf.where(inside[..., None], found, tf.constant(FILL, tf.uint8))


_AROUND = (-1, 0, 1, 2)


def _cubic(values, d):
    v1, v2, v3, v4 = values
    third = 2 * (v1 - v2) + v3 - v4
    return v2 + d * (v3 - v1 + d * (third + d * (v2 - v1 - v3 + v4)))


OPERATIONS = {
    "auto_contrast": auto_contrast,
    "equalize": equalize,
    "invert": invert,
    "rotate": rotate,
    "posterize": posterize,
    "solarize": solarize,
    "solarize_add": solarize_add,
    "color": _enhanced(color.saturation),
    "contrast": _enhanced(color.contrast),
    "brightness": _enhanced(color.brightness),
    "sharpness": _enhanced(_sharpness),
    "shear_x": shear(1),
    "shear_y": shear(3),
    "translate_x": translate(2),
    "translate_y": translate(5),
}
