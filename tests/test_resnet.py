"""Structure, initialisation and numbers of the encoders."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.recorded import drawn, recipe

from moco_tf.convert.architecture import Architecture, infer
from moco_tf.convert.contents import take_apart
from moco_tf.convert.reading import torch_shapes
from moco_tf.convert.state_dict import to_ours
from moco_tf.models import ENCODERS, build_encoder
from moco_tf.models.resnet import _conv, resnet, zero_last_scales
from moco_tf.models.torch_names import demo_name, to_torch, torch_name

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


@pytest.mark.parametrize(("block", "last"), [("basic", "bn2"), ("bottleneck", "bn3")])
def test_blocks_with_a_zero_last_scale_are_the_identity(block, last):
    """Of the others the scale stays 1."""
    settings = {"image_size": 8, "stem": "small", "width": 2, "head": "none", "dim": 0}
    norms = {"group_size": 4, "group_layout": "contiguous", "running_statistics": "mean"}
    encoder = resnet(block=block, blocks=(2, 1), **settings, **norms)
    zero_last_scales(encoder.backbone)
    for variable in encoder.backbone.trainable_variables:
        layer, leaf = variable.path.split("/")
        if leaf == "gamma":
            wanted = 0 if layer.endswith(last) and "." in layer else 1
            np.testing.assert_array_equal(variable, np.full(variable.shape, wanted), layer)
    before, after = encoder.cuts[1], encoder.cuts[2]  # around the second block, without a shortcut
    images = np.random.default_rng(0).random((4, 8, 8, 3)).astype(np.float32)
    inputs, outputs = keras.Model(encoder.backbone.inputs[0], [before, after])(
        images, training=True
    )
    np.testing.assert_array_equal(inputs, outputs)


def test_layers_draw_different_values_from_one_seed():
    encoder = build_encoder("resnet18", **COMMON)
    first, second = (encoder.model.get_layer(f"layer1.{i}.conv1").kernel.numpy() for i in range(2))
    assert not np.array_equal(first, second)


def recipe_state_dict(z, name, prefix):
    """The recorded architecture's weights, by its own names: a state dict as from a file."""
    sizes = {
        str(parameter): tuple(map(int, shape.split("x")))
        for parameter, shape in zip(
            z[f"{name}/param_names"], z[f"{name}/param_shapes"], strict=True
        )
    }
    for layer in z[f"{name}/bn_names"]:
        for leaf in ("running_mean", "running_var"):
            sizes[f"{layer}.{leaf}"] = sizes[f"{layer}.weight"]
    return {key: recipe(prefix + key, shape) for key, shape in sizes.items()}


def recorded_sizes(z, name):
    """(images, side) of each recorded input of an architecture, the smallest side first."""
    found = re.compile(name + r"/(\d+)x(\d+)/eval_out")
    sizes = [tuple(map(int, match.groups())) for key in z.files if (match := found.match(key))]
    return sorted(sizes, key=lambda size: size[1])


def recorded_case(z, name, size, dtype):
    """(model, images) of a recorded architecture, its weights put in through the converter."""
    count, side = size
    state_dict = recipe_state_dict(z, name, json.loads(str(z["meta_json"]))["name_prefix"])
    plain = take_apart(state_dict, name).query
    found = infer(plain, name)
    base = "resnet18" if name.startswith("cifar") else name.removesuffix("_mlp")
    head = "mlp" if name.endswith("_mlp") else "linear"
    dim = z[f"{name}/{count}x{side}/eval_out"].shape[1]
    stem = "small" if name.startswith("cifar") else "imagenet"
    assert found == Architecture(base, 64, stem, head, dim)
    settings = COMMON | {"image_size": side, "dim": dim, "dtype": dtype, "stem": stem, "head": head}
    if name.startswith("cifar"):
        splits = int(name.rsplit("split", 1)[1])
        settings |= {"group_size": count // splits, "group_layout": "interleaved"}
    model = build_encoder(found.encoder, **settings).model
    state = to_ours(plain, torch_shapes(model), "", name)
    for variable in model.variables:
        variable.assign(state[variable.path])
    images = drawn(f"input/{count}x3x{side}x{side}", (count, 3, side, side))
    return model, tf.constant(images.transpose(0, 2, 3, 1), dtype)


def named(name, variables, values):
    """Values by the recorded architecture's names, in PyTorch's layouts."""
    rename = (lambda key: demo_name(key, 4)) if name.startswith("cifar") else str
    return {
        rename(torch_name(variable.path)): to_torch(np.asarray(value))
        for variable, value in zip(variables, values, strict=True)
    }


def assert_near(ours, recorded, gate):
    """Within `gate` of the largest recorded value."""
    np.testing.assert_allclose(ours, recorded, rtol=0, atol=gate * np.abs(recorded).max())


def check_running_statistics(z, name, prefix, model):
    """The recorded statistics are those of the float32 run, after one training step."""
    updated = named(name, model.non_trainable_variables, model.non_trainable_variables)
    layers = [str(layer) for layer in z[f"{name}/bn_names"]]
    norms = [
        [np.linalg.norm(updated[f"{layer}.running_{leaf}"]) for leaf in ("mean", "var")]
        for layer in layers
    ]
    np.testing.assert_allclose(norms, z[f"{prefix}/bn_running_l2"], rtol=2e-4)
    for which, layer in (("first", layers[0]), ("last", layers[-1])):
        for leaf in ("running_mean", "running_var"):
            assert_near(updated[f"{layer}.{leaf}"], z[f"{prefix}/bn_{which}_{leaf}"], 2e-4)


RECORDED = [
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet50_mlp",
    "cifar_resnet18_split8",
    "cifar_resnet18_split1",
]
CHECKED = ("resnet18", "resnet50", "cifar_resnet18_split8")  # of these by default


@pytest.mark.golden
@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            n,
            marks=[pytest.mark.long] * (n not in CHECKED) + [pytest.mark.slow] * (n == "resnet50"),
        )
        for n in RECORDED
    ],
)
def test_float32_matches_the_recorded_architectures_at_every_size(golden, name):
    z = golden("arch_resnet")
    state_dict = recipe_state_dict(z, name, json.loads(str(z["meta_json"]))["name_prefix"])
    sums = [
        sum(value.sum(dtype=np.float64) for value in state_dict.values()),
        sum(np.abs(value).sum(dtype=np.float64) for value in state_dict.values()),
        sum(value.size for value in state_dict.values()),
    ]
    np.testing.assert_allclose(sums, z[f"{name}/weights_sum_abs_count"], rtol=1e-6)
    for size in recorded_sizes(z, name):
        prefix = f"{name}/{size[0]}x{size[1]}"
        model, images = recorded_case(z, name, size, "float32")
        assert_near(model(images, training=False), z[f"{prefix}/eval_out"], 1e-5)
        # The statistics of a few images amplify rounding.
        assert_near(model(images, training=True), z[f"{prefix}/train_out_fp64"], 1e-3)
        check_running_statistics(z, name, prefix, model)


