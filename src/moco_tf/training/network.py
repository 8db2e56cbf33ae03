"""A network as a training step uses it: its variables by name and by what becomes of them."""

import tensorflow as tf

from moco_tf.models.array_names import SEED, array_names
from moco_tf.models.batch_norm import running_variables


class Network:
    """An `Encoder`'s model as a step uses it: parameters and statistics go in, statistics come out.

    Args:
        call: gives what `encoder.model.stateless_call` gives; none: that itself.
        stream: of random numbers, for Dropout: networks with others draw others.
    """

    def __init__(self, encoder, call=None, stream=0):
        self.encoder, self.model = encoder, encoder.model
        model, self.call = self.model, call or self.model.stateless_call
        trainable, others = model.trainable_variables, model.non_trainable_variables
        self.parameters, self.statistics = [v.value for v in trainable], [v.value for v in others]
        names = {id(v): name for v, name in zip(model.variables, array_names(model), strict=True)}
        self.names = [names[id(v)] for v in trainable]
        self.variables = {names[id(v)]: v.value for v in model.variables}
        running = running_variables(model)
        self.running = [id(v) in running for v in others]
        self.seeds = [v.name == SEED for v in others]  # the rest are constants
        self.first_seed = stream * 2**24  # more than a batch has rows

    def state(self, prefix):
        """All variables by name, below `prefix`."""
        return {f"{prefix}/{name}": variable for name, variable in self.variables.items()}

    def drawing_for(self, statistics, row):
        """The statistics, with seeds for the microbatch that begins with this row of the batch.

        What Dropout draws is then a function of the run's seed, the step and the microbatch.
        """
        return seeds_for(statistics, self.seeds, tf.cast(row, tf.int64) + self.first_seed)

    def drawn_before(self, statistics, row):
        """`drawing_for` undone, for another batch of the step; what was drawn still counts."""
        return seeds_for(statistics, self.seeds, -tf.cast(row, tf.int64))


def seeds_for(statistics, seeds, moved):
    """The statistics, with those that are `seeds` moved on to another stream of random numbers."""
    if not any(seeds):
        return statistics
    place = tf.stack([tf.cast(moved, tf.int64), 0])
    return [value + place if s else value for value, s in zip(statistics, seeds, strict=True)]
