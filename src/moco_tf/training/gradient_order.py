"""Gradients of a tape with sums in one order, so that a step repeats bit for bit.

Where a tensor is used three times and more, as in LayerNormalization, the tape sums its gradients
by AddN. That begins with whichever it can write to, which depends on what is ready first.
"""

import tensorflow as tf
from tensorflow.python import pywrap_tfe
from tensorflow.python.eager import backprop

from moco_tf.distribute.collectives import sum_in_order


def sum_gradients_in_order() -> None:
    """Has every tape of this process do so from now on; sums of two are what they were."""
    default = backprop._default_vspace

    def aggregate(gradients):
        dense = all(isinstance(one, tf.Tensor) for one in gradients)
        in_order = dense and len(gradients) > 2
        return sum_in_order(gradients) if in_order else default.aggregate_fn(gradients)

    pywrap_tfe.TFE_Py_RegisterVSpace(default._replace(aggregate_fn=aggregate))
