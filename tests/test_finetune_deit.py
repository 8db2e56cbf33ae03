"""Fine-tuning as DeiT does: the step against a naive twin, killed and resumed, on two devices."""

import math
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.labelled_run import CLASSES, SIDE, make_v3_run, save_npz
from support.runs import START, config, rows, wait_for_step

import moco_tf.evaluate.finetune
from moco_tf.commands.cli import main
from moco_tf.config import make_config
from moco_tf.distribute.strategy import make_strategy
from moco_tf.errors import InputError
from moco_tf.evaluate.finetune import finetune
from moco_tf.evaluate.finetune_config import finetune_recipe
from moco_tf.evaluate.finetune_network import build_network, layer_scales
from moco_tf.models.array_names import named_arrays
from moco_tf.runs import checkpoint
from moco_tf.runs.check import check_run
from moco_tf.runs.encoders import load_encoder
from moco_tf.runs.snapshot import load_snapshot
from moco_tf.training.signals import Interrupted

pytestmark = pytest.mark.usefixtures("compiled_once")

TINY = {
    "epochs": 3,
    "warmup_epochs": 1,
    "batch_size": 8,
    "group_size": 4,
    "log_every": 1,
    "checkpoint_every": 1,
    "lr_scaling": "absolute",
    "lr": 1e-3,
    "head_lr": 2e-3,
    "drop_path": 0.4,
    "layer_decay": 0.65,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with an untrained ViT of two blocks."""
    data = save_npz(tmp_path_factory.mktemp("data") / "data.npz")
    sizes = {"image_size": SIDE, "vit_depth": 2, "vit_width": 24}
    return make_v3_run(tmp_path_factory.mktemp("run"), data, "vit", **sizes)


def config_of(run, out, **changes):
    base = {"run": run.folder, "data": run.data, "run_dir": str(out)}
    return make_config(finetune_recipe("deit"), TINY | base | changes)


@pytest.fixture(scope="module")
def whole(run, compiled_once, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "deit"
    return SimpleNamespace(out=out, summary=finetune(config_of(run, out)))


def test_deits_numbers_are_the_recipes():
    found = make_config(finetune_recipe("deit"), {"batch_size": 512})
    assert found.rates == pytest.approx((5e-4, 5e-4))  # 5e-4 x batch / 512
    names = ("weight_decay", "warmup_epochs", "warmup_lr", "min_lr", "drop_path", "rand_augment")
    assert [getattr(found, name) for name in names] == [0.05, 5, 1e-6, 1e-5, 0.1, 9]
    names = ("mixup", "cutmix", "random_erasing", "label_smoothing", "epochs", "layer_decay")
    assert [getattr(found, name) for name in names] == [0.8, 1, 0.25, 0.1, 300, 1]


def test_rates_fall_from_layer_to_layer():
    names = ["tokens/cls_token", "patch_embed.proj/bias", "blocks.0.norm1/beta", "norm/gamma"]
    names += ["blocks.10.attn.qkv/kernel", "blocks.11.mlp.fc1/kernel", "head/kernel"]
    powers = [13, 13, 12, 0, 2, 1, 0]
    assert layer_scales(names, 0.5) == [0.5**power for power in powers]
    names = ["conv1/kernel", "bn1/beta", "layer1.1.conv2/kernel", "layer4.0.bn1/beta", "fc/bias"]
    assert layer_scales(names, 0.5) == [0.5**power for power in (5, 5, 4, 1, 0)]
    assert layer_scales(names, 1.0) is None


def test_steps_equal_the_naive_twin(run, tmp_path):
    """Mixed images, smoothed labels by Keras, AdamW in NumPy, decay of kernels only."""
    settings = config_of(run, tmp_path, drop_path=0.0)
    network = build_network(
        settings, load_snapshot(run.folder, warn=print), CLASSES, make_strategy(1)
    )
    twin, names = network.model, network.network.names
    twin = keras.models.clone_model(twin)
    twin.set_weights(network.model.get_weights())
    loss_of = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    generator = np.random.default_rng(0)
    mean, std = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2023, 0.1994, 0.2010])
    moments = {name: (0.0, 0.0) for name in names}
    for step, mix in enumerate([(0.3, 0.3, 0, 0, 0, 0), (1, 0.75, 2, 6, 0, 4)], 1):
        images = generator.integers(0, 256, (8, SIDE, SIDE, 3)).astype(np.uint8)
        labels = generator.integers(0, CLASSES, 8)
        rates = (1e-3, 2e-3)
        step_of = (tf.constant(images), tf.constant(labels), tf.constant(rates))
        found = network.train_step(*step_of, tf.constant(mix, tf.float32))
        mixed = mix[0] * images + (1 - mix[0]) * images[::-1].astype(np.float64)
        (top, bottom), (left, right) = mix[2:4], mix[4:]
        mixed[:, top:bottom, left:right] = images[::-1, top:bottom, left:right]
        hot = np.eye(CLASSES)[labels]
        with tf.GradientTape() as tape:
            logits = twin((mixed / 255 - mean) / std, training=True)
            loss = loss_of(mix[1] * hot + (1 - mix[1]) * hot[::-1], logits)
        assert float(found["step_loss"]) == pytest.approx(float(loss), rel=1e-5)
        gradients = tape.gradient(loss, [v.value for v in twin.trainable_variables])
        for name, variable, gradient in zip(
            names, twin.trainable_variables, gradients, strict=True
        ):
            first, second = moments[name]
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            moments[name] = first, second
            rate = rates[name.startswith("head")] * layer_scales(names, 0.65)[names.index(name)]
            decay = 0.05 if name.endswith("kernel") else 0.0
            change = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
            variable.assign(variable * (1 - rate * decay) - rate * change)
    for name, variable in zip(names, twin.trainable_variables, strict=True):
        if "norm" not in name and not name.endswith("bias"):  # rounding decides some zero gradients
            ours = network.network.variables[name].numpy()
            np.testing.assert_allclose(ours, variable.numpy(), rtol=0, atol=2e-5, err_msg=name)


def test_summary_rows_and_encoder(run, whole):
    logged = rows(whole.out)
    assert [row["step"] for row in logged] == list(range(1, 10))
    rates = [1e-6 + (1e-3 - 1e-6) * step / 3 for step in range(3)]
    rates += [1e-5 + (1e-3 - 1e-5) * 0.5 * (1 + math.cos(math.pi * n / 9)) for n in range(3, 9)]
    assert [row["lr"] for row in logged] == pytest.approx(rates)
    for words in ("AdamW", "rising over 1 epochs from 1e-06", "to 1e-05", "decay 0.05 of kernels"):
        assert words in whole.summary["protocol"]
    for words in ("RandAugment of magnitude 9", "mixup 0.8", "smoothing 0.1", "drop path 0.4"):
        assert words in whole.summary["protocol"]
    encoder, found, _ = load_encoder(whole.out / "encoder.safetensors", warn=print)
    assert (found.head, found.dim) == ("linear", CLASSES)
    arrays, _, _ = checkpoint.load(whole.out / "encoder.safetensors")
    names = {f"query_encoder/{name}" for name, _ in named_arrays(encoder.model)}
    assert arrays.keys() == names  # without the seeds of drop path


@pytest.mark.long
def test_interrupted_it_ends_in_the_same_arrays(run, whole, tmp_path, monkeypatch):
    original = moco_tf.evaluate.finetune.labelled_crops

    def crops(*args, **settings):
        for step, batch in enumerate(original(*args, **settings), 1):
            if step == 4:
                signal.raise_signal(signal.SIGTERM)
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(moco_tf.evaluate.finetune, "labelled_crops", crops)
        with pytest.raises(Interrupted, match="step 4"):
            finetune(config_of(run, tmp_path / "out"))
    summary = finetune(config_of(run, tmp_path / "out"))
    for name in ("state_sha256", "loss", "top1"):
        assert summary[name] == whole.summary[name]


@pytest.mark.slow
def test_killed_and_resumed_it_ends_in_the_same_arrays(run, whole, tmp_path):
    out = tmp_path / "out"
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    command = [sys.executable, "-c", START, "finetune", run.folder, "--data", run.data, *flags]
    process = subprocess.Popen(
        [*command, "--recipe", "deit", "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )
    wait_for_step(out, process, 2)
    process.kill()
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL and check_run(out)["whole"]
    assert finetune(config_of(run, out))["state_sha256"] == whole.summary["state_sha256"]


@pytest.mark.slow
def test_two_devices_go_where_one_does(run, whole, tmp_path):
    summary = finetune(config_of(run, tmp_path / "out", devices=2))
    ours, wanted = (rows(out) for out in (tmp_path / "out", whole.out))
    assert [r["loss"] for r in ours] == pytest.approx([r["loss"] for r in wanted], rel=1e-4)
    assert summary["top1"] == whole.summary["top1"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--recipe", "beit"], "recipe='beit'"),
        (["--epochs", "3"], "warmup_epochs must be less than epochs=3; received warmup_epochs=5"),
        (["--momentum", "0.5"], "momentum has no effect with optimizer=adamw"),
        (["--mixup", "-1"], "mixup='-1'"),
        (["--label-smoothing", "1"], "label_smoothing='1'"),
        (["--drop-path", "1"], "drop_path='1'"),
        (["--rand-augment", "11"], "rand_augment='11'"),
        (["--layer-decay", "0"], "layer_decay='0'"),
        (["--recipe", "plain", "--warmup-lr", "0.1"], "no effect without a warm-up"),
    ],
)
def test_bad_settings_are_one_line_and_exit_code_two(capsys, flags, message):
    flags = ["finetune", "absent", "--recipe", "deit", *flags]
    assert main(flags) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and message in lines[0]


@pytest.mark.parametrize(
    ("encoder", "changes", "message"),
    [
        ("resnet18", {}, "drop_path is of ViTs; received drop_path=0.1 with encoder=resnet18"),
        ("keras:MobileNet", {"layer_decay": 0.5, "drop_path": 0}, "layer_decay is of ResNets"),
    ],
)
def test_what_an_encoder_has_no_layers_for_is_refused(encoder, changes, message):
    pretraining = config("shapes", "x", encoder=encoder)
    with pytest.raises(InputError, match=message):
        make_config(finetune_recipe("deit"), changes).check_encoder(pretraining)
