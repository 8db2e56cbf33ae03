"""A run in an object store: copied there after each save, fetched from there at a start."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFile
from support.quick_runs import Event
from support.runs import config, start
from support.s3_server import files, upload

from moco_tf.data.pack.write import pack
from moco_tf.errors import InputError
from moco_tf.files.digests import read_json
from moco_tf.files.store import STORES, Store
from moco_tf.pretraining import pretrain
from moco_tf.runs import remote as remote_module
from moco_tf.runs.check import check_run
from moco_tf.runs.remote import RemoteFolder
from moco_tf.runs.storage import RunStorage
from moco_tf.runs.working_folder import local_folder, working_folder
from moco_tf.training.signals import Interrupted


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "moco-tf"


@pytest.fixture
def url(request, monkeypatch):
    """A folder of fsspec's file system in memory, which no test has used."""
    monkeypatch.setitem(STORES, "memory", ("", "", ""))
    return f"memory://{request.node.name.replace('[', '_').replace(']', '')}"


def opened(url):
    return fsspec.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)


def read(url):
    there, root = opened(url)
    return there.cat_file(root)


def names(url):
    there, root = opened(url)
    return sorted(name.removeprefix(f"{root}/") for name in there.find(root))


def train(data, run_dir, reporter=None, **changes):
    return pretrain(config(data, run_dir, epochs=2, **changes), reporter=reporter)  # six steps


def test_a_run_in_parts_there_is_the_whole_run_here(quick, data, tmp_path, cache, url):
    whole = train(data, tmp_path / "run")
    train(data, url, max_steps=4)
    assert train(data, url)["state_sha256"] == whole["state_sha256"]
    summary = json.loads(read(f"{url}/summary.json"))
    assert summary["state_sha256"] == whole["state_sha256"] and summary["step"] == 6
    assert [name for name in names(url) if name.startswith("checkpoints/")] == sorted(
        f"checkpoints/{path.name}" for path in (tmp_path / "run" / "checkpoints").iterdir()
    )
    rows = [json.loads(line) for line in read(f"{url}/metrics.jsonl").splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4, 5, 6]
    assert not list(cache.iterdir())


@pytest.mark.slow
def test_a_run_and_its_pack_in_s3_are_those_of_this_machine(server, quick, data, tmp_path):
    pack(data, tmp_path / "pack")
    upload(tmp_path / "pack", "s3://bucket/pack")
    whole = train(str(tmp_path / "pack"), tmp_path / "run")
    train("s3://bucket/pack", "s3://bucket/run", max_steps=4)
    summary = train("s3://bucket/pack", "s3://bucket/run")
    assert summary["state_sha256"] == whole["state_sha256"]
    files().get("bucket/run", str(tmp_path / "back"), recursive=True)
    found = check_run(tmp_path / "back")
    assert found["whole"] and found["unknown"] == []
    assert (found["step"], found["state_sha256"]) == (6, whole["state_sha256"])
    there = read_json(tmp_path / "back" / "config.json")
    assert (there["data"], there["data_path"]) == ("s3://bucket/pack", None)


def test_training_goes_on_while_the_server_is_away(server, quick, data, tmp_path):
    whole = train(data, tmp_path / "run")
    away, back = Event(2, lambda: setattr(server, "status", "503 Slow Down")), []

    def answer_again(step, values, of=away.metrics):
        of(step, values)
        if step == 6:  # by then it has failed for four steps
            back.append(names_there())
            server.status = None

    def names_there():
        server.status = None
        return [name for name in names("s3://bucket/run") if "checkpoints/" in name]

    away.metrics = answer_again
    summary = train(data, "s3://bucket/run", away)
    assert summary["state_sha256"] == whole["state_sha256"] and len(back) == 1
    assert not any("step-00000004" in name for name in back[0])
    assert "checkpoints/step-00000006.safetensors" in names("s3://bucket/run")


def test_a_file_url_is_the_folder_itself(quick, data, tmp_path):
    train(data, f"file://{tmp_path}/run", max_steps=1)
    assert (tmp_path / "run" / "summary.json").exists()
    assert local_folder(f"file://{tmp_path}") == tmp_path
    assert local_folder("runs/mine") == Path("runs/mine")
    assert local_folder("gs://bucket/run") is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_saved_is_there_before_a_signal_ends_the_run(quick, data, cache, url, number):
    with pytest.raises(Interrupted):
        train(data, url, Event(3, lambda: os.kill(os.getpid(), number)))
    assert "checkpoints/step-00000003.safetensors" in names(url)
    assert not list(cache.iterdir())


