"""ResNets with torchvision's structure, padding, stride placement and initialisation."""

import zlib
from dataclasses import dataclass
from functools import partial
from math import sqrt

import keras
from keras import layers

from moco_tf.models.batch_norm import GroupBatchNorm

EXPANSION = {"basic": 1, "bottleneck": 4}
LIGHT_STAGES = 2  # have light cuts; the others' activations are small


@dataclass(frozen=True)
class Encoder:
    """One network seen twice: `model` ends in the projection, `backbone` in the pooled features."""

    model: keras.Model  # [B, H, W, 3] -> [B, dim]; None where there is no head
    backbone: keras.Model  # [B, H, W, 3] -> [B, features]
    cuts: tuple[tuple[keras.KerasTensor, ...], ...] = ()  # what goes into each residual block
    light_cuts: tuple[tuple[keras.KerasTensor, ...], ...] = ()  # finer: little is computed between
    architecture: str | None = None  # of `architecture.to_text`; None: a ResNet or ViT of ours
    before_predictor: keras.Model | None = None  # where `model` goes on to a predictor

    @property
    def projection(self) -> keras.Model | None:
        """The model that ends in the projector's output, which a predictor takes; None: no head."""
        return self.model if self.before_predictor is None else self.before_predictor


def resnet(
    *,
    block,
    blocks,
    inner_factor=1,
    image_size,
    stem,
    width,
    head,
    dim,
    group_size,
    group_layout,
    running_statistics,
    dtype="float32",
    seed=0,
):
    """Returns an `Encoder`: a torchvision ResNet ("v1.5") with a linear or MLP head.

    Layers carry torchvision's names ("layer1.0.conv1", "fc"), so that weights map one to one.

    Args:
        block: "basic" or "bottleneck" (stride on the 3x3 convolution).
        blocks: number of blocks of each stage; stage i has `width * 2**i` channels, times 4 for
            bottlenecks.
        inner_factor: widening of the 3x3 convolutions of bottlenecks (2 in wide_resnet50_2).
        image_size: side of the images, pixels.
        stem: "imagenet" (7x7/2 and 3x3/2 max-pool) or "small" (3x3/1, no pooling).
        head: "linear", "mlp" (MoCo v2: features -> features, ReLU, -> dim) or "none".
        group_size, group_layout, running_statistics: see `GroupBatchNorm`.
        dtype: Keras dtype policy, e.g. "float32", "float64", "mixed_bfloat16".
        seed: seed of the initial weights; each layer draws from (seed, its name).

    Source: arXiv:1512.03385; initial values are torchvision's and PyTorch's defaults.
    """
    bn = partial(
        GroupBatchNorm,
        group_size=group_size,
        group_layout=group_layout,
        running_statistics=running_statistics,
        dtype=dtype,
    )
    conv = partial(_conv, dtype=dtype, seed=seed)
    inputs = keras.Input((image_size, image_size, 3), dtype=keras.DTypePolicy(dtype).compute_dtype)
    if stem == "imagenet":
        x = conv(inputs, width, 7, stride=2, name="conv1")
    else:
        # The demo replaces this layer after construction, so it keeps PyTorch's default draw.
        x = conv(inputs, width, 3, stride=1, name="conv1", default_init=True)
    cuts, light_cuts = [], [(x,)]  # see `Encoder`
    x = layers.ReLU(dtype=dtype)(bn(name="bn1")(x))
    if stem == "imagenet":
        # Zero padding equals minus infinity here, because the ReLU leaves nothing below zero.
        x = layers.MaxPooling2D(3, 2, dtype=dtype)(layers.ZeroPadding2D(1, dtype=dtype)(x))
    add_block = partial(_BLOCKS[block], conv=conv, bn=bn, dtype=dtype, inner_factor=inner_factor)
    for stage, count in enumerate(blocks):
        for index in range(count):
            cuts.append((x,))
            x, within = add_block(
                x,
                planes=width * 2**stage,
                stride=2 if stage > 0 and index == 0 else 1,
                name=f"layer{stage + 1}.{index}",
            )
            light_cuts += within if stage < LIGHT_STAGES else ()
    pooled = layers.GlobalAveragePooling2D(dtype=dtype, name="avgpool")(x)  # [B, features]
    # Small images take little memory, and parts take time to trace.
    named = {"cuts": tuple(cuts), "light_cuts": tuple(light_cuts) if stem == "imagenet" else ()}
    return with_head(inputs, pooled, head, dim, dtype=dtype, seed=seed, **named)


def with_head(inputs, pooled, head, dim, *, dtype, seed, name="fc", **others):
    """Returns the `Encoder` from `inputs` to the features `pooled`, with a head as in `resnet`."""
    backbone = keras.Model(inputs, pooled)
    if head == "none":
        return Encoder(None, backbone, **others)
    linear = partial(_linear, dtype=dtype, seed=seed)
    if head == "linear":
        projection = linear(pooled, dim, name=name)
    else:
        hidden = linear(pooled, pooled.shape[-1], name=f"{name}.0")
        projection = linear(layers.ReLU(dtype=dtype)(hidden), dim, name=f"{name}.2")
    return Encoder(keras.Model(inputs, projection), backbone, **others)


