"""An update rule on variables of a strategy, with dynamic loss scaling if asked for."""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from moco_tf.training.finite import all_finite

SUM = tf.distribute.ReduceOp.SUM

# Dynamic loss scaling (mixed_float16): doubled after this many finite steps, halved at overflow.
GROWTH_STEPS = 2000
INITIAL_LOSS_SCALE = 2.0**15


@dataclass(frozen=True)
class UpdateRule:
    """What a step does to each parameter, as a pure function of tensors.

    Attributes:
        update: (parameter, *slots, gradient, rate) -> (parameter, *slots).
        slots: names of what is kept for each parameter: tensors of its shape, zero at first.
        counts_steps: `update` also takes `step`, the number of this step, from 1 on: a float64
            scalar.
        one_dimensional: another `update`, of biases and of scales and shifts; none: the same.
        tokens_too: `one_dimensional` also takes what has one axis that is longer than 1, as a class
            token has.
    """

    update: Callable
    slots: tuple[str, ...] = ("momentum",)
    counts_steps: bool = False
    one_dimensional: Callable | None = None
    tokens_too: bool = False

    def of(self, parameter) -> Callable:
        """Returns the `update` of a parameter."""
        axes = [size for size in parameter.shape if size > 1 or not self.tokens_too]
        if self.one_dimensional is None or len(axes) > 1:
            return self.update
        return self.one_dimensional


class Optimizer:
    """The rule, its slots and the loss scale.

    Args:
        parameters: variables made in `strategy.scope()`, and their names.
        rule: an `UpdateRule`.
        loss_scaling: scale the loss against float16 underflow, and let a step that overflows
            change neither parameters nor slots.
        dtype: of the parameters.
    """

    def __init__(self, parameters, names, *, strategy, rule, loss_scaling=False, dtype="float32"):
        self.parameters, self.names, self.strategy, self.rule = parameters, names, strategy, rule
        self.loss_scaling, self.dtype = loss_scaling, dtype
        with strategy.scope():
            self.slots = {
                slot: [tf.Variable(tf.zeros_like(p), trainable=False) for p in parameters]
                for slot in rule.slots
            }
            self.steps = tf.Variable(0, dtype=tf.int64, trainable=False)
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
        counted = {}
        if self.rule.counts_steps:
            self.steps.assign_add(tf.cast(finite, tf.int64))  # an overflow is no step
            counted = {"step": tf.cast(tf.maximum(self.steps, 1), tf.float64)}

        def update(parameter, gradient, rate, finite, counted, *slots):
            variables = parameter, *slots
            old = [tf.convert_to_tensor(variable) for variable in variables]
            new = self.rule.of(parameter)(*old, gradient, rate, **counted)
            for variable, value, before in zip(variables, new, old, strict=True):
                kept = tf.where(finite, value, before) if self.loss_scaling else value
                variable.assign(kept)

        each = zip(self.parameters, gradients, rates, *self.slots.values(), strict=True)
        for parameter, gradient, rate, *slots in each:
            arguments = (gradient, rate, finite, counted, *slots)
            self.strategy.extended.update(parameter, update, args=arguments)

    def state(self):
        """Everything that `apply` changes beside the parameters, by name."""
        state = {
            f"{slot}/{name}": variable
            for slot, variables in self.slots.items()
            for name, variable in zip(self.names, variables, strict=True)
        }
        if self.rule.counts_steps:
            state["optimizer_steps"] = self.steps
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
