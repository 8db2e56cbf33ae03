"""The images of a source as they are stored in a pack, decoded and reduced on all cores."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from PIL import Image

from moco_tf.data.decode import decode
from moco_tf.data.failures import readable
from moco_tf.data.images import Images
from moco_tf.data.pack.example import before_image
from moco_tf.data.stream import mapped

LONGEST_SIDE = 65500  # of a JPEG, pixels; a longer image keeps its bytes
AHEAD = 16  # records that lie ready

# The bytes before an image in its record, the image, its size [2], its bytes in the source.
Records = Iterator[tuple[bytes, bytes, np.ndarray, int]]


def records_of(
    images: list[Images], start: int, short_side: int | None, quality: int | None
) -> Records:
    """The images from number `start` on, as they are stored; `quality` goes with `short_side`."""

    def record(part: Images, index):
        stored = part.read(index)
        if short_side is None and part.encoded and part.sizes is not None:  # decoded before
            return stored, tf.constant(part.sizes, tf.int32)[index], tf.strings.length(stored)
        pixels = decode(stored) if part.encoded else stored
        size = tf.shape(pixels)[:2]
        held = tf.strings.length(stored) if part.encoded else tf.size(pixels)
        encode = lambda: stored if part.encoded else tf.io.encode_png(pixels)  # noqa: E731
        if short_side is None:
            return encode(), size, held
        reduced = _reduced_size(size, short_side)
        larger = (tf.reduce_min(size) > short_side) & (tf.reduce_max(reduced) <= LONGEST_SIDE)
        contents = tf.cond(larger, lambda: _reduce(pixels, reduced, quality), encode)
        return contents, tf.where(larger, reduced, size), held

    for part in images:
        skipped, start = min(start, part.count), max(start - part.count, 0)
        numbers = tf.data.Dataset.range(skipped, part.count)
        records = mapped(numbers, lambda index, part=part: record(part, index)).prefetch(AHEAD)
        indices = np.arange(skipped, part.count)
        for index, found in zip(indices, readable(records, part, indices), strict=True):
            contents, size, held = (value.numpy() for value in found)
            yield before_image(contents, part, int(index)), contents, size, int(held)


def _reduced_size(size, short_side: int):
    """Height and width, int32 [2], of an image of `size` reduced to that short side."""
    scale = tf.cast(short_side, tf.float64) / tf.cast(tf.reduce_min(size), tf.float64)
    return tf.cast(tf.round(tf.cast(size, tf.float64) * scale), tf.int32)


def _reduce(pixels, size, quality: int | None):
    """JPEG of `pixels` at `size`. Lanczos keeps most of the detail that crops will enlarge."""

    def with_pillow(pixels: np.ndarray, size: np.ndarray) -> bytes:
        height, width = size.tolist()
        image = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, subsampling="4:2:0")
        return file.getvalue()

    encoded = tf.numpy_function(with_pillow, [pixels, size], tf.string, stateful=False)
    return tf.ensure_shape(encoded, [])
