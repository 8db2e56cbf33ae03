"""`moco_tf.load_encoder`: a run as a plain Keras model, to use and to train."""

import math
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.encoder_files import SNIPPETS, TINY, features, normalized, pixels, save

import moco_tf
from moco_tf.errors import InputError
from moco_tf.evaluate.features import embedding, extract
from moco_tf.models import ENCODERS, build_encoder, telling_shapes
from moco_tf.runs.encoders import encoder_of
from moco_tf.runs.encoders import load_encoder as load_ours
from moco_tf.runs.snapshot import load_snapshot


@pytest.fixture(scope="module")
def labelled():
    """16 pictures of noise around a level of gray that tells the class, of two; normalised."""
    labels = np.arange(16) % 2
    noise = np.random.default_rng(4).normal(0, 20, (16, 16, 16, 3))
    images = (80 + 90 * labels[:, None, None, None] + noise).clip(0, 255).astype(np.uint8)
    return normalized(images, "imagenet"), labels


def arrays(model):
    return {variable.path: variable.numpy() for variable in model.variables}


def test_two_lines_give_the_features_of_the_evaluations(small_run, tmp_path, monkeypatch):
    images = pixels(16, 5)
    ours, config, _ = load_ours(small_run, warn=pytest.fail)
    embed = embedding(ours, features="pooled", normalization=config.normalization)
    wanted = extract(embed, [images], unit=False)
    monkeypatch.chdir(small_run.parent)
    scope = {}
    exec(SNIPPETS["python"].replace("runs/mine", small_run.name), scope)
    found = scope["encoder"](normalized(images, config.normalization)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    found = moco_tf.load_encoder(small_run, preprocessing=True)(images).numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_the_head_and_its_absence(tmp_path):
    images = pixels(16)
    run = save(tmp_path / "a.safetensors", **TINY | {"head": "linear"})
    found = moco_tf.load_encoder(run, head=True, preprocessing=True)(images).numpy()
    wanted = features(run, images, head=True)
    assert found.shape == (3, 6)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    bare = save(tmp_path / "b.safetensors", **TINY | {"head": "none"})
    assert moco_tf.load_encoder(bare).output.shape == (None, 32)
    with pytest.raises(InputError, match=r"b\.safetensors has no head"):
        moco_tf.load_encoder(bare, head=True)
    with pytest.raises(InputError, match="is not a run folder"):
        moco_tf.load_encoder(tmp_path / "absent")


def test_all_layers_are_kerass_own_and_keep_their_names(small_run):
    encoder = moco_tf.load_encoder(small_run)
    assert {type(layer).__module__.split(".")[0] for layer in encoder.layers} == {"keras"}
    norm = encoder.get_layer("layer4.1.bn2")
    assert isinstance(norm, keras.layers.BatchNormalization)
    assert (norm.epsilon, norm.momentum) == (1e-5, 0.9)
    ours = load_ours(small_run, warn=pytest.fail)[0].backbone
    wanted = arrays(ours)
    assert arrays(encoder).keys() == wanted.keys()
    for path, value in arrays(encoder).items():
        np.testing.assert_array_equal(value, wanted[path], err_msg=path)


@pytest.mark.slow
def test_frozen_as_documented_the_loss_falls_and_the_encoder_stays(small_run, labelled):
    encoder = moco_tf.load_encoder(small_run)
    before = arrays(encoder)
    images, labels = labelled
    scope = {"encoder": encoder, "keras": keras, "images": images, "labels": labels}
    exec(SNIPPETS["training"], scope)
    history = scope["model"].fit(images, labels, epochs=20, verbose=0).history["loss"]
    assert history[-1] < 0.9 * history[0]
    for path, value in arrays(encoder).items():
        np.testing.assert_array_equal(value, before[path], err_msg=path)


@pytest.mark.slow
def test_unfrozen_every_array_of_the_encoder_moves(small_run, labelled):
    encoder = moco_tf.load_encoder(small_run)
    before = arrays(encoder)
    model = keras.Sequential([encoder, keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss)
    model.fit(*labelled, batch_size=16, epochs=1, verbose=0)
    moved = arrays(encoder)
    assert [path for path in moved if np.array_equal(moved[path], before[path])] == []
    # Of the first BatchNorm: Keras's running variance is that of biased variances, momentum 0.9.
    values = tf.nn.conv2d(labelled[0], before["conv1/kernel"], 1, "SAME").numpy()
    wanted = 0.9 * before["bn1/moving_variance"] + 0.1 * values.var((0, 1, 2))
    np.testing.assert_allclose(moved["bn1/moving_variance"], wanted, rtol=1e-5)


def test_the_layers_follow_kerass_global_policy_as_those_of_its_applications_do(
    small_run, global_policy
):
    images = pixels(16, 5)
    wanted = moco_tf.load_encoder(small_run, preprocessing=True)(images).numpy()
    global_policy("mixed_bfloat16")
    theirs = keras.applications.MobileNetV2((32, 32, 3), weights=None, include_top=False)
    encoder = moco_tf.load_encoder(small_run, preprocessing=True)
    kept = {"normalize"}  # of pixels 0 to 255, before anything is rounded
    for model in (theirs, encoder):
        layers = [layer for layer in model.layers if layer.variables and layer.name not in kept]
        assert {layer.dtype_policy.name for layer in layers} == {"mixed_bfloat16"}
        assert {variable.dtype for variable in model.variables} == {"float32"}
        assert model.output.dtype == "bfloat16"
    found = encoder(images)
    assert found.dtype == "bfloat16"
    error = np.abs(tf.cast(found, "float32") - wanted).max() / np.abs(wanted).max()
    assert 0 < error < 0.02  # of 20 layers, each rounded to 8 bits


def test_a_dtype_of_its_own_goes_before_the_global_one(small_run, global_policy):
    global_policy("mixed_bfloat16")
    images = normalized(pixels(16), "imagenet")
    encoder = moco_tf.load_encoder(small_run, dtype="float32")
    assert encoder(images).dtype == "float32"
    double = moco_tf.load_encoder(small_run, dtype=keras.DTypePolicy("float64"))(images)
    assert double.dtype == "float64"
    np.testing.assert_allclose(encoder(images), double, rtol=1e-4)
    with pytest.raises(ValueError, match="float33"):
        moco_tf.load_encoder(small_run, dtype="float33")


def test_batch_norm_under_mixed_precision_computes_in_float32(small_run, labelled):
    encoder = moco_tf.load_encoder(small_run, dtype="mixed_bfloat16")
    norm = encoder.get_layer("bn1")
    tap = keras.Model(encoder.input, [norm.input, norm.output])
    gamma, beta, mean, variance = (np.float64(variable.numpy()) for variable in norm.variables)
    given, found = (np.float64(tf.cast(t, "float32")) for t in tap(labelled[0]))
    wanted = (given - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    np.testing.assert_allclose(found, wanted, atol=2**-8 * np.abs(wanted).max())
    tap(labelled[0], training=True)
    axes = (0, 1, 2)
    after = [variable.numpy() for variable in norm.variables[2:]]
    np.testing.assert_allclose(after[0], 0.9 * mean + 0.1 * given.mean(axes), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(after[1], 0.9 * variance + 0.1 * given.var(axes), rtol=1e-5)


@pytest.mark.long
@pytest.mark.slow
def test_two_encoders_in_one_model_are_told_apart_by_their_names(small_run, tmp_path, labelled):
    images, labels = labelled
    assert moco_tf.load_encoder(small_run).name == "encoder"
    left, right = (moco_tf.load_encoder(small_run, name=name) for name in ("left", "right"))
    right.trainable = False
    inputs = keras.Input(images.shape[1:])
    both = keras.layers.concatenate([left(inputs), right(inputs)])
    model = keras.Model(inputs, keras.layers.Dense(2)(both))
    np.testing.assert_array_equal(model.get_layer("left")(images), right(images))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images, labels, batch_size=16, epochs=1, verbose=0)
    model.save(tmp_path / "both.keras")
    again = keras.saving.load_model(tmp_path / "both.keras")
    np.testing.assert_array_equal(
        again.predict(images, verbose=0), model.predict(images, verbose=0)
    )


def test_importing_the_package_imports_no_tensorflow():
    code = (
        "import sys, moco_tf\n"
        "assert callable(dict(vars(moco_tf))['__getattr__'])\n"
        "assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)\n"
        "for name in set(moco_tf.__all__) - {'load_encoder'}: getattr(moco_tf, name)\n"
        "assert not {'tensorflow', 'keras', 'rich', 'pandas'} & set(sys.modules)\n"
        "try: moco_tf.load_encodre\n"
        "except AttributeError as error: assert 'load_encodre' in str(error)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "fields",
    [{"width": 4000}, {"encoder": "wide_resnet101_2"}, {"dim": 10**9}, {"stem": "imagenet"}],
)
def test_a_config_of_a_larger_encoder_than_the_arrays_is_refused_before_it_is_built(
    small_run, monkeypatch, fields
):
    snapshot = load_snapshot(small_run, warn=pytest.fail)
    config = snapshot.config.model_copy(update=fields | {"image_size": 64})
    monkeypatch.setattr("moco_tf.runs.encoders.untrained_encoder", pytest.fail)
    with pytest.raises(InputError, match="is not of the encoder in its config: query_encoder/"):
        encoder_of(replace(snapshot, config=config), small_run)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        pytest.param(head, name, marks=[pytest.mark.slow] if deep else [])
        for head in ("none", "linear", "mlp")
        for name in ENCODERS
        for deep in [name not in ("resnet18", "resnet50")]
    ],
)
def test_what_tells_an_encoders_size_is_so(name, head):
    """Of the built network, and a thirtieth of its weights at least."""
    settings = {"stem": "small", "width": 2, "head": head, "dim": 4}
    further = {"image_size": 8, "group_size": 2, "group_layout": "contiguous"}
    encoder = build_encoder(name, **settings, **further, running_statistics="mean")
    model = encoder.model or encoder.backbone
    shapes = {v.path.rsplit("/", 1)[0]: v.shape for v in model.variables if "kernel" in v.path}
    told = telling_shapes(name, **settings)
    assert told == {layer: tuple(shapes[layer]) for layer in told}
    held = sum(math.prod(shape) for shape in told.values())
    assert held > sum(math.prod(v.shape) for v in model.variables) / 40
