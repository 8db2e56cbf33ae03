"""A whole run with somebody's Keras model as backbone, and what comes after it."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.backbones import SIDE, sequential
from support.runs import TINY, config

import moco_tf
from moco_tf.building import build_method, build_step
from moco_tf.commands.cli import main
from moco_tf.convert.command import convert
from moco_tf.distribute.strategy import make_strategy
from moco_tf.errors import InputError
from moco_tf.models.array_names import SEED, array_names
from moco_tf.models.backbone import arrays_of as arrays_of_model
from moco_tf.pretraining import pretrain
from moco_tf.runs import checkpoint
from moco_tf.runs.backbone import find_backbone
from moco_tf.runs.check import check_run
from moco_tf.runs.config_file import ARCHITECTURE, read_config
from moco_tf.runs.encoders import load_encoder
from moco_tf.runs.objects import with_given_model
from moco_tf.runs.variables import arrays_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    random = np.random.default_rng(0)
    labels = np.arange(48) % 3
    images = random.integers(0, 80, (48, SIDE, SIDE, 3)) + 80 * labels[:, None, None, None]
    path = tmp_path_factory.mktemp("data") / "pictures.npz"
    np.savez(path, images=images.astype(np.uint8), labels=labels)
    return str(path)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    return sequential(drop=0.2)


@pytest.fixture(scope="module")
def whole(pictures, model, tmp_path_factory):
    """Four steps at one go, with a model that draws: (folder, summary)."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, pretrain(config(pictures, folder, epochs=2, max_steps=4), backbone=model)


def test_a_resumed_run_is_the_same_and_needs_the_folder_alone(whole, pictures, model, tmp_path):
    settings = config(pictures, tmp_path / "run", epochs=2, max_steps=2)
    pretrain(settings, backbone=model)
    sequential()  # so that Keras's numbers are others
    there = read_config(tmp_path / "run")
    assert there.encoder == "model"
    resumed = pretrain(there.model_copy(update={"max_steps": 4}))
    assert (resumed["step"], resumed["encoder"]) == (4, "model")
    assert resumed["state_sha256"] == whole[1]["state_sha256"]
    other = sequential(width=5)
    with pytest.raises(InputError, match=r"another configuration: architecture \("):
        pretrain(settings, backbone=other)


def test_the_folder_is_whole_and_holds_no_code(whole):
    folder = whole[0]
    found = check_run(folder)
    assert found["whole"]
    assert found["unknown"] == []
    written = json.loads((folder / "config.json").read_text())
    assert len(written["architecture"]) == 64
    (folder / ARCHITECTURE).rename(folder / "away.json")
    try:
        with pytest.raises(InputError, match=r"architecture\.json is not the architecture"):
            read_config(folder)
    finally:
        (folder / "away.json").rename(folder / ARCHITECTURE)


def test_load_encoder_gives_the_users_model_back(whole, model):
    ours, _, step = load_encoder(whole[0], warn=pytest.fail)
    assert step == 4
    found = moco_tf.load_encoder(whole[0])
    kinds = [
        type(layer) for layer in found.layers if not isinstance(layer, keras.layers.InputLayer)
    ]
    assert kinds[:-1] == [type(layer) for layer in model.layers]
    images = np.random.default_rng(1).normal(0, 1, (8, SIDE, SIDE, 3)).astype(np.float32)
    wanted = ours.backbone(images, training=False).numpy()
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(found(images, training=False), wanted, rtol=1e-5, atol=1e-5 * scale)
    before = found.get_layer("batch_normalization").moving_mean.numpy()
    classifier = keras.Sequential([found, keras.layers.Dense(3)])
    classifier.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    classifier.fit(images, np.arange(8) % 3, verbose=0)
    assert np.abs(found.get_layer("batch_normalization").moving_mean - before).max() > 0
    head = moco_tf.load_encoder(whole[0], head=True)
    np.testing.assert_allclose(head(images), ours.model(images), rtol=1e-4, atol=1e-5 * scale)


def test_knn_and_a_file_of_the_encoder(whole, tmp_path):
    found = moco_tf.knn(whole[0], k=5)
    file = tmp_path / "encoder.safetensors"
    assert convert(whole[0], file, to="moco-tf", warn=pytest.fail)["equal"]
    again = moco_tf.knn(file, data=whole_data(whole), k=5)
    assert again["knn_top1"] == found["knn_top1"]
    assert again["knn_top1_untrained"] == found["knn_top1_untrained"]
    with pytest.raises(InputError, match="--to torchvision is for ResNets"):
        convert(whole[0], tmp_path / "encoder.pth", to="torchvision", warn=pytest.fail)


def whole_data(whole):
    return read_config(whole[0]).data


