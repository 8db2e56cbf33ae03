"""The linear probe: its step, its loop, and a whole run probed from the command line."""

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.labelled_run import CLASSES, TEST, TRAIN, make_run, pictures, save_folder, save_npz
from support.naive_classifier import naive_steps
from support.runs import START, rows, wait_for_step
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import moco_tf.data.sources
import moco_tf.evaluate.probe
from moco_tf.commands.cli import main
from moco_tf.config import make_config
from moco_tf.distribute.strategy import make_strategy
from moco_tf.errors import DivergedError, InputError
from moco_tf.evaluate import classifier
from moco_tf.evaluate.classifier import evaluate, means
from moco_tf.evaluate.linear import LinearProbe, backbone_digest
from moco_tf.evaluate.probe import _rates, probe
from moco_tf.evaluate.probe_config import ProbeConfig, official_probe
from moco_tf.evaluate.probe_report import BackboneChangedError, advice
from moco_tf.files.digests import read_json
from moco_tf.models.batch_norm import GroupBatchNorm
from moco_tf.recipes import RECIPES
from moco_tf.runs import checkpoint
from moco_tf.runs import folder as run_folder
from moco_tf.runs.check import check_run
from moco_tf.runs.config_file import read_config
from moco_tf.training.signals import Interrupted

pytestmark = pytest.mark.usefixtures("shallow", "encoders_once")

SETTINGS = {"epochs": 3, "batch_size": 8, "lr": (3.0, 0.3), "log_every": 1, "checkpoint_every": 1}
KEYS = {"top1", "top5", "top1_best", "classes", "train_images", "test_images", "protocol"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run, and its data: 20 + 9 images."""
    data = save_npz(tmp_path_factory.mktemp("data") / "data.npz")
    return make_run(tmp_path_factory.mktemp("run"), data)


def config_of(run, out, **changes):
    base = {"run": run.folder, "data": run.data, "run_dir": str(out)}
    return make_config(ProbeConfig(run=""), SETTINGS | base | changes)


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "probe"
    return SimpleNamespace(out=out, summary=probe(config_of(run, out)))


# The step, on a backbone that is quick to compile


@pytest.fixture
def build():
    """Returns a function: number of devices -> LinearProbe on the same small backbone."""

    def build(devices, rates=2):
        strategy = make_strategy(devices)
        init = [keras.initializers.RandomNormal(seed=seed) for seed in (1, 2)]
        with strategy.scope():
            inputs = keras.Input((4, 4, 3))
            x = keras.layers.Conv2D(5, 3, kernel_initializer=init[0], name="conv")(inputs)
            x = GroupBatchNorm(group_size=2, name="bn")(x)
            outputs = keras.layers.GlobalAveragePooling2D(name="pool")(x)
            backbone = keras.Model(inputs, outputs)
        return LinearProbe(
            backbone, strategy=strategy, heads=rates, classes=4, seed=3,
            preprocess=lambda images: tf.cast(images, tf.float32) / 16,
        )  # fmt: skip

    return build


def small_batches(steps=3):
    """The last batch has but five images: it is filled up with labels of -1."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (steps, 8, 4, 4, 3)).astype(np.uint8)
    labels = generator.integers(0, 4, (steps, 8))
    labels[-1, 5:] = -1
    return images, labels


def test_steps_equal_the_naive_twin_and_leave_the_backbone_alone(build):
    linear = build(1)
    before = {v.path: v.numpy() for v in linear.backbone.variables}
    digest = backbone_digest(linear.backbone)
    images, labels = small_batches()
    features = [
        linear.backbone(x.astype(np.float32) / 16, training=False).numpy().astype(np.float64)
        for x in images
    ]
    rates = np.array([[2.0, 0.5], [2.0, 0.5], [0.2, 0.05]], np.float32)
    start = classifier.initial_kernel(5, 4, seed=3).numpy().astype(np.float64)
    losses = []
    for x, y, rate in zip(images, labels, rates, strict=True):
        sums = linear.train_step(tf.constant(x), tf.constant(y), tf.constant(rate))
        assert float(sums["images"]) == np.sum(y >= 0)
        losses.append(means(sums)["loss"])
    for head in (0, 1):
        kernel, bias, wanted = naive_steps(
            start, np.zeros(4), zip(features, labels, strict=True), rates[:, head]
        )
        np.testing.assert_allclose(linear.kernels[head], kernel, atol=2e-6)
        np.testing.assert_allclose(linear.biases[head], bias, atol=2e-6)
        np.testing.assert_allclose(np.array(losses)[:, head], wanted, rtol=1e-5)
    for variable in linear.backbone.variables:
        np.testing.assert_array_equal(variable.numpy(), before[variable.path])
    assert backbone_digest(linear.backbone) == digest


def test_exactly_two_tensors_are_trainable(build):
    linear = build(1)
    assert linear.backbone.trainable_variables == []
    trainable = {name for name, v in linear.state().items() if v.trainable}
    assert trainable == {"fc/kernel", "fc/bias"}


def test_several_heads_equal_separate_probes(build):
    images, labels = (tf.constant(a) for a in small_batches())
    together, alone = build(1, rates=3), [build(1, rates=1) for _ in range(3)]
    rates = [3.0, 1.0, 0.1]
    for x, y in zip(images, labels, strict=True):
        together.train_step(x, y, tf.constant(rates))
        for linear, rate in zip(alone, rates, strict=True):
            linear.train_step(x, y, tf.constant([rate]))
    for name, variable in together.state().items():
        for head, linear in enumerate(alone):
            np.testing.assert_allclose(variable[head], linear.state()[name][0], atol=1e-6)


@pytest.mark.parametrize("devices", [2, 4])
def test_devices_agree(build, devices):
    one, several = build(1), build(devices)
    images, labels = (tf.constant(a) for a in small_batches())
    rates = tf.constant([3.0, 0.3])
    for x, y in zip(images, labels, strict=True):
        wanted, found = (linear.train_step(x, y, rates) for linear in (one, several))
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)
    for name, variable in one.state().items():
        np.testing.assert_allclose(several.state()[name].numpy(), variable.numpy(), atol=1e-5)
    batches = [(images[0], labels[0]), (images[2], labels[2])]
    wanted, found = (evaluate(linear.evaluate_step, batches) for linear in (one, several))
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name


