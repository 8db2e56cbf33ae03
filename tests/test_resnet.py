"""Structure, initialisation and numbers of the encoders."""

import json
import re
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


def load_recipe(model, rename, prefix):
    for variable in model.variables:
        layer, leaf = variable.path.split("/")
        name = f"{prefix}{rename(layer)}.{LEAVES[leaf]}"
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


def recorded_case(z, name, dtype):
    """(model, images, rename, prefix) of the smallest recorded input of an architecture."""
    cifar = name.startswith("cifar")
    found = re.compile(name + r"/(\d+)x(\d+)/eval_out")
    sizes = [tuple(map(int, match.groups())) for key in z.files if (match := found.match(key))]
    count, side = min(sizes, key=lambda size: size[1])
    dim = z[f"{name}/{count}x{side}/eval_out"].shape[1]
    settings = COMMON | {"image_size": side, "dim": dim, "dtype": dtype}
    if cifar:
        splits = int(name.rsplit("split", 1)[1])
        settings |= {"stem": "small", "group_size": count // splits, "group_layout": "interleaved"}
    if name.endswith("_mlp"):
        settings["head"] = "mlp"
    base = "resnet18" if cifar else name.removesuffix("_mlp")
    model, rename = build_encoder(base, **settings).model, flat_name if cifar else str
    load_recipe(model, rename, json.loads(str(z["meta_json"]))["name_prefix"])
    images = drawn(f"input/{count}x3x{side}x{side}", (count, 3, side, side))
    images = tf.constant(images.transpose(0, 2, 3, 1), dtype)
    return model, images, rename, f"{name}/{count}x{side}"


def drawn(tag, shape):
    rng = np.random.default_rng(zlib.crc32(tag.encode()))
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.golden
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("resnet18", "float32"),
        ("resnet50_mlp", "float32"),
        ("cifar_resnet18_split8", "float32"),
        ("resnet18", "float64"),
        ("resnet34", "float64"),
        ("resnet50", "float64"),
        ("resnet101", "float64"),
        ("resnet50_mlp", "float64"),
        ("cifar_resnet18_split8", "float64"),
        ("cifar_resnet18_split1", "float64"),
    ],
)
def test_outputs_and_gradients_match_the_recorded_architectures(golden, name, dtype):
    z = golden("arch_resnet")
    model, images, rename, prefix = recorded_case(z, name, dtype)
    inference = model(images, training=False).numpy()
    recorded = z[f"{prefix}/eval_out"]
    np.testing.assert_allclose(inference, recorded, atol=1e-5 * np.abs(recorded).max())
    with tf.GradientTape() as tape:
        trained = model(images, training=True)
        weights = drawn(f"cot/{trained.shape[0]}x{trained.shape[1]}", trained.shape)
        loss = tf.reduce_sum(trained * weights) / trained.shape[0]
    recorded = z[f"{prefix}/train_out_fp64"]
    gate = 2e-3 if dtype == "float32" else 2e-7  # batch statistics of 4 images amplify rounding
    np.testing.assert_allclose(trained, recorded, atol=gate * np.abs(recorded).max())
    statistics = {
        f"{rename(v.path.split('/')[0])}.{LEAVES[v.path.split('/')[1]]}": v.numpy()
        for v in model.non_trainable_variables
    }
    norms = [
        [np.linalg.norm(statistics[f"{bn}.running_{leaf}"]) for leaf in ("mean", "var")]
        for bn in z[f"{name}/bn_names"]
    ]
    np.testing.assert_allclose(norms, z[f"{prefix}/bn_running_l2"], rtol=2e-4)
    if dtype == "float64":
        gradients = tape.gradient(loss, model.trainable_variables)
        ours = {
            f"{rename(v.path.split('/')[0])}.{LEAVES[v.path.split('/')[1]]}": tf.norm(g).numpy()
            for v, g in zip(model.trainable_variables, gradients, strict=True)
        }
        names = [str(parameter) for parameter in z[f"{name}/param_names"]]
        assert sorted(names) == sorted(ours)
        recorded = z[f"{prefix}/grad_l2"]
        np.testing.assert_allclose([ours[n] for n in names], recorded, rtol=1e-6)


def test_every_encoder_is_buildable_narrow():
    for name in ENCODERS:
        encoder = build_encoder(name, **COMMON | {"width": 4, "dim": 8, "image_size": 32})
        assert encoder.model.output_shape == (None, 8)
