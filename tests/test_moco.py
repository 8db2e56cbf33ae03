"""The training step: equal on any number of devices, and in the official order."""

import numpy as np
import pytest
import tensorflow as tf
from support.steps import BATCH, GROUP, build, train, trained, views

from moco_tf.methods.shuffle import random_permutation


@pytest.mark.parametrize(
    ("devices", "layout", "rule", "symmetric"),
    [
        pytest.param(2, "interleaved", "mean", True, marks=pytest.mark.slow),
        pytest.param(4, "contiguous", "first_group", False, marks=pytest.mark.slow),
        pytest.param(2, "contiguous", "first_group", False, marks=pytest.mark.long),
        pytest.param(4, "interleaved", "mean", True, marks=pytest.mark.long),
    ],
)
def test_one_two_and_four_devices_compute_the_same(devices, layout, rule, symmetric):
    options = {"layout": layout, "rule": rule, "symmetric": symmetric}
    scalars, details, state = trained(1, **options)
    other_scalars, other_details, other_state = trained(devices, **options)
    for name, value in scalars.items():
        assert float(other_scalars[name]) == pytest.approx(float(value), abs=1e-5), name
    for name in ("queries", "keys", "logits", "losses"):
        np.testing.assert_allclose(other_details[name], details[name], atol=1e-5)
    for ours, theirs in zip(details["gradients"], other_details["gradients"], strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-5)
    for name, value in state.items():
        np.testing.assert_allclose(other_state[name], value, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("rule", "devices"),
    [("first_group", 1), ("mean", 1), pytest.param("mean", 4, marks=pytest.mark.slow)],
)
def test_no_sum_depends_on_what_is_ready_first(rule, devices):
    """AddN begins with any input that it can overwrite: of three and more the sum is not exact."""
    method = build(devices, rule=rule, symmetric=True)
    step = tf.function(method.train_step, autograph=False)
    order = random_permutation(0, 0, 2, BATCH)
    graph = step.get_concrete_function(*views(0), order, tf.constant(0.1)).graph
    graphs = [graph, *(graph._get_function(name).graph for name in graph._functions)]
    sums = [op for g in graphs for op in g.get_operations() if op.type in ("AddN", "AccumulateNV2")]
    assert sums
    assert [op.name for op in sums if len(op.inputs) > 2] == []


def test_key_encoder_starts_as_a_copy_and_lags_behind():
    method = build(1)
    start = [p.numpy() for p in method.query.parameters]
    for query, key in zip(method.query.parameters, method.key.parameters, strict=True):
        np.testing.assert_array_equal(query, key)
    train(method, steps=1)  # the first momentum update sees equal encoders: it changes nothing
    for before, key in zip(start, method.key.parameters, strict=True):
        np.testing.assert_allclose(key, before, atol=1e-7)
    after_one = [p.numpy() for p in method.query.parameters]
    order = random_permutation(0, 1, 1, BATCH)
    method.train_step(*views(1), order, tf.constant(0.0))
    for before, query, key in zip(start, after_one, method.key.parameters, strict=True):
        np.testing.assert_allclose(key, 0.9 * before + 0.1 * query, atol=1e-6)


def test_step_uses_the_queue_from_before_and_enqueues_the_keys():
    method = build(1)
    queue = method.queue.numpy()
    _, details, _ = train(method, steps=1)
    queries, keys = (details[name][0].numpy() for name in ("queries", "keys"))
    expected = np.concatenate([(queries * keys).sum(1, keepdims=True), queries @ queue.T], 1) / 0.1
    np.testing.assert_allclose(details["logits"][0], expected, atol=1e-5)
    np.testing.assert_array_equal(method.queue[:BATCH], keys)
    np.testing.assert_array_equal(method.queue[BATCH:], queue[BATCH:])
    assert int(method.pointer) == BATCH


def test_key_statistics_are_of_the_shuffled_first_group():
    method = build(1)
    _, view2 = views(0)
    order = random_permutation(0, 0, 1, BATCH)
    train(method, steps=1)
    first_group = tf.gather(view2, order[0][:GROUP])
    conv = method.key.model.get_layer("conv1")
    mean = tf.reduce_mean(conv(first_group), axis=[0, 1, 2])
    np.testing.assert_allclose(method.key.model.get_layer("bn1").moving_mean, 0.1 * mean, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_stays_near_float32(policy):
    scalars, _, _ = trained(1)
    mixed, _, _ = trained(1, policy=policy, loss_scaling=policy == "mixed_float16")
    assert float(mixed["loss"]) == pytest.approx(float(scalars["loss"]), rel=0.05)


def test_feature_std_is_the_root_mean_square_spread_of_the_queries():
    scalars, details, _ = trained(1, steps=1)
    spread = details["queries"][0].numpy().var(axis=0).mean() ** 0.5
    assert float(scalars["feature_std"]) == pytest.approx(spread, rel=1e-4)


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_step_without_finite_gradients_is_skipped_and_the_scale_halved(devices):
    method = build(devices, loss_scaling=True)
    before = [p.numpy() for p in method.query.parameters]
    scale = method.envelope.optimizer.loss_scale.numpy()
    nan_views = (view * np.nan for view in views(0))
    step = tf.function(method.train_step, autograph=False)
    step(*nan_views, random_permutation(0, 0, 1, BATCH), tf.constant(0.1))
    for old, new in zip(before, method.query.parameters, strict=True):
        np.testing.assert_array_equal(new, old)
    assert method.envelope.optimizer.loss_scale.numpy() == scale / 2
    for name, variable in method.state().items():  # queue and running statistics included
        assert np.isfinite(variable.numpy()).all(), name


def test_a_key_that_overflows_in_one_dimension_is_not_enqueued():
    method = build(1, loss_scaling=True)
    old = method.queue.numpy()
    bias = method.key.model.get_layer("fc.2").bias
    bias.assign(tf.where(tf.range(16) == 3, np.inf, bias))
    method.query.parameters[-1].assign(bias)  # the momentum update takes it from here
    method.train_step(*views(0), random_permutation(0, 0, 1, BATCH), tf.constant(0.1))
    np.testing.assert_array_equal(method.queue, old)


@pytest.mark.slow
def test_nothing_is_gathered_for_a_replay_that_nobody_asked_for():
    method = build(2)
    assert method.train_step(*views(0), random_permutation(0, 0, 1, BATCH), 0.1)[1] == {}


@pytest.mark.slow
def test_xla_computes_the_same():
    plain, _, state = trained(1)
    compiled, _, other = trained(1, xla=True)
    assert float(compiled["loss"]) == pytest.approx(float(plain["loss"]), abs=1e-4)
    for name, value in state.items():
        np.testing.assert_allclose(other[name], value, atol=1e-4, err_msg=name)
