"""Fine-tuning: its step against a naive twin, its loop, and what it leaves for other commands."""

import json
import signal
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from support.labelled_run import CLASSES, TEST, TRAIN, make_run, pictures, save_folder, save_npz
from support.runs import rows

import moco_tf.evaluate.finetune
from moco_tf.commands.cli import main
from moco_tf.config import make_config
from moco_tf.distribute.strategy import make_strategy
from moco_tf.errors import InputError
from moco_tf.evaluate.classifier import means
from moco_tf.evaluate.end_to_end import Finetuner
from moco_tf.evaluate.finetune import build_network, finetune
from moco_tf.evaluate.finetune_config import FinetuneConfig
from moco_tf.files.digests import read_json
from moco_tf.models import build_encoder
from moco_tf.runs import variables
from moco_tf.runs.check import check_run
from moco_tf.runs.encoders import load_encoder
from moco_tf.training.network import Network
from moco_tf.training.optimizer import UpdateRule
from moco_tf.training.sgd import sgd_update
from moco_tf.training.signals import Interrupted
from moco_tf.training.step import StepEnvelope

pytestmark = pytest.mark.usefixtures("shallow", "compiled_once")

SETTINGS = {"epochs": 3, "batch_size": 8, "group_size": 4, "log_every": 1, "checkpoint_every": 1}
KEYS = {"top1", "top5", "top1_best", "classes", "train_images", "test_images", "protocol"}
MOMENTUM, DECAY = 0.9, 1e-2


@pytest.fixture(scope="module")
def run(shallow, tmp_path_factory):
    data = save_npz(tmp_path_factory.mktemp("data") / "data.npz")
    return make_run(tmp_path_factory.mktemp("run"), data)


def config_of(run, out, **changes):
    base = {"run": run.folder, "data": run.data, "run_dir": str(out)}
    return make_config(FinetuneConfig(run=""), SETTINGS | base | changes)


@pytest.fixture(scope="module")
def whole(run, compiled_once, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "finetune"
    return SimpleNamespace(out=out, summary=finetune(config_of(run, out)))


# The step


def tiny_encoder(strategy):
    with strategy.scope():
        return build_encoder(
            "resnet18", image_size=8, stem="small", width=2, head="linear", dim=4, group_size=2,
            group_layout="contiguous", running_statistics="mean", dtype="float64", seed=3,
        )  # fmt: skip


def build(devices):
    strategy = make_strategy(devices)
    envelope = StepEnvelope(
        Network(tiny_encoder(strategy)),
        strategy=strategy,
        batch_size=8,
        group_size=2,
        group_layout="contiguous",
        rule=UpdateRule(partial(sgd_update, momentum=MOMENTUM, weight_decay=DECAY)),
        running_statistics="mean",
        preprocess=lambda images: tf.cast(images, tf.float64) / 64 - 2,
        dtype="float64",
    )
    return Finetuner(envelope)


def batches(steps=3):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (steps, 8, 8, 8, 3)).astype(np.uint8)
    return images, generator.integers(0, 4, (steps, 8))


RATES = ([0.05, 0.5], [0.05, 0.5], [0.005, 0.1])


@pytest.fixture(scope="module")
def on_one_device():
    network = build(1)
    return network, variables.arrays_of(network.state())


@pytest.fixture
def one(on_one_device):
    """A network on one device in its first state, compiled once."""
    network, first = on_one_device
    variables.assign(network.state(), first)
    return network


def test_steps_equal_the_naive_twin(one):
    network, twin = one, tiny_encoder(tf.distribute.get_strategy()).model
    buffers = {v.path: np.zeros(v.shape) for v in twin.trainable_variables}
    for images, labels, (backbone, head) in zip(*batches(), RATES, strict=True):
        rates = tf.constant([backbone, head], tf.float64)
        sums = network.train_step(tf.constant(images), tf.constant(labels), rates)
        with tf.GradientTape() as tape:
            logits = twin(images / 64 - 2, training=True)  # updates statistics
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, [v.value for v in twin.trainable_variables])
        for variable, gradient in zip(twin.trainable_variables, gradients, strict=True):
            value = variable.numpy().astype(np.float64)
            buffer = MOMENTUM * buffers[variable.path] + gradient.numpy() + DECAY * value
            buffers[variable.path] = buffer
            variable.assign(value - (head if "fc/" in variable.path else backbone) * buffer)
        found, right = means(sums), np.argmax(logits, axis=1) == labels
        assert found["loss"] == pytest.approx([float(loss)], rel=1e-6)
        assert found["top1"] == pytest.approx([100 * right.mean()])
    for ours, wanted in zip(network.model.variables, twin.variables, strict=True):
        np.testing.assert_allclose(ours.numpy(), wanted.numpy(), atol=1e-9, err_msg=wanted.path)
    moved = [v for v in network.model.variables if "moving" in v.path]
    assert moved and all(np.abs(v.numpy() - np.round(v.numpy())).max() > 0 for v in moved)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, pytest.param(4, marks=pytest.mark.long)])
