"""Structure, initialisation and numbers of the encoders."""

import zlib

import numpy as np
import pytest
import tensorflow as tf

from moco_tf.models import ENCODERS, build_encoder

COMMON = {
    "image_size": 64,
    "stem": "imagenet",
    "width": 64,
    "head": "linear",
    "dim": 128,
    "group_size": None,
    "group_layout": "contiguous",
    "running_statistics": "mean",
}


@pytest.mark.parametrize(
    ("name", "parameters"),
    # torchvision's counts for 1000 classes, less fc (features + 1) * 1000.
    [
        ("resnet18", 11689512 - 513 * 1000),
        ("resnet50", 25557032 - 2049 * 1000),
        ("wide_resnet50_2", 68883240 - 2049 * 1000),
    ],
)
def test_parameter_counts_are_torchvisions(name, parameters):
    encoder = build_encoder(name, **COMMON)
    assert sum(np.prod(v.shape) for v in encoder.backbone.trainable_variables) == parameters


def test_initial_values_follow_pytorch():
    encoder = build_encoder("resnet50", **COMMON | {"head": "mlp"})
    value = {v.path: v.numpy() for v in encoder.model.variables}
    expected = {"conv1": 0.025254, "layer1.0.conv1": 0.176777, "layer4.1.conv2": 0.020833}
    for name, std in expected.items():
        kernel = value[f"{name}/kernel"]
        assert kernel.std() == pytest.approx(std, rel=5 / np.sqrt(2 * kernel.size))
    for name in ("fc.0/kernel", "fc.0/bias", "fc.2/bias"):
        assert 0.98 * 0.0220971 < np.abs(value[name]).max() <= 0.0220971
    small = build_encoder("resnet18", **COMMON | {"stem": "small", "image_size": 32})
    kernel = small.model.get_layer("conv1").kernel.numpy()
    assert 0.98 * 0.19245 < np.abs(kernel).max() <= 0.19245009


def test_layers_draw_different_values_from_one_seed():
    encoder = build_encoder("resnet18", **COMMON)
    first, second = (encoder.model.get_layer(f"layer1.{i}.conv1").kernel.numpy() for i in range(2))
    assert not np.array_equal(first, second)


def recipe(name, shape):
    """Deterministic weights of the recorded architectures."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_var":
        value = 0.5 + rng.random(shape)
    elif leaf == "running_mean":
        value = 0.1 * rng.standard_normal(shape)
    elif leaf == "weight" and len(shape) == 1:
        value = 0.5 + rng.random(shape)
    elif leaf == "weight":
        value = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    else:
        value = 0.1 * rng.standard_normal(shape)
    return value.astype(np.float32)


LEAVES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def load_recipe(model, rename):
    for variable in model.variables:
        layer, leaf = variable.path.split("/")
        name = f"{rename(layer)}.{LEAVES[leaf]}"
        if len(variable.shape) == 4:
            h, w, i, o = variable.shape
            value = recipe(name, (o, i, h, w)).transpose(2, 3, 1, 0)
        elif len(variable.shape) == 2:
            value = recipe(name, variable.shape[::-1]).T
        else:
            value = recipe(name, tuple(variable.shape))
        variable.assign(value)


def flat_name(layer):
    """The demo keeps its modules in a flat list: conv1, bn1, ReLU, four stages, pool, flatten."""
    head = {"conv1": "net.0", "bn1": "net.1", "fc": "net.9"}
    if layer in head:
        return head[layer]
    stage, rest = layer.split(".", 1)
    return f"net.{int(stage[5]) + 2}.{rest}"


CASES = [(name, "4x64") for name in ("resnet18", "resnet34", "resnet50", "resnet50_mlp")]


@pytest.mark.golden
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50_mlp", "cifar_resnet18_split8"])
def test_outputs_match_the_recorded_architectures(golden, name, dtype):
    z = golden("arch_resnet")
    cifar = name.startswith("cifar")
    sizes = {
        key.split("/")[1] for key in z.files if key.startswith(name + "/") and key.count("/") == 2
    }
    count, side = min(
        (tuple(map(int, s.split("x"))) for s in sizes if "x" in s), key=lambda s: s[1]
    )
    settings = COMMON | {"image_size": side, "dtype": dtype}
    if cifar:
        settings |= {"stem": "small", "group_size": count // 8, "group_layout": "interleaved"}
    if name.endswith("_mlp"):
        settings["head"] = "mlp"
    base = "resnet18" if cifar else name.removesuffix("_mlp")
    model = build_encoder(base, **settings).model
    load_recipe(model, flat_name if cifar else str)
    tag = f"input/{count}x3x{side}x{side}"
    images = np.random.default_rng(zlib.crc32(tag.encode())).standard_normal((count, 3, side, side))
    images = tf.constant(images.astype(np.float32).transpose(0, 2, 3, 1), dtype)
    prefix = f"{name}/{count}x{side}"
    inference = model(images, training=False).numpy()
    largest = np.abs(z[f"{prefix}/eval_out"]).max()
    np.testing.assert_allclose(inference, z[f"{prefix}/eval_out"], atol=1e-4 * largest)
    trained = model(images, training=True).numpy()
    recorded = z[f"{prefix}/train_out_fp64"]
    gate = 1e-3 if dtype == "float32" else 1e-6
    np.testing.assert_allclose(trained, recorded, atol=gate * np.abs(recorded).max())
    moving = {v.path: v.numpy() for v in model.non_trainable_variables}
    for layer_index, layer in ((0, "first"), (-1, "last")):
        bn = str(z[f"{name}/bn_names"][layer_index])
        ours = next(
            p.split("/")[0] for p in moving if (flat_name if cifar else str)(p.split("/")[0]) == bn
        )
        for leaf, stat in (("moving_mean", "mean"), ("moving_variance", "var")):
            recorded = z[f"{prefix}/bn_{layer}_running_{stat}"]
            np.testing.assert_allclose(moving[f"{ours}/{leaf}"], recorded, rtol=2e-4, atol=2e-4)


def test_every_encoder_is_buildable_narrow():
    for name in ENCODERS:
        encoder = build_encoder(name, **COMMON | {"width": 4, "dim": 8, "image_size": 32})
        assert encoder.model.output_shape == (None, 8)
