"""Saving beside the training: what is written, when it is waited for, and what a failure does."""

import threading

import numpy as np
import pytest

from moco_tf.errors import InputError
from moco_tf.runs import checkpoint
from moco_tf.runs.background_save import AsyncCheckpointer

STATE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}


class Disk:
    """In place of `checkpoint.save`: holds every save up until `go`, then does what it would."""

    def __init__(self, monkeypatch, fails=False):
        self.go, self.writing, self.most = threading.Event(), 0, 0
        self.original, self.fails = checkpoint.save, fails
        monkeypatch.setattr(checkpoint, "save", self)

    def __call__(self, *args, **kwargs):
        self.writing += 1
        self.most = max(self.most, self.writing)
        assert self.go.wait(30)
        self.writing -= 1
        if self.fails:
            raise InputError("no space left")
        return self.original(*args, **kwargs)


def newest(folder):
    return checkpoint.load_latest(folder, warn=print)


def test_training_goes_on_while_a_copy_is_written(tmp_path, monkeypatch):
    disk, extra = Disk(monkeypatch), {"loss": 1.5, "sums": [1]}
    with AsyncCheckpointer(tmp_path) as saver:
        saver.save(STATE, step=3, extra=extra)
        extra["loss"] = 2.5
        extra["sums"].append(2)
        saver.check()  # does not wait, and nothing is wrong
        assert newest(tmp_path) is None and saver.seconds is None
        disk.go.set()
        saver.wait()
        arrays, step, found = newest(tmp_path)
        assert (step, found) == (3, {"loss": 1.5, "sums": [1]})
        np.testing.assert_array_equal(arrays["a"], STATE["a"])
        assert saver.seconds > 0


def test_one_save_at_a_time_each_under_all_its_names(tmp_path, monkeypatch):
    disk = Disk(monkeypatch)
    with AsyncCheckpointer(tmp_path) as saver:
        saver.save(STATE, step=1, extra={})
        threading.Timer(0.2, disk.go.set).start()
        saver.save(STATE, step=2, extra={}, tags=("best_knn", None))
        assert newest(tmp_path)[1] == 1  # this one was waited for
    assert newest(tmp_path)[1] == 2 and disk.most == 1
    assert checkpoint.load(tmp_path / "best_knn.safetensors")[1] == 2


@pytest.mark.parametrize("call", ["check", "wait", "save", "leave"])
def test_a_failure_is_raised_at_the_next_call(tmp_path, monkeypatch, call):
    disk = Disk(monkeypatch, fails=True)
    disk.go.set()
    with pytest.raises(InputError, match="no space left"), AsyncCheckpointer(tmp_path) as saver:
        saver.save(STATE, step=1, extra={})
        while not saver._writing.done():
            pass
        if call == "save":
            saver.save(STATE, step=2, extra={})
        elif call != "leave":
            getattr(saver, call)()
        assert call == "leave"
    assert newest(tmp_path) is None


@pytest.mark.parametrize("fails", [False, True])
def test_an_exception_waits_for_the_save_and_stays_what_it_is(tmp_path, monkeypatch, fails):
    disk = Disk(monkeypatch, fails)
    with pytest.raises(KeyboardInterrupt), AsyncCheckpointer(tmp_path) as saver:
        saver.save(STATE, step=1, extra={})
        threading.Timer(0.2, disk.go.set).start()
        raise KeyboardInterrupt
    assert disk.writing == 0 and (newest(tmp_path) is None) == fails
