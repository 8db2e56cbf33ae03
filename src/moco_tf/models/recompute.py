"""An encoder's forward pass that keeps little for the backward pass, which computes it again."""

from collections.abc import Sequence
from itertools import pairwise

import keras
import tensorflow as tf


def recomputing(model: keras.Model, cuts: Sequence[keras.KerasTensor]):
    """Returns a function that is called as `model.stateless_call` is, and gives the same.

    The network is taken apart at the cuts, those of its `Encoder`. Between forward and backward
    pass only what goes in at each cut is kept; the backward pass runs a part again when its
    gradient comes. The last part is kept whole, because its gradient comes at once.

    Variables, layers and their names stay the model's own: the parts share them.
    """
    ends = [model.inputs[0], *cuts, model.outputs[0]]
    parts = [keras.Model(*pair) for pair in pairwise(ends)]
    trainable, running = _paths(model.trainable_variables), _paths(model.non_trainable_variables)

    def encode(parameters, statistics, images, training):
        values = dict(zip(trainable, parameters, strict=True))
        latest = dict(zip(running, statistics, strict=True))
        features = images
        for part in parts:

            def call(features, *parameters, part=part, statistics=latest):
                before = [statistics[path] for path in _paths(part.non_trainable_variables)]
                return part.stateless_call(parameters, before, features, training=training)

            # TensorFlow adds a zero made of the gradient to what goes in. Without it the second
            # pass would start at once, or be merged with the first.
            keep = part is parts[-1]
            features, updated = (call if keep else tf.recompute_grad(call))(
                features, *(values[path] for path in _paths(part.trainable_variables))
            )
            # The first pass's; the second one's are not used.
            latest = latest | dict(zip(_paths(part.non_trainable_variables), updated, strict=True))
        return features, list(latest.values())

    return encode


def _paths(variables):
    return [variable.path for variable in variables]
