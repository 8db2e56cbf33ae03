"""Numbers that are none: which step is told, and that nothing bad is saved."""

import numpy as np
import pytest
import tensorflow as tf

from moco_tf import building as assembly
from moco_tf import pretraining as train
from moco_tf.config import make_config
from moco_tf.distribute.strategy import make_strategy
from moco_tf.errors import DivergedError
from moco_tf.recipes import RECIPES
from moco_tf.runs import checkpoint, checkpoint_file, variables
from moco_tf.runs.check import check_run
from moco_tf.training.divergence import DivergenceWatch, refuse_diverged

GOOD = {"a": np.ones(3, np.float32), "pointer": np.int64(3)}


PLACES = ["the loss", "the gradient of a"]


def looks(*values, start=1, began=0):
    """Losses of steps from `start` on; `began` is the place of the last one."""
    found = {start + n: (tf.constant(value), tf.constant(0)) for n, value in enumerate(values)}
    last = start + len(values) - 1
    return found | {last: (found[last][0], tf.constant(began))}


def test_finite_numbers_pass(tmp_path):
    refuse_diverged(looks(6.5, 6.25), PLACES, GOOD, tmp_path)
    refuse_diverged({}, PLACES, {}, tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_step_is_told_and_the_checkpoint_before(tmp_path, bad):
    checkpoint.save(tmp_path, GOOD, step=4, extra={})
    with pytest.raises(DivergedError, match=r"at step 7, .*before 6\.25.*step 4 is kept"):
        refuse_diverged(looks(6.5, 6.25, bad, np.nan, start=5), PLACES, {}, tmp_path)
    with pytest.raises(DivergedError, match=r"at step 6, .*with the gradient of a .*6 is 6\.25, "):
        refuse_diverged(looks(6.5, 6.25, start=5, began=2), PLACES, {}, tmp_path)


def test_a_state_is_told_by_name(tmp_path):
    state = GOOD | {"b": np.array([1, np.inf], np.float32), "c": np.array(np.nan)}
    with pytest.raises(DivergedError, match=r"2 of 4 arrays .* first is b\. .*nothing was saved"):
        refuse_diverged(looks(6.5), PLACES, state, tmp_path)


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize(
    ("devices", "what", "said"),
    [
        pytest.param(
            1,
            "parameter",
            r"at step 6, where it began with the parameter conv1/kernel ",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            1,
            "images",
            r"at step 5, where it began with the normalised images .* the images\.$",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            2,
            "gradient",
            r"at step 5, where it began with the gradient of layer1\.0\.conv1/kernel ",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_run_stops_and_keeps_what_was_whole(tmp_path, monkeypatch, devices, what, said):
    """What becomes NaN in step 5, between the checkpoint of step 4 and that of step 8."""
    build_step = assembly.build_step

    def build(config, method):
        names = [variable.path for variable in method.query.model.trainable_variables]
        poison, compare, prepare = (
            tf.Variable(0.0),
            method._compiled_loss,
            method.envelope.preprocess,
        )
        if what == "images":
            method.envelope.preprocess = lambda images: prepare(images) + poison

        def spoiled(*arguments):
            result = compare(*arguments)
            if what == "gradient":
                result["gradients"][names.index("layer1.0.conv1/kernel")] += poison
            return result

        method._compiled_loss = spoiled
        step_of = build_step(config, method)

        def step(view1, view2, number, rate):
            poison.assign(np.nan if number == 4 else 0.0)
            result = step_of(view1, view2, number, rate)
            if what == "parameter" and number == 4:
                method.query.parameters[0].assign(method.query.parameters[0] * np.nan)
            if number == 3:
                states.append(checkpoint_file.digest(variables.arrays_of(method.state())))
            return result

        return step

    states: list[str] = []
    monkeypatch.setattr(train, "build_step", build)
    config = tiny(tmp_path, devices=devices)
    with pytest.raises(DivergedError, match=said) as caught:
        train.pretrain(config)
    assert "step 4 is kept" in str(caught.value) and "\n" not in str(caught.value)
    found = check_run(tmp_path / "run")
    assert found["whole"] and found["step"] == 4 and found["state_sha256"] == states[0]
    rows = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "first_nonfinite" not in rows and rows.count('"loss"') == 3
    state, *_ = checkpoint.load_latest(tmp_path / "run" / "checkpoints", warn=pytest.fail)
    assert all(np.isfinite(array).all() for array in state.values())


@pytest.mark.slow
@pytest.mark.usefixtures("shallow")
def test_a_loss_scale_that_cannot_help_ends_the_run(tmp_path, monkeypatch):
    """All images are NaN from step 5 on: fifteen steps are skipped, and the scale is 1."""
    build_step = assembly.build_step

    def build(config, method):
        poison, prepare = tf.Variable(0.0), method.envelope.preprocess
        method.envelope.preprocess = lambda images: prepare(images) + tf.cast(poison, tf.float16)
        step_of = build_step(config, method)

        def step(view1, view2, number, rate):
            poison.assign(np.nan if number >= 4 else 0.0)
            return step_of(view1, view2, number, rate)

        return step

    monkeypatch.setattr(train, "build_step", build)
    said = r"at step 20, where it began with the normalised images .*step 18 is kept"
    with pytest.raises(DivergedError, match=said):
        train.pretrain(tiny(tmp_path, precision="mixed_float16"))
    state, *_ = checkpoint.load_latest(tmp_path / "run" / "checkpoints", warn=pytest.fail)
    assert all(np.isfinite(array).all() for array in state.values())


@pytest.mark.parametrize("devices", [1, 2])
def test_only_the_smallest_loss_scale_ends_a_run(tmp_path, devices):
    with make_strategy(devices).scope():
        scale = tf.Variable(2.0)
    watch = DivergenceWatch(["the loss"], tmp_path, scale)
    watch.add(3, tf.constant(np.nan), tf.constant(1))
    watch.check()
    scale.assign(1.0)
    watch.add(4, tf.constant(np.nan), tf.constant(1))
    with pytest.raises(DivergedError, match="at step 4, where it began with the loss"):
        watch.check()


def tiny(tmp_path, **more):
    """The config of a run of 27 steps on noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), np.uint8)
    np.savez(tmp_path / "images.npz", images=pixels)
    changes = {
        "data": str(tmp_path / "images.npz"),
        "run_dir": str(tmp_path / "run"),
        "image_size": 16,
        "width": 4,
        "batch_size": 8,
        "group_size": 4,
        "queue_size": 16,
        "epochs": 9,
        "checkpoint_every": 4,
        "log_every": 2,
    }
    return make_config(RECIPES["shapes"].config, changes | more)