def test_evaluation_counts_each_image_once(build):
    linear = build(1, rates=1)
    images, labels = small_batches()
    found = evaluate(linear.evaluate_step, zip(images, labels, strict=True))
    features = linear.backbone(images.reshape(-1, 4, 4, 3).astype(np.float32) / 16, training=False)
    scores = np.asarray(features) @ linear.kernels[0].numpy()
    real = labels.reshape(-1) >= 0
    wanted = np.argmax(scores, axis=1)[real] == labels.reshape(-1)[real]
    assert found["top1"] == pytest.approx([100 * wanted.mean()])
    assert found["top5"] == [100.0]  # four classes


# The loop


def test_summary_metrics_and_curves(whole):
    summary = whole.summary
    assert read_json(whole.out / "summary.json") == summary
    found = check_run(whole.out)
    assert found["whole"] and all(file["carried"] for file in found["files"])
    assert found["state_sha256"] == summary["state_sha256"] and found["unknown"] == []
    assert summary.keys() >= KEYS | {"lr", "heads", "advice", "state_sha256", "encoder_step"}
    assert (summary["classes"], summary["train_images"], summary["test_images"]) == (3, 20, 9)
    assert (summary["step"], summary["encoder_step"], summary["top5"]) == (9, 7, 100.0)
    assert [head["lr"] for head in summary["heads"]] == [3.0, 0.3]
    best = max(summary["heads"], key=lambda head: head["top1"])
    assert {name: summary[name] for name in best} == best
    assert all(head["top1_best"] >= head["top1"] for head in summary["heads"])
    logged = rows(whole.out)
    assert [row["step"] for row in logged] == list(range(1, 10))  # 8 + 8 + 4 images an epoch
    assert [row["lr"] for row in logged] == pytest.approx([3] * 6 + [0.03] * 3)
    assert [row["step"] for row in logged if "val_top1" in row] == [3, 6, 9]
    last = logged[-1]
    assert last["val_top1_lr3"] == summary["heads"][0]["top1"]
    assert last["val_top1_lr0.3"] == summary["heads"][1]["top1"]
    curves = EventAccumulator(str(whole.out / "tensorboard")).Reload()
    tags = set(curves.Tags()["tensors"])
    assert {"train/loss", "train/top1", "val/top1", "val/top5", "val/top1_lr0.3"} <= tags


