"""Anybody's Keras model as an encoder: BatchNorm in groups, pooled features, a head on top."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from moco_tf.errors import InputError
from moco_tf.models.architecture import drawn_by, from_text, keras_reason, to_text
from moco_tf.models.array_names import children, named_arrays, within
from moco_tf.models.batch_norm import running_variables
from moco_tf.models.resnet import Encoder, with_head

BODY = "backbone"  # what the user's model is called inside the encoder: arrays are BODY/...
_SAME = 1e-4  # largest difference of features that rounding makes, of the largest feature


def keras_encoder(
    architecture: str,
    *,
    image_size: int,
    head: str,
    dim: int,
    group_size: int | None,
    group_layout: str,
    running_statistics: str,
    dtype: str = "float32",
    seed: int = 0,
) -> Encoder:
    """Returns an `Encoder` of a Keras model's architecture; settings are those of `resnet`.

    Each BatchNormalization is a `GroupBatchNorm` with its settings. A feature map [B, h, w, D] is
    pooled by its mean. Weights are drawn by the initializers of the model's layers, from `seed`.
    """
    groups = {
        "group_size": group_size,
        "group_layout": group_layout,
        "running_statistics": running_statistics,
    }
    inputs = keras.Input((image_size, image_size, 3), dtype=keras.DTypePolicy(dtype).compute_dtype)
    with drawn_by(seed):
        body = from_text(architecture, dtype=dtype, name=BODY, groups=groups)
        features = body(inputs)
    if len(features.shape) == 4:
        features = keras.layers.GlobalAveragePooling2D(dtype=dtype, name="avgpool")(features)
    return with_head(inputs, features, head, dim, dtype=dtype, seed=seed, architecture=architecture)


def arrays_of(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns a model's arrays as an encoder of it names them, without the seeds of its layers."""
    return {f"{BODY}/{name}": variable.numpy() for name, variable in named_arrays(model)}


def assign_arrays(model: keras.Model, arrays: dict[str, np.ndarray]) -> None:
    """Gives a model the arrays that `arrays_of` named; its seeds stay."""
    for name, variable in named_arrays(model):
        variable.assign(arrays[f"{BODY}/{name}"])


def preprocesses(model: keras.Model) -> bool:
    """Whether a model begins with Rescaling or Normalization, before its first trained layer."""
    for layer in within(model):
        if isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization)):
            return True
        if not children(layer) and layer.trainable_variables:
            return False
    return False


def architecture_of(model: Any, image_size: int) -> str:
    """Returns the architecture of a user's model, which is built for images of `image_size`.

    Raises:
        InputError: if it cannot be an encoder: what goes in or comes out is something else, or a
            layer changes in training what is neither a BatchNormalization's nor a seed.
    """
    if not isinstance(model, keras.Model):
        raise InputError(f"backbone must be a keras.Model; received a {type(model).__name__}.")
    images = np.random.default_rng(0).uniform(0, 1, (4, image_size, image_size, 3))
    images = images.astype(np.float32)
    _check_input(model, image_size)
    try:
        wanted = model(images, training=False)
    except Exception as error:  # whatever its layers raise
        raise InputError(
            f"backbone {model.name} does not take images [b, {image_size}, {image_size}, 3]: "
            f"{keras_reason(error)}"
        ) from None
    if isinstance(wanted, (Sequence, dict)):
        raise InputError(
            f"backbone {model.name} has {len(wanted)} outputs; it must have one. Give "
            f"keras.Model(model.input, the output to train)."
        )
    if len(wanted.shape) not in (2, 4):
        raise InputError(
            f"backbone {model.name} gives {[None, *wanted.shape[1:]]}; it must end in features "
            f"[b, D] or in a feature map [b, h, w, D]. Cut its last layers off."
        )
    if not np.isfinite(wanted).all():
        raise InputError(
            f"backbone {model.name} makes NaN or infinity of images of numbers from 0 to 1. Give "
            f"it weights that are finite."
        )
    if not model.trainable_variables:
        frozen = " Set trainable=True on what is to be trained." if model.variables else ""
        raise InputError(f"backbone {model.name} has no weights to train.{frozen}")
    text = to_text(model)
    _check_copy(text, model, images, np.asarray(wanted))
    return text


def _check_input(model: keras.Model, image_size: int) -> None:
    inputs = getattr(model, "inputs", None)  # none: a subclassed model
    if not inputs:
        return
    if len(inputs) > 1:
        raise InputError(
            f"backbone {model.name} has {len(inputs)} inputs; it must have one, images "
            f"[b, h, w, 3]."
        )
    shape = tuple(inputs[0].shape)
    if len(shape) != 4 or shape[3] not in (3, None):
        raise InputError(
            f"backbone {model.name} takes {list(shape)}; it must take images [b, h, w, 3]."
        )
    if any(side not in (image_size, None) for side in shape[1:3]):
        raise InputError(
            f"backbone {model.name} takes images of {shape[1]} x {shape[2]}, and image_size is "
            f"{image_size}. Use image_size={shape[1]}, or build it with Input((None, None, 3))."
        )


def _check_copy(text: str, model: keras.Model, images: np.ndarray, wanted: np.ndarray) -> None:
    """A model built from the text, with BatchNorm in groups, must compute what the model does."""
    groups = {"group_size": None, "group_layout": "contiguous", "running_statistics": "mean"}
    copy = from_text(text, groups=groups)
    copy(images)  # builds it
    for layer in within(copy):
        if isinstance(layer, keras.layers.BatchNormalization):
            raise InputError(
                f"backbone: {_owner(copy, layer)} hides BatchNormalization, which cannot be "
                f"computed in groups (ShuffleBN). Use keras.layers.BatchNormalization in a "
                f"functional or Sequential model, or LayerNormalization."
            )
    arrays = arrays_of(model)
    shapes = {f"{BODY}/{n}": tuple(v.shape) for n, v in named_arrays(copy)}
    odd = sorted(shapes.items() ^ {n: a.shape for n, a in arrays.items()}.items())
    if odd:
        raise InputError(
            f"backbone {model.name} does not come back from its get_config as it is: "
            f"{odd[0][0]} differs. Return every argument of its classes from get_config."
        )
    assign_arrays(copy, arrays)
    difference = np.abs(np.asarray(copy(images, training=False)) - wanted).max()
    if not difference <= _SAME * np.abs(wanted).max():
        raise InputError(
            f"backbone {model.name} computes other features when it is built from its get_config: "
            f"they differ by {difference:.2g}. Return every argument of its classes from "
            f"get_config."
        )
    _check_training(copy, images)


def _check_training(copy: keras.Model, images: np.ndarray) -> None:
    """Nothing but running statistics and seeds may change in training mode."""
    named, running = named_arrays(copy), running_variables(copy)
    before = [variable.numpy() for _, variable in named]
    copy(images, training=True)
    for (name, variable), array in zip(named, before, strict=True):
        if id(variable) not in running and not np.array_equal(array, variable.numpy()):
            raise InputError(
                f"backbone: {name.rpartition('/')[0]} changes its {variable.name} in training, "
                f"which is not kept alike on several devices. Leave the layer out."
            )


def _owner(model: keras.Model, layer: keras.Layer) -> str:
    """What to call the layer that has made `layer`: the innermost that holds it, or itself."""
    holders = [one for one in within(model) if one is not model and layer in within(one)]
    owner = holders[-2] if len(holders) > 1 else holders[0]
    return f"layer {owner.name} ({type(owner).__name__})"
