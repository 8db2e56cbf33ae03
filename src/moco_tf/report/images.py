"""Pictures inside a page: thumbnails and sheets of them, as data URIs. Imports no TensorFlow."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

THUMBNAIL = 96  # pixels, of the longer side of a picture that stands alone
ENLARGED = 48  # a smaller picture is enlarged in whole steps up to this, so that its pixels show


def thumbnail(pixels: np.ndarray, side: int = THUMBNAIL) -> np.ndarray:
    """Returns uint8 [h, w, 3] whose longer side is at most `side`; a smaller picture as it is."""
    height, width = pixels.shape[:2]
    if max(height, width) <= side:
        return pixels
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(image)


def data_uri(pixels: np.ndarray, side: int = THUMBNAIL) -> str:
    """Returns the picture, uint8 [h, w, 3], as a data URI: small ones as PNG, others as JPEG."""
    small = thumbnail(pixels, side)
    return _encoded(small, "PNG" if max(small.shape[:2]) <= ENLARGED else "JPEG")


def sprite(pictures: Sequence[np.ndarray], side: int) -> tuple[str, int]:
    """Returns (data URI, columns) of one JPEG with all pictures, row by row.

    Args:
        pictures: uint8 [side, side, 3] each.
    """
    columns = math.isqrt(max(len(pictures) - 1, 0)) + 1
    rows = -(-len(pictures) // columns)
    sheet = np.zeros((rows * side, columns * side, 3), np.uint8)
    for place, picture in enumerate(pictures):
        top, left = (side * n for n in divmod(place, columns))
        sheet[top : top + side, left : left + side] = picture
    return _encoded(sheet, "JPEG", quality=70), columns


def _encoded(pixels: np.ndarray, kind: str, quality: int = 85) -> str:
    file = io.BytesIO()
    options = {"quality": quality} if kind == "JPEG" else {"compress_level": 6}
    Image.fromarray(pixels).save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
