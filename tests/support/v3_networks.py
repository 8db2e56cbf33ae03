"""The two networks of MoCo v3 on the smallest backbone."""

from functools import partial

import keras

from moco_tf.models.batch_norm import ALL, GroupBatchNorm
from moco_tf.models.heads import with_predictor, with_projector
from moco_tf.models.resnet import Encoder

SIDE, DIM, HIDDEN = 4, 6, 7


def networks(kind, seed=0):
    """The query network and the momentum encoder: a convolution with BatchNorm, and the heads."""
    norm = partial(GroupBatchNorm, ALL, dtype="float64")
    inputs = keras.Input((SIDE, SIDE, 3), dtype="float64")
    draw = keras.initializers.RandomNormal(stddev=0.3, seed=seed)
    x = keras.layers.Conv2D(5, 3, kernel_initializer=draw, dtype="float64", name="conv1")(inputs)
    x = keras.layers.ReLU(dtype="float64")(norm(name="bn1")(x))
    x = keras.layers.GlobalAveragePooling2D(dtype="float64")(x)
    head = {"hidden": HIDDEN, "norm": norm, "dtype": "float64", "seed": seed}
    encoder = Encoder(None, keras.Model(inputs, x), ())
    encoder = with_projector(encoder, kind, dim=DIM, **head)
    return with_predictor(encoder, kind, **head), encoder
