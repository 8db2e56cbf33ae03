"""A whole run of MoCo v3: what it logs, killed and resumed, on several devices."""

import math
import random
import signal
import time
from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from support.runs import V3, config, metrics, start, wait_for_step

import moco_tf
from moco_tf.building import build_method, build_schedules
from moco_tf.distribute.strategy import make_strategy
from moco_tf.errors import InputError
from moco_tf.evaluate.finetune import finetune
from moco_tf.evaluate.finetune_config import FinetuneConfig
from moco_tf.pretraining import pretrain
from moco_tf.runs.check import check_run
from moco_tf.runs.checkpoint import load_latest
from moco_tf.runs.encoders import load_encoder, untrained_encoder

pytestmark = pytest.mark.usefixtures("shallow", "compiled_once")


NAMES = {"x": "images", "y": "labels"}


@pytest.fixture(scope="module")
def vit_run(shallow, compiled_once, data, tmp_path_factory):
    """Folder and summary of a run that nothing interrupted."""
    run_dir = tmp_path_factory.mktemp("runs") / "vit"
    return run_dir, pretrain(config(data, run_dir, *V3["vit"]))


@pytest.mark.slow
def test_rate_and_momentum_change_at_every_step(vit_run):
    """Three epochs of three steps, the first of them the warm-up, from 0."""
    rows = metrics(vit_run[0])
    times = [step / 3 for step in range(9)]
    peak = 0.01 * 16 / 256
    rates = [
        peak * t if t < 1 else peak * 0.5 * (1 + math.cos(math.pi * (t - 1) / 2)) for t in times
    ]
    momenta = [1 - 0.01 * 0.5 * (1 + math.cos(math.pi * t / 3)) for t in times]
    assert [row["lr"] for row in rows] == pytest.approx(rates, rel=1e-12)
    assert [row["momentum"] for row in rows] == pytest.approx(momenta, rel=1e-12)


def test_the_constant_momentum_is_told_too(data):
    schedules = build_schedules(config(data, "x", *V3["vit"], momentum_schedule="constant"), 3)
    assert list(schedules) == ["lr", "momentum"] and schedules["momentum"](8) == 0.99


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_the_patches_share_of_the_gradient(data, frozen):
    settings = {"precision": "float64", "freeze_patch_projection": frozen}
    changed = config(data, "x", *V3["vit"], **settings)
    method = build_method(changed, make_strategy(1))
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 16, 3), np.uint8)
    step = partial(method.train_step, details=True)
    scalars, details = step(*images, tf.constant(0.0), tf.constant(0.99, tf.float64))
    if frozen:
        assert "patch_gradient_share" not in scalars
        return
    norms = [np.linalg.norm(gradient) for gradient in details["gradients"]]
    patches = [
        norm
        for norm, name in zip(norms, method.query.names, strict=True)
        if name in ("patch_embed.proj/kernel", "patch_embed.proj/bias")
    ]
    assert len(patches) == 2
    share = np.linalg.norm(patches) / np.linalg.norm(norms)
    np.testing.assert_allclose(scalars["patch_gradient_share"], share, rtol=1e-12)


@pytest.mark.slow
def test_a_checkpoint_has_all_that_adamw_keeps(vit_run):
    state, step, _ = load_latest(vit_run[0] / "checkpoints", warn=print)
    assert state["optimizer_steps"] == step == 9
    slots = {name.split("/")[0] for name in state} - {"query_encoder", "key_encoder"}
    assert slots == {"exp_avg", "exp_avg_sq", "optimizer_steps"}
    trained = [name.partition("/")[2] for name in state if name.startswith("exp_avg/")]
    frozen = {"patch_embed.proj/kernel", "patch_embed.proj/bias"}
    assert not frozen & set(trained)  # the recipe freezes it
    for name in frozen:  # which the key encoder has too, but for its updates' rounding
        both = (state[f"{side}_encoder/{name}"] for side in ("query", "key"))
        np.testing.assert_allclose(*both, rtol=1e-5)


@pytest.mark.slow
def test_a_run_in_pieces_ends_in_the_same_arrays(vit_run, data, tmp_path):
    for stop in (4, None):
        summary = pretrain(config(data, tmp_path / "run", *V3["vit"], max_steps=stop))
    assert summary["state_sha256"] == vit_run[1]["state_sha256"]