def test_protocol_says_what_was_done(whole):
    text = whole.summary["protocol"]
    for words in (
        "pooled features of the query encoder at step 7, frozen and in inference mode",
        "x0.1 at epochs 2 and 2 of 3",
        "batch 8 with the last partial batch kept",
        "all 9 test images",
        "chosen among 3, 0.3",
        "on these same test images",
    ):
        assert words in text


def test_the_official_numbers_are_the_defaults():
    config = ProbeConfig(run="r")
    assert (config.epochs, config.lr, config.batch_size, config.drops) == (
        100,
        (30,),
        256,
        (60, 80),
    )
    assert (classifier.MOMENTUM, classifier.WEIGHT_DECAY) == (0.9, 0)
    assert config.model_copy(update={"epochs": 10}).drops == (6, 8)
    assert make_config(config, {"milestones": "3,4"}).drops == (3, 4)


@pytest.mark.parametrize(("recipe", "rate"), [("moco-v3-r50-100ep", 0.4), ("moco-v3-vit-s", 12)])
def test_after_moco_v3_its_protocol_is_the_default(recipe, rate):
    config = official_probe(RECIPES[recipe].config)
    assert (config.epochs, config.batch_size, config.schedule) == (90, 1024, "cosine")
    assert config.rates == pytest.approx([rate])
    ours = [_rates(config, 100 * epoch + 99, 100)[0] for epoch in (0, 30, 45, 89)]
    wanted = [rate * 0.5 * (1 + np.cos(np.pi * epoch / 90)) for epoch in (0, 30, 45, 89)]
    assert ours == pytest.approx(wanted, rel=1e-12)
    assert make_config(config, {"batch_size": 256, "lr": 5}).rates == (5,)
    assert official_probe(RECIPES["moco-v2"].config) == ProbeConfig(run="")


@pytest.mark.golden
def test_the_rates_are_the_recorded_ones(golden):
    z, name = golden("schedules"), "lincls/lr_per_epoch"
    recorded, c = z[name], json.loads(str(z["meta_json"]))["config"][name]
    fields = {"epochs": c["epochs"], "lr": (c["lr"],), "milestones": tuple(c["schedule"])}
    config, epochs = ProbeConfig(run="r", **fields), c["epoch_first"] + np.arange(c["n"])
    ours = [_rates(config, 5005 * epoch + 17, 5005)[0] for epoch in epochs]
    np.testing.assert_allclose(ours, recorded, rtol=1e-12)


def test_the_reported_head_stands_alone_with_its_classes(run, whole):
    arrays, step, extra = checkpoint.load(whole.out / "checkpoints/head.safetensors")
    state, *_ = checkpoint.load_latest(whole.out / "checkpoints", warn=print)
    number = [head["lr"] for head in whole.summary["heads"]].index(whole.summary["lr"])
    np.testing.assert_array_equal(arrays["fc/kernel"], state["fc/kernel"][number])
    np.testing.assert_array_equal(arrays["fc/bias"], state["fc/bias"][number])
    assert (step, extra["lr"]) == (9, whole.summary["lr"])


def interrupt_at(monkeypatch, wanted, number):
    """Signal `number` arrives while the batch of step `wanted` (from this start) is made."""
    original = moco_tf.evaluate.probe.labelled_crops

    def crops(*args, **settings):
        for step, batch in enumerate(original(*args, **settings), 1):
            if step == wanted:
                os.kill(os.getpid(), number)
            yield batch

    monkeypatch.setattr(moco_tf.evaluate.probe, "labelled_crops", crops)


def assert_same_rows(out, other):
    logged, wanted = (rows(folder) for folder in (out, other))
    for name in ("step", "loss", "val_top1", "val_top1_lr0.3"):
        assert [row.get(name) for row in logged] == [row.get(name) for row in wanted]


def test_interrupted_twice_it_ends_in_the_same_arrays(run, whole, tmp_path):
    """In the middle of an epoch and at the end of one; rows are neither lost nor doubled."""
    for wanted, number, at in ((2, signal.SIGINT, 2), (4, signal.SIGTERM, 6)):
        with pytest.MonkeyPatch.context() as patch:
            interrupt_at(patch, wanted, number)
            with pytest.raises(Interrupted, match=f"step {at}") as stopped:
                probe(config_of(run, tmp_path / "out"))
            assert stopped.value.exit_code == 128 + number
    summary = probe(config_of(run, tmp_path / "out"))
    assert summary["state_sha256"] == whole.summary["state_sha256"]
    assert summary["heads"] == whole.summary["heads"]
    assert_same_rows(tmp_path / "out", whole.out)
    again = probe(config_of(run, tmp_path / "out"))  # nothing is left to do
    assert again["state_sha256"] == summary["state_sha256"] and again["top1"] == summary["top1"]


