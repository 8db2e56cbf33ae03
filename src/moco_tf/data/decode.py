"""Encoded images of any format to uint8 RGB, in the graph; of a JPEG only what a crop needs."""

import tensorflow as tf


def image_size(contents):
    """Height and width of an encoded image, int32 [2]."""
    return tf.cond(
        tf.io.is_jpeg(contents),
        lambda: tf.image.extract_jpeg_shape(contents)[:2],
        lambda: tf.shape(_decode_other(contents))[:2],
    )


def decode(contents):
    """uint8 [h, w, 3]. The format is told by the first bytes, not by a file's name."""
    return tf.cond(
        tf.io.is_jpeg(contents),
        lambda: tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: _decode_other(contents),
    )


def decode_window(contents, window):
    """uint8 [window[2], window[3], 3]: the part of the image in `window` (top, left, h, w)."""
    return tf.cond(
        tf.io.is_jpeg(contents),
        lambda: tf.image.decode_and_crop_jpeg(
            contents, window, channels=3, dct_method="INTEGER_ACCURATE"
        ),
        lambda: crop(_decode_other(contents), window),
    )


def crop(image, window):
    """The part of `image` [h, w, 3] in `window`."""
    return tf.slice(image, [window[0], window[1], 0], [window[2], window[3], 3])


def _decode_other(contents):
    head = tf.strings.substr(contents, 0, 4)
    is_bmp = tf.strings.substr(head, 0, 2) == b"BM"

    def not_bmp():
        return tf.cond(
            head == b"RIFF",
            lambda: tf.io.decode_webp(contents, channels=3)[0],  # the first frame
            lambda: tf.io.decode_image(contents, channels=3, expand_animations=False),
        )

    image = tf.cond(is_bmp, lambda: _decode_bmp(contents), not_bmp)
    return tf.ensure_shape(image, [None, None, 3])


def _decode_bmp(contents):
    image = tf.io.decode_bmp(contents, channels=0)
    gray = tf.shape(image)[-1] == 1
    return tf.cond(gray, lambda: tf.repeat(image, 3, axis=-1), lambda: image[..., :3])
