"""Every operation of a training step that moves data has a GPU kernel in TensorFlow's registry.

TensorFlow's wheel for Linux has the kernels of its GPU build registered on any machine, so that no
GPU is needed to look them up.
"""

from functools import cache

import numpy as np
import pytest
import tensorflow as tf
from support.runs import SHALLOW
from tensorflow.python.framework import kernels, op_def_registry

from moco_tf.building import build_batches, build_method, build_strategy
from moco_tf.config import make_config
from moco_tf.data.sources import Images, from_arrays
from moco_tf.methods.moco_v3 import MoCoV3
from moco_tf.methods.shuffle import random_permutation
from moco_tf.models import ENCODERS
from moco_tf.recipes import RECIPES

BATCH, SIDE = 8, 16
SMALL = 64  # numbers: shapes, the order of a batch, seeds
NAMED = ("PartitionedCall", "StatefulPartitionedCall")  # their functions are looked at themselves
TINY = {"image_size": SIDE, "batch_size": BATCH, "dim": 8}
MOCO = TINY | {"queue_size": 16, "group_size": 4, "stem": "small", "width": 8}
V3 = TINY | {"mlp_dim": 8}
RUNS = {
    "v1, images on the device": ("shapes", {}),
    "v2, colour on the device, float16": (
        "moco-v2",
        {"augment_on": "device", "precision": "mixed_float16"},
    ),
    "v2, crops on the device, microbatches": (
        "moco-v2",
        {"augment_on": "device_resize", "accumulation_steps": 2, "precision": "mixed_bfloat16"},
    ),
    "v1, whole views, recomputing": ("moco-v1-simclr", {"recompute": True}),
    "demo, symmetric": ("cifar10-demo-symmetric", {"group_layout": "interleaved"}),
    "v3, ResNet": ("cifar10-v3", {"width": 8}),
    "v3, ResNet, bfloat16": ("cifar10-v3", {"width": 8, "precision": "mixed_bfloat16"}),
    "v3, ViT": ("cifar10-v3-vit", {"vit_width": 24, "vit_depth": 1}),
}


@cache
def gpu_kernels(op):
    """Kernels of an operation for GPUs, or for any device that has none of its own."""
    found = kernels.get_registered_kernels_for_op(op).kernel
    return [kernel for kernel in found if kernel.device_type in ("GPU", "DEFAULT")]


def stays(operation):
    """Whether a GPU does an operation of a graph, and no more than `SMALL` goes to the host."""
    definition, types = op_def_registry.get(operation.type), {}
    for attribute in definition.attr:
        if attribute.type in ("type", "list(type)"):
            value = operation.get_attr(attribute.name)
            values = value if isinstance(value, list) else [value]
            types[attribute.name] = {one.as_datatype_enum for one in values}
    named = arguments(operation, definition.input_arg, operation.inputs)
    named |= arguments(operation, definition.output_arg, operation.outputs)
    everything = [tensor for tensors in named.values() for tensor in tensors]
    return all(map(is_small, everything)) or any(
        all(types[one.name] <= set(one.allowed_values.list.type) for one in kernel.constraint)
        and all(is_small(tensor) for name in kernel.host_memory_arg for tensor in named[name])
        for kernel in gpu_kernels(operation.type)
    )


def arguments(operation, definitions, tensors):
    """{name of an argument: its tensors}; some arguments are several."""
    left, found = list(tensors), {}
    for one in definitions:
        count = 1
        if one.number_attr:
            count = operation.get_attr(one.number_attr)
        elif one.type_list_attr:
            count = len(operation.get_attr(one.type_list_attr))
        found[one.name], left = left[:count], left[count:]
    return found


def is_small(tensor):
    """Whether a tensor is a handle, or a few whole numbers.

    Batches have a known shape, so that numbers in a row of unknown length are shapes and axes.
    """
    if tensor.dtype in (tf.resource, tf.variant):
        return True
    whole = tensor.dtype.is_integer or tensor.dtype == tf.bool
    if not tensor.shape.is_fully_defined():
        return whole and tensor.shape.rank in (None, 1)
    return whole and tensor.shape.num_elements() <= SMALL


def operations(graph):
    """All operations of a graph and of the functions that it calls."""
    yield from graph.get_operations()
    for function in graph._functions.values():
        yield from operations(function.graph)


def falling_back(graph):
    """Types of operations that move data and would run on the host, each with an example."""
    found = (one for one in operations(graph) if one.type not in NAMED and not stays(one))
    return {one.type: f"{one.name} {[str(tensor.dtype) for tensor in one.inputs]}" for one in found}


def traced(recipe, changes):
    """The graph of one step of a recipe made tiny."""
    tiny = V3 if recipe.startswith("cifar10-v3") else MOCO
    config = make_config(RECIPES[recipe].config, tiny | changes)
    pixels = np.zeros((16, SIDE, SIDE, 3), np.uint8)
    train = from_arrays("held", pixels)
    if config.augment_on != "auto" or config.views[0].family == "simclr":
        table = tf.constant([tf.io.encode_png(image).numpy() for image in pixels])
        sizes = np.full((16, 2), SIDE, np.int32)
        train = Images("files", 16, lambda index: table[index], True, sizes=sizes)
    strategy = build_strategy(config)
    method = build_method(config, strategy, train)
    views = next(build_batches(config, train, 0))

    def step(view1, view2, number, rate):
        if isinstance(method, MoCoV3):
            return method.train_step(view1, view2, rate, tf.cast(rate, tf.float64))[0]
        orders = random_permutation(0, number, 1 + config.symmetric, BATCH)
        return method.train_step(view1, view2, orders, rate)[0]

    scalars = tf.constant(0, tf.int64), tf.constant(0.1)
    return tf.function(step, autograph=False).get_concrete_function(*views, *scalars).graph


@pytest.fixture(autouse=True)
def _shallow(monkeypatch):
    monkeypatch.setitem(ENCODERS, "resnet18", SHALLOW)
    monkeypatch.setitem(ENCODERS, "resnet50", SHALLOW)


@pytest.fixture(autouse=True)
def _registry():
    if not any(kernel.device_type == "GPU" for kernel in gpu_kernels("Conv2D")):
        pytest.skip("this build of TensorFlow has no GPU kernels")


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_step_stays_on_the_gpu(name):
    graph = traced(*RUNS[name])
    assert {"MatMul", "ReadVariableOp"} < {operation.type for operation in operations(graph)}
    assert falling_back(graph) == {}


def test_what_falls_back_to_the_host_is_found():
    @tf.function(autograph=False)
    def inner(images, numbers):
        return tf.numpy_function(lambda x: x, [images], tf.float32), numbers + 1

    @tf.function(autograph=False)
    def step(images, numbers):
        return tf.nn.relu(images), tf.size(images) // 2, inner(images, numbers)

    specs = tf.TensorSpec([9, 9], tf.float32), tf.TensorSpec([81], tf.int32)
    found = falling_back(step.get_concrete_function(*specs).graph)
    assert found.keys() >= {"PyFunc", "AddV2"}  # a GPU has an AddV2 for int32: on the host
    assert not found.keys() & {"Relu", "Size", "FloorDiv"}
