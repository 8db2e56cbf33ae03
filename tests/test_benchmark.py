"""Benchmarks: medians against a made-up clock, and that what is measured is what trains."""

import contextlib
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest

import moco_tf.benchmark.command
import moco_tf.benchmark.rounds
from moco_tf.benchmark.rounds import Round, step_rounds, summarize, timed
from moco_tf.commands.cli import main
from moco_tf.config import make_config
from moco_tf.recipes import RECIPES

SMALL = {"width": 4, "batch_size": 8, "group_size": 4, "queue_size": 16, "image_size": 16}
FLAGS = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", value)]
KEYS = {"images_per_second", "cpu_seconds_per_image", "peak_memory_bytes", "n"}


def test_a_round_is_the_time_between(monkeypatch):
    clocks = SimpleNamespace(
        perf_counter=iter([10.0, 12.5]).__next__, process_time=iter([3.0, 7.0]).__next__
    )
    monkeypatch.setattr(moco_tf.benchmark.rounds, "time", clocks)
    assert timed(lambda: 50, iter([0.25, 1.0]).__next__) == Round(50, 2.5, 4.0, 0.75)


def test_medians_are_over_the_rounds():
    rounds = [Round(8, 2.0, 1.6, 1.0), Round(8, 1.0, 0.8, 0.1), Round(8, 4.0, 8.0, 0.0)]
    found = summarize(rounds)
    assert found["images_per_second"] == 4.0  # of 4, 8 and 2
    assert found["cpu_seconds_per_image"] == pytest.approx(0.2)  # of 0.2, 0.1 and 1
    assert found["data_wait"] == pytest.approx(0.1)  # of 0.5, 0.1 and 0
    assert found["n"] == 3
    assert found["rounds"][0] == {"images": 8, "seconds": 2.0, "cpu_seconds": 1.6, "waited": 1.0}


def test_the_peak_memory_counts_what_was_there():
    before = moco_tf.benchmark.rounds.peak_memory_bytes()
    block = np.ones(2**28, np.uint8)  # 256 MiB
    grown = moco_tf.benchmark.rounds.peak_memory_bytes() - before
    assert block.sum() == 2**28 and grown <= 1.1 * 2**28
    assert moco_tf.benchmark.rounds.peak_memory_bytes() >= 2**28


def test_each_round_takes_its_steps(monkeypatch):
    steps = []

    def build_step(config, method):
        def train_step(view1, view2, step, rate):
            places = [places.numpy().tolist() for places, _ in (view1, view2)]
            assert sorted(places[0]) == list(range(8)) and places[0] == places[1]
            assert (view1[1] != view2[1]).numpy().any()
            steps.append(int(step))
            return {"loss": 0.0}

        return train_step

    monkeypatch.setattr(moco_tf.benchmark.rounds, "build_step", build_step)
    one_round, first = step_rounds(make_config(RECIPES["shapes"].config, SMALL), steps=3)
    assert steps == [0] and first > 0
    assert one_round().images == 24 and one_round().images == 24
    assert steps == list(range(7))


def test_waiting_is_what_the_batches_take(monkeypatch, tmp_path, capsys):
    def slow(*_):
        while True:
            time.sleep(0.05)
            yield None, None

    monkeypatch.setattr(moco_tf.benchmark.rounds, "build_batches", slow)
    monkeypatch.setattr(moco_tf.benchmark.rounds, "build_step", lambda *_: lambda *_: {"loss": 0.0})
    flags = ["--rounds", "2", "--steps", "2", "--json"]
    assert main(["benchmark", "train", *map(str, FLAGS), *flags]) == 0
    result = json.loads(capsys.readouterr().out)
    assert 0.9 < result["data_wait"] <= 1
    assert result["images_per_second"] <= 8 / 0.05


@pytest.mark.parametrize(
    "what", ["input", *(pytest.param(what, marks=pytest.mark.slow) for what in ("step", "train"))]
)
def test_each_measures_and_says_what_it_was(capsys, what):
    flags = ["--rounds", "2", "--steps", "1", "--json"]
    assert main(["benchmark", what, "shapes", *map(str, FLAGS), *flags]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result.keys() >= KEYS | {"what", "rounds", "config", "versions"}
    assert (result["what"], result["n"], result["config"]["batch_size"]) == (what, 2, 8)
    assert ("data_wait" in result) == (what == "train")
    assert ("first_step_seconds" in result) == (what != "input")
    assert all(one["images"] == 8 and one["seconds"] > 0 for one in result["rounds"])


@pytest.mark.parametrize("what", ["benchmark input --rounds 1 --steps 1 --json", "estimate --json"])
def test_other_views_than_those_of_a_function_are_told(monkeypatch, tmp_path, capsys, what):
    monkeypatch.setattr("moco_tf.benchmark.estimate.build_strategy", None)  # no more of an estimate
    file = tmp_path / "config.yaml"
    file.write_text("recipe: shapes\naugment_function: mine.views\n")
    with contextlib.suppress(TypeError):
        main([*what.split(), "--config", str(file), *map(str, FLAGS)])
    assert "augment_function=mine.views is not at hand: the views of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["step", "--rounds", "0"], "rounds=0"),
        (["step", "--steps", "-1"], "steps=-1"),
        (["input", "--data", "/absent"], "data='/absent'"),
        (["train", "nonsense"], "unknown recipe 'nonsense'"),
        pytest.param(
            ["input", "--batch-size", "8192", "--group-size", "32"],
            "batch_size=8192",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(capsys, flags, message):
    assert main(["benchmark", *flags]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and message in lines[0]
