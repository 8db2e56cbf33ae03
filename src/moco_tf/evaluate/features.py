"""Features of images: of a run's query encoder in inference mode, or of the plain pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from moco_tf.data.pipeline import eval_batches, normalize
from moco_tf.data.sources import Images
from moco_tf.errors import InputError
from moco_tf.evaluate.counted import counted
from moco_tf.models import Encoder

Features = Literal["projection", "pooled"]
EVAL_BATCH = 256


def extract(
    model_fn: Callable[[Any], Any], batches: Iterable[Any], *, unit: bool = True
) -> np.ndarray:
    """Returns the features of all images in order: float32 [M, D].

    `model_fn` is traced once: a partial batch is padded to the size of the first one. Pass a
    `tf.function`, such as `embedding` returns, to keep its trace for the next call.

    Args:
        model_fn: images [b, S, S, 3] to features [b, D], each row depending on its image alone.
        batches: image batches of one size, the last one possibly smaller.
        unit: divide each row by its length.

    Raises:
        InputError: if there is no image.
    """
    compiled = isinstance(model_fn, tf.types.experimental.PolymorphicFunction)
    function = model_fn if compiled else tf.function(model_fn, autograph=False)
    rows = list(feature_rows(function, batches))
    if not rows:
        raise InputError("there are no images to compute features of.")
    features = np.concatenate(rows)
    return unit_rows(features) if unit else features


def feature_rows(
    function: Callable[[Any], Any], batches: Iterable[Any], *, size: int | None = None
) -> Iterator[np.ndarray]:
    """Yields the features of one batch after another: float32 [b, D].

    Args:
        function: a `tf.function`, such as `embedding` returns.
        size: images to which a smaller batch is padded, so that one trace serves all; none: the
            size of the first batch.
    """
    for batch in batches:
        images = tf.convert_to_tensor(batch)
        count = images.shape[0]
        size = count if size is None else size
        if count < size:
            images = tf.pad(images, [[0, size - count]] + [[0, 0]] * (images.shape.rank - 1))
        yield np.asarray(function(images), np.float32)[:count]


def embedding(encoder: Encoder, *, features: Features, normalization: str) -> Any:
    """Returns a compiled function: uint8 images [b, S, S, 3] to float32 features [b, D].

    Args:
        encoder: the query encoder; used in inference mode, its statistics stay as they are.
        features: "projection" (the head's output, what MoCo compares; MoCo v3's projector's) or
            "pooled" (before it).
        normalization: of the pixels, as in training.
    """
    choices = {"projection": encoder.projection, "pooled": encoder.backbone}
    if features not in choices:
        raise InputError(
            f"features must be one of {', '.join(choices)}; received features={features!r}."
        )
    model = choices[features]
    if model is None:
        raise InputError(
            f"the encoder has no projection head: it is a converted backbone; received "
            f"features={features}. Use --features pooled."
        )
    # A partial: of functions made here TensorFlow would count the traces together, and warn.
    return tf.function(partial(_embed, model, normalization), autograph=False)


def _embed(model: Callable, normalization: str, images: tf.Tensor) -> tf.Tensor:
    inputs = normalize(images, normalization, tf.float32)
    return tf.cast(model(inputs, training=False), tf.float32)


def image_features(
    embed: Any,
    images: Images,
    indices: np.ndarray | None = None,
    *,
    image_size: int,
    what: str,
    say: Callable[[str], None] | None = None,
    unit: bool = True,
) -> np.ndarray:
    """Returns the features of a set's images without augmentation, in order: float32 [M, D].

    Fewer if images of the set are left out: see `read_in_place_of`.

    Args:
        embed: see `embedding`.
        indices: int64 [M], the images wanted; none: all of them.
        image_size: side S to which the images are brought, pixels.
        what: which images, for `say`.
        say: called every few seconds with a line on how far it is.
        unit: divide each row by its length.
    """
    indices = np.arange(images.count) if indices is None else indices
    batches = eval_batches(images, indices=indices, image_size=image_size, batch_size=EVAL_BATCH)
    return extract(embed, counted(batches, len(indices), what, say), unit=unit)


def pixel_features(
    images: Images,
    indices: np.ndarray,
    image_size: int,
    *,
    mean: np.ndarray | None = None,
    batch_size: int = EVAL_BATCH,
    unit: bool = True,
    say: Callable[[str], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (features, mean): the flattened pixels less `mean`, as a baseline.

    Args:
        indices: int64 [M], the images wanted.
        image_size: side S to which the images are brought, pixels.
        mean: float32 [S*S*3], of the bank; none: that of these images.
        unit: divide each row by its length.
        say: called every few seconds with a line on how far it is.

    Returns:
        float32 [M, S*S*3] and float32 [S*S*3].
    """
    batches = eval_batches(images, indices=indices, image_size=image_size, batch_size=batch_size)
    pixels = np.empty((len(indices), 3 * image_size**2), np.float32)
    start = 0
    for batch in counted(batches, len(indices), "raw pixels", say):
        pixels[start : start + len(batch)] = batch.numpy().reshape(len(batch), -1)
        start += len(batch)
    pixels = pixels[:start]  # fewer if images are left out
    if mean is None:
        mean = pixels.mean(axis=0, dtype=np.float64).astype(np.float32)
    pixels -= mean
    return unit_rows(pixels) if unit else pixels, mean


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Divides the rows by their norms, in place."""
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    rows /= np.maximum(norms, 1e-12)
    return rows