def test_two_devices_and_one_are_equal(pictures, tmp_path):
    """Without Dropout: float64, and only rounding between them."""
    states = []
    for devices in (1, 2):
        settings = config(
            pictures, tmp_path, devices=devices, precision="float64", running_statistics="mean"
        )
        keras.utils.set_random_seed(1)
        model = sequential()
        settings, weights = find_backbone(with_given_model(settings), model)
        method = build_method(settings, make_strategy(devices))
        model.layers[0].kernel.assign(model.layers[0].kernel * 0)  # too late: they are taken
        weights.assign(method.state())
        begun = arrays_of(method.state())
        for name, array in arrays_of_model(model).items():
            for which in ("query_encoder", "key_encoder"):
                same = np.array_equal(begun[f"{which}/{name}"], array)
                assert same == (name != "backbone/conv2d/kernel")
        step = build_step(settings, method)
        random = np.random.default_rng(2)
        for number in range(2):
            views = random.integers(0, 255, (2, 16, SIDE, SIDE, 3)).astype(np.uint8)
            step(tf.constant(views[0]), tf.constant(views[1]), number, 0.1)
        states.append(arrays_of(method.state()))
    assert states[0].keys() == states[1].keys()
    for name, array in states[0].items():
        np.testing.assert_allclose(states[1][name], array, rtol=1e-9, atol=1e-9, err_msg=name)


def test_another_run_begins_with_its_weights(whole, pictures, model, tmp_path):
    """Of a ResNet's encoder nothing fits, which is told."""
    there = read_config(whole[0])
    settings = config(pictures, tmp_path / "run", max_steps=0, init=str(whole[0]))
    pretrain(settings, backbone=model)
    found, wanted = (
        checkpoint.load_latest(run / "checkpoints", warn=pytest.fail)[0]
        for run in (tmp_path / "run", whole[0])
    )
    names = [name for name in found if name.startswith("query_encoder/")]
    assert len(names) > 10 and there.architecture
    for name in [name for name in names if not name.endswith(SEED)]:
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)
    with pytest.raises(InputError, match="init="):
        pretrain(config(pictures, tmp_path / "other", init=str(whole[0])))


@pytest.mark.parametrize("command", ["estimate shapes", "benchmark step shapes --steps 1"])
def test_what_it_will_take_is_measured(pictures, model, tmp_path, monkeypatch, capsys, command):
    monkeypatch.setattr("moco_tf.benchmark.measure.PHASE_SECONDS", 0.05)
    monkeypatch.setattr("moco_tf.benchmark.measure.KNN_SECONDS", 0.01)
    model.save(tmp_path / "model.keras")
    flags = {name: value for name, value in TINY.items() if name != "width"}
    flags |= {"data": pictures, "encoder": tmp_path / "model.keras"}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    assert main([*command.split(), *words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["images_per_second"] > 0 and told["config"]["encoder"].endswith("model.keras")
    if command.startswith("estimate"):
        parameters = sum(weight.shape.num_elements() for weight in model.trainable_weights)
        assert told["checkpoint_bytes"] > 3 * 4 * parameters


def darker(image, seed):
    part = tf.image.stateless_random_crop(image, [SIDE, SIDE, 3], seed)
    return part - part // 4


@pytest.mark.parametrize("to", ["keras", "savedmodel", "onnx", "litert"])
def test_an_array_a_model_and_a_function_of_ones_own_end_in_every_format(own, tmp_path, to):
    suffix = {"keras": ".keras", "savedmodel": "", "onnx": ".onnx", "litert": ".tflite"}[to]
    told = moco_tf.export(own, tmp_path / f"encoder{suffix}", format=to, with_preprocessing=True)
    assert told["equal"] and told["largest_error"] < 1e-4
    assert (tmp_path / f"encoder{suffix}").exists()


@pytest.fixture(scope="module")
def own(model, tmp_path_factory):
    """A run on an array, of a model, with views that a function makes."""
    images = np.random.default_rng(4).integers(0, 256, (32, 20, 20, 3), dtype=np.uint8)
    changes = {name: value for name, value in TINY.items() if name != "width"} | {"epochs": 1}
    return moco_tf.pretrain(
        "shapes",
        data=images,
        backbone=model,
        augment=darker,
        run_dir=tmp_path_factory.mktemp("own") / "run",
        **changes,
    )


def test_what_dropout_draws_is_a_function_of_seed_step_and_microbatch(pictures, model, tmp_path):
    settings = config(pictures, tmp_path, accumulation_steps=2)
    settings, _ = find_backbone(with_given_model(settings), model)
    method = build_method(settings, make_strategy(1))
    views = np.random.default_rng(2).integers(0, 255, (2, 16, SIDE, SIDE, 3)).astype(np.uint8)
    step = build_step(settings, method)
    before = arrays_of(method.state())
    step(tf.constant(views[0]), tf.constant(views[1]), 0, 0.1)
    after = arrays_of(method.state())
    seeds = [name for name in before if name.endswith(SEED)]
    assert seeds == [f"{which}_encoder/backbone/dropout/{SEED}" for which in ("query", "key")]
    for name in seeds:
        np.testing.assert_array_equal(after[name] - before[name], [0, 1])
    network = method.query
    drawing = [network.drawing_for(network.statistics, row) for row in (0, 8, 8)]
    place = network.seeds.index(True)
    first, second, third = (np.asarray(one[place]) for one in drawing)
    np.testing.assert_array_equal(second, third)
    assert (first != second).any()
    assert array_names(network.model) == array_names(method.key.model)