@pytest.mark.long
def test_a_run_in_microbatches_is_the_run_and_ends_alike_in_pieces(data, tmp_path):
    """In float64. A run may go on with another number of them."""
    states, changes = {}, {"precision": "float64", "optimizer": "lars", "recompute": True}
    for name, pieces in {"cached": [4], "in pieces": [4, 4], "mixed": [1, 4]}.items():
        for stop, microbatches in zip((4, None)[-len(pieces) :], pieces, strict=True):
            changes |= {"accumulation_steps": microbatches, "max_steps": stop}
            pretrain(config(data, tmp_path / name, *V3["vit"], **changes))
        states[name] = load_latest(tmp_path / name / "checkpoints", warn=print)[0]
    for name, array in states["cached"].items():
        np.testing.assert_array_equal(states["in pieces"][name], array, err_msg=name)
        np.testing.assert_allclose(states["mixed"][name], array, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_evaluations_take_the_backbone_or_the_projector_without_the_predictor(vit_run):
    encoder, found, _ = load_encoder(vit_run[0], warn=print)
    assert found.knn_features == "pooled"
    images = np.random.default_rng(0).random((4, 16, 16, 3), np.float32)
    projected = encoder.projection(images, training=False)
    np.testing.assert_array_equal(  # its last BatchNorm has neither scale nor shift
        encoder.model(images, training=False),
        tf.keras.Model(encoder.projection.outputs[0], encoder.model.outputs[0])(projected),
    )
    assert encoder.backbone.output_shape == (None, 24) and projected.shape == (4, 8)


def test_residual_blocks_begin_as_the_identity_where_v3_trains_them(data):
    for changes, zero in (({}, True), ({"method": "moco"}, False)):
        encoder = untrained_encoder(config(data, "x", *V3["resnet"]).model_copy(update=changes))
        assert (encoder.backbone.get_layer("layer2.0.bn2").gamma.numpy() == 0).all() == zero


def test_heads_of_another_method_are_refused(data):
    with pytest.raises(InputError, match=r"head must be v3 with method=moco-v3; received head=mlp"):
        build_method(config(data, "x", *V3["vit"], head="mlp"), tf.distribute.get_strategy())


@pytest.mark.slow
def test_the_encoder_taken_elsewhere_is_of_kerass_own_layers(vit_run):
    """Positions are fixed there too; the class token and the patches' projection can be trained."""
    run_dir, _ = vit_run
    encoder, _, _ = load_encoder(run_dir, warn=print)
    images = np.random.default_rng(0).standard_normal((4, 16, 16, 3)).astype(np.float32)
    for head, ours in ((False, encoder.backbone), (True, encoder.projection)):
        plain = moco_tf.load_encoder(run_dir, head=head)
        wanted = ours(images, training=False).numpy()
        found = plain(images, training=False).numpy()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())
        assert {type(layer).__module__.split(".")[0] for layer in plain.layers} == {"keras"}
        assert not plain.get_layer("pos_embed").trainable_variables
        assert len(plain.get_layer("cls_token").trainable_variables) == 1
    assert plain.get_layer("head.7").weights == plain.get_layer("head.7").non_trainable_weights


@pytest.mark.slow
def test_a_vit_is_fine_tuned(vit_run, data, tmp_path):
    with np.load(data) as arrays:
        both = {f"{n}_{part}": arrays[k] for part in ("train", "test") for n, k in NAMES.items()}
    np.savez(tmp_path / "both.npz", **both)
    settings = {"data": str(tmp_path / "both.npz"), "epochs": 2, "batch_size": 16}
    summary = finetune(
        FinetuneConfig(run=str(vit_run[0]), run_dir=str(tmp_path / "ft"), **settings)
    )
    assert summary["step"] == 6 and summary["top1"] > 90
    encoder, found, _ = load_encoder(tmp_path / "ft" / "encoder.safetensors", warn=print)
    assert (found.method, found.head, found.dim) == ("moco-v3", "linear", 2)
    assert encoder.model.layers[-1].name == "head"


@pytest.mark.long
@pytest.mark.parametrize("kind", V3)
def test_kill_nine_at_three_random_moments_and_resume(kind, data, tmp_path):
    """Checkpoints are seven steps apart, inside epochs too, so steps are lost and done again."""
    changes = {"epochs": 20, "checkpoint_every": 7, "log_every": 50}
    uninterrupted = pretrain(config(data, tmp_path / "whole", *V3[kind], **changes))
    run_dir, draw = tmp_path / "run", random.Random()
    for step in sorted(draw.sample(range(1, 40), 3)):
        process = start(data, run_dir, *V3[kind], **changes)
        wait_for_step(run_dir, process, step)
        time.sleep(draw.uniform(0, 0.02))
        process.kill()
        process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL, step
        assert check_run(run_dir)["whole"]
    summary = pretrain(config(data, run_dir, *V3[kind], **changes))
    assert summary["state_sha256"] == uninterrupted["state_sha256"]


@pytest.mark.long
@pytest.mark.parametrize("kind", V3)
def test_two_devices_compute_the_same(kind, data, tmp_path):
    states = []
    for devices in (1, 2):
        run_dir = tmp_path / str(devices)
        changes = {"devices": devices, "precision": "float64", "max_steps": 3}
        pretrain(config(data, run_dir, *V3[kind], **changes))
        states.append(load_latest(run_dir / "checkpoints", warn=print)[0])
    assert states[0].keys() == states[1].keys()
    for name, array in states[0].items():
        np.testing.assert_allclose(states[1][name], array, rtol=1e-8, atol=1e-10, err_msg=name)
