"""An update rule on variables of a strategy, with dynamic loss scaling if asked for."""

import tensorflow as tf

from moco_tf.training.finite import all_finite

SUM = tf.distribute.ReduceOp.SUM

# Dynamic loss scaling (mixed_float16): doubled after this many finite steps, halved at overflow.
GROWTH_STEPS = 2000
INITIAL_LOSS_SCALE = 2.0**15


class Optimizer:
    """The rule, its slots and the loss scale.

    Args:
        parameters: variables made in `strategy.scope()`, and their names.
        rule: (parameter, slot, gradient, rate) -> (parameter, slot), on tensors.
        loss_scaling: scale the loss against float16 underflow, and let a step that overflows
            change neither parameters nor slots.
        dtype: of the parameters.
    """

    def __init__(self, parameters, names, *, strategy, rule, loss_scaling=False, dtype="float32"):
        self.parameters, self.names, self.strategy, self.rule = parameters, names, strategy, rule
        self.loss_scaling, self.dtype = loss_scaling, dtype
        with strategy.scope():
            self.slots = [tf.Variable(tf.zeros_like(p), trainable=False) for p in parameters]
            self.loss_scale = tf.Variable(
                tf.cast(INITIAL_LOSS_SCALE if loss_scaling else 1, dtype), trainable=False
            )
            self.finite_steps = tf.Variable(0, dtype=tf.int64, trainable=False)

    def sum_over_replicas(self, gradients):
        """Returns the gradients of the whole batch, from those of each replica's share."""
        pairs = list(zip(gradients, self.parameters, strict=True))
        return self.strategy.extended.batch_reduce_to(SUM, pairs)

    def apply(self, gradients, rates):
        """One step of the rule; where loss scaling finds an overflow, nothing changes.

        Args:
            gradients: of `sum_over_replicas`.
            rates: a learning rate for all parameters, or a list of one for each.
        """
        rates = rates if isinstance(rates, list) else [rates] * len(self.parameters)
        rates = [tf.cast(rate, self.dtype) for rate in rates]
        finite = self._scale_loss(gradients) if self.loss_scaling else tf.constant(True)

        def update(parameter, slot, gradient, rate, finite):
            new, new_slot = self.rule(parameter, slot, gradient, rate)
            if self.loss_scaling:
                new = tf.where(finite, new, parameter)
                new_slot = tf.where(finite, new_slot, slot)
            slot.assign(new_slot)
            parameter.assign(new)

        each = zip(self.parameters, self.slots, gradients, rates, strict=True)
        for parameter, *arguments in each:
            self.strategy.extended.update(parameter, update, args=(*arguments, finite))

    def state(self):
        """Everything that `apply` changes beside the parameters, by name."""
        state = {f"momentum/{n}": s for n, s in zip(self.names, self.slots, strict=True)}
        if self.loss_scaling:
            state |= {"loss_scale": self.loss_scale, "finite_steps": self.finite_steps}
        return state

    def _scale_loss(self, gradients):
        """Sets the loss scale for the next step; returns whether all gradients are finite."""
        own = [self.strategy.experimental_local_results(gradient)[0] for gradient in gradients]
        finite = all_finite(own)
        steps = tf.where(finite, self.finite_steps + 1, 0)
        grow = steps >= GROWTH_STEPS
        factor = tf.where(finite, tf.where(grow, 2.0, 1.0), 0.5)
        self.loss_scale.assign(tf.maximum(self.loss_scale * tf.cast(factor, self.dtype), 1))
        self.finite_steps.assign(tf.where(grow, tf.zeros_like(steps), steps))
        return finite