def test_devices_agree(one, devices):
    several = build(devices)
    for images, labels, rates in zip(*batches(), RATES, strict=True):
        step = (tf.constant(images), tf.constant(labels), tf.constant(rates))
        wanted, found = (network.train_step(*step) for network in (one, several))
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)
    for name, variable in one.state().items():
        np.testing.assert_allclose(
            several.state()[name].numpy(), variable.numpy(), atol=1e-9, err_msg=name
        )
    wanted, found = (network.evaluate_step(*step[:2]) for network in (one, several))
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


@pytest.mark.slow
def test_a_rate_of_zero_keeps_its_part_in_place(one):
    network = one
    before = {name: v.numpy() for name, v in network.state().items() if "momentum" not in name}
    images, labels = (tf.constant(a[0]) for a in batches())
    network.train_step(images, labels, tf.constant([0.0, 0.5]))
    for name, value in before.items():
        same = np.array_equal(network.state()[name].numpy(), value)
        assert same == (name.split("/")[-1] in ("kernel", "gamma", "beta") and "/fc/" not in name)


# Where it starts


@pytest.mark.parametrize("from_scratch", [False, True])
def test_the_first_weights_are_the_runs_or_random(run, tmp_path, from_scratch):
    config = config_of(run, tmp_path / "out", from_scratch=from_scratch)
    snapshot = moco_tf.evaluate.finetune.load_snapshot(run.folder, warn=print)
    network = build_network(config, snapshot, CLASSES, make_strategy(1))
    drawn = build_encoder(
        "resnet18", image_size=8, stem="small", width=4, head="none", dim=1, group_size=4,
        group_layout="contiguous", running_statistics="mean", seed=config.seed,
    ).backbone  # fmt: skip
    wanted = {f"query_encoder/{v.path}": v.numpy() for v in drawn.variables}
    if not from_scratch:
        wanted = {name: run.state[name] for name in wanted}
    state = network.state()
    for name, value in wanted.items():
        np.testing.assert_array_equal(state[name].numpy(), value, err_msg=name)
    kernel = state["query_encoder/fc/kernel"].numpy()
    assert kernel.shape == (32, CLASSES) and 0.007 < kernel.std() < 0.013
    assert not state["query_encoder/fc/bias"].numpy().any()


def test_the_rates_are_scaled_with_the_batch_and_the_start():
    rates = lambda **changes: make_config(FinetuneConfig(run="r"), changes).rates  # noqa: E731
    assert rates() == (0.02, 0.2)
    assert rates(from_scratch=True) == (0.1, 0.2)
    assert rates(batch_size=128) == (0.01, 0.1)
    assert rates(lr="0.3", head_lr="3", batch_size=64, lr_scaling="absolute") == (0.3, 3.0)


# The loop


def test_summary_metrics_and_files(run, whole):
    summary = whole.summary
    assert read_json(whole.out / "summary.json") == summary
    found = check_run(whole.out)
    assert found["whole"] and all(file["carried"] for file in found["files"])
    assert found["state_sha256"] == summary["state_sha256"] and found["unknown"] == []
    assert summary.keys() >= KEYS | {"label_fraction", "from_scratch", "state_sha256"}
    assert (summary["classes"], summary["train_images"], summary["test_images"]) == (3, TRAIN, TEST)
    assert (summary["step"], summary["encoder_step"], summary["top5"]) == (9, 7, 100.0)
    logged = rows(whole.out)
    assert [row["step"] for row in logged] == list(range(1, 10))  # ceil(20 / 8) = 3 an epoch
    wanted = [0.02 * 8 / 256 * 0.5 * (1 + np.cos(np.pi * step / 9)) for step in range(9)]
    assert [row["lr"] for row in logged] == pytest.approx(wanted)
    assert [row["step"] for row in logged if "val_top1" in row] == [3, 6, 9]
    assert logged[-1]["val_top1"] == summary["top1"] <= summary["top1_best"]
    _, *chosen = (whole.out / "labelled_images.txt").read_text().splitlines()
    assert chosen == [str(index) for index in range(TRAIN)]


def test_the_tuned_encoder_is_a_run_with_the_classifier_as_its_head(run, whole):
    encoder, config, step = load_encoder(whole.out / "encoder.safetensors", warn=print)
    assert (config.head, config.dim, step) == ("linear", CLASSES, 9)
    images, labels = pictures(TEST, 1)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    inputs = ((images / 255 - mean) / std).astype(np.float32)
    right = np.argmax(encoder.model(inputs, training=False), axis=1) == labels
    assert whole.summary["top1"] == pytest.approx(100 * right.mean())
    pooled = encoder.backbone(inputs, training=False).numpy()
    start = load_encoder(run.folder, warn=print)[0].backbone(inputs, training=False).numpy()
    assert np.abs(pooled - start).max() > 1e-3  # the backbone has been trained


