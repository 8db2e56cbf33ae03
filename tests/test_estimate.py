"""`moco-tf estimate`: what it measures is what trains, its sizes are exact, it leaves nothing."""

import json
import tempfile
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from moco_tf.benchmark import measure, memory
from moco_tf.benchmark.rounds import Round
from moco_tf.building import build_images, build_method
from moco_tf.commands.cli import main
from moco_tf.commands.estimate import duration, lines, size
from moco_tf.config import make_config
from moco_tf.data.pipeline import PREFETCHED_BATCHES
from moco_tf.evaluate.split import Split
from moco_tf.recipes import RECIPES
from moco_tf.runs import checkpoint_file
from moco_tf.training.progress import Progress

SMALL = {"width": 4, "batch_size": 8, "group_size": 8, "queue_size": 24, "image_size": 16}


@pytest.fixture
def flags(tmp_path, monkeypatch):
    """A small config as words; 40 labelled images. Phases last a blink, in an empty folder."""
    monkeypatch.setattr(measure, "PHASE_SECONDS", 0.05)
    monkeypatch.setattr(measure, "KNN_SECONDS", 0.01)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 16, 16, 3), np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=np.arange(40) % 2)
    for name in ("work", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    words = [w for n, v in SMALL.items() for w in (f"--{n.replace('_', '-')}", str(v))]
    return [
        "shapes",
        *words,
        "--data",
        str(tmp_path / "data.npz"),
        "--epochs",
        "3",
        "--knn-every",
        "2",
    ]


@pytest.mark.slow
def test_an_estimate_is_whole_exact_in_its_sizes_and_leaves_nothing(flags, tmp_path, capsys):
    assert main(["estimate", *flags, "--json"]) == 0
    output = capsys.readouterr()
    result = json.loads(output.out)
    config = make_config(RECIPES["shapes"].config, result["config"])
    assert (result["config"]["batch_size"], result["config"]["epochs"]) == (8, 3)
    assert (result["steps_per_epoch"], result["steps_total"]) == (5, 15)
    assert result["seconds_per_epoch"] == pytest.approx(5 * 8 / result["images_per_second"])
    assert result["seconds_total"] == pytest.approx(sum(result["seconds"].values()))
    assert all(value > 0 for value in result["seconds"].values())
    assert result["cpu_seconds_per_image"] > 0 and result["n"] >= 3
    assert 0 < result["input_share"] < 1 and result["limits"] in ("input", "compute", "balanced")
    assert (result["knn_evaluations"], result["checkpoints_written"]) == (2, 3)
    assert result["peak_memory_bytes"] > 10**8 and result["queue_epochs"] == 24 / 40

    method = build_method(config, tf.distribute.get_strategy())
    state = {name: variable.numpy() for name, variable in method.state().items()}
    train, _ = build_images(config)
    end = Progress(15, 3, train.identity, *[100 / 3] * 15)
    data = checkpoint_file.to_bytes(state, step=15, extra=vars(end))
    assert result["checkpoint_bytes"] == len(data)
    assert 4 * len(data) < result["disk_bytes"] < 4 * len(data) + 10_000

    found = {one["field"]: one for one in result["suggestions"]}
    assert found.keys() == {"queue_size", "group_size", "epochs"}  # 15 steps at m = 0.99
    assert (found["queue_size"]["suggest"], found["group_size"]["suggest"]) == (8, 4)
    assert all(one.keys() == {"field", "value", "suggest", "reason"} for one in found.values())
    said = lines(result)
    assert "--queue-size 8 (now 24)" in "\n".join(said)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["data.npz"]
    left = [p.name for name in ("work", "temporary") for p in (tmp_path / name).iterdir()]
    # TensorFlow's own, gone when the process ends
    assert [name for name in left if not name.startswith("__autograph_generated")] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--batch-size", "48", "--group-size", "8"], "batch_size=48"),
        (["--image-size", "32"], "image_size=32"),
        (["--data", "/absent"], "data='/absent'"),
        (["nonsense"], "unknown recipe 'nonsense'"),
        (["--devices", "3"], "devices=3"),
    ],
)
def test_what_pre_training_refuses_is_one_line_and_exit_code_two(flags, capsys, changes, message):
    given = flags[1:] if changes == ["nonsense"] else flags  # which begin with a recipe
    assert main(["estimate", *given, *changes]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1 and message in errors[0]


def test_a_phase_uses_up_what_lies_ready_and_takes_its_time():
    taken = []

    def one_round(steps):  # the first batches lie ready; then one takes 0.8 s
        fast = sum(taken) < PREFETCHED_BATCHES
        taken.append(steps)
        return Round(8 * steps, (0.001 if fast else 0.8) * steps, 0.1 * steps)

    found = measure.phase(one_round, warm_up=PREFETCHED_BATCHES + 1)
    assert taken == [PREFETCHED_BATCHES + 1, 1, 2, 2, 2, 2, 2]  # 8 s: 5 rounds of 2 steps
    assert found["images_per_second"] == pytest.approx(10)
    assert (found["n"], found["steps_per_round"]) == (5, 2)


@pytest.mark.parametrize(
    ("step_seconds", "rounds"),
    [(0.1, [16] * 5), (0.5, [3] * 5), (1.6, [1] * 5), (1.7, [1] * 3), (60, [1] * 3)],
)
def test_a_phase_takes_eight_seconds_or_the_fewest_rounds(step_seconds, rounds):
    taken = []

    def one_round(steps):
        taken.append(steps)
        return Round(8 * steps, step_seconds * steps, 0.1)

    found = measure.phase(one_round)
    assert taken == [1, 1, *rounds]
    assert (found["n"], found["steps_per_round"]) == (len(rounds), rounds[0])


def test_the_seconds_of_an_image_are_without_the_votes(monkeypatch):
    """A clock that goes 0.01 s an image and 1e-6 s a vote, on all of a small split."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(measure, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    sizes = []

    def top1(split):
        bank, queries = len(split.bank_indices), len(split.query_indices)
        sizes.append((bank, queries))
        clock.now += 0.01 * (bank + queries) + 1e-6 * bank * queries
        return 0.0

    whole = Split(None, np.arange(100), None, np.arange(30, 50))
    assert measure.image_seconds(top1, whole, 1e-6) == pytest.approx(0.01)
    assert sizes == [(100, 20)] * 3
    large = Split(None, np.arange(10**6), None, np.arange(10**4))
    sizes.clear()
    assert measure.image_seconds(top1, large, 1e-6) == pytest.approx(0.01)
    assert sizes == [(512, 256)] * 2  # 7.8 s: longer than it is to take


def test_the_memory_is_what_linux_or_the_container_has_left(tmp_path, monkeypatch):
    meminfo, statm = tmp_path / "meminfo", tmp_path / "statm"
    meminfo.write_text("MemTotal: 100 kB\nMemAvailable:   5000 kB\n")
    statm.write_text("10 3 1 1 0 1 0\n")
    monkeypatch.setattr(memory, "MEMINFO", meminfo)
    monkeypatch.setattr(memory, "STATM", statm)
    monkeypatch.setattr(memory, "CONTROL_GROUP", tmp_path)
    monkeypatch.setattr(memory.os, "sysconf", lambda _: 4096)
    assert memory.host_bytes() == 5000 * 1024 + 3 * 4096
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.host_bytes() == 5000 * 1024 + 3 * 4096
    (tmp_path / "memory.max").write_text("4000000\n")
    (tmp_path / "memory.current").write_text("3000000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 500000\n")
    assert memory.host_bytes() == 1_500_000 + 3 * 4096
    meminfo.unlink()
    assert memory.host_bytes() is None


def test_durations_and_sizes_as_people_say_them():
    assert [duration(s) for s in (0.04, 9.94, 59.4, 149, 3600, 53 * 3600 + 660, 8.85 * 86_400)] == [
        "0.0 s", "9.9 s", "59 s", "2 min 29 s", "1 h 0 min", "53 h 11 min", "8 d 20 h",
    ]  # fmt: skip
    assert [size(n) for n in (8_908_760, 1_182_244_864)] == ["8.9 MB", "1.18 GB"]