def _basic_block(x, *, planes, stride, name, conv, bn, dtype, inner_factor):
    """The block's end, and its light cuts: what its convolutions give, and the shortcut's."""
    del inner_factor  # widens bottlenecks only
    kept, shortcut = _shortcut(x, planes, stride, name, conv, bn)
    y1 = conv(x, planes, 3, stride=stride, name=f"{name}.conv1")
    y = layers.ReLU(dtype=dtype)(bn(name=f"{name}.bn1")(y1))
    y2 = conv(y, planes, 3, name=f"{name}.conv2")
    y = layers.Add(dtype=dtype)([bn(name=f"{name}.bn2")(y2), shortcut(kept)])
    return layers.ReLU(dtype=dtype)(y), ((y1, kept), (y2, kept))


def _bottleneck(x, *, planes, stride, name, conv, bn, dtype, inner_factor):
    kept, shortcut = _shortcut(x, planes * EXPANSION["bottleneck"], stride, name, conv, bn)
    y1 = conv(x, planes * inner_factor, 1, name=f"{name}.conv1")
    y = layers.ReLU(dtype=dtype)(bn(name=f"{name}.bn1")(y1))
    y2 = conv(y, planes * inner_factor, 3, stride=stride, name=f"{name}.conv2")
    y = layers.ReLU(dtype=dtype)(bn(name=f"{name}.bn2")(y2))
    y3 = conv(y, planes * EXPANSION["bottleneck"], 1, name=f"{name}.conv3")
    y = layers.Add(dtype=dtype)([bn(name=f"{name}.bn3")(y3), shortcut(kept)])
    return layers.ReLU(dtype=dtype)(y), ((y1, kept), (y2, kept), (y3, kept))


_BLOCKS = {"basic": _basic_block, "bottleneck": _bottleneck}


def _shortcut(x, channels, stride, name, conv, bn):
    """What is kept of the shortcut for the backward pass, and what then makes the shortcut."""
    if stride == 1 and x.shape[-1] == channels:
        return x, lambda kept: kept
    x = conv(x, channels, 1, stride=stride, name=f"{name}.downsample.0")
    return x, bn(name=f"{name}.downsample.1")


def _conv(x, channels, size, *, stride=1, name, dtype, seed, default_init=False):
    """Convolution with symmetric padding of size // 2 (SAME pads asymmetrically at stride 2)."""
    padding = "same"
    if stride > 1 and size > 1:
        x = layers.ZeroPadding2D(size // 2, dtype=dtype)(x)
        padding = "valid"
    elif stride > 1:
        # The same numbers as a 1x1 convolution with that stride, whose kernel's gradient oneDNN
        # computes wrongly, and past the end of its buffer, where there are fewer channels than its
        # vectors have places: 8 with AVX2, 16 with AVX-512 (uxlfoundation/oneDNN issue 6035).
        # A pooling over single pixels: x[:, ::2, ::2] has a gradient that takes TensorFlow longer.
        x = layers.AveragePooling2D(1, stride, dtype=dtype)(x)
        stride = 1
    draw_seed = layer_seed(seed, name)
    if default_init:  # uniform within 1 / sqrt(fan_in)
        init = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform", seed=draw_seed)
    else:
        init = keras.initializers.VarianceScaling(
            2.0, "fan_out", "untruncated_normal", seed=draw_seed
        )
    return layers.Conv2D(
        channels,
        size,
        stride,
        padding,
        use_bias=False,
        kernel_initializer=init,
        dtype=dtype,
        name=name,
    )(x)


def _linear(x, units, *, name, dtype, seed):
    bound = 1 / sqrt(x.shape[-1])
    kernel_seed, bias_seed = layer_seed(seed, name), layer_seed(seed, name + ".bias")
    return layers.Dense(
        units,
        kernel_initializer=keras.initializers.RandomUniform(-bound, bound, seed=kernel_seed),
        bias_initializer=keras.initializers.RandomUniform(-bound, bound, seed=bias_seed),
        dtype=dtype,
        name=name,
    )(x)


def zero_last_scales(model):
    """Zeroes the scale of the last BatchNorm of each residual block, which is the identity then.

    Source: arXiv:1706.02677, section 5.1; MoCo v3 does so, v1 and v2 do not.
    """
    last = {}
    for layer in model.layers:  # in order
        block, _, name = layer.name.rpartition(".")
        if block and name.startswith("bn"):
            last[block] = layer
    for layer in last.values():
        layer.gamma.assign(keras.ops.zeros_like(layer.gamma))


def layer_seed(seed, name):
    """The seed of the initial weights of a layer: a function of the model's seed and its name."""
    return zlib.crc32(f"{seed}/{name}".encode()) & 0x7FFFFFFF
