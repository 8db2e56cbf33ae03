"""Encoded images of any format to uint8 RGB, in the graph.

What an image claims to be is looked at before anything is allocated for it: see `MOST_PIXELS`.
"""

import io
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image, ImageFile, UnidentifiedImageError

MOST_PIXELS = 89_478_485  # of an image, 256 MiB as RGB; from there on Pillow warns of a bomb
MOST_SCANNED_PIXELS = 2**31  # of a JPEG, times its scans: each of them goes over all pixels
MOST_BYTES = 2**29  # of a file
MOST_TEXT = 2**24  # bytes of a PGM or PPM of plain text, which Pillow reads number by number
UNREADABLE = (tf.errors.OpError, ValueError)  # of `decode`; outside of a graph also the second
_START = 30  # bytes in which PNG and WebP say how large they are
_SCAN, _PNG = b"\xff\xda", b"\x89PNG\r\n\x1a\n"
FORMATS = "JPEG, PNG, BMP, GIF, WebP, TIFF, PPM, PGM, PBM or AVIF"
_PILLOW_FORMATS = ("JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "AVIF")
_TIFF = [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"]
_NETPBM = [b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"]
_BITS, _TILE_WIDTH, _TILE_LENGTH = 258, 322, 323  # tags of TIFF


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
    image = tf.numpy_function(_decode_with_pillow, [contents], tf.uint8, stateful=False)
    return tf.ensure_shape(image, [None, None, 3])


def _decode_with_pillow(contents: bytes) -> np.ndarray:
    try:
        return _pillow_rgb(contents)
    except MemoryError:
        raise
    except Exception as error:  # of damaged files, of many kinds
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _pillow_rgb(contents: bytes) -> np.ndarray:
    """The first frame. Values of more than 16 bits are refused: their range is not known."""
    try:
        image = Image.open(io.BytesIO(contents), formats=_PILLOW_FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"it is no {FORMATS}") from None
    with image:
        if image.format == "PPM" and image.tile[0].codec_name != "raw":
            _check_size(image)
            return _netpbm_rgb(contents, image)
        return pixels_of(image)


def pixels_of(image: Image.Image) -> np.ndarray:
    """uint8 [h, w, 3] of Pillow's image; raises `ValueError` where `decode` would fail."""
    tags = _check_size(image)
    if "transparency" in image.info:  # of a palette, for which `convert` warns
        image = image.copy()
        image.info.pop("transparency")
    if image.mode.startswith("I;16"):
        return _gray(np.asarray(image) >> (tags.get(_BITS, (16,))[0] - 8))
    if image.mode == "I" and image.format == "PPM":  # of 16 bits
        return _gray(np.asarray(image) >> 8)
    if image.mode in ("I", "F"):
        raise ValueError("its values have signs or more than 16 bits: their range is unknown")
    return np.asarray(image.convert("RGB"))


def _check_size(image: Image.Image) -> Any:
    """Raises `ValueError` for an image that is too large; returns its tags, if it is a TIFF."""
    tags = getattr(image, "tag_v2", {})
    tile = tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_LENGTH, 0)
    if max(image.width * image.height, tile) > MOST_PIXELS:
        raise ValueError(f"it is larger than the {MOST_PIXELS} pixels that are decoded")
    return tags


def _netpbm_rgb(contents: bytes, image: ImageFile.ImageFile) -> np.ndarray:
    """PPM, PGM or PBM of plain text, or whose maximum is not 255 or 65535: stretched to that."""
    tile: Any = image.tile[0]
    if tile.codec_name == "ppm_plain":
        if len(contents) > MOST_TEXT and image.mode != "1":
            raise ValueError(f"it is larger than the {MOST_TEXT} bytes of text that are decoded")
        return (
            _gray(np.asarray(image) >> 8) if image.mode == "I" else np.asarray(image.convert("RGB"))
        )
    maximum, bands = tile.args[1], len(image.getbands())
    shares = np.arange(maximum + 1) / maximum
    deep = image.mode == "I"  # of it the upper 8 of 16 bits, as of all
    table = np.round(shares * 65535).astype(np.uint16) >> 8 if deep else np.round(shares * 255)
    kind, count = ">u2" if maximum > 255 else "u1", image.width * image.height * bands
    values = np.frombuffer(contents, kind, count, tile.offset)
    pixels = table.astype(np.uint8).take(values, mode="clip")
    pixels = pixels.reshape(image.height, image.width, bands)
    return pixels if bands == 3 else _gray(pixels[..., 0])


def _gray(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.astype(np.uint8)[..., None], 3, axis=-1)


def _is_webp(start):
    return tf.strings.substr(start, 0, 4) == b"RIFF"


def _is_for_pillow(start):
    """Whether TensorFlow does not read it; animated WebP has a flag in the extended header."""
    two, four, kind = (tf.strings.substr(start, at, n) for at, n in ((0, 2), (0, 4), (4, 4)))
    extended = _is_webp(start) & (tf.strings.substr(start, 12, 4) == b"VP8X")
    flags = tf.io.decode_raw(tf.strings.substr(start, 20, 1), tf.uint8)[0]
    starts = tf.reduce_any(two == [b"BM", *_NETPBM]) | tf.reduce_any(four == [b"GIF8", *_TIFF])
    return starts | (kind == b"ftyp") | (extended & (flags & 2 > 0))
