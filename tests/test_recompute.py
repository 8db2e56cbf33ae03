"""Recomputation: the same step, with more convolutions and with less memory."""

import json
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from support.graphs import optimized_nodes
from support.steps import BATCH, build, trained, views

from moco_tf.building import build_method
from moco_tf.config import make_config
from moco_tf.models.recompute import recomputing
from moco_tf.models.resnet import resnet
from moco_tf.models.vit import vit
from moco_tf.recipes import RECIPES

GROUPS = 2  # of the BatchNorm of the encoder below, in a batch of four
# Its convolutions: in the stem and the first block, and in all.
CONVOLUTIONS = {"basic": (1 + 2, 1 + 2 + 3), "bottleneck": (1 + 4, 1 + 4 + 4)}


def encoder(block, stem="small", image_size=8):
    return resnet(
        block=block,
        blocks=(1, 1),
        image_size=image_size,
        stem=stem,
        width=4,
        head="linear",
        dim=3,
        group_size=2,
        group_layout="contiguous",
        running_statistics="first_group",
    )


def forward_and_backward(encode, *arguments, operation="Conv2D"):
    """Results, and how many operations of the forward pass the graph has, once it is optimized.

    One that is fused with another counts as well. `operation`: how its name ends.
    """

    @tf.function(autograph=False)
    def run(parameters, statistics, images, weights):
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            outputs, updated = encode(parameters, statistics, images, training=True)
            loss = tf.reduce_sum(tf.cast(outputs, weights.dtype) * weights)
        return [outputs, *updated, *tape.gradient(loss, parameters)]

    results, nodes = optimized_nodes(run, *arguments)
    names = [[node.op, *map(bytes.decode, node.attr["fused_ops"].list.s)] for node in nodes]
    return results, sum(any(name.endswith(operation) for name in one) for one in names)


def drawn_for(network):
    """What `forward_and_backward` takes: weights and statistics, four images, gradients."""
    rng, model = np.random.default_rng(0), network.model
    return (
        [tf.constant(v.value) for v in model.trainable_variables],
        [
            tf.constant(rng.uniform(1, 2, v.shape), tf.float32)
            for v in model.non_trainable_variables
        ],
        tf.constant(rng.standard_normal((4, *model.inputs[0].shape[1:])), tf.float32),
        tf.constant(rng.standard_normal((4, 3)), tf.float32),
    )


