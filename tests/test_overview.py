"""`moco-tf runs`: which runs there are, how far they are, how two of them differ."""

import json
import os

import numpy as np
import pytest
from support.runs import config

from moco_tf.commands.cli import main
from moco_tf.files.digests import write_json
from moco_tf.runs import checkpoint
from moco_tf.runs import folder as run_folder


def make_run(run_dir, step=None, epoch=0, summary=None, **changes):
    """A run folder as pre-training leaves it, without an encoder."""
    run_folder.claim(run_dir, config("shapes", run_dir, **changes))
    if step is not None:
        state = {"a": np.zeros(2, np.float32)}
        extra = {"step": step, "epoch": epoch, "knn_top1": 10.0 * epoch, "loss": 5.0}
        checkpoint.save(run_dir / "checkpoints", state, step=step, extra=extra)
    if summary is not None:
        write_json(run_dir / "summary.json", {"step": step} | summary)


@pytest.fixture
def runs(tmp_path):
    make_run(tmp_path / "done", 30, 3, {"knn_top1": 31.25, "loss": 4.5, "state_sha256": "a" * 64})
    make_run(tmp_path / "halted", 10, 1)
    make_run(tmp_path / "begun")
    make_run(tmp_path / "deep" / "extended", 30, 3, {"knn_top1": 30.0}, epochs=5, seed=7)
    make_run(tmp_path / "went on", 30, 3, {"knn_top1": 30.0, "step": 20}, epochs=5)
    make_run(tmp_path / "max", 2, 0, {"knn_top1": 1.0}, max_steps=2)
    results = tmp_path / "probe"
    results.mkdir()
    (results / "config.json").write_text(json.dumps({"run": "runs/x", "lr": [30]}))
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_text("{")
    return tmp_path


def listed(capsys, *words):
    assert main(["runs", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_states_and_numbers_are_those_of_the_newest_checkpoint(capsys, runs):
    found = {os.path.relpath(one["run"], runs): one for one in listed(capsys, str(runs))["runs"]}
    assert {name: one["state"] for name, one in found.items()} == {
        "begun": "interrupted",
        "damaged": "damaged",
        "deep/extended": "interrupted",  # two epochs of five are still to come
        "done": "done",
        "halted": "interrupted",
        "max": "done",
        "went on": "interrupted",  # a checkpoint is newer than the summary
    }
    assert list(found) == sorted(found)
    done, halted = found["done"], found["halted"]
    assert (done["epochs_done"], done["epochs"], done["step"]) == (3, 3, 30)
    assert done["knn_top1"] == 31.25
    assert (halted["epochs_done"], halted["step"], halted["knn_top1"]) == (1, 10, 10.0)
    assert (found["begun"]["epochs_done"], found["begun"]["step"]) == (0, None)
    assert "config.json" in found["damaged"]["problem"]


def test_a_run_whose_folder_a_process_holds_is_running(capsys, runs):
    with run_folder.locked(runs / "halted"):
        (found,) = listed(capsys, str(runs / "halted"))["runs"]
    assert (found["state"], found["process"]) == ("running", os.getpid())
    (found,) = listed(capsys, str(runs / "halted"))["runs"]
    assert (found["state"], found["process"]) == ("interrupted", None)


def test_the_table_has_a_line_for_each_run(capsys, runs):
    assert main(["runs", str(runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "state", "recipe", "data", "epochs", "kNN"]
    done = next(line for line in lines if line.startswith(f"{runs}/done"))
    assert done.split()[1:] == ["done", "shapes", "shapes", "3/3", "31.2%"]
    assert len(lines) == 8
    assert next(line for line in lines if "damaged" in line).endswith(
        f"see: moco-tf check {runs}/damaged"
    )


def test_two_runs_are_compared_in_config_and_results(capsys, runs):
    result = listed(capsys, str(runs), "--diff", "done", "deep/extended")
    assert result["config"] == {"epochs": [3, 5], "seed": [0, 7]}
    assert result["results"]["knn_top1"] == [31.25, 30.0]
    assert result["results"]["state_sha256"] == ["a" * 64, None]
    assert result["versions"] == {}
    assert main(["runs", "--diff", str(runs / "done"), str(runs / "halted")]) == 0
    text = capsys.readouterr().out
    assert "config\n  the same\n" in text
    assert "  state_sha256  aaaaaaaaaaaa..." in text


def test_fields_of_a_field_are_compared_one_by_one(capsys, tmp_path):
    for name, gray in (("a", 0.2), ("b", 0.5)):
        make_run(tmp_path / name, augmentation={"gray": gray, "horizontal_flip": 0.5})
    result = listed(capsys, str(tmp_path), "--diff", "a", "b")
    assert result["config"] == {"augmentation.gray": [0.2, 0.5]}


def test_names_that_are_no_utf8_or_hold_controls_are_printed(capsys, tmp_path):
    for name in (b"caf\xe9", b"a\x1b[31mb", b"<b>"):
        make_run(tmp_path / "run", 1)
        (tmp_path / "run").rename(tmp_path / os.fsdecode(name))
    assert main(["runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "caf\\udce9 " in out
    assert "a\\x1b[31mb " in out
    assert "<b> " in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere is not a folder"),
        ([], "there is no folder runs here"),
        (["s3://bucket/runs"], "is in an object store"),
        (["--diff", "a"], "expected 2 arguments"),
        (["--diff", "a", "b"], "a is not a run folder"),
    ],
)
def test_bad_input_is_told_in_one_line(capsys, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["runs", *words])
    except SystemExit as stopped:
        code = stopped.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_a_folder_without_runs_is_no_error(capsys, tmp_path):
    assert main(["runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path} holds no runs\n"
