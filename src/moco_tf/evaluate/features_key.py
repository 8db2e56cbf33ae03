"""What the features of a data set's images depend on, as one digest."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf.data.pipeline import eval_batches
from moco_tf.data.sources import Images
from moco_tf.errors import InputError
from moco_tf.evaluate.features import EVAL_BATCH
from moco_tf.files.store import stamp


def features_key(digest: str, normalization: str, side: int, *parts: Images) -> str:
    """SHA-256 of all that the features depend on: weights, pixels and how they are prepared."""
    total = hashlib.sha256(json.dumps([digest, normalization, side]).encode())
    for images in parts:
        if images.content:
            total.update(json.dumps([images.identity, images.content]).encode())
        elif images.files is not None:
            total.update("".join(map(json.dumps, file_stamps(images))).encode())
        else:  # in memory, or read from elsewhere: the pixels themselves
            batches = eval_batches(
                images, indices=np.arange(images.count), image_size=side, batch_size=EVAL_BATCH
            )
            for batch in batches:
                total.update(batch.numpy().data)
    return total.hexdigest()


def file_stamps(images: Images) -> Iterator[list[Any]]:
    """Yields what changes with each file: its name, size and time.

    A file whose name is no UTF-8 is not found by the name that is shown: its bytes are read.
    """
    for place, file in enumerate(images.files or ()):
        try:
            yield [file, *stamp(os.stat(file))]
        except OSError:
            try:
                data = images.read(tf.constant(place)).numpy()
            except tf.errors.OpError:
                raise InputError(f"{file} is not there any more. Run the same again.") from None
            yield [file, hashlib.sha256(data).hexdigest()]
