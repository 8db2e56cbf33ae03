"""The optimizer on one device and several, against the rule by hand; dynamic loss scaling."""

import numpy as np
import pytest
import tensorflow as tf

from moco_tf.distribute.strategy import make_strategy
from moco_tf.training import optimizer
from moco_tf.training.optimizer import INITIAL_LOSS_SCALE, Optimizer, UpdateRule


def rule(parameter, slot, gradient, rate):
    slot = 0.5 * slot + gradient
    return parameter - rate * slot, slot


def build(devices, **options):
    strategy = make_strategy(devices)
    with strategy.scope():
        parameters = [tf.Variable([1.0, 2.0]), tf.Variable(3.0)]
    return Optimizer(parameters, ["a", "b"], strategy=strategy, rule=UpdateRule(rule), **options)


def step(under_test, factor, rates):
    """Each replica gives its own gradients: its number and one more, times `factor`."""

    @tf.function(autograph=False)
    def compiled():
        def gradients():
            context = tf.distribute.get_replica_context()
            own = factor * tf.cast(context.replica_id_in_sync_group + 1, tf.float32)
            return [own * tf.constant([1.0, -1.0]), own]

        shares = under_test.strategy.run(gradients)
        under_test.apply(under_test.sum_over_replicas(shares), rates)

    compiled()


@pytest.mark.parametrize("devices", [1, 2])
def test_steps_equal_the_rule_on_the_summed_gradients(devices):
    found, total = build(devices), {1: 1.0, 2: 3.0}[devices]
    a, b, slot = np.array([1.0, 2.0]), 3.0, 0.0
    for factor in (1.0, 2.0):
        step(found, factor, [0.1, 0.01])
        slot = 0.5 * slot + factor * total
        a, b = a - 0.1 * slot * np.array([1, -1]), b - 0.01 * slot
    np.testing.assert_allclose(found.parameters[0], a, rtol=1e-6)
    np.testing.assert_allclose(found.parameters[1], b, rtol=1e-6)
    assert found.state().keys() == {"momentum/a", "momentum/b"}
    np.testing.assert_allclose(found.state()["momentum/b"], slot, rtol=1e-6)


def test_an_overflow_changes_nothing_and_halves_the_scale_which_grows_again(monkeypatch):
    monkeypatch.setattr(optimizer, "GROWTH_STEPS", 2)
    found = build(1, loss_scaling=True)
    step(found, np.inf, 0.1)
    assert float(found.loss_scale) == INITIAL_LOSS_SCALE / 2
    np.testing.assert_array_equal(found.parameters[0], [1.0, 2.0])
    assert float(found.slots["momentum"][1]) == 0
    for wanted in (INITIAL_LOSS_SCALE / 2, INITIAL_LOSS_SCALE):
        step(found, 1.0, 0.1)
        assert float(found.loss_scale) == wanted
    assert float(found.parameters[1]) == pytest.approx(3 - 0.1 * (1 + 1.5), rel=1e-6)
    assert found.state().keys() == {"momentum/a", "momentum/b", "loss_scale", "finite_steps"}


def test_several_slots_a_rule_of_one_dimension_and_the_number_of_the_step():
    """A step that overflows is none: nothing of it counts."""

    def update(parameter, first, second, gradient, rate, *, step):
        first, second = first + gradient, second + tf.cast(step, tf.float32)
        return parameter - rate * first * second, first, second

    def small(parameter, first, second, gradient, rate, *, step):
        return parameter - rate, first, second + 10

    strategy = make_strategy(2)
    with strategy.scope():
        parameters = [tf.Variable([[1.0, 2.0]]), tf.Variable(3.0)]
    rule = UpdateRule(update, ("first", "second"), counts_steps=True, one_dimensional=small)
    found = Optimizer(parameters, ["a", "b"], strategy=strategy, rule=rule, loss_scaling=True)
    for factor in (1.0, np.inf, 2.0):
        step(found, factor, 0.5)  # gradients of three times the factor: two replicas, 1 and 2
    state = found.state()
    assert list(state) == [
        *("first/a", "first/b", "second/a", "second/b"),
        *("optimizer_steps", "loss_scale", "finite_steps"),
    ]
    assert int(state["optimizer_steps"].numpy()) == 2
    np.testing.assert_allclose(state["first/a"], [[9, -9]])
    np.testing.assert_allclose(state["second/a"], [[3, 3]])
    np.testing.assert_allclose(parameters[0], [[1 - 0.5 * (3 * 1 + 9 * 3), 2 + 0.5 * 30]])
    np.testing.assert_allclose(parameters[1], 3 - 2 * 0.5)
    assert float(state["second/b"].numpy()) == 20
