"""Random erasing: a rectangle of an image becomes noise."""

import tensorflow as tf

from moco_tf.data.augment.crop import TRIES, random_crop_window
from moco_tf.data.augment.views import seed_of_normal

AREA = (0.02, 1 / 3)  # of the image's
ASPECT = (0.3, 1 / 0.3)


def erase(image, seed, probability, mean, std):
    """Returns uint8 [S, S, 3]: `image`, with that probability after a rectangle has become noise.

    The noise is normal in units of the normalised image, a number for each pixel and channel,
    rounded and clipped to a pixel's values.

    Args:
        image: uint8 [S, S, 3].
        seed: int64 [2]; no other image has it.
        mean, std: of the normalisation, [3].

    Source: arXiv:1708.04896, with the numbers and the noise of DeiT.
    """
    side = image.shape[0]
    draws = tf.random.stateless_uniform([4 * TRIES + 1], seed, alg="philox")

    def erased():
        noise = tf.random.stateless_normal(image.shape, seed_of_normal(seed), alg="philox")
        noise = tf.round(255 * (tf.constant(mean) + tf.constant(std) * noise))
        tries = tf.reshape(draws[:-1], [TRIES, 4])
        top, left, height, width = tf.unstack(random_crop_window(tries, side, side, *AREA, ASPECT))
        rows, columns = tf.range(side)[:, None, None], tf.range(side)[None, :, None]
        inside = (rows >= top) & (rows < top + height)
        inside &= (columns >= left) & (columns < left + width)
        return tf.where(inside, tf.cast(tf.clip_by_value(noise, 0, 255), tf.uint8), image)

    return tf.ensure_shape(tf.cond(draws[-1] < probability, erased, lambda: image), [side, side, 3])
