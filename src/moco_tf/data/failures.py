"""Why a pipeline ended early and at which image, in one line."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf.data.decode import UNREADABLE, decoded
from moco_tf.data.order import images_of_step
from moco_tf.data.stream import Elements
from moco_tf.errors import InputError

LEFT_OUT = "The next start leaves unreadable files of a folder out."


def readable(batches: Iterable, images, indices, batch_size: int = 1) -> Iterator[Any]:
    """Yields the batches, of the images at `indices`; raises `failure` if one cannot be made."""
    done = 0
    try:
        for batch in Elements(batches):
            yield batch
            done += batch_size
    except tf.errors.OpError as error:
        raise failure(error, images, indices[done : done + batch_size]) from None


def failure_of_step(
    error: tf.errors.OpError, images, step: int, *, advice: str = "", **settings
) -> InputError:
    """`failure` of the batch after `step` steps, with the settings of `images_of_step`."""
    indices = images_of_step(step=step, count=images.count, **settings)
    after = f" after step {step}, which is saved"
    return failure(error, images, indices, after=after, advice=advice)


def failure(
    error: tf.errors.OpError, images, indices, *, after: str = "", advice: str = ""
) -> InputError:
    """Returns what to raise for the error of a batch of the images at `indices`, naming the file.

    That is the first which cannot be decoded; if memory did not suffice, the largest.

    Args:
        after: what to say of the state, behind what happened.
        advice: what to do about an unreadable image; none: what its source advises.
    """
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return InputError(
            f"there was not enough memory for a batch of images{_largest(images, indices)}{after} "
            f"({reason(error)}). Make that image smaller or take it away, or free some memory."
        )
    file = first_unreadable(images, indices) or "an image"
    return InputError(f"{file} could not be read ({reason(error)}){after}. {advice or images.mend}")


def first_unreadable(images, indices) -> str | None:
    """Returns what the first image at `indices` that cannot be decoded is called, if there is one.

    None for arrays in memory, which cannot fail.
    """
    for index in indices if images.files or images.names else ():
        try:
            decoded(images, index)
        except UNREADABLE:
            return images.name_of(index)
    return None


def reason(error) -> str:
    """What a TensorFlow error says, without its nodes, iterators and Python's traceback."""
    text = " ".join(str(error.message).split())
    text = re.sub(r"\{\{.*?\}\}|\[\[.*|\[Op:.*| Traceback .*", "", text).strip()
    text = re.sub(r"^Error in user-defined function .*? iterator: \S+: ", "", text)
    text = re.sub(r"^Expected '.*' to be true\. Summarized data: b'(.*)'$", r"\1", text)
    return re.sub(r"^\w+Error: ", "", text).strip()[:200]


def _largest(images, indices) -> str:
    if images.sizes is None:
        return ""
    index = max(indices, key=lambda index: np.prod(images.sizes[index], dtype=np.int64))
    height, width = images.sizes[index]
    return f", of which {images.name_of(index)} is the largest ({width} x {height} pixels),"
