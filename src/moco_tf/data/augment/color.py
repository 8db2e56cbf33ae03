"""Colour operations on 8-bit images, as Pillow computes them.

Images are three planes, (red, green, blue), each float32 [..., H, W] that holds whole numbers from
0 to 255, and so are the results: one image, or a batch with a factor for each. Planes because
operations along an axis of three are slow on a CPU.
"""

import tensorflow as tf

CONTRAST, HUE = 1, 3  # in the order of `jitter`


def luma(planes):
    """ITU-R 601 luma, rounded to a whole number: [..., H, W]."""
    red, green, blue = planes  # at most 2**24 below: exact in float32
    return tf.floor((19595 * red + 38470 * green + 7471 * blue + 32768) / 65536)


def blend(base, planes, factor):
    """`base + factor * (plane - base)`, truncated to a whole number in [0, 255]."""
    return tuple(
        tf.floor(tf.clip_by_value(base + factor * (plane - base), 0, 255)) for plane in planes
    )


def brightness(planes, factor):
    """Blend with black."""
    return blend(0.0, planes, factor)


def contrast(planes, factor):
    """Blend with the image's mean luma, rounded to a whole number."""
    return blend(mean_of(luma(planes)), planes, factor)


def saturation(planes, factor):
    """Blend with the luma of each pixel."""
    return blend(luma(planes), planes, factor)


def mean_of(plane):
    """Mean of each image, rounded to a whole number: [..., H, W] -> [..., 1, 1]."""
    count = tf.cast(tf.shape(plane)[-2] * tf.shape(plane)[-1], tf.float64)
    # A sum of whole numbers is the same in any order; a GPU would leave one of int32 to the host.
    total = tf.reduce_sum(tf.cast(plane, tf.float64), axis=[-2, -1], keepdims=True)
    return tf.cast(tf.floor(total / count + 0.5), tf.float32)


def hue(planes, factor):
    """Hue shifted by `factor` turns (-0.5 to 0.5) in Pillow's 8-bit HSV, wrapping around."""
    h, s, v = _rgb_to_hsv(*planes)
    shift = tf.cast(tf.cast(factor * 255, tf.int32), tf.float32)
    turned = h + shift
    return _hsv_to_rgb(turned - 256 * tf.floor(turned / 256), s, v)


def grayscale(planes):
    """Luma in three channels."""
    return (luma(planes),) * 3


def solarize(planes, threshold=128):
    """Values from `threshold` on are inverted."""
    return tuple(tf.where(plane < threshold, plane, 255 - plane) for plane in planes)


def jitter(planes, factors, order, hue_too=True):
    """Brightness, contrast, saturation and hue of one image, [H, W] planes, in the given order.

    Args:
        factors: [4], of brightness, contrast, saturation and hue.
        order: int [4], a permutation of 0 (brightness), 1, 2 and 3 (hue).
        hue_too: without it the hue stays exactly, which a factor of 0 would round.
    """
    operations = (brightness, contrast, saturation, hue if hue_too else lambda planes, _: planes)
    shape = planes[0].shape

    def apply_next(position, *planes):
        # The default arguments bind these planes: branches are traced later.
        branches = [
            lambda op=op, k=k, planes=planes: op(planes, factors[k])
            for k, op in enumerate(operations)
        ]
        changed = tf.switch_case(order[position], branches)
        return position + 1, *(tf.ensure_shape(plane, shape) for plane in changed)

    # A loop, so that the graph holds each operation once, not at each of four places.
    _, *planes = tf.while_loop(
        lambda position, *_: position < 4, apply_next, (tf.constant(0), *planes)
    )
    return tuple(planes)


def jitter_batch(planes, factors, orders, applied, hue_too=True):
    """`jitter` of every image of a batch, [B, H, W] planes, without a branch.

    Of the three blends, those that come before the hue run in three slots before it, the others in
    three after it; a slot that an image leaves empty multiplies by one.

    Args:
        factors, orders: [B, 4]; applied: bool [B], images left as they are otherwise.
        hue_too: see `jitter`.
    """
    place = tf.argmax(tf.cast(orders == HUE, tf.int32), axis=1, output_type=tf.int32)  # [B]
    for slot in range(3):
        planes = _blend_slot(planes, factors, orders[:, slot], applied & (slot < place))
    if hue_too:
        turned = hue(planes, _each(factors[:, HUE]))
        planes = tuple(
            tf.where(_each(applied), new, old) for new, old in zip(turned, planes, strict=True)
        )
    for slot in range(1, 4):
        planes = _blend_slot(planes, factors, orders[:, slot], applied & (slot > place))
    return planes


def _blend_slot(planes, factors, codes, used):
    codes = tf.where(used, codes, 0)  # never the hue
    factor = tf.where(used, tf.gather(factors, codes, batch_dims=1), 1.0)
    gray, codes = luma(planes), _each(codes)
    base = tf.where(codes == 0, 0.0, tf.where(codes == CONTRAST, mean_of(gray), gray))
    return blend(base, planes, _each(factor))


def _each(values):
    """[B] -> [B, 1, 1], one for each image."""
    return values[:, None, None]


def _rgb_to_hsv(r, g, b):
    v, low = tf.maximum(tf.maximum(r, g), b), tf.minimum(tf.minimum(r, g), b)
    spread = v - low
    gray = spread == 0
    safe = tf.where(gray, 1.0, spread)
    rc, gc, bc = (v - r) / safe, (v - g) / safe, (v - b) / safe
    h = tf.where(r == v, bc - gc, tf.where(g == v, 2 + rc - bc, 4 + gc - rc)) * (1 / 6) + 1
    h -= tf.floor(h)
    s = spread / tf.where(v > 0, v, 1.0)
    # Both are below 1, or s is 1: at most 255 already.
    return tf.where(gray, 0.0, tf.floor(h * 255)), tf.where(gray, 0.0, tf.floor(s * 255)), v


def _hsv_to_rgb(h, s, v):
    position = h * (6 / 255)  # not h * 6 / 255: graphs multiply, and would round otherwise
    sector = tf.floor(position)
    f, s = position - sector, s * (1 / 255)
    p = tf.floor(v * (1 - s) + 0.5)
    q = tf.floor(v * (1 - s * f) + 0.5)
    t = tf.floor(v * (1 - s * (1 - f)) + 0.5)
    sector = tf.where(sector >= 6, sector - 6, sector)
    within = [sector == index for index in range(5)]  # else it is 5

    def pick(*choices):
        value = choices[5]
        for index in range(4, -1, -1):
            value = tf.where(within[index], choices[index], value)
        return value

    return pick(v, q, p, p, t, v), pick(t, v, v, q, p, p), pick(p, p, t, v, v, q)
