"""`moco-tf check`: every bit that counts is noticed, and nothing that a kill leaves is damage."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from moco_tf.commands.check import report
from moco_tf.commands.cli import main
from moco_tf.config import Config
from moco_tf.errors import InputError
from moco_tf.evaluate.finetune_config import FinetuneConfig
from moco_tf.files.digests import add_lines_digest, add_zip_digest, read_json, write_json
from moco_tf.runs import check, checkpoint, checkpoint_file
from moco_tf.runs import folder as run_folder
from moco_tf.runs.check import check_run
from moco_tf.training.progress import Progress
from moco_tf.training.reporting import Reporter

ROW = {
    "epoch": 0,
    "loss": 5.0,
    "top1": 40.0,
    "images_per_second": 100.0,
    "data_wait": 0.1,
}
STATE = {"queue": np.arange(12, dtype=np.float32).reshape(4, 3), "pointer": np.int64(3)}


def state_of(step):
    return STATE | {"pointer": np.int64(step)}


def train(folder, config, steps):
    """What a training leaves: a row and a checkpoint each step, as the loops write them."""
    run_folder.claim(folder, config)
    checkpoints = run_folder.checkpoint_folder(folder)
    found = checkpoint.load_latest(checkpoints, warn=pytest.fail)
    progress = Progress()
    vars(progress).update(found[2] if found else {})  # also what a run would refuse
    reporter = Reporter()
    reporter.console = Console(file=io.StringIO(), soft_wrap=True)
    reporter.start(folder, steps, progress.step, before=progress.written)
    for step in range(progress.step + 1, steps + 1):
        reporter.metrics(step, ROW)
        progress.step, progress.written = step, reporter.written()
        checkpoint.save(checkpoints, state_of(step), step=step, extra=asdict(progress))
    checkpoint.save(checkpoints, state_of(steps), step=steps, extra={}, tag="best_knn")
    reporter.close()
    summary = {"step": steps, "state_sha256": checkpoint_file.digest(state_of(steps))}
    write_json(folder / "summary.json", summary)
    return reporter.console.file.getvalue()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    train(run, Config(), 3)
    train(run, Config(), 5)
    archive = io.BytesIO()
    np.savez(archive, names=np.arange(3), sizes=np.ones((2, 2), np.int32))
    (run / ".images-0.npz").write_bytes(add_zip_digest(archive.getvalue()))
    (run / ".lock").write_text("1\n")
    tuned = run / "finetune"
    train(tuned, FinetuneConfig(run=str(run)), 2)
    checkpoint.save(tuned, STATE, step=2, extra={}, tag="encoder")
    (tuned / "labelled_images.txt").write_bytes(add_lines_digest(["a.jpg", "b.jpg"]))
    quick = run / "probe-quick"
    checkpoint.save(quick, STATE, step=0, extra={"key": "k"}, tag="features")
    write_json(quick / "summary.json", {"top1": 50.0})
    for folder in (run, quick):
        write_json(folder / "baselines.json", {"k": {"untrained": 30.0, "pixels": 20.0}})
    return run


@pytest.fixture
def run(made, tmp_path):
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def files_of(run):
    return {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()} - {".lock"}


def damaged(run):
    found = check_run(run)
    assert found["whole"] == (found["damaged"] is None)
    return found["damaged"] and found["damaged"]["file"]


def test_a_file_that_a_training_run_writes_meanwhile_is_not_called_unknown(run, monkeypatch):
    judge = check._judge_folder

    def and_a_save(root, folder):
        verdicts = judge(root, folder)
        (run / "checkpoints" / "step-00000009.safetensors").write_bytes(b"new")
        return verdicts

    monkeypatch.setattr(check, "_judge_folder", and_a_save)
    found = check_run(run)
    assert found["whole"] and found["unknown"] == []


def test_a_log_that_grows_meanwhile_has_the_digest_of_the_bytes_that_were_judged(run, monkeypatch):
    rows, opened = run / "metrics.jsonl", io.open

    def and_a_row(file, *arguments, **options):
        if file == rows:
            with opened(rows, "a") as log:
                log.write('{"step": 6}\n')
        return opened(file, *arguments, **options)

    with monkeypatch.context() as patch:
        for module in ("builtins", "io"):
            patch.setattr(f"{module}.open", and_a_row)
        found = {file["file"]: file for file in check_run(run)["files"]}[rows.name]
    assert found["damage"] is found["note"] is None
    assert found["sha256"] == hashlib.sha256(rows.read_bytes()).hexdigest()


def test_a_run_is_whole_and_each_of_its_files_is_named(run, capsys):
    assert main(["check", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {file["file"] for file in found["files"]} == files_of(run)
    assert all(file["carried"] and not file["note"] for file in found["files"])
    summary = read_json(run / "summary.json")
    assert (found["step"], found["state_sha256"]) == (5, summary["state_sha256"])
    assert found["whole"] and found["damaged"] is found["training"] is None
    assert found["leftovers"] == found["unknown"] == []
    assert len([name for name in files_of(run) if name.startswith("tensorboard/")]) == 2
    sums = subprocess.run(
        ["sha256sum", *sorted(files_of(run))], cwd=run, check=True, capture_output=True
    ).stdout.decode()
    assert dict(line.split("  ")[::-1] for line in sums.splitlines()) == {
        file["file"]: file["sha256"] for file in found["files"]
    }


def test_folders_of_results_and_an_encoder_are_runs_too(run, capsys):
    assert (check_run(run / "finetune")["step"], damaged(run / "finetune")) == (2, None)
    assert (check_run(run / "probe-quick")["step"], damaged(run / "probe-quick")) == (None, None)
    found = check_run(run / "finetune" / "encoder.safetensors")
    assert found["whole"] and found["state_sha256"] == checkpoint_file.digest(STATE)
    assert main(["check", str(run)]) == 0
    state = checkpoint_file.digest(state_of(5))
    told = f"whole: {len(files_of(run))} files, at step 5 the state {state}"
    assert told in capsys.readouterr().out


def test_any_flipped_bit_of_any_file_is_named(run):
    draw = np.random.default_rng(0)
    for name in sorted(files_of(run)):
        path = run / name
        data = path.read_bytes()
        for position in draw.choice(8 * len(data), 6, replace=False):
            changed = bytearray(data)
            changed[position // 8] ^= 1 << position % 8
            path.write_bytes(changed)
            assert damaged(run) == name, position
        path.write_bytes(data)
    assert damaged(run) is None


def test_any_shorter_file_is_named(run):
    for name in sorted(files_of(run)):
        data = (run / name).read_bytes()
        for size in (0, len(data) // 2, len(data) - 64, len(data) - 1):
            (run / name).write_bytes(data[:size])
            assert damaged(run) == name, size
        (run / name).write_bytes(data)


def test_a_file_that_is_gone_is_damage_where_a_checkpoint_needs_it(run):
    events = sorted(name for name in files_of(run) if name.startswith("tensorboard/"))
    for name in ("config.json", "metrics.jsonl", *events):
        data = (run / name).read_bytes()
        (run / name).unlink()
        assert check_run(run)["damaged"] == {"file": name, "reason": "it is missing"}
        (run / name).write_bytes(data)


def test_what_a_kill_leaves_is_no_damage(run):
    for name in (".config.json.tmp", "checkpoints/.step-00000006.safetensors.tmp"):
        (run / name).write_bytes(b"{")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6}\n{"step"')
    newest = sorted((run / "tensorboard").iterdir())[-1]
    whole = newest.read_bytes()
    for cut in (1, 11, 12, 40):
        newest.write_bytes(whole + whole[:cut])
        assert damaged(run) is None
    newest.write_bytes(whole + bytes(100))  # zeros, as after a power failure
    (run / "summary.json").unlink()
    found = check_run(run)
    assert found["whole"] and len(found["leftovers"]) == 2 and found["unknown"] == []
    notes = {file["file"]: file["note"] for file in found["files"] if file["note"]}
    assert set(notes) == {"metrics.jsonl", f"tensorboard/{newest.name}"}
    assert "its last 7 bytes are half an entry" in notes["metrics.jsonl"]
    assert any("of a save that did not end: .config.json.tmp" in line for line in report(found))
    train(run, Config(), 7)
    assert damaged(run) is None


def test_a_kill_before_each_call_that_changes_what_is_on_the_disk(tmp_path, monkeypatch):
    """Copies of the folder at these moments, of a training and of its resumption."""
    run, moments = tmp_path / "run", []

    def copying(function):
        def call(*arguments, **options):
            moments.append(shutil.copytree(run, tmp_path / str(len(moments))))
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for owner, name in ((os, "fsync"), (os, "replace"), (Path, "unlink")):
            patch.setattr(owner, name, copying(getattr(owner, name)))
        train(run, Config(), 3)
        train(run, Config(), 5)
    assert len(moments) > 50
    steps = []
    for moment in moments:
        if (moment / "config.json").exists():
            assert damaged(moment) is None, moment
            steps.append(check_run(moment)["step"] or 0)
    assert steps == sorted(steps) and set(steps) == {0, 1, 2, 3, 4, 5}
    train(moments[-10], Config(), 6)
    assert damaged(moments[-10]) is None


def test_a_kill_before_the_first_checkpoint(tmp_path):
    run_folder.claim(tmp_path / "run", Config())
    assert damaged(tmp_path / "run") is None
    (tmp_path / "run" / "versions.json").unlink()  # between the two
    assert damaged(tmp_path / "run") is None
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 1}\n{"st')
    assert damaged(tmp_path / "run") is None
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 1\n{"step": 2}\n')
    assert check_run(tmp_path / "run")["damaged"]["reason"] == "its row 1 is not a row"


def test_damage_before_a_resumption_is_said_then_and_curves_keep_theirs(run):
    rows, curves = run / "metrics.jsonl", sorted((run / "tensorboard").iterdir())[0]
    rows.write_text(rows.read_text().replace("40.0", "41.0", 1))
    curves.write_bytes(curves.read_bytes()[:-100])
    assert "metrics.jsonl is damaged" in train(run, Config(), 6)
    assert damaged(run) == f"tensorboard/{curves.name}"
    curves.unlink()
    assert "damaged" not in train(run, Config(), 7)
    assert damaged(run) is None


def test_files_of_a_version_without_digests_are_read_and_said_to_carry_none(tmp_path):
    run = tmp_path / "run"
    train(run, Config(), 2)
    for name in ("config.json", "versions.json", "summary.json"):
        value = read_json(run / name)
        (run / name).write_text(json.dumps(value, indent=2) + "\n")
    extra = {name: value for name, value in asdict(Progress(step=2)).items() if name != "written"}
    for step in (1, 2):
        checkpoint.save(run / "checkpoints", state_of(step), step=step, extra=extra)
    found = check_run(run)
    bare = {file["file"] for file in found["files"] if not file["carried"]}
    assert found["whole"] and found["step"] == 2
    assert bare == {"config.json", "versions.json", "summary.json", "metrics.jsonl"}
    assert any(line.startswith("without a digest") for line in report(found))
    assert "damaged" not in train(run, Config(), 3)
    found = check_run(run)
    assert {file["file"] for file in found["files"] if not file["carried"]} == {"config.json"}


def test_what_is_not_of_the_run_is_named_and_no_damage(run):
    (run / "notes.txt").write_text("mine")
    (run / "export").mkdir()
    (run / "export" / "model.keras").write_bytes(b"x")
    (run / "tensorboard" / "projector_config.pbtxt").write_text("x")
    (run / "finetune" / "checkpoints" / "old.bin").write_text("x")
    found = check_run(run)
    assert found["whole"] and found["leftovers"] == []
    assert found["unknown"] == [
        "export/",
        "finetune/checkpoints/old.bin",
        "notes.txt",
        "tensorboard/projector_config.pbtxt",
    ]


def test_what_is_whole_but_not_of_this_place(run, made, tmp_path):
    folder = run / "checkpoints"
    moved = folder / "step-00000009.safetensors"
    shutil.copy(folder / "step-00000004.safetensors", moved)
    assert check_run(run)["damaged"] == {
        "file": "checkpoints/step-00000009.safetensors",
        "reason": "it is the checkpoint of step 4",
    }
    moved.unlink()
    write_json(run / "summary.json", {"step": 5, "state_sha256": "0" * 64})
    assert "step-00000005" in check_run(run)["damaged"]["reason"]
    write_json(run / "summary.json", {"step": 3, "state_sha256": "0" * 64})
    assert damaged(run) is None  # that checkpoint is not kept any more; the run has gone on since
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").symlink_to(made / "metrics.jsonl")
    assert "a link that leaves" in check_run(run)["damaged"]["reason"]
    (tmp_path / "link").symlink_to(made)  # of the folder itself: nothing leaves it
    assert damaged(tmp_path / "link") is None


def test_checkpoints_that_are_lost_are_damage(run):
    steps = sorted((run / "checkpoints").glob("step-*"))
    assert [path.name[5:13] for path in steps] == ["00000004", "00000005"]
    steps[1].write_bytes(b"")  # damaged, it is not lost: no second complaint
    assert damaged(run) == "checkpoints/step-00000005.safetensors"
    wanted = ("the last one is of step 4", "there is none")
    for path, said in zip(reversed(steps), wanted, strict=True):
        path.unlink()
        reason = f"it is of step 5, but of checkpoints {said}"
        assert check_run(run)["damaged"] == {"file": "summary.json", "reason": reason}
    shutil.rmtree(run / "finetune" / "checkpoints")
    (run / "summary.json").unlink()
    assert damaged(run) == "finetune/summary.json"


def test_exit_codes_and_one_line_for_bad_input(run, tmp_path, capsys):
    newest = run / "checkpoints" / "step-00000005.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    assert main(["check", str(run)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"damaged: checkpoints/{newest.name}: ") for line in lines)
    assert lines[-1].startswith(f"{run} is not whole, first checkpoints/{newest.name}: ")
    assert main(["check", str(run), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["step"], found["state_sha256"]) == (4, checkpoint_file.digest(state_of(4)))
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.json").write_text("{}")
    for bad in (tmp_path / "empty", tmp_path / "absent", tmp_path / "a.json"):
        assert main(["check", str(bad)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"moco-tf: error: {bad} is not a run") and error.count("\n") == 1


def test_what_was_put_there_to_mislead_neither_hangs_nor_crashes(run, capsys):
    os.mkfifo(run / "finetune" / "versions.json.new")
    (run / "loop").symlink_to(run)
    (run / os.fsdecode(b"n\xff\n.txt")).write_text("x")
    rubbish = {
        "../config.json": {"bytes": 3, "sha256": "x"},
        "metrics.jsonl": 3,
        "tensorboard/x": {},
    }
    extra = asdict(Progress(step=6)) | {"written": rubbish}
    checkpoint.save(run / "checkpoints", state_of(6), step=6, extra=extra)
    assert main(["check", str(run)]) == 0
    assert "loop/, n\\udcff\\n.txt" in capsys.readouterr().out
    train(run, Config(), 7)
    assert damaged(run) is None
    deep = "[" * 100_000
    (run / "metrics.jsonl").write_text(deep + "\n")
    assert damaged(run) == "metrics.jsonl"
    (run / "config.json").unlink()
    os.mkfifo(run / "config.json")
    assert damaged(run) == "config.json"
    (run / "config.json").unlink()
    (run / "config.json").write_text(deep)
    assert damaged(run) == "config.json"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_bad_input(run):
    (run / "metrics.jsonl").chmod(0)
    with pytest.raises(InputError, match=r"cannot read .*metrics\.jsonl"):
        check_run(run)


def test_training_is_told_and_neither_locks_nor_tensorflow_are_needed(run):
    with run_folder.locked(run):
        found = check_run(run)
        assert found["training"] == os.getpid() and found["whole"]
        assert f"process {os.getpid()} is training in it" in report(found)
    code = (
        "import sys; from moco_tf.commands.cli import main\n"
        f"code = main(['check', {str(run)!r}])\n"
        "sys.exit(code or 10 * ('tensorflow' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
