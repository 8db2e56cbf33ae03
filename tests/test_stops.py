"""What may happen to a run from outside: it says so in one line, and goes on exactly."""

import gc
import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
from PIL import Image
from support.quick_runs import Event
from support.runs import config, metrics, rows, start, wait_for_step

import moco_tf.evaluate.monitor
import moco_tf.pretraining
import moco_tf.training.loop
from moco_tf.errors import InputError
from moco_tf.pretraining import pretrain
from moco_tf.runs import checkpoint
from moco_tf.runs.background_save import AsyncCheckpointer
from moco_tf.training.signals import Interrupted, Unsaved


@pytest.fixture(autouse=True)
def no_iterator_is_left():
    """In a reference cycle of an exception, it may keep the process from ending."""
    yield
    gc.collect()


@pytest.fixture
def uninterrupted(quick, data, tmp_path):
    return pretrain(config(data, tmp_path / "whole"))


def newest(run_dir):
    return checkpoint.load_latest(run_dir / "checkpoints", warn=print)


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_failed_save_stops_the_run_and_nothing_is_lost(
    data, tmp_path, uninterrupted, monkeypatch
):
    original = checkpoint.save

    def full(folder, arrays, *, step, **others):
        if step == 4:
            raise InputError("no space left")
        return original(folder, arrays, step=step, **others)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", full)
        with pytest.raises(InputError, match="no space left"):
            pretrain(config(data, tmp_path / "run"))
    assert newest(tmp_path / "run")[1] == 3
    summary = pretrain(config(data, tmp_path / "run"))
    assert summary["state_sha256"] == uninterrupted["state_sha256"]


def test_too_little_time_for_a_save_keeps_the_one_before(
    data, tmp_path, uninterrupted, monkeypatch
):
    class Slow(AsyncCheckpointer):
        def wait(self):
            super().wait()
            self.seconds = 60

    run = config(data, tmp_path / "run", checkpoint_every=2, preemption_seconds=30)
    with monkeypatch.context() as patch:
        patch.setattr(moco_tf.training.loop, "AsyncCheckpointer", Slow)
        with pytest.raises(Unsaved, match=r"step 5, .*preemption_seconds=30; checkpoint 4 is kept"):
            pretrain(run, reporter=Event(5, terminate))
    assert newest(tmp_path / "run")[1] == 4
    assert pretrain(run)["state_sha256"] == uninterrupted["state_sha256"]


@pytest.mark.parametrize("last", [False, True])
def test_an_evaluation_is_given_up_and_done_by_the_next_start(
    quick, data, tmp_path, monkeypatch, last
):
    """Evaluations after steps 3, 6 and 9; a signal comes in that of step 6 or 9."""
    run = {"knn_every": 1, "preemption_seconds": 60}
    undisturbed = pretrain(config(data, tmp_path / "whole", **run))
    original = moco_tf.evaluate.monitor.build_monitors

    def monitors(*args):
        top1, *others = original(*args)
        left = [0] * (4 if last else 3)  # one is of the untrained encoder

        def signalled(split):
            left.pop()
            if not left:
                terminate()
                time.sleep(30)
            return top1(split)

        return signalled, *others

    with monkeypatch.context() as patch:
        patch.setattr(moco_tf.evaluate.monitor, "build_monitors", monitors)
        with pytest.raises(Interrupted, match=f"step {9 if last else 6}; saved"):
            pretrain(config(data, tmp_path / "run", **run))
    _, step, extra = newest(tmp_path / "run")
    assert (step, extra["evaluation_due"]) == (9 if last else 6, True)
    summary = pretrain(config(data, tmp_path / "run", **run))
    same = ["state_sha256", "knn_top1", "knn_top1_best", "knn_top1_untrained", "loss", "step"]
    same += ["alignment", "alignment_untrained"]
    assert [summary[name] for name in same] == [undisturbed[name] for name in same]
    best = [
        checkpoint.load(tmp_path / d / "checkpoints/best_knn.safetensors") for d in ("run", "whole")
    ]
    assert best[0][1] == best[1][1]