@pytest.mark.slow
def test_killed_and_resumed_it_ends_in_the_same_arrays(run, whole, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-c", START, "probe", run.folder, "--data", run.data]
    flags = ["--epochs", "3", "--batch-size", "8", "--lr", "3", "0.3", "--out", str(out)]
    process = subprocess.Popen(
        [*command, *flags, "--log-every", "1", "--checkpoint-every", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )
    wait_for_step(out, process, 1)
    process.kill()
    process.communicate(timeout=120)
    assert check_run(out)["whole"]
    summary = probe(config_of(run, out))
    assert summary["state_sha256"] == whole.summary["state_sha256"]


@pytest.mark.slow
def test_two_devices_end_where_one_does(run, whole, tmp_path):
    summary = probe(config_of(run, tmp_path / "out", devices=2))
    ours, *_ = checkpoint.load_latest(tmp_path / "out/checkpoints", warn=print)
    wanted, *_ = checkpoint.load_latest(whole.out / "checkpoints", warn=print)
    for name, array in wanted.items():
        np.testing.assert_allclose(ours[name], array, atol=1e-5 * max(1, np.abs(array).max()))
    assert summary["top1"] == whole.summary["top1"]


def spoiled_at(monkeypatch, steps):
    """The step of these numbers (from this start on) ends with a loss of NaN, by head."""
    original = LinearProbe.train_step

    def train_step(self, images, labels, rates):
        sums = dict(original(self, images, labels, rates))
        heads = steps.get(next(numbers), ())
        if heads:
            nan = tf.constant([np.nan if h in heads else 0.0 for h in range(len(rates))])
            sums["loss"] = sums["loss"] + nan
            loss = classifier.best_loss(sums)
            broken = tf.cast(tf.math.is_nan(loss), tf.int64)
            sums |= {"step_loss": loss, "first_nonfinite": broken}
        return sums

    numbers = itertools.count(1)
    monkeypatch.setattr(LinearProbe, "train_step", train_step)


def test_it_stops_where_no_classifier_has_a_finite_loss(run, tmp_path, monkeypatch):
    spoiled_at(monkeypatch, {2: (0,), 5: (0, 1)})
    said = r"at step 5, .*the losses of all classifiers .*step 4 is kept\. Use a smaller --lr"
    with pytest.raises(DivergedError, match=said):
        probe(config_of(run, tmp_path / "out"))
    found = check_run(tmp_path / "out")
    assert found["whole"] and found["step"] == 4


@pytest.mark.slow
def test_an_evaluation_is_interrupted_and_made_up_at_the_next_start(
    run, whole, tmp_path, monkeypatch
):
    original = LinearProbe.evaluate_step

    def stopped_in(self, images, labels):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(self, images, labels)

    with monkeypatch.context() as patch:
        patch.setattr(LinearProbe, "evaluate_step", stopped_in)
        with pytest.raises(Interrupted, match="step 3"):
            probe(config_of(run, tmp_path / "out"))
    saved = checkpoint.load_latest(tmp_path / "out/checkpoints", warn=print)
    assert saved[1] == 3 and saved[2]["evaluation_due"] and saved[2]["top1"] is None
    summary = probe(config_of(run, tmp_path / "out"))
    assert summary["state_sha256"] == whole.summary["state_sha256"]
    assert_same_rows(tmp_path / "out", whole.out)


def test_a_changed_backbone_stops_the_probe(run, tmp_path, monkeypatch, capsys):
    original = LinearProbe.evaluate_step

    def evaluate_step(self, images, labels):
        statistics = self.backbone.get_layer("bn1").moving_mean
        statistics.assign(statistics + 1e-6)
        return original.__get__(self, LinearProbe)(images, labels)

    monkeypatch.setattr(LinearProbe, "evaluate_step", evaluate_step)
    with pytest.raises(BackboneChangedError, match="changed in the first epoch"):
        probe(config_of(run, tmp_path / "out"))
    flags = ["--data", run.data, "--epochs", "1", "--out", str(tmp_path / "b")]
    assert main(["probe", run.folder, *flags]) == 1
    assert "must leave it bit-identical" in capsys.readouterr().err.splitlines()[-1]


def test_another_encoder_or_rate_for_the_folder_is_refused_by_name(run, whole, tmp_path):
    with pytest.raises(InputError, match=r"lr \(\[3.0, 0.3\] there, \[1.0\] now\).*--out"):
        probe(config_of(run, whole.out, lr=(1.0,)))
    state = run.state | {"query_encoder/bn1/beta": run.state["query_encoder/bn1/beta"] + 1}
    moved = tmp_path / "moved"
    run_folder.claim(moved, read_config(run.folder))
    checkpoint.save(run_folder.checkpoint_folder(moved), state, step=8, extra={})
    with pytest.raises(InputError, match=r"encoder_step \(7 there, 8 now\).*--out"):
        probe(config_of(SimpleNamespace(folder=str(moved), data=run.data), whole.out))


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        # rate, top-1, loss; ten classes: guessing has loss log 10 = 2.3
        ([(30, 80.0, 0.6)], []),
        ([(30, 80.0, 22.9)], []),
        ([(30, 80.0, 463.2)], ["ends at 463; that of guessing is 2.3:", "--lr 30 9 3 0.9 "]),
        ([(30, 10.0, None)], ["rate 30 the loss is not a number any more", "--lr 30 9 3 0.9 with"]),
        ([(30, 70.0, 0.6), (10, 80.0, 0.5), (3, 75.0, 0.7)], []),
        ([(30, 70.0, 900.0), (10, 80.0, 0.5), (3, 75.0, 0.7)], []),
        ([(3, 75.0, 0.7), (30, 81.0, 0.6), (10, 80.0, 0.5)], ["largest", "--lr 30 90 300 900 "]),
        (
            [(30, 70.0, 0.9), (3, 75.0, 0.7)],
            ["smallest of the learning rates, 3", "--lr 3 0.9 0.3"],
        ),
        ([(30, 70.0, 950.0), (3, 75.0, 30.0)], ["ends at 30; ", "--lr 3 0.9 0.3 0.09 with"]),
        ([(30, 100.0, 0.1), (3, 100.0, 0.1)], []),  # the sweep is flat
        ([(30, 100.0, 0.1), (10, 100.0, 0.1), (3, 90.0, 0.1)], []),  # not the edge alone
        ([(30, 10.0, None), (3, 10.0, None)], ["rate 30 the loss is not a number", "--lr 3 0.9"]),
    ],
)
def test_advice_names_a_rate_at_the_edge_or_too_large_and_what_to_try(heads, expected):
    named = [dict(zip(("lr", "top1", "loss"), head, strict=True)) for head in heads]
    found = advice(named, 10)
    assert len(found) == bool(expected)
    assert all(part in found[0] for part in expected)


