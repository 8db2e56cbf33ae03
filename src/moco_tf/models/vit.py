"""Vision transformers as MoCo v3 trains them (arXiv:2104.02057, section 4).

Layers carry timm's names ("blocks.0.attn.qkv"), so that weights map one to one.

Legend: B images, T tokens (a class token and P patches), D width, H heads.
"""

from functools import partial
from math import sqrt

import keras
import numpy as np
from keras import layers, ops

from moco_tf.models.attention import Attention
from moco_tf.models.batch_norm import GroupBatchNorm
from moco_tf.models.drop_path import DropPath
from moco_tf.models.gelu_dense import GeluDense
from moco_tf.models.layer_norm import LayerNorm
from moco_tf.models.resnet import layer_seed, with_head
from moco_tf.models.tokens import Tokens
from moco_tf.models.xla import is_half
from moco_tf.names.encoder import CONV_PATCH, check_vit

CONV_STRIDES = 4  # of the convolutional stem: each halves the sides
EPSILON = 1e-6  # of LayerNorm; the class token's variance is far below Keras's default


def vit(
    *,
    width,
    depth,
    heads,
    stem,
    image_size,
    patch_size=16,
    freeze_patch_projection=False,
    head="none",
    dim=0,
    group_size=None,
    group_layout="contiguous",
    running_statistics="first_group",
    dtype="float32",
    seed=0,
    drop_path=0.0,
    batch_size=None,
):
    """Returns an `Encoder`, whose features are the class token, [B, D].

    Pre-norm blocks with exact GELU and hidden layers of 4 D; no dropout.

    Args:
        width, depth, heads: D, blocks, H.
        stem: "patch" (one linear projection of each patch) or "conv" (four 3x3/2 convolutions with
            BatchNorm and ReLU, then 1x1; its patches are of 16 pixels).
        image_size: side of the images, pixels.
        patch_size: side of a patch, pixels.
        freeze_patch_projection: keep the random projection of the patches; no effect on "conv".
        head, dim: as in `resnet`; timm's name of it is "head".
        group_size, group_layout, running_statistics: see `GroupBatchNorm`; of "conv" only.
        dtype: Keras dtype policy.
        seed: of the initial weights; each layer draws from (seed, its name).
        drop_path: of the last block, the probability that a residual branch is left out in
            training; it rises in a line from 0 in the first. It needs the global `batch_size`.

    Raises:
        ValueError: sizes do not fit.

    Source: arXiv:2010.11929; position table and initial values are those of the official MoCo v3.
    """
    patch_size = CONV_PATCH if stem == "conv" else patch_size
    check_vit(width=width, heads=heads, image_size=image_size, patch_size=patch_size)
    norm = partial(LayerNorm, epsilon=EPSILON, dtype=dtype)
    inputs = keras.Input((image_size, image_size, 3), dtype=keras.DTypePolicy(dtype).compute_dtype)
    if stem == "conv":
        bn = partial(
            GroupBatchNorm,
            group_size=group_size,
            group_layout=group_layout,
            running_statistics=running_statistics,
            dtype=dtype,
        )
        x = _conv_stem(inputs, width, bn=bn, dtype=dtype, seed=seed)
    else:
        frozen = freeze_patch_projection
        x = _patch_stem(inputs, width, patch_size, frozen=frozen, dtype=dtype, seed=seed)
    side = image_size // patch_size
    x = layers.Reshape((side**2, width), dtype=dtype)(x)  # [B, P, D], row by row
    x = Tokens(side, seed=layer_seed(seed, "cls_token"), dtype=dtype, name="tokens")(x)  # [B, T, D]
    tokens = x.shape[1]
    x = ops.reshape(x, (-1, width))  # [B T, D]: TensorFlow fuses product, bias and GELU of matrices
    parts = {
        "norm": norm,
        "attention": Attention(tokens, heads, dtype=dtype),
        "dense": partial(_dense, dtype=dtype, seed=seed),
        "drop": partial(_drop, tokens=tokens, batch_size=batch_size, dtype=dtype, seed=seed),
    }
    cuts, light_cuts = [], []  # see `Encoder`
    for index, rate in enumerate(np.linspace(0, drop_path, depth)):
        cuts.append((x,))
        x, within = _block(x, name=f"blocks.{index}", rate=float(rate), dtype=dtype, **parts)
        light_cuts += [cuts[-1], *within]
    features = norm(name="norm")(ops.reshape(x, (-1, tokens, width))[:, 0])  # [B, D]
    named = {"name": "head", "cuts": tuple(cuts), "light_cuts": tuple(light_cuts)}
    return with_head(inputs, features, head, dim, dtype=dtype, seed=seed, **named)


