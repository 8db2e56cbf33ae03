"""Mistakes that implementations of MoCo v3 make, built into our step: each changes its numbers.

The step without them equals the naive twin of `test_moco_v3`.
"""

from functools import cache

import numpy as np
import pytest
import tensorflow as tf
from support.v3_networks import DECAY, TEMPERATURE, build, train

import moco_tf.methods.moco_v3 as step_module
from moco_tf.distribute.strategy import make_strategy
from moco_tf.methods.moco_v3 import MoCoV3
from moco_tf.models import heads
from moco_tf.models.batch_norm import GroupBatchNorm
from moco_tf.training import replica
from moco_tf.training.lars import lars
from moco_tf.training.optimizer import UpdateRule

pytestmark = pytest.mark.slow


@cache
def right():
    return run()


def run(**changes):
    """Losses, outputs and state of a few steps, one operation after another."""
    outputs, state = train(
        build(make_strategy(1), compile_parts=False, **changes), compiled=lambda step: step
    )
    return {name: np.stack([o[1][name] for o in outputs]) for name in ("losses", "queries")} | state


def late_key_update(patch):
    original = MoCoV3.train_step

    def train_step(self, view1, view2, rate, momentum, **options):
        result = original(self, view1, view2, rate, tf.ones_like(momentum), **options)
        update = step_module.momentum_update
        self.envelope.assign(self.key.parameters, update, self.shared, momentum)
        return result

    patch.setattr(MoCoV3, "train_step", train_step)


def view_2_first(patch):
    original = MoCoV3.train_step
    patch.setattr(
        MoCoV3,
        "train_step",
        lambda self, view1, view2, *args, **options: original(self, view2, view1, *args, **options),
    )


def same_view_pairs(patch):
    original = MoCoV3._loss
    patch.setattr(
        MoCoV3,
        "_loss",
        lambda self, encode, images, rows, key1, key2: original(
            self, encode, images, rows, key2, key1
        ),
    )


def times(factor):
    def apply(patch):
        original = step_module.info_nce
        patch.setattr(step_module, "info_nce", lambda logits: factor * original(logits))

    return apply


def keys_in_inference_mode(patch):
    original = replica.Encoding.__call__

    def call(self, images):
        with_predictor = any("predictor" in name for name in self._network.names)
        if with_predictor:
            return original(self, images)
        return self._network.call(self._parameters, self.statistics, images, training=False)[0]

    patch.setattr(replica.Encoding, "__call__", call)


def statistics_in_the_momentum_update(patch):
    original = MoCoV3.train_step

    def train_step(self, view1, view2, rate, momentum, **options):
        own = [n for n in self.key.variables if "/moving_" in n]
        key, query = ([v[name] for name in own] for v in (self.key.variables, self.query.variables))
        self.envelope.assign(key, step_module.momentum_update, query, momentum)
        return original(self, view1, view2, rate, momentum, **options)

    patch.setattr(MoCoV3, "train_step", train_step)


def batch_norm_default(**changes):
    def apply(patch):
        original = GroupBatchNorm.__init__
        patch.setattr(
            GroupBatchNorm,
            "__init__",
            lambda self, *args, **settings: original(self, *args, **settings | changes),
        )

    return apply


def predictor_ends_in_norm(patch):
    patch.setitem(heads.HEADS, "resnet", heads.Heads("fc", 2, True))


DECAYED = lars(momentum=0.9, weight_decay=DECAY).update
MISTAKES = {
    "key update after the optimizer's step": late_key_update,
    "view 2 before view 1": view_2_first,
    "same-view pairs": same_view_pairs,
    "factor 2T missing": times(1 / (2 * TEMPERATURE)),
    "mean of the two sides": times(0.5),
    "key encoder in inference mode": keys_in_inference_mode,
    "running statistics in the momentum update": statistics_in_the_momentum_update,
    "BN eps 1e-3": batch_norm_default(epsilon=1e-3),
    "BN momentum 0.99": batch_norm_default(momentum=0.99),
    "last BN with scale and shift": batch_norm_default(center=True, scale=True),
    "extra last BN in the predictor": predictor_ends_in_norm,
}


def distance(found, wanted):
    """Of what both have."""
    return max(np.abs(found[n] - wanted[n]).max() for n in found.keys() & wanted.keys())


def test_nothing_changes_without_a_mistake():
    assert distance(run(), right()) == 0


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_changes_the_numbers(monkeypatch, name):
    wanted = right()
    MISTAKES[name](monkeypatch)
    assert distance(run(), wanted) > 1e-5


@pytest.mark.parametrize(
    "rule",
    [
        UpdateRule(DECAYED),  # the decay and the ratio on one-dimensional parameters, too
        lars(momentum=0.9, weight_decay=0.0),
    ],
)
def test_each_mistake_of_the_optimizer_changes_the_numbers(rule):
    assert distance(run(rule=rule), right()) > 1e-5
