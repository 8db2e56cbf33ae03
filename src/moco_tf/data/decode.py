"""Encoded images of any format to uint8 RGB, in the graph."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image


def decode(contents):
    """uint8 [h, w, 3]. The format is told by the first bytes, not by a file's name."""
    return tf.cond(
        tf.io.is_jpeg(contents),
        lambda: tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: _decode_other(contents),
    )


def crop(image, window):
    """The part of `image` [h, w, 3] in `window`."""
    return tf.slice(image, [window[0], window[1], 0], [window[2], window[3], 3])


def _decode_other(contents):
    """What is no JPEG. Pillow reads what TensorFlow cannot, or reads wrongly (palettes of BMP)."""
    image = tf.cond(
        _is_bmp_or_animated_webp(contents),
        lambda: tf.numpy_function(_decode_with_pillow, [contents], tf.uint8, stateful=False),
        lambda: _decode_with_tensorflow(contents),
    )
    return tf.ensure_shape(image, [None, None, 3])


def _decode_with_tensorflow(contents):
    return tf.cond(
        _is_webp(contents),
        lambda: tf.io.decode_webp(contents, channels=3)[0],
        lambda: tf.io.decode_image(contents, channels=3, expand_animations=False),
    )


def _decode_with_pillow(contents: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(contents), formats=("BMP", "WEBP")) as image:
        return np.asarray(image.convert("RGB"))  # the first frame


def _is_webp(contents):
    return tf.strings.substr(contents, 0, 4) == b"RIFF"


def _is_bmp_or_animated_webp(contents):
    def animated():  # the extended header has a flag of it
        header, flags = (tf.strings.substr(contents, *span) for span in ((12, 4), (20, 1)))
        return (header == b"VP8X") & (tf.io.decode_raw(flags, tf.uint8)[0] & 2 > 0)

    is_bmp = tf.strings.substr(contents, 0, 2) == b"BM"
    return is_bmp | tf.cond(_is_webp(contents), animated, lambda: False)
