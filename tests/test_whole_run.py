"""What a whole run takes: closed forms against a loop that does what a run does."""

import math

import pytest

from moco_tf.benchmark import whole_run as module
from moco_tf.benchmark.whole_run import checkpoints_and_evaluations, limit, whole_run
from moco_tf.config import make_config
from moco_tf.recipes import RECIPES


def test_the_limit_is_the_larger_share():
    assert [limit(s) for s in (1 / 3, 0.5, 0.52, 2 / 3)] == [
        *("compute", "balanced", "balanced", "input")
    ]


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
    changes = {"epochs": 8, "max_steps": last_step, "checkpoint_every": every}
    config = make_config(RECIPES["shapes"].config, changes | {"knn_every": knn_every})
    images = epoch_steps * config.batch_size
    found = checkpoints_and_evaluations(config, images)
    assert found == loop(last_step, epoch_steps, every, knn_every)


def parts(**changes):
    both = {"images_per_second": 50.0, "cpu_seconds_per_image": 0.04, "data_wait": 0.0}
    fields = {
        "images": 1000,
        "input_speed": 200.0,
        "step_speed": 100.0,
        "together": both,
        "start_seconds": 11.0,
        "knn_seconds": None,
        "label_free_seconds": 3.0,
        "save_seconds": 0.5,
        "checkpoint_bytes": 1000,
    }
    return fields | changes


def test_a_whole_run_is_the_sum_of_its_parts():
    changes = {"batch_size": 64, "queue_size": 128, "epochs": 7, "knn_every": 2, "log_every": 10}
    config = make_config(RECIPES["shapes"].config, changes | {"checkpoint_every": 10})
    found = whole_run(config, **parts(knn_seconds=(12.0, 5.0)))
    assert (found["steps_per_epoch"], found["steps_total"]) == (15, 105)  # 1000 // 64
    assert found["seconds_per_epoch"] == pytest.approx(15 * 64 / 50)
    # Steps 10, 15, 20, 30, ...: 10 tens and 7 fifteens, of which 3 are both; kNN after epochs 2, 4,
    # 6 and at the end, after a pass of untrained features and one of pixels.
    assert (found["checkpoints_written"], found["knn_evaluations"]) == (14, 4)
    assert found["seconds"] == pytest.approx(
        {"start": 11, "steps": 105 * 64 / 50, "knn": 5 * 12 + 5, "label_free": 5 * 3}
        | {"checkpoints": 14 * 0.5}
    )
    assert found["seconds_total"] == pytest.approx(11 + 134.4 + 65 + 15 + 7)
    assert found["disk_bytes"] == 4 * 1000 + (11 + 5) * module.LOGGED_ROW_BYTES
    assert (found["limits"], found["input_share"]) == ("compute", pytest.approx(1 / 3))
    assert found["queue_epochs"] == 0.128


def test_a_run_may_stop_before_its_schedule():
    config = make_config(
        RECIPES["shapes"].config, {"batch_size": 128, "max_steps": 10, "symmetric": True}
    )
    found = whole_run(config, **parts())
    assert (found["steps_per_epoch"], found["steps_total"], found["knn_evaluations"]) == (7, 10, 0)
    assert found["seconds"]["knn"] == 0 and found["seconds"]["label_free"] == 2 * 3
    assert found["seconds"]["steps"] == pytest.approx(25.6)
    assert found["queue_epochs"] == pytest.approx(512 / 2 / 1000)
    # Steps 7 and 10: two checkpoints, no best one; steps 0 and 10 of the logs, one evaluation.
    logged = -(-10 // config.log_every) + 1 + 1
    assert found["disk_bytes"] == 2 * 1000 + logged * module.LOGGED_ROW_BYTES
    assert math.isclose(found["seconds_total"], sum(found["seconds"].values()))
