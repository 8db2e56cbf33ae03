"""A user's function that makes the views of an image, tried before the first step."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf.data.decode import decoded
from moco_tf.errors import InputError
from moco_tf.names.data import qualified_name

SEEDS = 8  # tried: what is drawn with a probability of a half is drawn in some of them


def checked_function(function: Callable, images: Any, image_size: int) -> Callable:
    """Returns `function` as a TensorFlow function, tried on the first of `images`.

    Args:
        function: (image, seed) -> view: uint8 [h, w, 3], int64 [2] -> uint8 [S, S, 3].
        image_size: S.

    Raises:
        InputError: if it fails, gives something else, or does not depend on image and seed alone.
    """
    name, image = qualified_name(function), decoded(images, tf.constant(0, tf.int64))
    signature = tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([2], tf.int64)

    def traced():
        def view(image, seed):
            return function(image, seed)

        return tf.function(view, input_signature=signature)

    # Twice: what Python draws at random as it is traced would be other numbers in a resumed run.
    # In two orders: what TensorFlow draws without the seed depends on the calls before.
    traces = [traced(), traced()]
    try:
        results = [
            {number: made(image, np.array([1, number], np.int64)) for number in order}
            for made, order in zip(traces, (range(SEEDS), reversed(range(SEEDS))), strict=True)
        ]
    except Exception as error:
        text = f"\n{type(error).__name__}: {error}"
        last = re.search(r".*\n\s*([\w.]+: .*)", text, re.DOTALL)  # after Python's own traceback
        reason = " ".join((last[1] if last else text).split())[:300]
        raise InputError(
            f"augment={name} failed on an image uint8 {image.shape.as_list()}: {reason}"
        ) from error
    shape = [image_size, image_size, 3]
    for view in results[0].values():
        whole = isinstance(view, tf.Tensor)
        if not whole or view.dtype != tf.uint8 or view.shape.as_list() != shape:
            given = f"{view.dtype.name} {view.shape.as_list()}" if whole else type(view).__name__
            raise InputError(
                f"augment={name} must return uint8 {shape} (image_size={image_size}); received "
                f"{given}. End it with tf.image.resize and tf.saturate_cast(..., tf.uint8)."
            )
    if any(bool(tf.reduce_any(view != results[1][n])) for n, view in results[0].items()):
        raise InputError(
            f"augment={name} gave two views for one image and seed, so the run could not be "
            f"resumed exactly. Draw with tf.random.stateless_uniform(..., seed=seed) and the like."
        )
    return traces[0]