@pytest.mark.parametrize("block", [pytest.param("basic", marks=pytest.mark.slow), "bottleneck"])
def test_results_are_the_model_s_and_all_but_the_last_part_runs_twice(block):
    network = encoder(block)
    arguments = drawn_for(network)
    plain, once = forward_and_backward(network.model.stateless_call, *arguments)
    again, more = forward_and_backward(recomputing(network.model, network.cuts), *arguments)
    assert len(again) == 1 + len(network.model.variables)
    for ours, theirs in zip(again, plain, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    twice, every = CONVOLUTIONS[block]
    assert (once, more) == (every, every + twice)


@pytest.mark.parametrize(
    ("block", "normalized"),
    # In the stem, the first block, and the second one but for what ends it.
    [pytest.param("basic", 1 + 2 + 1, marks=pytest.mark.slow), ("bottleneck", 1 + 4 + 2)],
)
def test_light_cuts_of_a_resnet_normalize_again_and_convolve_once(block, normalized):
    network = encoder(block, stem="imagenet", image_size=32)
    arguments = drawn_for(network)
    call = recomputing(network.model, network.light_cuts)
    for operation, again in (("Conv2D", 0), ("FusedBatchNormV3", GROUPS * normalized)):
        plain, once = forward_and_backward(
            network.model.stateless_call, *arguments, operation=operation
        )
        light, more = forward_and_backward(call, *arguments, operation=operation)
        for ours, theirs in zip(light, plain, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
        assert more - once == again


def small_vit(dtype="float32"):
    """Three blocks, and what `forward_and_backward` takes."""
    sizes = {"width": 8, "depth": 3, "heads": 2, "stem": "patch", "image_size": 8, "patch_size": 4}
    network = vit(**sizes, head="linear", dim=3, dtype=dtype)
    return network, drawn_for(network)


def test_all_blocks_of_a_vit_but_the_last_run_twice():
    """So that of the others nothing is kept, neither attention nor what the perceptron hides."""
    network, arguments = small_vit()
    plain, once = forward_and_backward(
        network.model.stateless_call, *arguments, operation="Softmax"
    )
    call = recomputing(network.model, network.cuts)
    again, more = forward_and_backward(call, *arguments, operation="Softmax")
    for ours, theirs in zip(again, plain, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    assert (once, more) == (3, 3 + 2)


@pytest.mark.parametrize(
    ("dtype", "operation", "again"),
    [
        ("float32", "Softmax", 3),
        ("float32", "MatMul", 0),
        ("mixed_bfloat16", "MatMul", 2),
    ],
)
def test_light_cuts_of_a_vit_attend_again_and_in_half_precision_hide(dtype, operation, again):
    """Of linear layers only the first of each perceptron runs again, but in the last block."""
    network, arguments = small_vit(dtype)
    counts = [
        forward_and_backward(call, *arguments, operation=operation)[1]
        for call in (network.model.stateless_call, recomputing(network.model, network.light_cuts))
    ]
    assert counts[1] - counts[0] == again


def test_the_model_stays_as_it_is():
    network = encoder("bottleneck")
    before, layers = network.model.get_config(), list(network.model.layers)
    recomputing(network.model, network.cuts)
    assert network.model.get_config() == before
    assert network.model.layers == layers
    assert network.model.get_layer("layer2.0.conv3") in layers


V2 = {"group_size": 8, "queue_size": 8}


@pytest.mark.parametrize(
    ("recipe", "changes", "apart"),
    [
        ("moco-v2", V2, False),
        ("moco-v2", V2 | {"recompute": True}, True),
        ("moco-v3-r50-100ep", {"mlp_dim": 8}, True),
    ],
)
def test_the_option_and_the_method_take_the_network_apart(recipe, changes, apart):
    sizes = {"encoder": "resnet18", "width": 8, "image_size": 32, "batch_size": 8}
    config = make_config(RECIPES[recipe].config, changes | sizes)
    method = build_method(config, tf.distribute.get_strategy())
    assert (method.query.call != method.query.model.stateless_call) is apart


def test_the_step_computes_its_queries_twice():
    method = build(1, recompute=True)
    compare = method._compiled_loss.get_concrete_function(
        [tf.constant(p) for p in method.query.parameters],
        [tf.constant(v) for v in method.query.statistics],
        tf.constant(1.0),
        list(views(0))[:1],
        [tf.zeros([BATCH, 16])],
        tf.constant(method.queue),
    )
    twice, every = CONVOLUTIONS["basic"]
    assert [op.type for op in compare.graph.get_operations()].count("Conv2D") == every + twice


def assert_same_steps(devices, tolerance=1e-6, **options):
    scalars, details, state = trained(devices, **options)
    again, other_details, other_state = trained(devices, recompute=True, **options)
    near = partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance)
    for name, value in scalars.items():
        near(again[name], value, err_msg=name)
    for name in ("queries", "keys", "logits", "losses"):
        near(other_details[name], details[name], err_msg=name)
    for ours, theirs in zip(other_details["gradients"], details["gradients"], strict=True):
        near(ours, theirs)
    assert list(other_state) == list(state)  # a run goes on with another value
    for name, value in state.items():
        near(other_state[name], value, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("block", ["basic", pytest.param("bottleneck", marks=pytest.mark.long)])
@pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.long), 2])
@pytest.mark.parametrize("options", [{}, {"symmetric": True, "accumulation_steps": 2}])
def test_steps_are_the_same(block, devices, options):
    assert_same_steps(devices, block=block, **options)


@pytest.mark.long
@pytest.mark.parametrize(
    "options",
    [
        {"xla": True},
        {"policy": "mixed_bfloat16"},
        {"policy": "mixed_float16", "loss_scaling": True, "symmetric": True},
        {"layout": "interleaved", "rule": "mean", "symmetric": True},
    ],
)
def test_steps_are_the_same_with_other_options(options):
    assert_same_steps(1, **options)


@pytest.mark.long
@pytest.mark.slow
def test_the_peak_of_a_process_is_lower():
    def peak(recompute):
        sizes = ["--batch-size", "256", "--group-size", "64", "--queue-size", "512"]
        command = [sys.executable, "-m", "moco_tf", "benchmark", "step", "cifar10-demo", *sizes]
        rest = ["--steps", "1", "--rounds", "1", "--json", "--recompute", recompute]
        said = subprocess.run([*command, *rest], check=True, capture_output=True, text=True).stdout
        return json.loads(said.splitlines()[-1])["peak_memory_bytes"]

    assert peak("true") < 0.85 * peak("false")
