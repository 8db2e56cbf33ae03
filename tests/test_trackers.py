"""Experiment trackers: what arrives in their local stores, once, and what happens if they fail."""

import importlib.util
import json
import sys
import time
from types import SimpleNamespace

import pytest
from support import quick_runs, wandb_file
from support.runs import config, rows

from moco_tf.commands.cli import main
from moco_tf.errors import InputError
from moco_tf.pretraining import pretrain
from moco_tf.training import trackers
from moco_tf.training.reporting import Reporter
from moco_tf.training.trackers import Tracker, check_tracker


class Session:
    """In place of a library's run: keeps what it is told."""

    def __init__(self, run, title, settings):
        self.begun_with, self.title, self.settings, self.id = run, title, settings, run or "new"
        self.rows, self.summary, self.closed = [], None, False

    def log(self, step, values):
        self.rows.append({"step": step} | values)

    def close(self, summary):
        self.summary, self.closed = summary, True


@pytest.fixture
def sessions(monkeypatch):
    """The sessions that were opened, one after another."""
    opened = []

    def open_session(*arguments):
        opened.append(Session(*arguments))
        return opened[-1]

    monkeypatch.setitem(trackers.SESSIONS, "wandb", open_session)
    monkeypatch.setattr(trackers, "check_tracker", lambda name: None)
    monkeypatch.setattr("moco_tf.pretraining.check_tracker", lambda name: None)
    return opened


def send(run_dir, *steps, name="wandb", summary=None):
    """Sends a few rows; returns what was said, which is nothing where all goes well."""
    said = []
    tracker = Tracker(name, run_dir, {"seed": 3, "data": "shapes"}, said.append)
    for step in steps:
        tracker.log("metrics", step, {"loss": 1 / step, "top1": float("nan")})
    tracker.log("evaluation", steps[0], {"knn_top1": 30.0})
    if summary:
        tracker.finish(summary)
    tracker.close()
    return said


def test_what_was_sent_is_not_sent_again(sessions, tmp_path):
    assert send(tmp_path, 1, 2, 3) == []
    assert send(tmp_path, 2, 3, 4, summary={"loss": 0.5}) == []  # killed after a save of step 2
    first, second = sessions
    assert (first.begun_with, second.begun_with) == (None, "new")
    assert first.title == tmp_path.name and first.settings == {"seed": 3, "data": "shapes"}
    steps = [[row["step"] for row in one.rows if "loss" in row] for one in sessions]
    assert steps == [[1, 2, 3], [4]]
    evaluations = [[row["step"] for row in one.rows if "knn_top1" in row] for one in sessions]
    assert evaluations == [[1], [2]]
    assert (first.summary, second.summary) == (None, {"loss": 0.5})


def failing(*arguments):
    raise OSError("no network\nat all")


def failing_later(*arguments):
    return SimpleNamespace(id="x", log=failing, close=failing)


@pytest.mark.parametrize("open_session", [failing, failing_later])
def test_a_tracker_that_fails_is_one_line(sessions, tmp_path, monkeypatch, open_session):
    monkeypatch.setitem(trackers.SESSIONS, "wandb", open_session)
    assert send(tmp_path, 1, 2, 3) == [
        "track=wandb has failed, and training goes on without it (OSError: no network at all)"
    ]


def test_a_tracker_that_hangs_is_not_waited_for(sessions, tmp_path, monkeypatch):
    hangs = SimpleNamespace(id="x", log=lambda *_: time.sleep(5), close=lambda _: None)
    monkeypatch.setitem(trackers.SESSIONS, "wandb", lambda *_: hangs)
    monkeypatch.setattr(trackers, "END_SECONDS", 0.2)
    began = time.monotonic()
    said = send(tmp_path, *range(1, 1000), summary={"loss": 1})
    assert time.monotonic() - began < 2
    assert said == ["track=wandb: not all was sent in 0.2 s; the rest is given up"]


def test_a_damaged_record_of_the_tracker_is_said(sessions, tmp_path):
    (tmp_path / "tracking.json").write_text('{"wandb": 1, "sha256": "0"}', encoding="utf-8")
    (line,) = send(tmp_path, 1)
    assert "tracking.json" in line and "remove it to begin" in line


def tracked(data, run_dir, **changes):
    return config(data, run_dir, epochs=2, knn_every=1, checkpoint_every=2, **changes)


def test_a_run_tells_its_tracker_what_metrics_jsonl_holds(quick, data, tmp_path, sessions):
    plain = pretrain(tracked(data, tmp_path / "plain"), reporter=Reporter())
    summary = pretrain(tracked(data, tmp_path / "mine", track="wandb"), reporter=Reporter())
    (session,) = sessions
    assert session.rows == rows(tmp_path / "mine")
    assert any("knn_top1" in row for row in session.rows)
    assert session.title == "mine" and session.settings["batch_size"] == 16
    assert session.summary == summary and session.closed
    assert summary["state_sha256"] == plain["state_sha256"]


