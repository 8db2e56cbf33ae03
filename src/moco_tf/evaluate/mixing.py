"""Mixup and cutmix of a batch with itself in reverse order, and the labels that belong to that.

Legend: c images of a microbatch, S pixels a side, C classes.
"""

import numpy as np
import tensorflow as tf

STREAM = 2**31  # of seeds, beside those of the images' order
ALONE = (1.0, 1.0, 0, 0, 0, 0)


def draw_mix(seed: int, step: int, *, side: int, mixup: float, cutmix: float) -> np.ndarray:
    """Returns how the batch of a step is mixed, float32 [6]: a function of (seed, step).

    The numbers are the share of an image in its pixels and in its label, and top, bottom, left and
    right of the box that is its partner's, pixels. With both kinds each has a probability of half.

    Args:
        side: S.
        mixup, cutmix: both parameters of the Beta distribution that a share is drawn from; 0: none
            of that kind.

    Source: arXiv:1710.09412, arXiv:1905.04899; both together as in DeiT.
    """
    if not (mixup or cutmix):
        return np.array(ALONE, np.float32)
    generator = np.random.Generator(np.random.Philox(key=[seed + STREAM, step]))
    cuts = bool(cutmix) and (not mixup or generator.random() < 0.5)
    alpha = cutmix if cuts else mixup
    share = generator.beta(alpha, alpha)
    if not cuts:
        return np.array([share, share, 0, 0, 0, 0], np.float32)
    half = int(side * np.sqrt(1 - share)) // 2
    middle = generator.integers(0, side, 2)
    (top, left), (bottom, right) = np.clip([middle - half, middle + half], 0, side)
    label = 1 - (bottom - top) * (right - left) / side**2  # what the border left of the box
    return np.array([1, label, top, bottom, left, right], np.float32)


def mixed_images(images, partners, mix):
    """Pixels of images with those of their partners, both uint8 [c, S, S, 3]: float32."""
    share, _, top, bottom, left, right = tf.unstack(mix)
    places = tf.range(images.shape[1], dtype=tf.float32)
    rows, columns = places[:, None, None], places[None, :, None]
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    share = tf.where(inside, 0.0, share)  # [S, S, 1]
    return share * tf.cast(images, tf.float32) + (1 - share) * tf.cast(partners, tf.float32)


def mixed_labels(labels, partners, mix, classes, smoothing):
    """Shares of the classes, [c, C], from the labels of images and of their partners, [c] each.

    Smoothing gives that share of each label to all classes alike.
    """
    own, others = (tf.one_hot(each, classes, dtype=mix.dtype) for each in (labels, partners))
    return (1 - smoothing) * (mix[1] * own + (1 - mix[1]) * others) + smoothing / classes
