"""A run on another file system: copied there after each save, fetched from there at a start."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from support.runs import TINY

from moco_tf import pretraining as train_module
from moco_tf.build import build_batches
from moco_tf.config import make_config
from moco_tf.errors import InputError
from moco_tf.pretraining import pretrain
from moco_tf.recipes import RECIPES
from moco_tf.runs import remote as remote_module
from moco_tf.runs.remote import RemoteFolder, local_folder, working_folder
from moco_tf.training.signals import Interrupted

pytestmark = pytest.mark.usefixtures("shallow")
SHORT = TINY | {"epochs": 2}  # six steps


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "moco-tf"


@pytest.fixture
def url(request):
    """A folder of TensorFlow's file system in memory, which no test has used."""
    return f"ram://{request.node.name.replace('[', '_').replace(']', '')}"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "images.npz"
    images = np.random.default_rng(0).integers(0, 256, (48, 16, 16, 3)).astype(np.uint8)
    np.savez(path, images=images)
    return str(path)


def read(url):
    with tf.io.gfile.GFile(url, "rb") as file:
        return file.read()


def train(data, run_dir, **changes):
    base = SHORT | {"data": data, "run_dir": str(run_dir)} | changes
    return pretrain(make_config(RECIPES["shapes"].config, base))


def test_a_run_in_parts_there_is_the_whole_run_here(data, tmp_path, url):
    whole = train(data, tmp_path / "run")
    train(data, url, max_steps=4)
    assert train(data, url)["state_sha256"] == whole["state_sha256"]
    summary = json.loads(read(f"{url}/summary.json"))
    assert summary["state_sha256"] == whole["state_sha256"] and summary["step"] == 6
    assert sorted(tf.io.gfile.listdir(f"{url}/checkpoints")) == sorted(
        path.name for path in (tmp_path / "run" / "checkpoints").iterdir()
    )
    rows = [json.loads(line) for line in read(f"{url}/metrics.jsonl").splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4, 5, 6]


def test_a_file_url_is_the_folder_itself(data, tmp_path):
    train(data, f"file://{tmp_path}/run", max_steps=1)
    assert (tmp_path / "run" / "summary.json").exists()
    assert local_folder(f"file://{tmp_path}") == tmp_path
    assert local_folder("runs/mine") == Path("runs/mine")
    assert local_folder("gs://bucket/run") is None


def test_what_is_saved_is_there_before_the_run_ends(data, cache, url, monkeypatch):
    monkeypatch.setattr("moco_tf.pretraining.build_batches", Broken)
    with pytest.raises(Interrupted):
        train(data, url)
    assert "step-00000002.safetensors" in tf.io.gfile.listdir(f"{url}/checkpoints")
    assert not list(cache.iterdir())


def test_what_could_not_be_sent_is_kept_and_gone_on_with(data, tmp_path, cache, url, monkeypatch):
    whole = train(data, tmp_path / "run")
    train(data, url, max_steps=2)
    with monkeypatch.context() as patch:
        patch.setattr(remote_module, "_sha256", lambda path: path)
        with pytest.raises(InputError, match=r"damaged\. .* it is whole in .*moco-tf"):
            train(data, url, max_steps=4)
    (kept,) = cache.iterdir()
    assert "step-00000003.safetensors" in [p.name for p in kept.glob("run/checkpoints/*")]
    with tf.io.gfile.GFile(f"{url}/checkpoints/.step-00000003.safetensors.sending", "w") as file:
        file.write("half")
    steps = []
    monkeypatch.setattr(
        "moco_tf.pretraining._restore",
        lambda *a, of=train_module._restore: (steps.append((p := of(*a)).step), p)[1],
    )
    assert train(data, url)["state_sha256"] == whole["state_sha256"]
    assert steps[0] >= 3
    names = tf.io.gfile.listdir(f"{url}/checkpoints")
    assert not [name for name in names if name.startswith(".")]
    assert not list(cache.iterdir())


def test_two_processes_of_a_machine_do_not_share_it(url):
    used = pytest.raises(InputError, match="in use by another process")
    with working_folder(url), used, working_folder(url):
        pass


class Broken:
    """Batches of a run that is interrupted when the fourth is asked for."""

    def __init__(self, *arguments):
        self._batches, self._given = build_batches(*arguments), 0

    def __next__(self):
        self._given += 1
        if self._given == 4:
            raise Interrupted(15, 3)
        return next(self._batches)


def test_new_files_go_before_old_ones_are_deleted(tmp_path, url, monkeypatch):
    here = tmp_path / "run"
    (here / "checkpoints").mkdir(parents=True)
    for name in ("config.json", "checkpoints/step-1", "summary.json", "metrics.jsonl"):
        (here / name).write_text(name)
    (here / ".lock").write_text("hidden")
    remote = RemoteFolder(url, here)
    remote.push()
    done = []
    for name in ("copy", "remove"):
        original = getattr(tf.io.gfile, name)
        monkeypatch.setattr(
            tf.io.gfile,
            name,
            lambda *a, of=original, what=name, **k: (done.append((what, a[0])), of(*a, **k))[1],
        )
    (here / "checkpoints" / "step-1").unlink()
    (here / "checkpoints" / "step-2").write_text("new")
    (here / "metrics.jsonl").write_text("longer than it was")
    (here / "summary.json").unlink()  # as a cleaner of old files does: no reason to lose it there
    remote.push()
    assert done == [
        ("copy", str(here / "metrics.jsonl")),
        ("copy", str(here / "checkpoints" / "step-2")),
        ("remove", f"{url}/checkpoints/step-1"),
    ]
    there = RemoteFolder(url, tmp_path / "fetched")
    there.fetch()
    names = sorted(p.relative_to(there.copy).as_posix() for p in there.copy.rglob("*.*"))
    assert names == ["config.json", "metrics.jsonl", "summary.json"]
    assert (there.copy / "checkpoints" / "step-2").read_text() == "new"


def test_what_came_back_damaged_deletes_nothing(tmp_path, url, monkeypatch):
    here = tmp_path / "run"
    (here / "checkpoints").mkdir(parents=True)
    (here / "checkpoints" / "step-1").write_text("old")
    remote = RemoteFolder(url, here)
    remote.push()
    (here / "checkpoints" / "step-1").rename(here / "checkpoints" / "step-2")
    monkeypatch.setattr(remote_module, "_sha256", lambda path: path)
    with pytest.raises(InputError, match=r"step-2 came back damaged\. Nothing older was deleted"):
        remote.push()
    assert read(f"{url}/checkpoints/step-1") == b"old"


def test_what_cannot_be_reached_is_said_in_a_line(tmp_path, url):
    unknown = (
        r"run_dir=s3://bucket/run: a run cannot be written to s3:// yet\. .* --run-dir runs/mine"
    )
    with pytest.raises(InputError, match=unknown) as said, working_folder("s3://bucket/run"):
        pass
    assert "tensorflow-io" not in str(said.value) and "\n" not in str(said.value)
    tf.io.gfile.makedirs(url)
    with tf.io.gfile.GFile(f"{url}/notes.txt", "w") as file:
        file.write("not a run")
    with (
        pytest.raises(InputError, match=r"is not a run folder.*holds notes\.txt"),
        working_folder(url),
    ):
        pass
