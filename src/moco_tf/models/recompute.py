"""An encoder's forward pass that keeps little for the backward pass, which computes it again."""

from collections.abc import Sequence
from itertools import pairwise

import keras
import tensorflow as tf


def recomputing(model: keras.Model, cuts: Sequence[Sequence[keras.KerasTensor]]):
    """Returns a function that is called as `model.stateless_call` is, and gives the same.

    The network is taken apart at the cuts, those of its `Encoder`. Between forward and backward
    pass only the tensors of each cut are kept; the backward pass runs a part again when its
    gradient comes. The last part is kept whole, because its gradient comes at once. Without cuts
    it is `model.stateless_call` itself.

    Variables, layers and their names stay the model's own: the parts share them.
    """
    if not cuts:
        return model.stateless_call
    ends = [model.inputs, *cuts, model.outputs]
    # A tensor that is in two cuts in a row goes round the part between them.
    made = [[x for x in after if not _within(x, before)] for before, after in pairwise(ends)]
    parts = [keras.Model(list(taken), new) for taken, new in zip(ends, made, strict=False)]
    trainable, running = _paths(model.trainable_variables), _paths(model.non_trainable_variables)

    def encode(parameters, statistics, images, training):
        values = dict(zip(trainable, parameters, strict=True))
        latest = dict(zip(running, statistics, strict=True))
        tensors = {id(model.inputs[0]): images}
        for part, taken, new in zip(parts, ends, made, strict=False):

            def call(arrays, *parameters, part=part, statistics=latest):
                before = [statistics[path] for path in _paths(part.non_trainable_variables)]
                return part.stateless_call(parameters, before, arrays, training=training)

            # TensorFlow adds a zero made of the gradient to what goes in. Without it the second
            # pass would start at once, or be merged with the first.
            keep = part is parts[-1]
            arrays, updated = (call if keep else tf.recompute_grad(call))(
                [tensors[id(x)] for x in taken],
                *(values[path] for path in _paths(part.trainable_variables)),
            )
            tensors |= dict(zip(map(id, new), tf.nest.flatten(arrays), strict=True))
            # The first pass's; the second one's are not used.
            latest = latest | dict(zip(_paths(part.non_trainable_variables), updated, strict=True))
        return tensors[id(model.outputs[0])], list(latest.values())

    return encode


def _within(tensor, tensors):
    return any(tensor is other for other in tensors)


def _paths(variables):
    return [variable.path for variable in variables]
