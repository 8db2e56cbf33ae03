"""Runs of the real loop, data and files, without an encoder to compile."""

from types import SimpleNamespace

import numpy as np
import tensorflow as tf

import moco_tf.evaluate.monitor
import moco_tf.pretraining
from moco_tf.training.reporting import Reporter


class Method:
    """In place of MoCo: a number that depends on every view, its order and the rate."""

    def __init__(self):
        self.total = tf.Variable(1.0, dtype=tf.float64)
        self.query = SimpleNamespace(variables={"total": self.total})
        self.envelope = SimpleNamespace(
            tensor_names=(), own_rows=lambda: None, optimizer=SimpleNamespace(loss_scale=None)
        )

    def state(self):
        return {"total": self.total}

    def step(self, view1, view2, step, rate):
        parts = [np.asarray(part).astype(np.float64) for part in [*view1, *view2]]
        change = sum((place + 1) * part.mean() for place, part in enumerate(parts))
        self.total.assign((0.9 * self.total + change + float(rate)) % 1000)
        names = ("loss", "top1", "top5", "feature_std", "positive_similarity")
        values = {name: tf.constant(float(self.total) / 10) for name in names}
        return values | {"first_nonfinite": tf.constant(0)}


def put_in_place(monkeypatch):
    """Has `pretrain` train a `Method`."""
    patch = monkeypatch.setattr
    patch(moco_tf.pretraining, "build_method", lambda *_: Method())
    patch(moco_tf.pretraining, "build_step", lambda _, method: method.step)
    patch(
        moco_tf.evaluate.monitor,
        "build_monitors",
        lambda _, method: (
            lambda split: float(method.total) % 100,
            lambda split: 5.0,
            lambda views: {"alignment": float(method.total)},
        ),
    )
    patch(moco_tf.evaluate.monitor, "build_views", lambda *_, **__: None)


class Event(Reporter):
    """Something that happens after the logging point of a step."""

    def __init__(self, step, happens):
        super().__init__()
        self._step, self._happens = step, happens

    def metrics(self, step, values):
        super().metrics(step, values)
        if step == self._step:
            self._happens()