def test_interrupted_twice_it_ends_in_the_same_arrays(run, whole, tmp_path):
    original = moco_tf.evaluate.finetune.labelled_crops
    for wanted, number, at in ((2, signal.SIGINT, 2), (4, signal.SIGTERM, 6)):

        def crops(*args, wanted=wanted, number=number, **settings):
            for step, batch in enumerate(original(*args, **settings), 1):
                if step == wanted:
                    signal.raise_signal(number)
                yield batch

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(moco_tf.evaluate.finetune, "labelled_crops", crops)
            with pytest.raises(Interrupted, match=f"step {at}") as stopped:
                finetune(config_of(run, tmp_path / "out"))
            assert stopped.value.exit_code == 128 + number
    summary = finetune(config_of(run, tmp_path / "out"))
    for name in ("state_sha256", "top1", "top1_best", "loss", "protocol"):
        assert summary[name] == whole.summary[name]


def test_an_interruption_between_logging_points_changes_no_loss(run, tmp_path):
    original = moco_tf.evaluate.finetune.labelled_crops
    settings = {"log_every": 4, "epochs": 2}
    wanted = finetune(config_of(run, tmp_path / "whole", **settings))

    def crops(*args, **kwargs):
        for step, batch in enumerate(original(*args, **kwargs), 1):
            if step == 5:
                signal.raise_signal(signal.SIGINT)
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moco_tf.evaluate.finetune, "labelled_crops", crops)
        with pytest.raises(Interrupted, match="step 5"):
            finetune(config_of(run, tmp_path / "out", **settings))
    found = finetune(config_of(run, tmp_path / "out", **settings))
    assert found["loss"] == wanted["loss"]
    assert found["state_sha256"] == wanted["state_sha256"]


@pytest.mark.slow
def test_a_file_that_goes_bad_is_named_and_the_steps_are_kept(run, tmp_path):
    classes = ["ant", "bee", "cat"]
    data = save_folder(tmp_path / "data", train=classes, val=classes)
    of_files = SimpleNamespace(folder=run.folder, data=data)
    settings = {"batch_size": 4, "epochs": 5, "checkpoint_every": 1000}
    wanted = finetune(config_of(of_files, tmp_path / "whole", **settings))
    original = moco_tf.evaluate.finetune.labelled_crops
    broken = sorted((tmp_path / "data" / "train" / "bee").iterdir())[0]
    content = broken.read_bytes()

    def crops(*args, **kwargs):
        for step, batch in enumerate(original(*args, **kwargs), 1):
            if step == 2:
                broken.write_bytes(b"no image")
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moco_tf.evaluate.finetune, "labelled_crops", crops)
        with pytest.raises(InputError, match=rf"{broken} could not be read .*which is saved"):
            finetune(config_of(of_files, tmp_path / "out", **settings))
    saved = sorted((tmp_path / "out" / "checkpoints").glob("step-*"))
    assert saved and int(saved[-1].stem.split("-")[1]) >= 2
    with pytest.raises(InputError, match="holds results of another encoder or of other images"):
        finetune(config_of(of_files, tmp_path / "out", max_bad_images=0.5, **settings))
    broken.write_bytes(content)
    found = finetune(config_of(of_files, tmp_path / "out", **settings))
    assert found["state_sha256"] == wanted["state_sha256"]


@pytest.mark.long
def test_a_batch_larger_than_the_images_is_the_same_on_any_number_of_devices(run, tmp_path):
    settings = {"batch_size": 48, "epochs": 2, "group_size": 4, "label_fraction": 0.6}
    outs = {}
    for devices in (1, 3):  # 12 images: three groups
        outs[devices] = tmp_path / str(devices)
        summary = finetune(config_of(run, outs[devices], devices=devices, **settings))
        assert (summary["train_images"], summary["batch_size"], summary["step"]) == (12, 12, 2)
        assert "batch 12 in BatchNorm groups of 4" in summary["protocol"]
    one, three = (rows(out) for out in outs.values())
    assert [row["loss"] for row in three] == pytest.approx([r["loss"] for r in one], rel=1e-3)
    assert one[0]["lr"] == pytest.approx(0.02 * 12 / 256)
    with pytest.raises(InputError, match="devices=2"):
        finetune(config_of(run, tmp_path / "2", devices=2, **settings))
    assert not (tmp_path / "2").exists()


