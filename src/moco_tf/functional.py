"""MoCo's maths as pure functions of tensors, for training loops of your own: docs/own-loop.md.

Tensors go in, tensors come out; no function holds or assigns a variable. All work eagerly and in a
`tf.function`. All but `shuffle` are called by `moco-tf pretrain`.
"""

from moco_tf.methods.loss import info_nce, queue_logits, top_k_accuracy, unit_norm
from moco_tf.methods.momentum import momentum_update
from moco_tf.methods.queue import enqueue, initial_queue
from moco_tf.methods.shuffle import random_permutation, shuffle, unshuffle
from moco_tf.training.schedules import learning_rate
from moco_tf.training.sgd import sgd_update

__all__ = [
    "enqueue",
    "info_nce",
    "initial_queue",
    "learning_rate",
    "momentum_update",
    "queue_logits",
    "random_permutation",
    "sgd_update",
    "shuffle",
    "top_k_accuracy",
    "unit_norm",
    "unshuffle",
]