def test_the_untrained_encoder_is_evaluated_after_the_first_step_or_the_run_begins_anew(
    data, tmp_path, uninterrupted, monkeypatch
):
    """A `Method` begins with 1.0, which its evaluation gives back."""
    original = moco_tf.pretraining.build_step
    lines, signals = [], [terminate]

    def step(_, method):
        return lambda *args: lines.append("step") or original(_, method)(*args)

    def monitors(_, method):
        def top1(split):
            lines.append(float(method.total))
            if signals:
                signals.pop()()
                time.sleep(30)
            return float(method.total)

        return top1, lambda split: 5.0, lambda views: {}

    monkeypatch.setattr(moco_tf.pretraining, "build_step", step)
    monkeypatch.setattr(moco_tf.evaluate.monitor, "build_monitors", monitors)
    run = config(data, tmp_path / "run")
    with pytest.raises(Unsaved, match=r"step 1, which is not saved: the untrained encoder"):
        pretrain(run)
    assert not list((tmp_path / "run/checkpoints").glob("*"))
    summary = pretrain(run)
    assert lines[:5] == ["step", 1.0, "step", 1.0, "step"]
    assert [row["step"] for row in rows(tmp_path / "run")[:3]] == [0, 1, 2]
    assert summary["knn_top1_untrained"] == 1.0
    assert summary["state_sha256"] == uninterrupted["state_sha256"]


def test_training_time_counts_each_step_once(quick, data, tmp_path):
    """Nothing is logged before the end, so that only the checkpoints know the time."""
    seconds, original = {}, checkpoint.save

    def noted(folder, arrays, *, step, extra, **others):
        seconds[step] = extra["seconds"]
        return original(folder, arrays, step=step, extra=extra, **others)

    run = {"log_every": 1000}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", noted)
        began = time.monotonic()
        pretrain(config(data, tmp_path / "run", max_steps=6, **run))
        spent = time.monotonic() - began
        assert list(seconds) == [1, 2, 3, 4, 5, 6]
        assert 0 < seconds[1] < seconds[2] < seconds[3] < seconds[4] < seconds[5] <= seconds[6]
        assert seconds[6] < spent
        killed = seconds[5]
        (tmp_path / "run/checkpoints/step-00000006.safetensors").unlink()  # as after a kill
        began = time.monotonic()
        summary = pretrain(config(data, tmp_path / "run", **run))
        spent = time.monotonic() - began
    assert killed < seconds[6] < seconds[9] <= summary["seconds"] < killed + spent


@pytest.mark.parametrize("how", ["removed", "file", "other run"])
def test_a_run_folder_that_is_gone_is_told_and_nothing_is_put_in_its_place(
    data, tmp_path, uninterrupted, how
):
    run_dir, away = tmp_path / "run", tmp_path / "away"

    def happens():
        run_dir.rename(away)
        if how == "file":
            run_dir.write_text("x")
        if how == "other run":
            shutil.copytree(away, run_dir)

    with pytest.raises(InputError, match="has been removed, moved") as caught:
        pretrain(config(data, run_dir), reporter=Event(4, happens))
    assert str(run_dir) in str(caught.value) and "\n" not in str(caught.value)
    assert run_dir.exists() == (how in ("file", "other run"))
    if how == "file":
        run_dir.unlink()
    if how == "other run":
        assert newest(run_dir)[1] <= 3
        shutil.rmtree(run_dir)
    if how != "removed":
        away.rename(run_dir)  # put back
    assert pretrain(config(data, run_dir))["state_sha256"] == uninterrupted["state_sha256"]


def test_a_checkpoint_folder_that_is_a_file_is_told(data, tmp_path, uninterrupted):
    folder, away = tmp_path / "run" / "checkpoints", tmp_path / "away"

    def happens():
        time.sleep(0.5)  # let a save end
        folder.rename(away)
        folder.write_text("x")

    with pytest.raises(InputError, match="checkpoints: File exists"):
        pretrain(config(data, tmp_path / "run"), reporter=Event(4, happens))
    folder.unlink()
    away.rename(folder)
    summary = pretrain(config(data, tmp_path / "run"))
    assert summary["state_sha256"] == uninterrupted["state_sha256"]


