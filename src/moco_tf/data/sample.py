"""A look at some images of a source of which decoding all would take too long."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import tensorflow as tf

from moco_tf.data.decode import UNREADABLE, decoded
from moco_tf.data.decoder_messages import without_decoders
from moco_tf.data.failures import reason
from moco_tf.data.images import Images
from moco_tf.data.listing import spread
from moco_tf.errors import InputError

SAMPLED = 64  # images, the first and the last among them


def with_sample(images: Images, max_bad_images: float) -> Images:
    """Returns `images` with the sizes of some of them, evenly spread, which are decoded.

    Their pixels are the identity of images that have no other.

    Raises:
        InputError: if more than a share of these cannot be read; the message names the first.
    """
    places = spread(images.count, SAMPLED)
    sizes, bad, digest = [], [], hashlib.sha256(str(images.count).encode())
    with without_decoders():
        for place in places:
            try:
                pixels = decoded(images, tf.constant(place)).numpy()
                sizes.append(pixels.shape[:2])
                digest.update(np.array(sizes[-1], "<i8").tobytes() + pixels.tobytes())
            except UNREADABLE as error:
                why = reason(error) if isinstance(error, tf.errors.OpError) else str(error)
                bad.append(f"{images.name_of(place)} ({why})")
    if len(bad) > max_bad_images * len(places) or not sizes:
        raise InputError(
            f"data={images.name}: {len(bad)} of {len(places)} images that were looked at cannot be "
            f"read: {bad[0]}. {images.mend}"
        )
    identity = images.identity or digest.hexdigest()
    return replace(images, sampled_sizes=np.array(sizes, np.int32), identity=identity)
