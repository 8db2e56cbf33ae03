"""MoCo v3 on the smallest backbone: its networks, its steps, and one of several processes of it."""

import sys
from functools import partial

import keras
import numpy as np
import tensorflow as tf

from moco_tf.distribute.cluster import Cluster
from moco_tf.distribute.strategy import make_strategy
from moco_tf.methods.moco_v3 import MoCoV3
from moco_tf.models.batch_norm import ALL, GroupBatchNorm
from moco_tf.models.heads import with_predictor, with_projector
from moco_tf.models.resnet import Encoder
from moco_tf.training.gradient_cache import gradient_cache
from moco_tf.training.lars import lars
from moco_tf.training.network import Network
from moco_tf.training.step import StepEnvelope

SIDE, DIM, HIDDEN, BATCH, TEMPERATURE, DECAY = 4, 6, 7, 8, 0.3, 0.1
STEPS = ((0.0, 0.5), (0.3, 0.6), (0.2, 0.7), (0.1, 0.8))  # learning rate and momentum of each


def networks(kind, seed=0, backbone_norm=True, dropout=0.0):
    """The query network and the momentum encoder: a convolution with BatchNorm, and the heads."""
    norm = partial(GroupBatchNorm, ALL, dtype="float64")
    inputs = keras.Input((SIDE, SIDE, 3), dtype="float64")
    draw = keras.initializers.RandomNormal(stddev=0.3, seed=seed)
    x = keras.layers.Conv2D(5, 3, kernel_initializer=draw, dtype="float64", name="conv1")(inputs)
    x = norm(name="bn1")(x) if backbone_norm else x
    x = keras.layers.ReLU(dtype="float64")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, seed=seed, dtype="float64")(x)
    x = keras.layers.GlobalAveragePooling2D(dtype="float64")(x)
    head = {"hidden": HIDDEN, "norm": norm, "dtype": "float64", "seed": seed}
    encoder = Encoder(None, keras.Model(inputs, x), ())
    encoder = with_projector(encoder, kind, dim=DIM, **head)
    return with_predictor(encoder, kind, **head), encoder


def build(strategy, microbatches=None, **changes):
    """A method in float64; the momentum encoder was drawn from another seed.

    Args:
        microbatches: of a backbone without BatchNorm, whose gradients are cached; 1: it is whole.
    """
    options = {"backbone_norm": microbatches is None}
    with strategy.scope():
        query, _ = networks("resnet", seed=1, **options)
        _, key = networks("resnet", seed=2, **options)
    settings = {
        "strategy": strategy,
        "batch_size": BATCH,
        "group_size": ALL,
        "group_layout": "contiguous",
        "rule": lars(momentum=0.9, weight_decay=DECAY),
        "running_statistics": "first_group",
        "dtype": "float64",
    }
    several = microbatches is not None and microbatches > 1
    query, key = (
        Network(each, gradient_cache(each, microbatches, tf.identity) if several else None)
        for each in (query, key)
    )
    envelope = StepEnvelope(query, **settings | changes)
    return MoCoV3(key, envelope=envelope, temperature=TEMPERATURE)


def views(step):
    rng = np.random.default_rng(step)
    return [tf.constant(rng.standard_normal((BATCH, SIDE, SIDE, 3))) for _ in range(2)]


def train(method, compiled=tf.function):
    """(scalars and details of each of `STEPS`, state after the last)."""
    step, outputs = compiled(partial(method.train_step, details=True)), []
    rows = method.envelope.own_rows()
    for number, numbers in enumerate(STEPS):
        own = [view if rows is None else tf.gather(view, rows) for view in views(number)]
        rates = [tf.constant(value, tf.float64) for value in numbers]
        outputs.append(tf.nest.map_structure(np.array, step(*own, *rates)))
    return outputs, {name: variable.numpy() for name, variable in method.state().items()}


if __name__ == "__main__":
    addresses, index, path = sys.argv[1:]
    cluster = Cluster(tuple(addresses.split(",")), int(index))
    np.savez(path, **train(build(make_strategy(1, cluster)))[1])
