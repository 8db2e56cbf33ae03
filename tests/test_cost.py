"""The cost of a whole run: closed forms against loops that do what a run does."""

import math

import numpy as np
import pytest
from safetensors.numpy import load

from moco_tf.benchmark import cost
from moco_tf.benchmark.checkpoint_size import checkpoint_bytes
from moco_tf.benchmark.whole_run import KnnParts, Parts, whole_run
from moco_tf.config import make_config
from moco_tf.recipes import RECIPES
from moco_tf.runs import checkpoint


@pytest.mark.parametrize(
    ("step_seconds", "expected"),
    [(0.1, (5, 16)), (0.5, (5, 4)), (2.0, (5, 1)), (2.1, (3, 1)), (60, (3, 1))],
)
def test_a_measurement_takes_its_time_or_the_fewest_rounds(step_seconds, expected):
    assert cost.rounds_and_steps(step_seconds, 10.0) == expected


def test_the_limit_is_the_larger_share():
    assert cost.input_share(3, 1) == 0.75
    shares = [cost.input_share(a, 1) for a in (0.5, 1.0, 1.1, 2.0)]
    assert [cost.limit(s) for s in shares] == ["compute", "balanced", "balanced", "input"]


def loop(last_step, epoch_steps, every, knn_every):
    """The loop, where it saves and where it evaluates."""
    saves = knn = step = 0
    saved = False
    while step < last_step:
        step += 1
        epoch, into_epoch = divmod(step, epoch_steps)
        last, saved = step == last_step, False
        due = not into_epoch and knn_every and epoch % knn_every == 0
        knn += bool(due or last)
        if not into_epoch or step % every == 0:
            saves += 1
            saved = True
    return saves + (not saved), knn


@pytest.mark.parametrize("last_step", [0, 1, 5, 6, 7, 11, 12, 35, 36])
@pytest.mark.parametrize(("epoch_steps", "every"), [(6, 4), (6, 3), (5, 100), (7, 7)])
@pytest.mark.parametrize("knn_every", [0, 1, 2])
def test_checkpoints_and_evaluations_are_those_of_the_loop(
    last_step, epoch_steps, every, knn_every
):
    saves, knn = loop(last_step, epoch_steps, every, knn_every)
    assert cost.numbered_checkpoints(last_step, epoch_steps, every) == saves
    assert cost.evaluations(last_step, epoch_steps, knn_every) == knn


def test_the_disk_holds_what_is_kept_and_what_is_being_written():
    row = cost.LOGGED_ROW_BYTES
    assert cost.disk_bytes(100, 9, keep=2, best=True, logged_rows=7) == 400 + 7 * row
    assert cost.disk_bytes(100, 2, keep=2, best=False, logged_rows=0) == 200


def shapes_of(state):
    return {name: (array.shape, array.dtype.name) for name, array in state.items()}


def test_the_size_of_a_checkpoint_is_that_of_the_file(small_run):
    (path,) = (small_run / "checkpoints").iterdir()
    state, step, extra = checkpoint.load(path)
    assert checkpoint_bytes(shapes_of(state), step=step, extra=extra) == path.stat().st_size


@pytest.mark.parametrize("length", range(9))
def test_the_size_of_a_checkpoint_of_any_types_and_names(length):
    rng = np.random.default_rng(length)
    state = {
        "z": np.zeros((3, length), np.float16),
        "pointer": np.array(3, np.int64),
        'ä"b/' + "n" * length: rng.standard_normal((2, 3, 5)),
        "a": np.zeros(7, np.float32),
        "none": np.zeros((0, 2), np.int32),
    }
    extra = {"text": "é" * length, "number": 1 / 3, "nothing": None}
    data = checkpoint.to_bytes(state, step=10**length, extra=extra)
    assert checkpoint_bytes(shapes_of(state), step=10**length, extra=extra) == len(data)
    assert load(data).keys() == state.keys()


def parts(**changes):
    fields = {
        "images": 1000,
        "input_images_per_second": 200.0,
        "step_images_per_second": 100.0,
        "images_per_second": 50.0,
        "cpu_seconds_per_image": 0.04,
        "data_wait": 0.0,
        "n": 5,
        "start_seconds": 11.0,
        "save_seconds": 0.5,
        "knn": None,
        "label_free_seconds": 3.0,
        "checkpoint_bytes": 1000,
        "peak_memory_bytes": 10**9,
    }
    return Parts(**fields | changes)


def test_a_whole_run_is_the_sum_of_its_parts():
    changes = {"batch_size": 64, "queue_size": 128, "epochs": 7, "knn_every": 2, "log_every": 10}
    config = make_config(RECIPES["shapes"].config, changes | {"checkpoint_every": 10})
    knn = KnnParts(100, 2000, 0.1, 0.001, pixel_image_seconds=0.01, pixel_vote_seconds=0.002)
    found = whole_run(config, parts(knn=knn))
    assert (found["steps_per_epoch"], found["steps_total"]) == (15, 105)  # 1000 // 64
    assert found["seconds_per_epoch"] == pytest.approx(15 * 64 / 50)
    # Steps 10, 15, 20, 30, ...: 10 tens and 7 fifteens, of which 3 are both; kNN after epochs 2, 4,
    # 6 and at the end, after a pass of untrained features and one of pixels.
    assert (found["checkpoints_written"], found["knn_evaluations"]) == (14, 4)
    assert found["seconds"] == pytest.approx(
        {"start": 11, "steps": 105 * 64 / 50, "knn": 5 * 12 + 5, "label_free": 5 * 3}
        | {"checkpoints": 18 * 0.5}
    )
    assert found["seconds_total"] == pytest.approx(11 + 134.4 + 65 + 15 + 9)
    assert found["disk_bytes"] == 4 * 1000 + (11 + 5) * cost.LOGGED_ROW_BYTES
    assert (found["limits"], found["input_share"]) == ("compute", pytest.approx(1 / 3))
    assert found["queue_epochs"] == 0.128


def test_a_run_may_stop_before_its_schedule():
    config = make_config(RECIPES["shapes"].config, {"max_steps": 10, "symmetric": True})
    found = whole_run(config, parts())
    assert (found["steps_per_epoch"], found["steps_total"], found["knn_evaluations"]) == (7, 10, 0)
    assert found["seconds"]["knn"] == 0 and found["seconds"]["label_free"] == 2 * 3
    assert found["seconds"]["steps"] == pytest.approx(25.6)
    assert found["queue_epochs"] == pytest.approx(512 / 2 / 1000)
    assert math.isclose(found["seconds_total"], sum(found["seconds"].values()))
