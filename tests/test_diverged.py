"""Numbers that are none: which step is told, and that nothing bad is saved."""

import numpy as np
import pytest
import tensorflow as tf

from moco_tf import assembly, checkpoint, train
from moco_tf.config import make_config
from moco_tf.diverged import refuse_diverged
from moco_tf.errors import DivergedError
from moco_tf.recipes import RECIPES

GOOD = {"a": np.ones(3, np.float32), "pointer": np.int64(3)}


def scalars(*values, start=1):
    return {start + place: tf.constant(value) for place, value in enumerate(values)}


def test_finite_numbers_pass(tmp_path):
    refuse_diverged(scalars(6.5, 6.25), GOOD, tmp_path)
    refuse_diverged({}, {}, tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_step_is_told_and_the_checkpoint_before(tmp_path, bad):
    checkpoint.save(tmp_path, GOOD, step=4, extra={})
    with pytest.raises(DivergedError, match=r"loss of step 7 is .*before 6\.25.*step 4 is kept"):
        refuse_diverged(scalars(6.5, 6.25, bad, np.nan, start=5), {}, tmp_path)


def test_a_state_is_told_by_name(tmp_path):
    state = GOOD | {"b": np.array([1, np.inf], np.float32), "c": np.array(np.nan)}
    with pytest.raises(DivergedError, match=r"2 of 4 arrays .* first is b\. .*nothing was saved"):
        refuse_diverged(scalars(6.5), state, tmp_path)


@pytest.mark.usefixtures("shallow")
def test_a_run_stops_and_keeps_what_was_whole(tmp_path, monkeypatch):
    """Parameters become NaN after step 5, between the checkpoint of step 4 and that of step 8."""
    build_step = assembly.build_step

    def build(config, method):
        step_of = build_step(config, method)

        def step(view1, view2, number, rate):
            result = step_of(view1, view2, number, rate)
            if number == 4:
                method.parameters[0].assign(method.parameters[0] * np.nan)
            return result

        return step

    monkeypatch.setattr(train, "build_step", build)
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
        "log_every": 100,
    }
    config = make_config(RECIPES["shapes"].config, changes)
    with pytest.raises(DivergedError, match=r"loss of step 6 is nan.*step 4 is kept"):
        train.pretrain(config)
    folder = tmp_path / "run" / "checkpoints"
    state, step, _ = checkpoint.load_latest(folder, warn=pytest.fail)
    assert step == 4 and all(np.isfinite(array).all() for array in state.values())
