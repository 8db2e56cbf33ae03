"""Attention against NumPy, and its gradients against autodiff."""

from math import sqrt

import numpy as np
import pytest
import tensorflow as tf

from moco_tf.models.attention import Attention, attend, attention

IMAGES, TOKENS, HEADS, WIDTH = 2, 5, 3, 12
ABOUT = {"float64": 1e-12, "float32": 1e-5, "mixed_bfloat16": 0.05}


def drawn():
    """Queries, keys and values of all tokens, and the gradient by what is made of them."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal((IMAGES * TOKENS, width)) for width in (3 * WIDTH, WIDTH)]


def with_gradient(function, qkv, upstream):
    with tf.GradientTape() as tape:
        tape.watch(qkv)
        attended = function(qkv)
    return attended, tape.gradient(attended, qkv, upstream)


def near(found, wanted, tolerance):
    found = np.asarray(tf.cast(found, tf.float64))
    np.testing.assert_allclose(found, wanted, atol=tolerance * np.abs(wanted).max())


def test_each_head_weighs_the_values_of_its_image_by_softmax():
    qkv, _ = drawn()
    parts = qkv.reshape(IMAGES, TOKENS, 3, HEADS, WIDTH // HEADS)
    wanted = np.empty((IMAGES, TOKENS, HEADS, WIDTH // HEADS))
    for image in range(IMAGES):
        for head in range(HEADS):
            q, k, v = (parts[image, :, part, head] for part in range(3))
            weights = np.exp(q @ k.T / sqrt(WIDTH // HEADS))
            wanted[image, :, head] = weights / weights.sum(1, keepdims=True) @ v
    found = Attention(TOKENS, HEADS, dtype="float64")(tf.constant(qkv))
    near(found, wanted.reshape(IMAGES * TOKENS, WIDTH), 1e-13)


@pytest.mark.parametrize("dtype", ABOUT)
def test_the_gradient_is_that_of_autodiff(dtype):
    layer, (qkv, upstream) = Attention(TOKENS, HEADS, dtype=dtype), map(tf.constant, drawn())
    wanted = with_gradient(
        lambda x: attention(x, tokens=TOKENS, heads=HEADS, attend=attend), qkv, upstream
    )
    inputs = [tf.cast(x, layer.compute_dtype) for x in (qkv, upstream)]
    for found, exact in zip(with_gradient(layer, *inputs), wanted, strict=True):
        assert found.dtype == layer.compute_dtype
        near(found, exact, ABOUT[dtype])


def test_the_weights_gradient_is_one_compiled_operation():
    """By autodiff it is a sum and three products or differences of [B, H, T, T]."""
    qkv, upstream = map(tf.constant, drawn())
    functions = (
        Attention(TOKENS, HEADS, dtype="float64"),
        lambda x: attention(x, tokens=TOKENS, heads=HEADS, attend=attend),
    )
    counts = []
    for function in functions:

        @tf.function(autograph=False)
        def run(x, up, function=function):
            return with_gradient(function, x, up)

        operations = run.get_concrete_function(qkv, upstream).graph.get_operations()
        large = [
            op.type
            for op in operations
            if op.outputs and op.outputs[0].shape == (IMAGES, HEADS, TOKENS, TOKENS)
        ]
        kinds = ("Mul", "Sub", "PartitionedCall")
        counts.append([large.count(kind) for kind in kinds])
    assert counts == [[0, 0, 1], [2, 1, 0]]
