"""Signals: what they set, what they give up, and that a process with a deadline is gone by then."""

import os
import signal
import subprocess
import sys
import time

import pytest

from moco_tf.training.signals import StopSignals

BUSY = """
import hashlib, sys, threading
from moco_tf.training.signals import StopSignals

with StopSignals({seconds}, lambda: "step 7 is kept"):
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", {rounds})  # no Python handler runs before its end
    print("step ended", flush=True)
"""


def busy(seconds, rounds):
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY.format(seconds=seconds, rounds=rounds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    return process


def test_a_process_that_is_busy_is_gone_at_its_deadline():
    process, began = busy(1.0, 10**9), time.monotonic()
    process.terminate()
    time.sleep(0.4)
    process.terminate()  # the first one counts
    said, words = process.communicate(timeout=30)
    assert (process.returncode, said, words) == (143, "", "moco-tf: step 7 is kept\n")
    assert 1.0 <= time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("number", "seconds"), [(signal.SIGINT, 0.01), (signal.SIGTERM, 60), (signal.SIGTERM, None)]
)
def test_else_the_step_ends(number, seconds):
    process = busy(seconds, 2 * 10**6)
    process.send_signal(number)
    assert process.communicate(timeout=60) == ("step ended\n", "")
    assert process.returncode == 0


def test_the_countdown_begins_with_sigterm_alone():
    with StopSignals(60) as stop:
        assert stop.seconds_left() == float("inf")
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGINT and stop.seconds_left() == float("inf")
        os.kill(os.getpid(), signal.SIGTERM)
        first = stop.seconds_left()
        assert stop.signal == signal.SIGTERM and 50 < first <= 60
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.seconds_left() <= first - 0.05


def test_what_may_be_given_up_ends_at_a_signal_and_nothing_else_does():
    done = []
    with StopSignals(60) as stop:
        assert stop.run_interruptible(lambda: done.append("before"))

        def interrupted():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
            done.append("during")

        assert not stop.run_interruptible(interrupted)
        assert not stop.run_interruptible(lambda: done.append("after"))
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGTERM and done == ["before"]


def test_handlers_and_files_are_given_back():
    before = signal.getsignal(signal.SIGTERM), set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with StopSignals(60):
            assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), set(os.listdir("/proc/self/fd"))) == before