@pytest.mark.slow
@pytest.mark.golden
@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.long] * (n not in CHECKED)) for n in RECORDED]
)
def test_float64_outputs_and_gradients_match_the_recorded_architectures(golden, name):
    z = golden("arch_resnet")
    size = recorded_sizes(z, name)[0]
    prefix = f"{name}/{size[0]}x{size[1]}"
    model, images = recorded_case(z, name, size, "float64")
    assert_near(model(images, training=False), z[f"{prefix}/eval_out"], 1e-5)  # of float32
    with tf.GradientTape() as tape:
        trained = model(images, training=True)
        weights = drawn(f"cot/{trained.shape[0]}x{trained.shape[1]}", trained.shape)
        loss = tf.reduce_sum(trained * weights) / trained.shape[0]
    assert_near(trained, z[f"{prefix}/train_out_fp64"], 2e-7)
    check_running_statistics(z, name, prefix, model)
    gradients = tape.gradient(loss, model.trainable_variables)
    ours = named(name, model.trainable_variables, gradients)
    names = [str(parameter) for parameter in z[f"{name}/param_names"]]
    assert sorted(names) == sorted(ours)
    norms = [np.linalg.norm(ours[parameter]) for parameter in names]
    np.testing.assert_allclose(norms, z[f"{prefix}/grad_l2"], rtol=1e-6)


@pytest.mark.slow
def test_every_encoder_is_buildable_narrow_and_no_convolution_of_single_pixels_has_a_stride():
    for name in ENCODERS:
        model = build_encoder(name, **COMMON | {"width": 4, "dim": 8, "image_size": 32}).model
        assert model.output_shape == (None, 8)
        convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
        assert {layer.strides for layer in convolutions if layer.kernel_size == (1, 1)} == {(1, 1)}


# Batch, side, channels in and out of shortcuts that oneDNN got wrong or crashed on: fewer channels
# than its vectors have places, which are 8 with AVX2 and 16 with AVX-512.
NARROW = [
    (8, 56, 8, 16), (8, 56, 4, 8), (8, 56, 8, 8), (1, 56, 4, 8), (1, 14, 4, 16), (32, 64, 8, 16),
    (8, 28, 7, 14), (8, 32, 3, 12), (8, 8, 5, 10), (8, 55, 1, 2),
]  # fmt: skip


def check_narrow_shortcuts():
    """In a process with oneDNN: outputs and both gradients of 1x1/2 convolutions, by matrices."""
    rng = np.random.default_rng(0)
    for batch, side, channels, planes in NARROW:
        half = (side + 1) // 2
        inputs = keras.Input((side, side, channels))
        outputs = _conv(inputs, planes, 1, stride=2, name="conv", dtype="float32", seed=0)
        model = keras.Model(inputs, outputs)
        images = rng.standard_normal((batch, side, side, channels)).astype(np.float32)
        upstream = rng.standard_normal((batch, half, half, planes)).astype(np.float32)
        kernel = model.get_layer("conv").kernel.numpy()[0, 0].astype(np.float64)
        rows, weights = images[:, ::2, ::2].reshape(-1, channels), upstream.reshape(-1, planes)
        rows, weights = rows.astype(np.float64), weights.astype(np.float64)
        to_images = np.zeros(images.shape)
        to_images[:, ::2, ::2] = (weights @ kernel.T).reshape(batch, half, half, channels)
        images = tf.constant(images)
        for _ in range(3):
            with tf.GradientTape() as tape:
                tape.watch(images)
                found = model(images)
            gradients = tape.gradient(found, [images, *model.trainable_variables], upstream)
            assert_near(found, (rows @ kernel).reshape(upstream.shape), 1e-6)
            assert_near(gradients[0], to_images, 1e-6)
            assert_near(gradients[1], (rows.T @ weights)[None, None], 3e-6)


@pytest.mark.slow
def test_narrow_shortcuts_with_onednn_have_the_right_gradients():
    found = subprocess.run(
        [sys.executable, "-c", "import test_resnet; test_resnet.check_narrow_shortcuts()"],
        cwd=Path(__file__).parent,
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-2000:]
