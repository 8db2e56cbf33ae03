"""Encoded images of any format to uint8 RGB, in the graph.

What an image claims to be is looked at before anything is allocated for it: see `MOST_PIXELS`.
"""

import tensorflow as tf

from moco_tf.data.pillow import FORMATS, MOST_PIXELS, pillow_rgb

MOST_SCANNED_PIXELS = 2**31  # of a JPEG, times its scans: each of them goes over all pixels
MOST_BYTES = 2**29  # of a file
UNREADABLE = (tf.errors.OpError, ValueError)  # of `decode`; outside of a graph also the second
_START = 30  # bytes in which PNG and WebP say how large they are
_SCAN, _PNG = b"\xff\xda", b"\x89PNG\r\n\x1a\n"
_TIFF = [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"]
_NETPBM = [b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"]


def decode(contents):
    """uint8 [h, w, 3]: Pillow's RGB, alpha dropped. The first bytes tell the format, not the name.

    Of 16-bit gray values the upper 8 bits are kept. It fails where the image is damaged, or larger
    than the numbers above.
    """
    return tf.cond(
        tf.io.is_jpeg(contents), lambda: _decode_jpeg(contents), lambda: _decode_other(contents)
    )


def decoded(images, index):
    """The image at `index` of `Images` as uint8 [h, w, 3]."""
    source = images.read(index)
    return decode(source) if images.encoded else source


def crop(image, window):
    """The part of `image` [h, w, 3] in `window`."""
    return tf.slice(image, [window[0], window[1], 0], [window[2], window[3], 3])


def _decode_jpeg(contents):
    shape = tf.image.extract_jpeg_shape(contents, tf.int64)
    pixels = shape[0] * shape[1]
    parts = tf.strings.split([contents], _SCAN).values  # one more than there are scans
    with _at_most(MOST_PIXELS, pixels):
        scanned = pixels * tf.size(parts, tf.int64)
    with _at_most(MOST_SCANNED_PIXELS, scanned):
        return tf.cond(
            shape[2] == 4,  # CMYK: without Adobe's marker TensorFlow takes it for its negative
            lambda: _decode_in_python(contents),
            lambda: tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE"),
        )


def _decode_other(contents):
    """What is no JPEG. Pillow reads what TensorFlow cannot, or reads wrongly (palettes of BMP).

    Of a GIF, TensorFlow decodes all frames to give the first one.
    """
    start = tf.strings.join([tf.strings.substr(contents, 0, _START), b"\0" * _START])
    return tf.cond(
        _is_for_pillow(start),
        lambda: _decode_in_python(contents),
        lambda: _decode_with_tensorflow(contents, start),
    )


def _decode_with_tensorflow(contents, start):
    digits = tf.cast(tf.io.decode_raw(start, tf.uint8), tf.int64)

    def webp():
        with _at_most(MOST_PIXELS, _webp_pixels(start, digits)):
            return tf.io.decode_webp(contents)[0, :, :, :3]  # it refuses to leave out alpha

    def png():
        is_png = tf.strings.substr(start, 0, len(_PNG)) == _PNG
        width, height = (_number(digits[at : at + 4][::-1]) for at in (16, 20))
        larger = tf.maximum(width, height)  # so the product fits in 64 bits
        with _only_if(is_png, f"it is no {FORMATS}"), _at_most(MOST_PIXELS, larger):
            pixels = width * height
        with _at_most(MOST_PIXELS, pixels):
            return tf.io.decode_png(contents, channels=3)

    return tf.cond(_is_webp(start), webp, png)


def _webp_pixels(start, digits):
    """Of the extended format, of the lossless one, and of the lossy one."""

    def extended():
        return (1 + _number(digits[24:27])) * (1 + _number(digits[27:30]))

    def lossless():
        sides = _number(digits[21:25])
        return (1 + sides % 2**14) * (1 + sides // 2**14 % 2**14)

    def lossy():
        return _number(digits[26:28]) % 2**14 * (_number(digits[28:30]) % 2**14)

    header = tf.strings.substr(start, 12, 4)
    return tf.case([(header == b"VP8X", extended), (header == b"VP8L", lossless)], lossy)


def _number(digits):
    """Of bytes, int64 [n], the lowest first."""
    return tf.reduce_sum(digits * 256 ** tf.range(tf.size(digits, tf.int64), dtype=tf.int64))


def _at_most(limit: int, number):
    return _only_if(number <= limit, f"it is larger than the {limit} pixels that are decoded")


def _only_if(condition, reason: str):
    """What is made under it is computed only if `condition` holds."""
    return tf.control_dependencies([tf.debugging.Assert(condition, [reason])])


def _decode_in_python(contents):
    image = tf.numpy_function(pillow_rgb, [contents], tf.uint8, stateful=False)
    return tf.ensure_shape(image, [None, None, 3])


def _is_webp(start):
    return tf.strings.substr(start, 0, 4) == b"RIFF"


def _is_for_pillow(start):
    """Whether TensorFlow does not read it; animated WebP has a flag in the extended header."""
    two, four, kind = (tf.strings.substr(start, at, n) for at, n in ((0, 2), (0, 4), (4, 4)))
    extended = _is_webp(start) & (tf.strings.substr(start, 12, 4) == b"VP8X")
    flags = tf.io.decode_raw(tf.strings.substr(start, 20, 1), tf.uint8)[0]
    starts = tf.reduce_any(two == [b"BM", *_NETPBM]) | tf.reduce_any(four == [b"GIF8", *_TIFF])
    return starts | (kind == b"ftyp") | (extended & (flags & 2 > 0))
