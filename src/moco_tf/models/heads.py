"""The heads of MoCo v3: multilayer perceptrons with BatchNorm (arXiv:2104.02057, section 3)."""

from dataclasses import dataclass, replace
from functools import partial
from math import sqrt

import keras
from keras import layers

from moco_tf.models.batch_norm import GroupBatchNorm
from moco_tf.models.resnet import Encoder, layer_seed


@dataclass(frozen=True)
class Heads:
    """What follows a kind of backbone.

    Attributes:
        projector: its name, PyTorch's of the layer that it takes the place of.
        layers: linear layers of the projector; the predictor has two.
        predictor_ends_in_norm: whether the predictor ends in a BatchNorm, as the projector does.
    """

    projector: str
    layers: int
    predictor_ends_in_norm: bool


HEADS = {"resnet": Heads("fc", 2, False), "vit": Heads("head", 3, True)}


def with_projector(encoder: Encoder, kind: str, *, dim: int, hidden: int, **settings) -> Encoder:
    """Returns the momentum encoder: `encoder`'s backbone, then the projector.

    Args:
        kind: of `HEADS`.
        dim, hidden: dimensions of the output and of the layers before it (256 and 4096).
        settings: norm, dtype and seed of `perceptron`.
    """
    heads, features = HEADS[kind], encoder.backbone.outputs[0]
    widths = [hidden] * (heads.layers - 1) + [dim]
    projection = perceptron(features, widths, name=heads.projector, **settings)
    return replace(encoder, model=keras.Model(encoder.backbone.inputs[0], projection))


def with_predictor(encoder: Encoder, kind: str, *, hidden: int, **settings) -> Encoder:
    """Returns the query network: `encoder`, which has its projector, then the predictor."""
    projection, ends_in_norm = encoder.model.outputs[0], HEADS[kind].predictor_ends_in_norm
    widths = [hidden, projection.shape[-1]]
    prediction = perceptron(
        projection, widths, name="predictor", ends_in_norm=ends_in_norm, **settings
    )
    query = keras.Model(encoder.model.inputs[0], prediction)
    return replace(encoder, model=query, before_predictor=encoder.model)


def with_heads(
    encoder: Encoder, kind: str, *, dim: int, hidden: int, predictor: bool, groups: dict, **settings
) -> Encoder:
    """Returns the query network of MoCo v3, or without a predictor its momentum encoder.

    Args:
        kind, dim, hidden: see `with_projector`.
        groups: settings of `GroupBatchNorm`.
        settings: dtype and seed of `perceptron`.
    """
    settings |= {"norm": partial(GroupBatchNorm, dtype=settings["dtype"], **groups)}
    encoder = with_projector(encoder, kind, dim=dim, hidden=hidden, **settings)
    return with_predictor(encoder, kind, hidden=hidden, **settings) if predictor else encoder


def perceptron(x, widths, *, name, norm, dtype, seed, ends_in_norm=True):
    """Linear layers without bias: [B, D] -> [B, widths[-1]].

    BatchNorm and ReLU follow each but the last, and the last is followed by a BatchNorm without
    scale and shift. Layers are numbered as in PyTorch's Sequential: name.0, name.1, name.3, ...

    Args:
        norm: makes a BatchNorm: `GroupBatchNorm` with its settings, but for name, center and scale.
        dtype: Keras dtype policy.
        seed: of the initial weights, PyTorch's default: uniform within 1 / sqrt(fan_in).
    """
    for number, units in enumerate(widths):
        layer, bound = f"{name}.{3 * number}", 1 / sqrt(x.shape[-1])
        draw = keras.initializers.RandomUniform(-bound, bound, seed=layer_seed(seed, layer))
        x = layers.Dense(units, use_bias=False, kernel_initializer=draw, dtype=dtype, name=layer)(x)
        last = number == len(widths) - 1
        if not last or ends_in_norm:
            x = norm(name=f"{name}.{3 * number + 1}", center=not last, scale=not last)(x)
        if not last:
            x = layers.ReLU(dtype=dtype)(x)
    return x