def test_a_loss_that_is_not_finite_stops_it(run, tmp_path, capsys):
    flags = ["--out", str(tmp_path / "out"), "--epochs", "2", "--batch-size", "8"]
    flags += ["--group-size", "4", "--lr", "1e18", "--head-lr", "1e18", "--json"]
    assert main(["finetune", run.folder, "--data", run.data, *flags]) == 2
    said = capsys.readouterr()
    last = said.err.splitlines()[-1]
    assert said.out == "" and "the run has diverged: at step" in last
    assert last.endswith("Use a smaller --lr, with another --out.")


def test_other_labels_or_test_images_are_refused_and_the_list_stays(run, tmp_path):
    (x_train, y_train), (x_test, y_test) = pictures(TRAIN, 0), pictures(TEST, 1)
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    data = save_npz(tmp_path / "data.npz", **arrays)
    of_data, out = SimpleNamespace(folder=run.folder, data=data), tmp_path / "out"
    finetune(config_of(of_data, out, label_fraction=0.5, epochs=1))
    chosen = (out / "labelled_images.txt").read_bytes()
    for name, array in (("y_train", (y_train + 1) % CLASSES), ("x_test", 255 - x_test)):
        save_npz(tmp_path / "data.npz", **arrays | {name: array})
        with pytest.raises(InputError, match=r"of other images: images \("):
            finetune(config_of(of_data, out, label_fraction=0.5, epochs=1))
        assert (out / "labelled_images.txt").read_bytes() == chosen


def test_a_folder_of_another_kind_is_called_so(run, whole, capsys):
    assert main(["finetune", str(whole.out), "--data", run.data]) == 2
    assert "not a pre-training run. Give the run, or the file" in capsys.readouterr().err
    assert main(["finetune", run.folder, "--data", run.data, "--out", run.folder]) == 2
    assert "holds a pre-training run. Use another --out." in capsys.readouterr().err


@pytest.mark.long
def test_two_devices_go_where_one_does(run, whole, tmp_path):
    """The first losses: single precision on groups of four tiny images soon differs by chance."""
    finetune(config_of(run, tmp_path / "out", devices=2))
    ours, wanted = (rows(out) for out in (tmp_path / "out", whole.out))
    assert [row["loss"] for row in ours[:4]] == pytest.approx(
        [row["loss"] for row in wanted[:4]], rel=1e-3
    )
    assert ours[2]["val_top1"] == wanted[2]["val_top1"]


@pytest.mark.slow
def test_a_fraction_takes_as_many_of_each_class_and_names_its_files(run, tmp_path, capsys):
    data = save_folder(tmp_path / "data", train=["ant", "bee", "cat"], val=["ant", "bee", "cat"])
    flags = ["--data", data, "--epochs", "1", "--batch-size", "8", "--group-size", "4", "--json"]
    assert main(["finetune", run.folder, *flags, "--label-fraction", "0.7"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary.keys() >= KEYS and summary["train_images"] == 6
    assert "0.7 of the labels" in summary["protocol"]
    out = Path(run.folder) / "finetune-0.7"
    _, *names = (out / "labelled_images.txt").read_text().splitlines()
    assert sorted(name.split("/")[-2] for name in names) == ["ant"] * 2 + ["bee"] * 2 + ["cat"] * 2
    assert main(["finetune", run.folder, *flags, "--label-fraction", "0.7", "--seed", "1"]) == 2
    assert "seed (0 there, 1 now)" in capsys.readouterr().err
    assert main(["knn", str(out / "encoder.safetensors"), "--data", data, "--json"]) == 0


def test_other_images_for_the_folder_are_refused(run, whole, tmp_path):
    x_train, y_train = pictures(TRAIN, 9)
    other = save_npz(tmp_path / "data.npz", x_train=x_train, y_train=y_train)
    run_of_other = SimpleNamespace(folder=run.folder, data=other)
    with pytest.raises(InputError, match=r"data \(.*there, .*now\)"):
        finetune(config_of(run_of_other, whole.out))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--label-fraction", "0"], "label_fraction='0'"),
        (["--label-fraction", "1.5"], "label_fraction='1.5'"),
        (["--epochs", "0"], "epochs='0'"),
        (["--lr", "-1"], "lr='-1'"),
        (
            ["--batch-size", "10", "--group-size", "4"],
            "group_size=4. Use --batch-size 8, or --group-size 2",
        ),
        (["--batch-size", "7"], "group_size=2. Use --batch-size 6"),
        (["--batch-size", "8", "--group-size", "4", "--devices", "3"], "devices=3"),
        (["--data", "/absent"], "data='/absent'"),
        (["--precision", "float8"], "precision='float8'"),
    ],
)
def test_bad_settings_are_one_line_and_exit_code_two(run, capsys, flags, message):
    assert main(["finetune", run.folder, *flags]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and message in lines[0]