def test_what_could_not_be_sent_is_kept_and_gone_on_with(
    quick, data, tmp_path, cache, url, monkeypatch
):
    whole = train(data, tmp_path / "run")
    train(data, url, max_steps=2)
    with monkeypatch.context() as patch:
        patch.setattr(remote_module, "PATIENCE", 0.0)
        patch.setattr(MemoryFile, "write", lambda self, part: super(MemoryFile, self).write(b"?"))
        with pytest.raises(InputError, match=r"came back damaged.*It is whole in .*moco-tf"):
            train(data, url, max_steps=4)
    (kept,) = cache.iterdir()
    newest = max(path.name for path in kept.glob("run/checkpoints/step-*"))
    assert f"checkpoints/{newest}" not in names(url)
    with fsspec.open(f"{url}/checkpoints/.{newest}.sending", "wb") as file:
        file.write(b"half")
    steps = []

    class Resumed(Event):
        def start(self, run_dir, last_step, resumed_step, **others):
            steps.append(resumed_step)
            super().start(run_dir, last_step, resumed_step, **others)

    assert train(data, url, Resumed(0, None))["state_sha256"] == whole["state_sha256"]
    assert steps == [int(newest[5:13])]
    assert not [name for name in names(url) if "/." in name]
    assert not list(cache.iterdir())


def test_two_processes_of_a_machine_do_not_share_it(url):
    used = pytest.raises(InputError, match="in use by another process")
    with working_folder(url), used, working_folder(url):
        pass


@pytest.fixture
def here(tmp_path):
    """A run folder, as `there` has it before something changes."""
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("config.json", "checkpoints/step-1", "summary.json", "metrics.jsonl"):
        (folder / name).write_text(name)
    (folder / ".lock").write_text("hidden")
    return folder


def test_new_files_go_before_old_ones_are_deleted(server, here, tmp_path):
    remote = RemoteFolder("s3://bucket/run", here)
    remote.finish(patient=False)
    server.asked.clear()
    (here / "checkpoints" / "step-1").unlink()
    (here / "checkpoints" / "step-2").write_text("new")
    (here / "metrics.jsonl").write_text("longer than it was")
    (here / "summary.json").unlink()  # as a cleaner of old files does: no reason to lose it there
    remote.finish(patient=False)
    done = [one for one in server.asked if one[0] in ("PUT", "DELETE") and "/." not in one[1]]
    assert done == [
        ("PUT", "/bucket/run/metrics.jsonl"),
        ("PUT", "/bucket/run/checkpoints/step-2"),
        ("DELETE", "/bucket/run/checkpoints/step-1"),
    ]
    there = RemoteFolder("s3://bucket/run", tmp_path / "fetched")
    there.fetch()
    found = sorted(p.relative_to(there.copy).as_posix() for p in there.copy.rglob("*.*"))
    assert found == ["config.json", "metrics.jsonl", "summary.json"]
    assert (there.copy / "checkpoints" / "step-2").read_text() == "new"


def test_a_best_checkpoint_that_alone_was_not_sent_is_sent_by_the_next_process(here, url):
    best, step = here / "checkpoints/best_knn.safetensors", "checkpoints/step-00000002.safetensors"
    (here / step).write_text("step 2")
    RemoteFolder(url, here).finish(patient=False)
    best.write_text("best")
    said = []
    remote = RemoteFolder(url, here, said.append)
    remote.fetch()
    assert best.read_text() == "best" and "perhaps not all of it is in" in said[0]
    remote.finish(patient=False)
    assert read(f"{url}/checkpoints/best_knn.safetensors") == b"best"


def test_the_best_checkpoint_goes_before_that_of_the_step(here, url, monkeypatch):
    names = "best_knn", "step-00000002", "step-00000001"
    for name in names:
        (here / f"checkpoints/{name}.safetensors").write_text(name)
    sent, put = [], Store.put
    monkeypatch.setattr(Store, "put", lambda self, *file: sent.append(file[1]) or put(self, *file))
    RemoteFolder(url, here).finish(patient=False)
    sent = [name for name in sent if name.endswith(".safetensors")]
    assert sent == [f"checkpoints/{name}.safetensors" for name in names]


def test_a_run_that_fails_while_the_store_does_ends_soon_and_tells_both(cache, url, monkeypatch):
    said, began = [], time.monotonic()

    def fails(store, path, name):
        raise OSError("503 Slow Down")

    with pytest.raises(RuntimeError, match="diverged"), working_folder(url, said.append) as places:
        monkeypatch.setattr(Store, "put", fails)
        places[0].mkdir(parents=True)
        (places[0] / "config.json").write_text("{}")
        places[1].send()
        while places[1].failing_since is None:
            time.sleep(0.01)
        raise RuntimeError("diverged")
    assert time.monotonic() - began < remote_module.PAUSE
    assert "Not stored: config.json. It is whole in" in said[-1]
    assert [path.name for path in cache.glob("*/run/*")] == ["config.json"]


