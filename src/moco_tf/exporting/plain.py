"""The encoder as a model of standard Keras layers, which needs nothing of this package to load.

It is the base of every export, and what `moco_tf.load_encoder` returns.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import keras

from moco_tf.data.pipeline import NORMALIZATIONS
from moco_tf.errors import InputError
from moco_tf.exporting.plain_vit import with_tokens
from moco_tf.models import Encoder
from moco_tf.models.architecture import from_text
from moco_tf.models.array_names import SEED, array_names
from moco_tf.models.attention import Attention, attend, attention
from moco_tf.models.backbone import BODY
from moco_tf.models.batch_norm import GroupBatchNorm
from moco_tf.models.gelu_dense import GeluDense, gelu
from moco_tf.models.layer_norm import LayerNorm
from moco_tf.models.tokens import Tokens
from moco_tf.runs.encoders import load_encoder as load_run_encoder
from moco_tf.training.reporting import to_stderr

INPUT, OUTPUT = "images", "features"
KERAS_KINDS = {GeluDense: keras.layers.Dense, LayerNorm: keras.layers.LayerNormalization}


def load_encoder(
    run: str | os.PathLike[str],
    *,
    head: bool = False,
    preprocessing: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
    name: str = "encoder",
) -> keras.Model:
    """Returns the encoder of a run as a plain Keras model: images to features [b, D].

    All its layers are Keras's own, so it can be trained, saved, and used inside other models. A
    model that was given as backbone comes back as it was given, with the weights of the run; if it
    ended in a feature map, it ends in the map's mean. BatchNormalization is Keras's too. In
    training mode it takes the whole batch for one group, and its running variance, momentum 0.9
    (a given model's own), is that of the biased variances; PyTorch and pre-training here take the
    unbiased ones. `encoder.trainable = False` puts it into inference mode, also where
    `training=True` is asked for: so freeze an encoder.

    Args:
        run: a `Run`, a run folder (its newest whole checkpoint), or a file made by `moco-tf convert
            --to moco-tf` or `moco-tf finetune`.
        head: go on to the head: the projection, of a fine-tuned encoder the classifier's logits.
        preprocessing: take uint8 pixels [b, S, S, 3] and normalise them inside. Otherwise the
            input is float32 [b, S, S, 3], normalised as the run's config says.
        dtype: policy of the layers, as "mixed_bfloat16"; none: Keras's global one, and of a model
            that was given as backbone what its layers had. Whatever it is,
            `Rescaling` of the preprocessing and the statistics of BatchNormalization are computed
            in float32 at least. The features have the policy's compute dtype.
        name: of the model. Two encoders in one Keras model need two names.

    Raises:
        InputError: if `run` is no such thing, or has no head that could be taken.
        ValueError: if Keras knows no such `dtype`.
    """
    run = os.path.expanduser(os.fspath(run))
    policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
    encoder, config, _ = load_run_encoder(run, warn=to_stderr)
    if encoder.architecture and not head and not preprocessing:
        return _users_model(encoder, encoder.architecture, name, dtype and policy)
    normalization = config.normalization if preprocessing else None
    return plain_model(
        encoder, head=head, normalization=normalization, source=run, name=name, dtype=policy
    )


def plain_model(
    encoder: Encoder,
    *,
    head: bool,
    normalization: str | None,
    source: Path | str,
    name: str = "encoder",
    dtype: str | keras.DTypePolicy = "float32",
) -> keras.Model:
    """Returns a model of standard layers with the arrays of `encoder`, copied.

    Args:
        head: end in the head's output, not in the pooled features.
        normalization: of the pixels, inside the model, whose input is then uint8; none: the
            input is normalised float32.
        source: what an error calls the encoder.
        name: of the model.
        dtype: policy of its layers.

    Raises:
        InputError: if the head is wanted and there is none.
    """
    model = encoder.projection if head else encoder.backbone
    if model is None:
        raise InputError(
            f"{source} has no head: it is a converted backbone. Leave --with-head out."
        )
    shape = model.input.shape[1:]
    if normalization is None:
        inputs = keras.Input(shape, dtype="float32", name=INPUT)
        x = inputs
    else:
        inputs = keras.Input(shape, dtype="uint8", name=INPUT)
        mean, std = NORMALIZATIONS[normalization]
        scale = [1 / (255 * s) for s in std]
        offset = [-m / s for m, s in zip(mean, std, strict=True)]
        x = keras.layers.Rescaling(scale, offset, name="normalize", dtype="float32")(inputs)
    if encoder.architecture:  # a chain, whose first link is a model with an input of its own
        for layer in model.layers[1:]:
            copy = _standard(layer, dtype, encoder.architecture)
            x = copy(x)
            _copy_arrays(layer, copy)
        return keras.Model(inputs, x, name=name)
    made = []

    def standard(one: Any) -> Any:
        if isinstance(one, Tokens):
            return partial(with_tokens, one, dtype=dtype)
        if isinstance(one, Attention):
            return partial(attention, tokens=one.tokens, heads=one.heads, attend=attend)
        if isinstance(one, keras.layers.Layer):
            copy = _standard(one, dtype, None)
            made.append((one, copy))
            return (lambda x, **_: copy(gelu(x))) if isinstance(one, GeluDense) else copy
        return one  # an operation, which has no weights

    # As keras.models.clone_model does, whose model would begin behind the normalisation.
    outputs = model._run_through_graph(x, operation_fn=standard)
    for layer, copy in made:
        _copy_arrays(layer, copy)
    return keras.Model(inputs, outputs, name=name)


def _users_model(
    encoder: Encoder, architecture: str, name: str, dtype: str | keras.DTypePolicy | None
) -> keras.Model:
    """A model of the architecture with the encoder's arrays, and pooled features at its end."""
    model = from_text(architecture, dtype=dtype, name=name)
    inputs = keras.Input(encoder.backbone.input.shape[1:], name=INPUT)
    features = model(inputs)  # builds it, where it is not yet
    _copy_arrays(encoder.backbone.get_layer(BODY), model)
    if len(features.shape) == 2:
        return model
    pool = keras.layers.GlobalAveragePooling2D(dtype=dtype, name="avgpool")
    if model.inputs:  # then its layers are those of what comes back
        return keras.Model(model.inputs[0], pool(model.outputs[0]), name=name)
    return keras.Model(inputs, pool(features), name=name)


def _standard(
    layer: keras.Layer, dtype: str | keras.DTypePolicy, architecture: str | None
) -> keras.Layer:
    """A new layer that computes the same in inference mode, but for rounding to `dtype`."""
    if architecture and layer.name == BODY:
        return from_text(architecture, dtype=dtype, name=BODY)
    if isinstance(layer, GroupBatchNorm):
        return keras.layers.BatchNormalization(
            momentum=layer.momentum,
            epsilon=layer.epsilon,
            center=layer.center,
            scale=layer.scale,
            name=layer.name,
            dtype=dtype,
        )
    kind = KERAS_KINDS.get(type(layer), type(layer))
    return kind.from_config(layer.get_config() | {"dtype": dtype})


def _copy_arrays(layer: keras.Layer, copy: keras.Layer) -> None:
    arrays = dict(zip(array_names(layer), layer.variables, strict=True))
    for name, variable in zip(array_names(copy), copy.variables, strict=True):
        if variable.name != SEED:
            variable.assign(arrays[name].value)