def _block(x, *, name, rate, norm, attention, dense, drop, dtype):
    """Attention between the tokens, then a perceptron for each: [B T, D] -> [B T, D]; cuts."""
    width = x.shape[-1]
    y = dense(norm(name=f"{name}.norm1")(x), 3 * width, 2 * width, name=f"{name}.attn.qkv")
    qkv = x, y
    y = dense(attention(y), width, 2 * width, name=f"{name}.attn.proj")
    x = layers.Add(dtype=dtype)([x, drop(y, rate=rate, name=f"{name}.drop_path1")])
    attended = (x,)
    y = norm(name=f"{name}.norm2")(x)
    y = dense(y, 4 * width, 5 * width, name=f"{name}.mlp.fc1")
    hidden = x, y
    y = dense(y, width, 5 * width, kind=GeluDense, name=f"{name}.mlp.fc2")
    x = layers.Add(dtype=dtype)([x, drop(y, rate=rate, name=f"{name}.drop_path2")])
    # In half precision it takes longer to keep the hidden layer than to compute it again.
    return x, (qkv, attended) if is_half(y.dtype) else (qkv, attended, hidden)


def _drop(x, *, tokens, name, rate, batch_size, dtype, seed):
    if not rate:
        return x
    draw = layer_seed(seed, name)
    drop = DropPath(rate, batch_size=batch_size, seed=draw, dtype=dtype, name=name)
    width = x.shape[-1]
    return ops.reshape(drop(ops.reshape(x, (-1, tokens, width))), (-1, width))


def _dense(x, units, fans, *, kind=layers.Dense, name, dtype, seed):
    """A linear layer with Xavier's uniform weights; `fans` is fan_in + fan_out."""
    draw = _uniform(sqrt(6 / fans), name, seed)
    return kind(units, kernel_initializer=draw, dtype=dtype, name=name)(x)


def _patch_stem(inputs, width, patch_size, *, frozen, dtype, seed):
    """One linear projection of each patch; [B, S/p, S/p, D]."""
    name, bound = "patch_embed.proj", sqrt(6 / (3 * patch_size**2 + width))
    return layers.Conv2D(
        width,
        patch_size,
        patch_size,
        kernel_initializer=_uniform(bound, name, seed),
        trainable=not frozen,
        dtype=dtype,
        name=name,
    )(inputs)


def _conv_stem(x, width, *, bn, dtype, seed):
    """Convolutions of width D/8, D/4, D/2 and D, each of stride 2, then 1x1; [B, S/16, S/16, D]."""
    for index in range(CONV_STRIDES):
        name = f"patch_embed.proj.{3 * index}"
        bound = 1 / sqrt(9 * x.shape[-1])
        x = layers.Conv2D(
            width // 2 ** (CONV_STRIDES - 1 - index),
            3,
            2,
            use_bias=False,
            kernel_initializer=_uniform(bound, name, seed),
            dtype=dtype,
            name=name,
        )(layers.ZeroPadding2D(1, dtype=dtype)(x))
        x = layers.ReLU(dtype=dtype)(bn(name=f"patch_embed.proj.{3 * index + 1}")(x))
    name, bound = f"patch_embed.proj.{3 * CONV_STRIDES}", 1 / sqrt(width)
    return layers.Conv2D(
        width,
        1,
        kernel_initializer=_uniform(bound, name, seed),
        bias_initializer=_uniform(bound, f"{name}.bias", seed),
        dtype=dtype,
        name=name,
    )(x)


def _uniform(bound, name, seed):
    return keras.initializers.RandomUniform(-bound, bound, seed=layer_seed(seed, name))
