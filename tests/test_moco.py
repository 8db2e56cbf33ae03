"""The training step: equal on any number of devices, and in the official order."""

from functools import partial

import numpy as np
import pytest
import tensorflow as tf

from moco_tf.distribute.strategy import make_strategy
from moco_tf.methods.moco import MoCo
from moco_tf.methods.shuffle import random_permutation
from moco_tf.models.resnet import resnet

BATCH, GROUP, SIZE = 16, 4, 12


def build(devices, *, layout="contiguous", rule="first_group", symmetric=False, **changes):
    strategy = make_strategy(devices)
    policy = changes.pop("policy", "float32")
    settings = {
        "block": changes.pop("block", "basic"),
        "blocks": (1, 1),
        "image_size": SIZE,
        "stem": "small",
        "width": 8,
        "head": "mlp",
        "dim": 16,
        "group_size": GROUP,
        "group_layout": layout,
        "running_statistics": rule,
        "dtype": policy,
    }
    with strategy.scope():
        query, key = resnet(**settings, seed=1), resnet(**settings, seed=2)
    arguments = {
        "queue_size": 50,
        "dim": 16,
        "batch_size": BATCH,
        "group_size": GROUP,
        "group_layout": layout,
        "running_statistics": rule,
        "key_momentum": 0.9,
        "temperature": 0.1,
        "symmetric": symmetric,
        "sgd_momentum": 0.9,
        "weight_decay": 1e-4,
        "seed": 3,
    } | changes
    return MoCo(query, key, strategy=strategy, **arguments)


def views(step):
    rng = np.random.default_rng(step)
    return (tf.constant(rng.standard_normal((BATCH, SIZE, SIZE, 3)), tf.float32) for _ in range(2))


