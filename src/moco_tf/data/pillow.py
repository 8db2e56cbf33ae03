"""Images of any format to uint8 RGB by Pillow. Imports no TensorFlow.

What an image claims to be is looked at before anything is allocated for it: see `MOST_PIXELS`.
"""

import io
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

MOST_PIXELS = 89_478_485  # of an image, 256 MiB as RGB; from there on Pillow warns of a bomb
MOST_TEXT = 2**24  # bytes of a PGM or PPM of plain text, which Pillow reads number by number
FORMATS = "JPEG, PNG, BMP, GIF, WebP, TIFF, PPM, PGM, PBM or AVIF"
PILLOW_FORMATS = ("JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "AVIF")  # that `decode` leaves to it
ALL_FORMATS = (*PILLOW_FORMATS, "PNG")
_BITS, _TILE_WIDTH, _TILE_LENGTH = 258, 322, 323  # tags of TIFF


def pillow_rgb(contents: bytes, formats: tuple[str, ...] = PILLOW_FORMATS) -> np.ndarray:
    """The first frame. Values of more than 16 bits are refused: their range is not known.

    Raises:
        ValueError: it cannot be decoded.
        MemoryError: the memory does not suffice.
    """
    try:
        return _decoded(contents, formats)
    except MemoryError:
        raise
    except Exception as error:  # of damaged files, of many kinds
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _decoded(contents: bytes, formats: tuple[str, ...]) -> np.ndarray:
    try:
        image = Image.open(io.BytesIO(contents), formats=formats)
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
