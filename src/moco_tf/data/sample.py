"""A look at some images of a source of which decoding all would take too long."""

from __future__ import annotations

import hashlib
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from moco_tf.data.decode import UNREADABLE, decode
from moco_tf.data.decoder_messages import without_decoders
from moco_tf.data.failures import reason
from moco_tf.data.images import Images, Sample
from moco_tf.data.listing import spread
from moco_tf.data.looks import look
from moco_tf.data.stream import CORES
from moco_tf.errors import InputError

SAMPLED = 64  # images, the first and the last among them
CERTAIN = 1e-6  # a share that gives so many bad images so rarely is not the share


class Seen(NamedTuple):
    """What is found of one image."""

    size: tuple[int, int]
    look: int
    pixels: np.ndarray


def with_sample(images: Images, max_bad_images: float, most: int = SAMPLED) -> Images:
    """Returns `images` with a look at some of them, evenly spread, which are decoded.

    Their pixels are the identity of images that have no other.

    Args:
        most: so many are decoded, at most.

    Raises:
        InputError: if none of them can be read, or so few that more than the share of all images
            surely cannot; the message names the first.
    """
    places = spread(images.count, most)
    with without_decoders(), ThreadPoolExecutor(CORES) as threads:
        found = [*threads.map(lambda place: look_at(images, int(place)), places)]
    bad = [
        f"{images.name_of(place)} ({one})"
        for place, one in zip(places, found, strict=True)
        if isinstance(one, str)
    ]
    seen = [one for one in found if isinstance(one, Seen)]
    if not seen or surely_more(len(bad), len(places), images.count, max_bad_images):
        whole = "" if len(places) == images.count else " that were looked at"
        raise InputError(
            f"data={images.name}: {len(bad)} of {len(places)} images{whole} cannot be read, more "
            f"than max_bad_images={max_bad_images:g}: {bad[0]}. {images.mend}"
        )
    identity = images.identity
    if not identity:
        digest = hashlib.sha256(str(images.count).encode())
        for one in seen:
            digest.update(np.array(one.size, "<i8").tobytes() + one.pixels.tobytes())
        identity = digest.hexdigest()
    good = np.array([isinstance(one, Seen) for one in found])
    sizes = np.array([one.size for one in seen], np.int32)
    looks = np.array([one.look for one in seen], np.int32)
    if len(seen) == images.count:
        return replace(images, sizes=sizes, looks=looks, identity=identity)
    sample = Sample(places[good], sizes, looks, tuple(bad))
    return replace(images, sample=sample, identity=identity)


def look_at(images: Images, place: int) -> Seen | str:
    """Returns what the image at a place is, or why it cannot be read.

    Raises:
        tf.errors.ResourceExhaustedError: the memory does not suffice.
    """
    try:
        stored = images.read(tf.constant(place, tf.int64))
        try:
            pixels, found = _decode(stored) if images.encoded else (stored, look(stored))
        except tf.errors.InvalidArgumentError:  # told in fewer words without a graph
            pixels = decode(stored)
            found = look(pixels)
    except tf.errors.ResourceExhaustedError:
        raise
    except UNREADABLE as error:
        return reason(error) if isinstance(error, tf.errors.OpError) else str(error)
    return Seen(tuple(pixels.shape[:2]), int(found), pixels.numpy())


@tf.function(autograph=False)
def _decode(contents):
    """Pixels and `look`: operation by operation the second takes as long as decoding."""
    pixels = decode(contents)
    return pixels, look(pixels)


def surely_more(bad: int, seen: int, count: int, share: float) -> bool:
    """Whether more than a share of `count` images is bad, if `bad` of `seen` are.

    Unless all are seen it takes so many that the share, or less, as good as never gives them.
    """
    if seen == count or not bad:
        return bad > share * count
    fewer = sum(math.comb(seen, n) * share**n * (1 - share) ** (seen - n) for n in range(bad))
    return 1 - fewer < CERTAIN
