"""Several real processes compute what one does, and end together when one of them fails."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.backbones import sequential
from support.processes import end, free_ports
from support.runs import PREPARE, RUN, metrics

from moco_tf.runs import checkpoint

pytestmark = pytest.mark.slow

# Twelve BatchNorm groups, for 1, 2, 3 and 4 replicas; doubles, in which rounding stays small.
TINY = """
    --width 4 --image-size 16 --batch-size 48 --group-size 4 --queue-size 100 --dim 8 --epochs 7
    --knn-every 0 --log-every 1 --learning-rate 0.06 --max-steps 20 --precision float64
"""
HANG = """
import sys, time, moco_tf.pretraining as train
build_batches = train.build_batches
def hanging(*arguments, **keywords):
    for number, batch in enumerate(build_batches(*arguments, **keywords)):
        while number == 2 and sys.argv[-1] == "1":
            time.sleep(1)
        yield batch
train.build_batches = hanging
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """144 images of noise: three steps an epoch."""
    path = tmp_path_factory.mktemp("data") / "images.npz"
    images = np.random.default_rng(0).integers(0, 256, (144, 16, 16, 3)).astype(np.uint8)
    np.savez(path, images=images, labels=np.arange(144) % 2)
    return str(path)


def begin(data, run_dir, *flags, code="", workers=1, by_environment=False, own=None):
    """Starts the processes of one run, told by flags or by TF_CONFIG who they are.

    Args:
        own: flags that a worker alone has, by its number.
    """
    command = [sys.executable, "-c", PREPARE + code + RUN, "pretrain", "shapes", "--data", data]
    command += [*TINY.split(), "--run-dir", str(run_dir), *flags]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}
    environment.pop("TF_CONFIG", None)
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    processes = []
    for index in range(workers):
        told, named = [], {}
        if by_environment:
            task = {"type": "worker", "index": index}
            named["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
        elif workers > 1:
            told = ["--workers", ",".join(addresses), "--worker-index", str(index)]
        processes.append(
            subprocess.Popen(
                command + told + (own or {}).get(index, []),
                env=environment | named,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    return processes


def train(data, run_dir, *flags, workers=1, by_environment=False, own=None):
    settings = {"workers": workers, "by_environment": by_environment, "own": own}
    processes = begin(data, run_dir, *flags, **settings)
    codes, said = end(processes)
    assert codes == [0] * workers, said
    return said


def state(run_dir):
    folder = Path(run_dir, "checkpoints")
    return checkpoint.load(folder / f"step-{checkpoint.newest_step(folder):08d}.safetensors")


def assert_equal(run_dir, reference, tolerance=1e-9, steps=20):
    arrays, step, _ = state(run_dir)
    expected, expected_step, _ = state(reference)
    assert step == expected_step == steps
    for name, array in expected.items():
        np.testing.assert_allclose(arrays[name], array, rtol=0, atol=tolerance, err_msg=name)
    losses = [row["loss"] for row in metrics(run_dir)]
    np.testing.assert_allclose(losses, [row["loss"] for row in metrics(reference)], atol=tolerance)
    assert len(losses) == steps


def until(condition, processes, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "too late"
        assert all(process.poll() is None for process in processes), end(processes)
        time.sleep(0.05)


@pytest.fixture(scope="module")
def whole_run(data, tmp_path_factory):
    """A run in one process, undisturbed, for reading only."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    train(data, run_dir, "--no-report")
    return run_dir


def test_two_processes_are_one(data, tmp_path, whole_run):
    elsewhere = tmp_path / "elsewhere"
    said = train(data, tmp_path / "run", workers=2, own={1: ["--run-dir", str(elsewhere)]})
    assert_equal(tmp_path / "run", whole_run)
    assert "worker 0" in said[0] and "step 20/20" in said[0]
    assert "looking at what it has learned" in said[0]
    assert 'id="map"' in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "step 20/20" not in said[1] and "looking at" not in said[1]
    assert not elsewhere.exists()  # the first alone writes


@pytest.mark.long
def test_three_processes_that_tf_config_names_are_one(data, tmp_path, whole_run):
    train(data, tmp_path / "run", workers=3, by_environment=True)
    assert_equal(tmp_path / "run", whole_run)


@pytest.mark.long
def test_a_run_moves_from_two_processes_to_one_and_to_four_devices(data, tmp_path, whole_run):
    run_dir = tmp_path / "run"
    train(data, run_dir, "--max-steps", "7", workers=2)
    train(data, run_dir, "--max-steps", "13")
    train(data, run_dir, "--devices", "4")
    assert_equal(run_dir, whole_run)


@pytest.mark.long
def test_two_processes_begin_with_the_weights_of_another_run_and_go_on_longer(
    data, tmp_path, whole_run
):
    given = ("--init", str(whole_run), "--max-steps", "2")
    train(data, tmp_path / "one", *given)
    train(data, tmp_path / "two", *given, workers=2)
    train(data, tmp_path / "one", *given[:2], "--epochs", "9", "--extend")
    train(data, tmp_path / "two", *given[:2], "--epochs", "9", "--extend", workers=2)
    assert_equal(tmp_path / "two", tmp_path / "one")


@pytest.mark.long
@pytest.mark.parametrize(
    "augment_on",
    ["host", *(pytest.param(on, marks=pytest.mark.long) for on in ("device", "device_resize"))],
)
def test_two_processes_are_two_devices_bit_for_bit(data, tmp_path, augment_on):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, image in enumerate(np.load(data)["images"]):
        Image.fromarray(image).save(folder / f"{number:03d}.png")
    flags = ("--augment-on", augment_on, "--precision", "float32", "--symmetric")
    flags += ("--group-layout", "interleaved", "--max-steps", "4")
    train(str(folder), tmp_path / "two", *flags, workers=2)
    train(str(folder), tmp_path / "one", *flags, "--devices", "2")
    (two, _, _), (one, _, _) = state(tmp_path / "two"), state(tmp_path / "one")
    for name, array in one.items():
        np.testing.assert_array_equal(two[name], array, err_msg=name)


@pytest.mark.long
@pytest.mark.parametrize("signalled", [0, pytest.param(1, marks=pytest.mark.long)])
def test_a_signal_to_one_saves_and_ends_all(data, tmp_path, whole_run, signalled):
    run_dir = tmp_path / "run"
    processes = begin(data, run_dir, workers=2)
    log = run_dir / "metrics.jsonl"
    until(lambda: log.exists() and log.read_text().count('"loss"') > 3, processes)
    processes[signalled].send_signal(signal.SIGTERM)
    codes, said = end(processes)
    assert codes == [143, 143], said
    train(data, run_dir, workers=2)
    assert_equal(run_dir, whole_run)


@pytest.mark.long
@pytest.mark.parametrize("killed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_a_kill_of_one_ends_the_other_by_name(data, tmp_path, whole_run, killed):
    run_dir = tmp_path / "run"
    processes = begin(data, run_dir, "--checkpoint-every", "2", workers=2)
    log = run_dir / "metrics.jsonl"
    until(lambda: log.exists() and log.read_text().count('"loss"') > 5, processes)
    processes[killed].kill()
    codes, said = end(processes)
    assert codes[1 - killed] == 75, said
    assert f"worker {killed} (127.0.0.1:" in said[1 - killed]
    assert "Traceback" not in said[1 - killed]
    train(data, run_dir, workers=2)
    assert_equal(run_dir, whole_run)


@pytest.mark.long
@pytest.mark.parametrize("stopped", [0, pytest.param(1, marks=pytest.mark.long)])
def test_a_worker_that_falls_silent_ends_the_other(data, tmp_path, stopped):
    """As a machine without power or network: its heartbeats stop."""
    run_dir = tmp_path / "run"
    processes = begin(data, run_dir, workers=2)
    log = run_dir / "metrics.jsonl"
    until(lambda: log.exists() and log.read_text().count('"loss"') > 2, processes)
    processes[stopped].send_signal(signal.SIGSTOP)
    codes, said = end([processes[1 - stopped]], seconds=90)
    processes[stopped].kill()
    end([processes[stopped]])
    assert codes == [75] and f"worker {stopped} (127.0.0.1:" in said[0], said


@pytest.mark.long
def test_a_worker_that_hangs_is_named_by_all_others(data, tmp_path):
    processes = begin(data, tmp_path / "run", "--worker-timeout", "60", code=HANG, workers=3)
    code, said = end([processes[0], processes[2]])
    processes[1].kill()
    end([processes[1]])
    assert code == [75, 75], said
    for text in said:
        assert "worker 1 (127.0.0.1:" in text and "has not come for 60 s" in text, text


@pytest.mark.long
@pytest.mark.parametrize(
    "flags",
    [["--temperature", "0.5"], pytest.param(["--accumulation-steps", "2"], marks=pytest.mark.long)],
)
def test_a_worker_with_another_config_is_refused(data, tmp_path, flags):
    codes, said = end(begin(data, tmp_path / "run", workers=2, own={1: flags}))
    assert_refused(codes, said, tmp_path / "run")


def assert_refused(codes, said, run_dir):
    assert codes == [2, 2], said
    assert all("worker 1" in text and "another config than worker 0" in text for text in said)
    assert not (run_dir / "config.json").exists()


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A Keras CNN with BatchNorm, as a file."""
    path = tmp_path_factory.mktemp("backbone") / "cnn.keras"
    sequential().save(path)
    return path


@pytest.mark.long
def test_two_processes_are_one_with_a_keras_backbone(data, tmp_path, backbone):
    """The file of the second lies elsewhere, and its content is that of the first."""
    flags = ("--encoder", str(backbone), "--max-steps", "4")
    train(data, tmp_path / "one", *flags)
    own = {1: ["--encoder", str(tmp_path / "elsewhere.keras")]}
    codes, said = end(begin(data, tmp_path / "two", *flags, workers=2, own=own))
    assert codes == [0, 0], said
    assert_equal(tmp_path / "two", tmp_path / "one", steps=4)


@pytest.mark.long
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("FILE", "resnet18"),
        ("resnet18", "FILE"),
        ("keras:MobileNetV2", "keras:MobileNetV3Small"),
    ],
)
def test_a_worker_with_another_backbone_is_refused(data, tmp_path, backbone, first, second):
    """It would wait for ever for the other, were they to ask different things of each other."""
    names = [str(backbone) if name == "FILE" else name for name in (first, second)]
    own = {place: ["--encoder", name] for place, name in enumerate(names)}
    flags = ("--image-size", "32", "--max-small-images", "1") if first.startswith("keras:") else ()
    codes, said = end(begin(data, tmp_path / "run", *flags, workers=2, own=own))
    assert_refused(codes, said, tmp_path / "run")