def test_what_came_back_damaged_deletes_nothing(here, url, monkeypatch):
    remote = RemoteFolder(url, here)
    remote.finish(patient=False)
    (here / "checkpoints" / "step-1").rename(here / "checkpoints" / "step-2")
    monkeypatch.setattr(MemoryFile, "write", lambda self, part: super(MemoryFile, self).write(b"?"))
    with pytest.raises(InputError, match=r"step-2 came back damaged\)\. Not stored: checkpoints/s"):
        remote.finish(patient=False)
    assert read(f"{url}/checkpoints/step-1") == b"checkpoints/step-1"


def test_a_checkpoint_that_goes_while_others_are_sent_takes_no_other_with_it(
    here, url, monkeypatch
):
    remote = RemoteFolder(url, here)
    remote.finish(patient=False)
    (here / "checkpoints" / "step-1").rename(here / "checkpoints" / "step-2")
    (here / "metrics.jsonl").write_text("longer than it was")

    def next_save(store, path, name, of=Store.put):
        if name == "metrics.jsonl":
            (here / "checkpoints" / "step-2").rename(here / "checkpoints" / "step-3")
        return of(store, path, name)

    monkeypatch.setattr(Store, "put", next_save)
    remote.finish(patient=False)
    assert read(f"{url}/checkpoints/step-1") == b"checkpoints/step-1"
    remote.finish(patient=False)
    assert [name for name in names(url) if "step" in name] == ["checkpoints/step-3"]


def test_what_is_in_the_store_and_what_is_only_here_is_told_at_a_deadline(here, url):
    checkpoints = here / "checkpoints"
    remote = RemoteFolder(url, here)
    storage = RunStorage(checkpoints, lambda: None, remote)
    (checkpoints / "step-1").rename(checkpoints / "step-00000002.safetensors")
    told = f"no checkpoint was written in the store, checkpoint 2 in {checkpoints}. The same"
    assert told in storage.exit_message(25, chief=True)
    remote.finish(patient=False)
    assert "; checkpoint 2 is kept. The same" in storage.exit_message(25, chief=True)


def test_a_copy_that_is_removed_takes_nothing_with_it(here, url):
    remote = RemoteFolder(url, here)
    remote.finish(patient=False)
    before = names(url)
    shutil.rmtree(here)
    remote.finish(patient=False)
    assert names(url) == before and "checkpoints/step-1" in before


def test_a_folder_of_something_else_is_refused(url):
    with fsspec.open(f"{url}/notes.txt", "w") as file:
        file.write("not a run")
    with (
        pytest.raises(InputError, match=r"is not a run folder.*holds notes\.txt"),
        working_folder(url),
    ):
        pass


@pytest.fixture(scope="module")
def never_killed(data, tmp_path_factory):
    """The digest of the state that a process ends with that nothing disturbs."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert start(data, folder, epochs=2).wait(timeout=300) == 0
    return read_json(folder / "summary.json")["state_sha256"]


MOMENTS = {  # at which request, of which file
    "sending": ("PUT", r"\.step-0+[2-6]\.safetensors\.sending"),
    "putting in place": ("PUT", r"step-0+[2-6]\.safetensors"),
    "put in place": ("DELETE", r"\.step-0+[2-6]\.safetensors\.sending"),
    "deleting an older one": ("DELETE", r"step-\d+\.safetensors"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [pytest.param(m, marks=[pytest.mark.long] * (m != "putting in place")) for m in MOMENTS],
)
def test_a_process_killed_while_it_sends_goes_on_exactly(
    server, data, tmp_path, monkeypatch, never_killed, moment
):
    method, pattern = MOMENTS[moment]
    process, killed = start(data, "s3://bucket/run", epochs=2), []

    def kill(asked, path):
        if asked == method and re.fullmatch(pattern, path.rpartition("/")[2]):
            killed.append(path)
            process.kill()
            process.wait()

    server.before = kill
    output = process.communicate(timeout=300)[0].decode()
    assert process.returncode == -signal.SIGKILL and killed, output
    server.before = None
    files().get("bucket/run", str(tmp_path / "left"), recursive=True)
    found = check_run(tmp_path / "left")
    assert found["whole"], found["damaged"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "fresh machine"))
    again = start(data, "s3://bucket/run", epochs=2)
    output = again.communicate(timeout=300)[0].decode()
    assert again.returncode == 0, output
    assert json.loads(read("s3://bucket/run/summary.json"))["state_sha256"] == never_killed
    assert not [name for name in names("s3://bucket/run") if name.endswith(".sending")]
