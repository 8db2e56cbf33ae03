"""The step of MoCo v3 against a naive twin, and on several devices."""

import subprocess
import sys
from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import v3_networks
from support.processes import end, free_ports
from support.v3_networks import BATCH, DECAY, STEPS, TEMPERATURE, build, networks, train, views

from moco_tf.distribute.strategy import make_strategy
from moco_tf.models.batch_norm import ALL
from moco_tf.training.lars import lars
from moco_tf.training.network import Network
from moco_tf.training.step import StepEnvelope


@cache
def trained(devices, compiled=False):
    """(scalars and details of each step, state after the last)."""
    method = build(make_strategy(devices), compile_parts=compiled)
    return train(method, tf.function if compiled else lambda step: step)


def naive_loss(queries, keys):
    """Mean cross-entropy over the batch, image by image, times 2 T."""
    queries, keys = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, keys))
    losses = []
    for row, query in enumerate(queries):
        similarities = np.array([query @ key for key in keys]) / TEMPERATURE
        losses.append(np.log(np.exp(similarities).sum()) - similarities[row])
    return 2 * TEMPERATURE * np.mean(losses)


def twin():
    """The same steps, with Keras's models, the tape and NumPy: (losses, state)."""
    method = build(make_strategy(1))
    query, key = method.query.model, method.key.model
    by_name = {v.path: v for v in query.trainable_variables}
    buffers = {v.path: np.zeros(v.shape) for v in query.trainable_variables}
    losses = []
    for number, (rate, momentum) in enumerate(STEPS):
        first, second = views(number)
        for variable in key.trainable_variables:
            old, new = variable.numpy(), by_name[variable.path].numpy()
            variable.assign(momentum * old + (1 - momentum) * new)
        key1, key2 = key(first, training=True), key(second, training=True)
        with tf.GradientTape() as tape:
            pairs = [(query(first, training=True), key2), (query(second, training=True), key1)]
            loss = 0.0
            for queries, keys in pairs:
                logits = -keras.losses.cosine_similarity(queries[:, None], keys[None]) / TEMPERATURE
                labels = tf.range(BATCH)
                each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
                loss += 2 * TEMPERATURE * tf.reduce_mean(each)
        losses.append(sum(naive_loss(q.numpy(), k.numpy()) for q, k in pairs))
        for path, gradient in zip(
            by_name, tape.gradient(loss, [v.value for v in by_name.values()]), strict=True
        ):
            parameter, step = by_name[path].numpy(), gradient.numpy()
            if parameter.ndim > 1:
                step = step + DECAY * parameter
                step *= 0.001 * np.linalg.norm(parameter) / np.linalg.norm(step)
            buffers[path] = 0.9 * buffers[path] + step
            by_name[path].assign(parameter - rate * buffers[path])
    return losses, method.state() | {f"momentum/{name}": v for name, v in buffers.items()}


def test_steps_equal_the_naive_twin():
    outputs, state = trained(1)
    losses, wanted = twin()
    for (scalars, details), loss in zip(outputs, losses, strict=True):
        np.testing.assert_allclose(scalars["loss"], loss, rtol=1e-10)
        assert scalars["first_nonfinite"] == 0
        np.testing.assert_allclose(details["losses"].mean(axis=1).sum(), loss, rtol=1e-10)
        np.testing.assert_allclose(scalars["top1"], top1(details), rtol=1e-6)
        assert "patch_gradient_share" not in scalars  # of a ViT
    assert state.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(state[name], value, rtol=1e-8, atol=1e-10, err_msg=name)


def top1(details):
    """Percent of queries whose own key, of the other view, is the nearest."""
    hits = []
    for queries, keys in zip(details["queries"], details["keys"][::-1], strict=True):
        units = keys / np.linalg.norm(keys, axis=1, keepdims=True)
        hits.append((queries @ units.T).argmax(axis=1) == np.arange(BATCH))
    return 100 * np.mean(hits)


def test_the_first_step_moves_no_parameter_but_the_optimizers_memory():
    """Its learning rate is 0."""
    method = build(make_strategy(1), compile_parts=False)
    before = {name: variable.numpy() for name, variable in method.state().items()}
    method.train_step(*views(0), tf.constant(0.0, tf.float64), tf.constant(0.99, tf.float64))
    for name, variable in method.state().items():
        moved = not np.array_equal(variable.numpy(), before[name])
        assert moved == name.startswith("momentum/") or "/moving_" in name, name


def test_the_momentum_encoder_begins_as_the_query_networks_copy_without_its_predictor():
    state = {name: variable.numpy() for name, variable in build(make_strategy(1)).state().items()}
    of_key = {n.removeprefix("key_encoder/") for n in state if n.startswith("key_encoder/")}
    of_query = {n.removeprefix("query_encoder/") for n in state if n.startswith("query_encoder/")}
    assert {name.split(".")[0] for name in of_query - of_key} == {"predictor"}
    assert of_key < of_query
    for name in of_key:
        np.testing.assert_array_equal(state[f"key_encoder/{name}"], state[f"query_encoder/{name}"])


@pytest.mark.parametrize(
    ("devices", "compiled"), [(2, False), pytest.param(4, True, marks=pytest.mark.long)]
)
def test_several_devices_compute_the_same(devices, compiled):
    """BatchNorm is over the images of all devices, and so are the negatives."""
    (outputs, state), (alone, alone_state) = trained(devices, compiled), trained(1)
    for pair in zip(outputs, alone, strict=True):
        for found, wanted in zip(*map(tf.nest.flatten, pair), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)
    for name, value in alone_state.items():
        np.testing.assert_allclose(state[name], value, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.slow
def test_two_processes_compute_the_same(tmp_path):
    """Each sees the images of its own half of the batch only."""
    workers = ",".join(f"127.0.0.1:{port}" for port in free_ports(2))
    command = [sys.executable, v3_networks.__file__, workers]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    codes, said = end(
        [
            subprocess.Popen([*command, str(index), str(tmp_path / f"{index}.npz")], **pipes)
            for index in range(2)
        ]
    )
    assert codes == [0, 0], said
    for index in range(2):
        found = np.load(tmp_path / f"{index}.npz")
        for name, value in trained(1)[1].items():
            np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-9, err_msg=name)


def test_batch_norm_over_the_batch_takes_no_microbatches():
    with pytest.raises(ValueError, match="accumulation_steps=2, xla=False, replicas=1"):
        StepEnvelope(
            Network(networks("resnet")[0]),
            strategy=make_strategy(1),
            batch_size=BATCH,
            group_size=ALL,
            group_layout="contiguous",
            accumulation_steps=2,
            rule=lars(momentum=0.9, weight_decay=0.0),
            running_statistics="first_group",
        )
