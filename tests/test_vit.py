"""Vision transformers against NumPy, the specified initial values and the recorded networks."""

from functools import partial
from math import erf, sqrt

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.graphs import optimized_nodes
from tensorflow.python.util._pywrap_util_port import IsMklEnabled

from moco_tf.models.batch_norm import GroupBatchNorm
from moco_tf.models.heads import with_projector
from moco_tf.models.recompute import recomputing
from moco_tf.models.tokens import position_table
from moco_tf.models.vit import vit
from moco_tf.names.encoder import VITS

TINY = {"width": 8, "depth": 2, "heads": 2, "stem": "patch", "image_size": 6, "patch_size": 3}


def norm(x, gamma, beta):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6) * gamma + beta


def naive(images, w, *, heads, depth, patch, **_):
    """The features, image by image, token by token, head by head."""
    features = []
    for image in images:
        side = image.shape[0] // patch
        tokens = [w["tokens/cls_token"][0, 0]]
        for row in range(side):
            for column in range(side):
                part = image[row * patch :, column * patch :][:patch, :patch]
                kernel, bias = w["patch_embed.proj/kernel"], w["patch_embed.proj/bias"]
                tokens.append(np.tensordot(part, kernel, 3) + bias)
        x = np.array(tokens) + w["tokens/pos_embed"][0]
        for block in range(depth):
            p = {n.split(".", 2)[2]: v for n, v in w.items() if n.startswith(f"blocks.{block}.")}
            y = (
                norm(x, p["norm1/gamma"], p["norm1/beta"]) @ p["attn.qkv/kernel"]
                + p["attn.qkv/bias"]
            )
            q, k, v = (np.split(part, heads, axis=1) for part in np.split(y, 3, axis=1))
            joined = []
            for head in range(heads):
                scores = q[head] @ k[head].T / sqrt(q[head].shape[1])
                weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
                joined.append(weights @ v[head])
            y = np.concatenate(joined, axis=1)
            x = x + y @ p["attn.proj/kernel"] + p["attn.proj/bias"]
            y = norm(x, p["norm2/gamma"], p["norm2/beta"]) @ p["mlp.fc1/kernel"] + p["mlp.fc1/bias"]
            y = y * (1 + np.vectorize(erf)(y / sqrt(2))) / 2
            x = x + y @ p["mlp.fc2/kernel"] + p["mlp.fc2/bias"]
        features.append(norm(x, w["norm/gamma"], w["norm/beta"])[0])
    return np.array(features)


def test_features_equal_the_naive_network():
    model, rng = vit(**TINY, dtype="float64").backbone, np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(variable.numpy() + rng.normal(0, 0.3, variable.shape))
    images = rng.standard_normal((2, 6, 6, 3))
    weights = {variable.path: variable.numpy() for variable in model.variables}
    wanted = naive(images, weights, heads=2, depth=2, patch=3)
    np.testing.assert_allclose(model(tf.constant(images)), wanted, rtol=1e-10, atol=1e-12)


def test_initial_values_are_the_official_ones():
    """Bounds of the uniform draws of ViT-S, on its width and one block."""
    settings = VITS["vit_small"] | {"depth": 1, "image_size": 32}
    variables = {v.path: v.numpy() for v in vit(**settings, seed=3).backbone.variables}
    bounds = {
        "patch_embed.proj": 0.072169,
        "blocks.0.attn.qkv": 0.088388,
        "blocks.0.attn.proj": 0.088388,
        "blocks.0.mlp.fc1": 0.055902,
        "blocks.0.mlp.fc2": 0.055902,
    }
    for name, bound in bounds.items():
        kernel = variables[f"{name}/kernel"]
        assert 0.99 * bound < np.abs(kernel).max() <= bound * 1.00001, name
        assert kernel.std() == pytest.approx(bound / sqrt(3), rel=0.02), name
        assert not variables[f"{name}/bias"].any()
    assert 3e-7 < variables["tokens/cls_token"].std() < 3e-6
    for name in ("blocks.0.norm1", "blocks.0.norm2", "norm"):
        assert (variables[f"{name}/gamma"] == 1).all()
        assert not variables[f"{name}/beta"].any()


def test_positions_are_sines_and_cosines_of_row_and_column():
    table = position_table(3, 8)
    assert table.dtype == np.float32
    np.testing.assert_array_equal(table[:2], [[0] * 8, [0, 0, 1, 1, 0, 0, 1, 1]])
    row, column = 2, 1
    wanted = [
        *(np.sin(2), np.sin(0.02), np.cos(2), np.cos(0.02)),
        *(np.sin(1), np.sin(0.01), np.cos(1), np.cos(0.01)),
    ]
    np.testing.assert_allclose(table[1 + row * 3 + column], wanted, rtol=1e-6)


