"""A narrow step of MoCo, its views, and what comes of a few steps."""

import inspect
from functools import cache, partial

import numpy as np
import tensorflow as tf

from moco_tf.distribute.strategy import make_strategy
from moco_tf.methods.moco import MoCo
from moco_tf.methods.shuffle import random_permutation
from moco_tf.models.recompute import recomputing
from moco_tf.models.resnet import resnet
from moco_tf.training.network import Network
from moco_tf.training.optimizer import UpdateRule
from moco_tf.training.sgd import sgd_update
from moco_tf.training.step import StepEnvelope

BATCH, GROUP, SIZE = 16, 4, 12


def build(
    devices,
    *,
    layout="contiguous",
    rule="first_group",
    symmetric=False,
    encoder=None,
    **changes,
):
    """`encoder` makes both encoders, of a seed; none: a narrow ResNet does."""
    strategy = make_strategy(devices)
    policy = changes.pop("policy", "float32")
    settings = {
        "block": changes.pop("block", "basic"),
        "blocks": (1, 1),
        "image_size": SIZE,
        "stem": "small",
        "width": 8,
        "head": "mlp",
        "dim": 16,
        "group_size": GROUP,
        "group_layout": layout,
        "running_statistics": rule,
        "dtype": policy,
    }
    encoder = encoder or partial(resnet, **settings)
    with strategy.scope():
        query, key = encoder(seed=1), encoder(seed=2)
    step = {
        "strategy": strategy,
        "batch_size": BATCH,
        "group_size": GROUP,
        "group_layout": layout,
        "running_statistics": rule,
        "rule": UpdateRule(partial(sgd_update, momentum=0.9, weight_decay=1e-4)),
    }
    known = inspect.signature(StepEnvelope).parameters
    step |= {name: changes.pop(name) for name in changes.keys() & known.keys()}
    method = {"queue_size": 50, "dim": 16, "key_momentum": 0.9, "temperature": 0.1, "seed": 3}
    call = recomputing(query.model, query.cuts if changes.pop("recompute", False) else ())
    envelope = StepEnvelope(Network(query, call), **step)
    return MoCo(Network(key, stream=1), envelope=envelope, symmetric=symmetric, **method | changes)


def views(step):
    rng = np.random.default_rng(step)
    return (tf.constant(rng.standard_normal((BATCH, SIZE, SIZE, 3)), tf.float32) for _ in range(2))


def train(method, steps=3):
    compiled = tf.function(partial(method.train_step, details=True), autograph=False)
    calls = 2 if method.symmetric else 1
    for step in range(steps):
        order = random_permutation(0, step, calls, BATCH)
        scalars, details = compiled(*views(step), order, tf.constant(0.1))
    return scalars, details, {name: v.numpy() for name, v in method.state().items()}


@cache
def trained(devices, steps=3, **options):
    """What `train` returns of a method of these options: nothing that tests may change."""
    return train(build(devices, **options), steps)