def images(step):
    """Numbers of the images of a batch, of which half come again in the next one."""
    return tf.range(step * BATCH // 2, step * BATCH // 2 + BATCH, dtype=tf.int64)


def train(method, steps=3):
    compiled = tf.function(partial(method.train_step, details=True))
    calls = 2 if method.symmetric else 1
    for step in range(steps):
        order = random_permutation(0, step, calls, BATCH)
        numbers = None if method.queue_images is None else images(step)
        scalars, details = compiled(*views(step), order, tf.constant(0.1), numbers)
    return scalars, details, {name: v.numpy() for name, v in method.state().items()}


@pytest.mark.parametrize(
    ("layout", "rule", "symmetric"),
    [("contiguous", "first_group", False), ("interleaved", "mean", True)],
)
def test_one_two_and_four_devices_compute_the_same(layout, rule, symmetric):
    options = {"layout": layout, "rule": rule, "symmetric": symmetric}
    scalars, details, state = train(build(1, **options))
    for devices in (2, 4):
        other_scalars, other_details, other_state = train(build(devices, **options))
        for name, value in scalars.items():
            assert float(other_scalars[name]) == pytest.approx(float(value), abs=1e-5), name
        for name in ("queries", "keys", "logits", "losses"):
            np.testing.assert_allclose(other_details[name], details[name], atol=1e-5)
        for ours, theirs in zip(details["gradients"], other_details["gradients"], strict=True):
            np.testing.assert_allclose(theirs, ours, atol=1e-5)
        for name, value in state.items():
            np.testing.assert_allclose(other_state[name], value, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("rule", ["first_group", "mean"])
def test_no_sum_depends_on_what_is_ready_first(devices, rule):
    """AddN begins with any input that it can overwrite: of three and more the sum is not exact."""
    method = build(devices, rule=rule, symmetric=True)
    step = tf.function(method.train_step)
    order = random_permutation(0, 0, 2, BATCH)
    graph = step.get_concrete_function(*views(0), order, tf.constant(0.1)).graph
    graphs = [graph, *(graph._get_function(name).graph for name in graph._functions)]
    sums = [op for g in graphs for op in g.get_operations() if op.type in ("AddN", "AccumulateNV2")]
    assert sums
    assert [op.name for op in sums if len(op.inputs) > 2] == []


def test_key_encoder_starts_as_a_copy_and_lags_behind():
    method = build(1)
    start = [p.numpy() for p in method.parameters]
    for query, key in zip(method.parameters, method.key_parameters, strict=True):
        np.testing.assert_array_equal(query, key)
    train(method, steps=1)  # the first momentum update sees equal encoders: it changes nothing
    for before, key in zip(start, method.key_parameters, strict=True):
        np.testing.assert_allclose(key, before, atol=1e-7)
    after_one = [p.numpy() for p in method.parameters]
    order = random_permutation(0, 1, 1, BATCH)
    method.train_step(*views(1), order, tf.constant(0.0))
    for before, query, key in zip(start, after_one, method.key_parameters, strict=True):
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


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("symmetric", [False, True])
def test_keys_of_the_querys_own_image_are_masked(symmetric, devices):
    """Against the logits of the whole queue, and the keys that a list says are of other images."""
    method = build(devices, symmetric=symmetric, mask_same_image=True, queue_size=80)
    steps, calls = 2, 2 if symmetric else 1
    train(method, steps)
    held = [(int(image), step) for step in range(steps) for image in [*images(step)] * calls]
    newest = dict(held)
    queue, queue_images = method.queue.numpy(), method.queue_images.numpy()
    order = random_permutation(0, steps, calls, BATCH)
    scalars, details = method.train_step(
        *views(steps), order, tf.constant(0.1), images(steps), details=True
    )
    shown_logits = []
    for row, image in enumerate(images(steps).numpy()):
        shown = np.ones(len(queue), bool)
        for place, (of, when) in enumerate(held):
            shown[place] = of != image and newest[of] == when
        assert 0 < (~shown).sum() < len(held)
        for call in range(calls):
            query, key = (details[name][call][row].numpy() for name in ("queries", "keys"))
            logits = np.concatenate([[query @ key], queue[shown] @ query]) / 0.1
            loss = np.log(np.exp(logits).sum()) - logits[0]
            assert float(details["losses"][call][row]) == pytest.approx(loss, abs=2e-5)
            shown_logits.append(logits[1:].mean())
    expected = np.mean(shown_logits) * 0.1
    assert float(scalars["negative_similarity"]) == pytest.approx(expected, abs=1e-5)
    assert int(scalars["first_nonfinite"]) == 0
    np.testing.assert_array_equal(queue_images[len(held) :], -1)


@pytest.mark.parametrize(
    ("devices", "options"),
    [
        (4, {}),
        (2, {"accumulation_steps": 2, "layout": "interleaved"}),
        (1, {"loss_scaling": True}),
        pytest.param(1, {"xla": True}, marks=pytest.mark.slow),
    ],
)
def test_masking_is_the_same_in_any_way(devices, options):
    plain = {"symmetric": True, "mask_same_image": True}
    plain |= {name: value for name, value in options.items() if name == "layout"}
    scalars, _, state = train(build(1, **plain), steps=4)
    assert (state["queue_images"] == -2).any() and float(scalars["negatives"]) < 49
    others, _, other = train(build(devices, **plain | options), steps=4)
    for name, value in state.items():
        np.testing.assert_allclose(other[name], value, atol=1e-4, err_msg=name)
    assert float(others["negatives"]) == float(scalars["negatives"])


def test_the_numbers_of_the_images_are_asked_for_by_name():
    order = random_permutation(0, 0, 1, BATCH)
    with pytest.raises(ValueError, match=r"images must be given .* received images=None\."):
        build(1, mask_same_image=True).train_step(*views(0), order, 0.1)
    with pytest.raises(ValueError, match="only then"):
        build(1).train_step(*views(0), order, 0.1, images(0))


def test_a_key_that_overflowed_leaves_the_one_before_and_its_image():
    method = build(1, mask_same_image=True, loss_scaling=True, queue_size=BATCH)
    train(method, steps=1)
    keys = tf.tensor_scatter_nd_update(method.queue[None], [[0, 3, 0]], [np.inf])
    later = images(5)
    new_images = method._enqueued_images(method.queue_images, keys, later).numpy()
    new_queue = method._enqueued(method.queue, keys).numpy()
    assert new_images[3] == images(0)[3] and np.isfinite(new_queue).all()
    np.testing.assert_array_equal(np.delete(new_images, 3), np.delete(later, 3))


def test_key_statistics_are_of_the_shuffled_first_group():
    method = build(1)
    _, view2 = views(0)
    order = random_permutation(0, 0, 1, BATCH)
    train(method, steps=1)
    first_group = tf.gather(view2, order[0][:GROUP])
    conv = method.key.model.get_layer("conv1")
    mean = tf.reduce_mean(conv(first_group), axis=[0, 1, 2])
    np.testing.assert_allclose(method.key.model.get_layer("bn1").moving_mean, 0.1 * mean, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_stays_near_float32(policy):
    scalars, _, _ = train(build(1))
    mixed, _, _ = train(build(1, policy=policy, loss_scaling=policy == "mixed_float16"))
    assert float(mixed["loss"]) == pytest.approx(float(scalars["loss"]), rel=0.05)


def test_feature_std_is_the_root_mean_square_spread_of_the_queries():
    scalars, details, _ = train(build(1), steps=1)
    spread = details["queries"][0].numpy().var(axis=0).mean() ** 0.5
    assert float(scalars["feature_std"]) == pytest.approx(spread, rel=1e-4)


@pytest.mark.parametrize("devices", [1, 2])
def test_a_step_without_finite_gradients_is_skipped_and_the_scale_halved(devices):
    method = build(devices, loss_scaling=True)
    before = [p.numpy() for p in method.parameters]
    scale = method.loss_scale.numpy()
    nan_views = (view * np.nan for view in views(0))
    tf.function(method.train_step)(*nan_views, random_permutation(0, 0, 1, BATCH), tf.constant(0.1))
    for old, new in zip(before, method.parameters, strict=True):
        np.testing.assert_array_equal(new, old)
    assert method.loss_scale.numpy() == scale / 2
    for name, variable in method.state().items():  # queue and running statistics included
        assert np.isfinite(variable.numpy()).all(), name


def test_a_key_that_overflows_in_one_dimension_is_not_enqueued():
    method = build(1, loss_scaling=True)
    old = method.queue.numpy()
    bias = method.key.model.get_layer("fc.2").bias
    bias.assign(tf.where(tf.range(16) == 3, np.inf, bias))
    method.parameters[-1].assign(bias)  # the momentum update takes it from here
    method.train_step(*views(0), random_permutation(0, 0, 1, BATCH), tf.constant(0.1))
    np.testing.assert_array_equal(method.queue, old)


def test_nothing_is_gathered_for_a_replay_that_nobody_asked_for():
    method = build(2)
    assert method.train_step(*views(0), random_permutation(0, 0, 1, BATCH), 0.1)[1] == {}


def test_xla_computes_the_same():
    plain, _, state = train(build(1))
    compiled, _, other = train(build(1, xla=True))
    assert float(compiled["loss"]) == pytest.approx(float(plain["loss"]), abs=1e-4)
    for name, value in state.items():
        np.testing.assert_allclose(other[name], value, atol=1e-4, err_msg=name)