@pytest.mark.parametrize("frozen", [True, False])
def test_what_is_frozen_is_not_trained(frozen):
    model = vit(**TINY, freeze_patch_projection=frozen).backbone
    fixed = {variable.path for variable in model.non_trainable_variables}
    projection = {"patch_embed.proj/kernel", "patch_embed.proj/bias"}
    assert fixed == {"tokens/pos_embed"} | (projection if frozen else set())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 7}, "image_size=7, patch_size=3. Use image_size=6"),
        ({"heads": 3}, "width=8, heads=3"),
        ({"width": 6}, "width=6, heads=2"),
        ({"stem": "conv", "image_size": 24}, "image_size=24, patch_size=16. Use image_size=16"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        vit(**TINY | changes)


def test_half_precision_is_close_and_a_saved_model_the_same(tmp_path):
    images = tf.constant(np.random.default_rng(0).standard_normal((2, 6, 6, 3)), tf.float32)
    model = vit(**TINY, seed=1).backbone
    model.save(tmp_path / "vit.keras")
    loaded = keras.models.load_model(tmp_path / "vit.keras")
    np.testing.assert_array_equal(loaded(images), model(images))
    half = vit(**TINY, seed=1, dtype="mixed_bfloat16").backbone(tf.cast(images, tf.bfloat16))
    assert half.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(half, tf.float32), model(images), atol=0.1)


@pytest.mark.skipif(not IsMklEnabled(), reason="only oneDNN fuses them on a processor")
def test_a_product_takes_bias_gelu_and_residual_along():
    """A Dense of [B, T, D] does not: its bias and what follows are passes of their own."""
    model, images = vit(**TINY).backbone, tf.zeros([2, 6, 6, 3])
    nodes = optimized_nodes(tf.function(model), images)[1]
    fused = [node.attr["fused_ops"].list.s for node in nodes if node.op.endswith("FusedMatMul")]
    wanted = [[b"BiasAdd"], [b"BiasAdd", b"Add"], [b"BiasAdd", b"GeluExact"], [b"BiasAdd", b"Add"]]
    assert sorted(map(list, fused)) == sorted(TINY["depth"] * wanted)


def test_only_training_compiles():
    """What is not trained can then be exported to formats that know no XLA."""
    model, images = vit(**TINY).backbone, tf.zeros([2, 6, 6, 3])

    def compiled(training):
        @tf.function(autograph=False)
        def run(images):
            return model(images, training=training)

        functions = run.get_concrete_function(images).graph.as_graph_def().library.function
        return sum("_XlaMustCompile" in each.attr for each in functions)

    assert compiled(False) == 0 < compiled(True)


@pytest.mark.parametrize("cuts", ["cuts", "light_cuts"])
@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_recomputed_parts_give_the_same_features_and_gradients(stem, cuts):
    settings = {"hidden": 5, "norm": partial(GroupBatchNorm, dtype="float64")}
    settings |= {"dtype": "float64", "seed": 0}
    encoder = vit(**TINY | {"stem": stem, "image_size": 16, "patch_size": 4}, dtype="float64")
    encoder = with_projector(encoder, "vit", dim=4, **settings)
    images, model = (
        tf.random.stateless_normal([4, 16, 16, 3], [0, 1], dtype="float64"),
        encoder.model,
    )
    found = []
    for call in (model.stateless_call, recomputing(encoder.model, getattr(encoder, cuts))):
        parameters = [variable.value for variable in model.trainable_variables]
        statistics = [variable.value for variable in model.non_trainable_variables]
        with tf.GradientTape() as tape:
            features, after = call(parameters, statistics, images, training=True)
            loss = tf.reduce_sum(features[:, 0] ** 3)
        found.append([features, after, tape.gradient(loss, parameters)])
    for pair in zip(*map(tf.nest.flatten, found), strict=True):
        np.testing.assert_allclose(*pair, rtol=1e-10, atol=1e-12)


@pytest.mark.golden
def test_recorded_position_table(golden):
    z = golden("moco_v3")
    table = position_table(14, 384)
    found = table[z["vit_small/pos_embed_rows"]]
    np.testing.assert_allclose(found, z["vit_small/pos_embed"], atol=1e-7)
    sums = table.sum(axis=0, dtype=np.float64)
    np.testing.assert_allclose(sums, z["vit_small/pos_embed_colsum"], atol=2e-5)