@pytest.mark.parametrize("readable", [True, False])
def test_a_folder_whose_rights_are_taken_away_is_told(data, tmp_path, uninterrupted, readable):
    run_dir = tmp_path / "run"
    folder = run_dir / "checkpoints" if readable else run_dir
    user = os.geteuid()

    def happens():
        time.sleep(0.5)  # let a save end
        folder.chmod(0o500 if readable else 0)
        if user == 0:  # whom rights do not hold up
            drop_rights()

    def drop_rights():
        for parent in [run_dir, *run_dir.parents[:4]]:
            parent.chmod(parent.stat().st_mode | 0o055 * readable)
        os.seteuid(65534)

    words = "cannot write .*Permission denied" if readable else "has been removed, moved, closed"
    try:
        with pytest.raises(InputError, match=words) as caught:
            pretrain(config(data, run_dir), reporter=Event(4, happens))
    finally:
        os.seteuid(user)
        folder.chmod(0o700)
    assert "\n" not in str(caught.value)
    assert pretrain(config(data, run_dir))["state_sha256"] == uninterrupted["state_sha256"]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["all gone", pytest.param("one truncated", marks=pytest.mark.long)])
def test_images_that_are_lost_are_told_and_the_run_goes_on_with_them(quick, tmp_path, how):
    images, away, rng = tmp_path / "images", tmp_path / "away", np.random.default_rng(0)
    images.mkdir()
    for n in range(32):
        pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{n}.png")
    changes = {"epochs": 20, "checkpoint_every": 1000}
    uninterrupted = pretrain(config(str(images), tmp_path / "whole", **changes))
    run = config(str(images), tmp_path / "run", **changes)

    def happens():
        if how == "all gone":
            images.rename(away)
        else:
            away.write_bytes((images / "7.png").read_bytes())
            (images / "7.png").write_bytes(away.read_bytes()[:100])

    with pytest.raises(InputError, match=r"images/\d+\.png could not be read .*, which is saved"):
        pretrain(run, reporter=Event(3, happens))
    assert 3 <= newest(tmp_path / "run")[1] < 40
    if how == "all gone":
        with pytest.raises(InputError, match=f"data='{images}', and there is no"):
            pretrain(run)
        away.rename(images)
    else:
        (images / "7.png").write_bytes(away.read_bytes())
    assert pretrain(run)["state_sha256"] == uninterrupted["state_sha256"]


@pytest.mark.long
@pytest.mark.slow
def test_sigterm_twice_in_a_save_and_a_deadline_that_nothing_fits_in(shallow, data, tmp_path):
    uninterrupted = pretrain(config(data, tmp_path / "whole"))
    run_dir = tmp_path / "run"
    for seconds, words in [(30, "; saved. The same"), (0.001, "preemption_seconds=0.001; ")]:
        before = checkpoint.newest_step(run_dir / "checkpoints") or 0
        process = start(data, run_dir, preemption_seconds=seconds)
        wait_for_step(run_dir, process, before + 1)
        while process.poll() is None and not list(run_dir.glob("checkpoints/.*.tmp")):
            pass
        process.terminate()
        process.terminate()
        said = process.communicate(timeout=120)[0].decode()
        assert process.returncode == 143 and "Traceback" not in said, said
        assert words in said.splitlines()[-1]
        kept = newest(run_dir)[1]
        assert kept < 9 and (f"step {kept};" in said or f"checkpoint {kept} is kept" in said)
    summary = pretrain(config(data, run_dir))
    assert summary["state_sha256"] == uninterrupted["state_sha256"]
    assert [row["step"] for row in metrics(run_dir)] == list(range(1, 10))
    assert json.loads((run_dir / "summary.json").read_text())["step"] == 9