# The command line


@pytest.mark.slow
@pytest.mark.parametrize("trained", [False, pytest.param(True, marks=pytest.mark.long)])
def test_probe_and_quick_probe_of_a_shapes_run(tmp_path, monkeypatch, capsys, trained):
    monkeypatch.setattr(moco_tf.data.sources, "SHAPES_TRAIN", 64)
    monkeypatch.setattr(moco_tf.data.sources, "SHAPES_TEST", 32)
    folder = str(tmp_path / "run")
    if trained:
        tiny = "--width 4 --image-size 16 --batch-size 32 --group-size 16 --epochs 1"
        assert main(["pretrain", "shapes", "--run-dir", folder, *tiny.split()]) == 0
        capsys.readouterr()
    else:
        make_run(tmp_path / "run", "shapes", image_size=16)
    assert main(["probe", folder, "--data", "shapes", "--epochs", "2", "--json"]) == 0
    printed = capsys.readouterr()
    official = json.loads(printed.out)
    assert official.keys() >= KEYS
    assert (official["classes"], official["train_images"], official["test_images"]) == (8, 64, 32)
    assert "linear probe of" in printed.err
    assert (tmp_path / "run/probe/summary.json").exists()
    assert main(["probe", folder, "--quick", "--json"]) == 0
    quick = json.loads(capsys.readouterr().out)
    assert quick.keys() >= KEYS and quick["top1"] == quick["top1_best"] <= quick["top5"]
    assert "Ridge regression" in quick["protocol"] and not quick["features_cached"]
    assert main(["probe", folder, "--quick", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["features_cached"]
    assert {n: v for n, v in again.items() if n not in ("seconds", "features_cached")} == {
        n: v for n, v in quick.items() if n not in ("seconds", "features_cached")
    }


@pytest.mark.slow
def test_quick_probe_tells_levels_of_gray_apart_and_notices_other_pixels(run, tmp_path, capsys):
    command = ["probe", run.folder, "--quick", "--json", "--out", str(tmp_path / "q"), "--data"]
    x_train, y_train = pictures(60, 2)
    more = save_npz(tmp_path / "more.npz", x_train=x_train, y_train=y_train)
    assert main([*command, more]) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["top1"] >= 8 / 9 * 100 and first["top5"] == 100.0
    kept = read_json(tmp_path / "q/baselines.json")
    baselines = {"untrained": first["top1_untrained"], "pixels": first["top1_pixels"]}
    assert list(kept.values()) == [baselines]
    assert first["top1_pixels"] > 100 / 3 and first["untrained_seed"] == 0
    other = save_npz(
        tmp_path / "other.npz", x_train=x_train, y_train=y_train, x_test=pictures(TEST, 5)[0]
    )
    command[3:3] = ["--no-baselines"]
    assert main([*command, other]) == 0
    second = json.loads(capsys.readouterr().out)
    assert not second["features_cached"] and second["top1_untrained"] is None
    cache = tmp_path / "q/features.safetensors"
    cache.write_bytes(cache.read_bytes()[:-8])
    assert main([*command, other]) == 0
    printed = capsys.readouterr()
    assert not json.loads(printed.out)["features_cached"]
    assert "computed again" in printed.err


@pytest.mark.parametrize("quick", [[], ["--quick"]])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_train": None, "y_test": None}, "needs labels"),
        ({"y_test": None}, "needs labelled test images"),
        ({"x_test": None, "y_test": None}, "needs labelled test images"),
        ({"y_test": np.arange(TEST)}, "test label '3'"),
        ({"y_train": np.zeros(TRAIN, int), "y_test": np.zeros(TEST, int)}, "at least 2 classes"),
    ],
)
def test_bad_data_is_one_line_and_exit_code_two(run, tmp_path, capsys, quick, changes, message):
    data = save_npz(tmp_path / "bad.npz", **changes)
    out = tmp_path / "out"
    assert main(["probe", run.folder, "--data", data, "--out", str(out), *quick]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("moco-tf: error: ") and message in lines[-1]
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--lr", "0"], "lr='0'"),
        (["--lr", "30", "-1"], "lr='-1'"),
        (["--lr", "nan"], "lr='nan'"),
        (["--lr", "inf"], "lr='inf'"),
        (["--lr", "fast"], "lr='fast'"),
        (["--lr", "3", "3.0"], "3 twice"),
        (["--epochs", "0"], "epochs='0'"),
        (["--batch-size", "0"], "batch_size='0'"),
        (["--batch-size", "10", "--devices", "4"], "--batch-size 12"),
        (["--milestones", "x"], "milestones"),
        (["--schedule", "cosine", "--milestones", "3"], "no effect with schedule=cosine"),
        (["--schedule", "linear"], "schedule='linear'"),
        (["--seed", "-1"], "seed='-1'"),
        (["--quick", "--lr", "3"], "takes no --lr"),
        (["--no-baselines"], "--no-baselines is for --quick"),
        (["--quick", "--epochs", "3"], "takes no --epochs"),
    ],
)
def test_bad_settings_are_one_line_and_exit_code_two(run, capsys, flags, message):
    assert main(["probe", run.folder, *flags]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and message in lines[0]


@pytest.mark.parametrize("quick", [[], ["--quick"]])
def test_the_folder_of_pretraining_is_not_written_to(run, capsys, quick):
    assert main(["probe", run.folder, "--out", run.folder, *quick]) == 2
    assert run.folder in capsys.readouterr().err.splitlines()[-1]
    found = {path.name for path in Path(run.folder).iterdir()} - {"probe", "probe-quick", ".lock"}
    assert found == {"config.json", "versions.json", "checkpoints"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_has_its_exit_code(run, monkeypatch, capsys, number, code):
    def interrupted(*args, **settings):
        raise Interrupted(number, 5)

    monkeypatch.setattr(moco_tf.evaluate.probe, "probe", interrupted)
    assert main(["probe", run.folder]) == code
    assert "interrupted at step 5; saved" in capsys.readouterr().err


def test_what_is_no_run_leaves_nothing_behind(run, tmp_path, capsys):
    empty = tmp_path / "empty"
    run_folder.claim(empty, read_config(run.folder))
    for folder, message in ((tmp_path / "absent", "not a run folder"), (empty, "no checkpoint")):
        for quick in ([], ["--quick"]):
            assert main(["probe", str(folder), *quick]) == 2
            assert message in capsys.readouterr().err
    assert not (tmp_path / "absent").exists()
    assert sorted(path.name for path in empty.iterdir()) == ["config.json", "versions.json"]


@pytest.mark.slow
def test_class_folders_are_probed_with_their_names(run, tmp_path, capsys):
    data = save_folder(tmp_path / "data", train=["ant", "bee", "cat"], val=["ant", "bee", "cat"])
    out = tmp_path / "out"
    flags = ["--data", data, "--epochs", "2", "--lr", "1", "--out", str(out), "--json"]
    assert main(["probe", run.folder, *flags]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["classes"], summary["train_images"], summary["test_images"]) == (3, 9, 9)
    assert "chosen among" not in summary["protocol"]
    _, _, extra = checkpoint.load(out / "checkpoints/head.safetensors")
    assert extra["class_names"] == ["ant", "bee", "cat"]
    quick = ["--data", data, "--quick", "--no-baselines", "--out", str(tmp_path / "quick")]
    for cached in (False, True):
        assert main(["probe", run.folder, *quick, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["top1"], found["features_cached"]) == (100.0, cached)
    os.utime(tmp_path / "data/val/cat/1.jpg", ns=(1, 1))  # a file that has been written again
    assert main(["probe", run.folder, *quick, "--json"]) == 0
    assert not json.loads(capsys.readouterr().out)["features_cached"]


@pytest.mark.parametrize(
    ("train", "val", "words"),
    [
        (["ant", "bee", "cat"], ["bee", "cat", "dog"], ("'ant'", "'dog'")),
        (["ant", "bee", "cat"], ["bee", "cat"], ("'ant' is in the training images only",)),
        (["bee", "cat"], ["bee", "cat", "dog"], ("'dog'",)),
        (["bee", "cat"], ["."], ("images in no class folder",)),
    ],
)
def test_class_folders_that_differ_are_named(run, tmp_path, capsys, train, val, words):
    data = save_folder(tmp_path / "data", train=train, val=["bee"] if val == ["."] else val)
    if val == ["."]:
        for path in (tmp_path / "data/val/bee").iterdir():
            path.rename(tmp_path / "data/val" / path.name)
    assert main(["probe", run.folder, "--data", data]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert all(word in line for word in words), line


@pytest.mark.slow
def test_a_file_that_goes_bad_is_named_and_one_that_was_bad_is_told(run, tmp_path, capsys):
    data = save_folder(tmp_path / "data", train=["ant", "bee", "cat"], val=["ant", "bee", "cat"])
    (tmp_path / "data" / "train" / "ant" / "bad.png").write_bytes(b"no image")
    broken = sorted((tmp_path / "data" / "train" / "bee").iterdir())[0]
    original = moco_tf.evaluate.probe.labelled_crops

    def crops(*args, **settings):
        for step, batch in enumerate(original(*args, **settings), 1):
            if step == 2:
                broken.write_bytes(b"no image")
            yield batch

    out = tmp_path / "out"
    flags = ["--data", data, "--out", str(out), "--batch-size", "4", "--max-bad-images", "0.5"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moco_tf.evaluate.probe, "labelled_crops", crops)
        assert main(["probe", run.folder, *flags]) == 2
    said = capsys.readouterr()
    last = said.err.strip().splitlines()[-1]
    assert f"{broken} could not be read" in last and "which is saved" in last
    assert "skipped 1 unreadable images: " in said.out and "bad.png" in said.out
    assert list((out / "checkpoints").glob("step-*"))


def test_other_labels_for_the_folder_are_refused(run, tmp_path):
    (x_train, y_train), (x_test, y_test) = pictures(TRAIN, 0), pictures(TEST, 1)
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    of_data = SimpleNamespace(folder=run.folder, data=save_npz(tmp_path / "d.npz", **arrays))
    probe(config_of(of_data, tmp_path / "out", epochs=1))
    save_npz(tmp_path / "d.npz", **arrays | {"y_test": (y_test + 1) % CLASSES})
    with pytest.raises(InputError, match=r"of other images: images \("):
        probe(config_of(of_data, tmp_path / "out", epochs=1))