def test_a_run_that_goes_on_sends_each_step_once(quick, data, tmp_path, sessions):
    def dies():
        raise RuntimeError

    settings = tracked(data, tmp_path / "mine", track="wandb")
    with pytest.raises(RuntimeError):
        pretrain(settings, reporter=quick_runs.Event(3, dies))  # step 2 is saved
    pretrain(settings, reporter=Reporter())
    sent = [row for session in sessions for row in session.rows]
    logged = [row["step"] for row in sent if "loss" in row]
    assert logged == [1, 2, 3, 4, 5, 6]
    assert [session.begun_with for session in sessions] == [None, "new"]
    assert len([row for row in sent if "knn_top1" in row]) == 3  # untrained, and two epochs


def test_a_run_whose_tracker_fails_is_the_same_run(
    quick, data, tmp_path, sessions, monkeypatch, capsys
):
    plain = pretrain(tracked(data, tmp_path / "plain"), reporter=Reporter())
    monkeypatch.setitem(trackers.SESSIONS, "wandb", failing)
    capsys.readouterr()
    summary = pretrain(tracked(data, tmp_path / "mine", track="wandb"), reporter=Reporter())
    assert summary["state_sha256"] == plain["state_sha256"]
    assert capsys.readouterr().out.count("track=wandb has failed") == 1
    assert len(rows(tmp_path / "mine")) == len(rows(tmp_path / "plain"))


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_extra_is_named_before_anything_starts(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    run_dir = tmp_path / "run"
    assert main(["pretrain", "shapes", "--track", name, "--run-dir", str(run_dir)]) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert f"track={name} needs an extra: pip install 'moco-tf[{name}]'" in line
    assert "starting TensorFlow" not in said.out and not run_dir.exists()


def test_a_folder_wandb_is_no_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: SimpleNamespace(origin=None))
    with pytest.raises(InputError, match="track=wandb needs an extra"):
        check_tracker("wandb")
    check_tracker(None)


def test_another_tracker_is_refused_in_one_line(capsys):
    assert main(["pretrain", "shapes", "--track", "tensorboard"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "track" in line and "tensorboard" in line and "'wandb' or 'mlflow'" in line


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Stores in a folder of the test, and no network."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(tmp_path),
        "MLFLOW_TRACKING_URI": f"file:{tmp_path}/mlruns",
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("END_SECONDS", "STOP_SECONDS"):
        monkeypatch.setattr(trackers, name, 300)  # a new database may take half a minute
    run_dir = tmp_path / "runs" / "mine"
    run_dir.mkdir(parents=True)
    yield run_dir
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()  # it keeps the environment that it began with


def test_wandb_offline_holds_the_run(offline, tmp_path):
    wandb = pytest.importorskip("wandb", reason="needs the extra wandb")
    assert send(offline, 1, 2) == []
    assert send(offline, 2, 4, summary={"state_sha256": "abc", "loss": 0.25}) == []
    wandb.teardown()  # as at the end of the process: then its own process has written all
    first, second = wandb_file.read(tmp_path)
    assert (
        first["id"]
        == second["id"]
        == json.loads((offline / "tracking.json").read_text())["wandb"]["run"]
    )
    assert first["name"] == "mine" and first["project"] == "moco-tf"
    assert {"seed": 3, "data": "shapes"}.items() <= first["config"].items()
    assert [(row["step"], row.get("loss"), row.get("knn_top1")) for row in first["rows"]] == [
        (1, 1.0, None),
        (2, 0.5, None),
        (1, None, 30.0),
    ]
    assert [(row["step"], row.get("loss")) for row in second["rows"]] == [(4, 0.25), (2, None)]
    assert second["summary"]["state_sha256"] == "abc"


STORES = ["file:{}/mlruns", pytest.param("sqlite:///{}/mlflow.db", marks=pytest.mark.slow)]


@pytest.mark.parametrize("store", STORES)
def test_mlflows_store_holds_the_run(offline, tmp_path, monkeypatch, store):
    mlflow = pytest.importorskip("mlflow", reason="needs the extra mlflow")
    if store.startswith("sqlite"):
        pytest.importorskip("sqlalchemy", reason="needs the extra mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.format(tmp_path))
    assert send(offline, 1, 2, name="mlflow") == []
    end = {"state_sha256": "abc", "loss": 0.25}
    assert send(offline, 2, 4, name="mlflow", summary=end) == []
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("moco-tf").experiment_id])
    assert run.info.run_name == "mine" and run.info.status == "FINISHED"
    assert run.data.params == {"seed": "3", "data": "shapes"}
    assert run.data.tags["state_sha256"] == "abc"
    history = {
        key: [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, key)]
        for key in ("loss", "knn_top1")
    }
    assert history == {"loss": [(1, 1.0), (2, 0.5), (4, 0.25)], "knn_top1": [(1, 30.0), (2, 30.0)]}


def test_wandb_without_a_key_goes_on_in_one_line(offline, monkeypatch):
    pytest.importorskip("wandb", reason="needs the extra wandb")
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("NETRC", "/dev/null")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    (line,) = send(offline, 1)
    assert "no API key; run `wandb login`, or set WANDB_MODE=offline" in line
