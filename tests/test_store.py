"""Object stores: a real S3 server on loopback that fails, is away and comes back."""

import os
import shutil
import sys
import time
from pathlib import Path

import boto3
import numpy as np
import pytest
import tensorflow as tf
from fsspec.registry import _registry
from PIL import Image
from support.s3_server import files, upload

from moco_tf.commands.cli import main
from moco_tf.data.pack.stored import copy_pack
from moco_tf.data.pack.write import pack
from moco_tf.data.sources import open_images
from moco_tf.errors import InputError
from moco_tf.files.store import Store, copy_advice
from moco_tf.runs import remote as remote_module
from moco_tf.runs.remote import RemoteFolder
from moco_tf.runs.working_folder import working_folder

URL = "s3://bucket/run"


@pytest.fixture
def here(tmp_path):
    """A run folder with a checkpoint."""
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("config.json", "metrics.jsonl", "checkpoints/step-00000002.safetensors"):
        (folder / name).write_text(name)
    return folder


def there():
    return sorted(name.removeprefix("bucket/run/") for name in files().find("bucket/run"))


def store_object(bucket, name):
    """Past s3fs, which takes slashes away."""
    boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"]).put_object(
        Bucket=bucket, Key=name
    )


def until(happens):
    deadline = time.monotonic() + 20
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_file_is_put_whole_or_not_at_all(server, tmp_path):
    store = Store(URL, "run_dir")
    path = tmp_path / "file"
    path.write_bytes(b"first")
    store.put(path, "a/file [1]#?.bin")
    assert store.names() == {"a/file [1]#?.bin": 5}
    assert server.asked[0] == ("PUT", "/bucket/run/a/.file [1]#?.bin.sending")
    path.write_bytes(b"second!")

    def gone(method, path):
        if method == "GET":  # when it is read back
            server.status = "503 Slow Down"

    server.before = gone
    with pytest.raises(OSError):
        store.put(path, "a/file [1]#?.bin")
    server.status = server.before = None
    assert files().cat_file("bucket/run/a/file [1]#?.bin") == b"first"
    assert store.put(tmp_path / "absent", "absent") is None


def test_no_name_leads_out_of_the_folder(server, tmp_path):
    for name in ("run/", "run/a/", "run//etc", "run/../b", "run/a/../../b", "run/a/b", "run2/c"):
        store_object("bucket", name)
    store = Store(URL, "run_dir")
    assert store.names() == {"a/b": 0}
    assert Store(f"{URL}/", "run_dir").names() == store.names()


def test_a_large_file_goes_in_parts(server, tmp_path, monkeypatch):
    monkeypatch.setattr("s3fs.S3FileSystem.default_block_size", 5 * 2**20)
    content = np.random.default_rng(0).bytes(11 * 2**20)
    (tmp_path / "large").write_bytes(content)
    store = Store(URL, "run_dir")
    store.put(tmp_path / "large", "large")
    assert ("POST", "/bucket/run/.large.sending") in server.asked
    store.fetch(["large"], tmp_path / "back")
    assert (tmp_path / "back" / "large").read_bytes() == content


def test_what_came_back_damaged_is_not_put_in_place(server, here, monkeypatch):
    remote = RemoteFolder(URL, here)
    remote.finish(patient=False)
    (here / "config.json").write_text("another")

    def damage(method, path):
        if method == "HEAD" and path.endswith(".config.json.sending"):
            server.before = None
            files().pipe_file(path.lstrip("/"), b"anothe?")

    server.before = damage
    with pytest.raises(InputError, match=r"config\.json came back damaged.*whole in .*run"):
        remote.finish(patient=False)
    assert files().cat_file("bucket/run/config.json") == b"config.json"


@pytest.mark.parametrize("how", ["503 Slow Down", "500 Internal Server Error", "refused"])
def test_a_server_that_fails_for_a_while_is_tried_again_beside_the_training(server, here, how):
    lines = []
    remote = RemoteFolder(URL, here, lines.append)
    server.status = how
    if how == "refused":
        server.stop()
    remote.send()
    until(lambda: lines)
    (here / "checkpoints" / "step-00000004.safetensors").write_text("newer")
    remote.send()  # does not wait for the server
    assert remote.failing_since and f"{URL} fails (" in lines[0]
    server.status = None
    if how == "refused":
        server.start()
    remote.finish(patient=True)
    assert lines[1:] == [f"{URL} answers again: all that was saved is there"]
    assert there() == [
        "checkpoints/step-00000002.safetensors",
        "checkpoints/step-00000004.safetensors",
        "config.json",
        "metrics.jsonl",
    ]
    assert remote.newest_step() == 4


def test_a_server_that_stays_away_is_told_in_one_line(server, here, monkeypatch):
    monkeypatch.setattr(remote_module, "PATIENCE", 0.2)
    remote = RemoteFolder(URL, here)
    remote.finish(patient=True)
    (here / "checkpoints" / "step-00000004.safetensors").write_text("newer")
    server.status = "503 Slow Down"
    remote.send()
    until(remote._pushing.done)
    with pytest.raises(InputError) as said:
        remote.send()
    assert f"cannot write run_dir={URL} (" in str(said.value)
    assert "Not stored: checkpoints/step-00000004.safetensors. " in str(said.value)
    assert f"It is whole in {here}" in str(said.value)
    server.status = None
    assert "checkpoints/step-00000002.safetensors" in there()


def test_what_was_not_stored_is_gone_on_with(server, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_module, "PATIENCE", 0.0)
    with pytest.raises(InputError, match="Not stored"), working_folder(URL) as (folder, _):
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "checkpoints" / "step-00000002.safetensors").write_text("newest")
        (folder / "config.json").write_text("{}")
        server.status = "503 Slow Down"
    server.status = None
    assert there() == []
    with working_folder(URL) as (folder, remote):
        assert remote.newest_step() is None
        assert (folder / "checkpoints" / "step-00000002.safetensors").read_text() == "newest"
    assert there() == ["checkpoints/step-00000002.safetensors", "config.json"]
    assert not list((tmp_path / "cache" / "moco-tf").iterdir())
    with working_folder(URL) as (folder, remote):  # as on a fresh machine
        assert (folder / "checkpoints" / "step-00000002.safetensors").read_text() == "newest"


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """Two packs of the same folder, of which the second has an image more."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    packs = []
    for count in (4, 5):
        for number in range(count):
            for part in ("train", "val"):
                where = root / "folder" / part / "ab"[number % 2]
                where.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(0, 256, (16, 20, 3), np.uint8)
                if not (where / f"{number}.png").exists():
                    Image.fromarray(pixels).save(where / f"{number}.png")
        packs.append(root / f"pack{count}")
        pack(str(root / "folder"), packs[-1])
    return packs


def stored(images):
    return [images.read(tf.constant(i, tf.int64)).numpy() for i in range(images.count)]


@pytest.mark.slow
def test_a_pack_is_copied_once_and_read_here(server, packs, capsys):
    url = "s3://bucket/pack"
    upload(packs[0], url)
    server.asked.clear()
    parts = open_images(url), open_images(str(packs[0]))
    for images, local in zip(*parts, strict=True):
        assert stored(images) == stored(local) and images.files == local.files
        assert (images.identity, images.content) == (local.identity, local.content)
        np.testing.assert_array_equal(images.labels, local.labels)
    assert "copying 0.0 GB of s3://bucket/pack to " in capsys.readouterr().err
    shard = ("GET", "/bucket/pack/images-00000.tfrecord")
    assert server.asked.count(shard) == 1
    open_images(url)
    assert server.asked.count(shard) == 1 and not capsys.readouterr().err
    upload(packs[1], url)
    assert open_images(url)[0].count == 5


def test_a_pack_that_is_cut_off_in_the_cache_is_copied_again(server, packs):
    url = "s3://bucket/pack"
    upload(packs[0], url)
    (shard,) = [path for path in copy_pack(url).iterdir() if path.suffix == ".tfrecord"]
    shard.write_bytes(shard.read_bytes()[:-1])
    assert open_images(url)[0].count == 4


def test_a_cache_that_is_too_small_for_a_pack_is_told(server, packs, monkeypatch):
    upload(packs[0], "s3://bucket/pack")
    usage = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(InputError, match=r"takes 0\.0 GB in .*0\.0 GB are free\. Set XDG_CACHE"):
        open_images("s3://bucket/pack")


HERE = "what is on this machine."
WRONG = (
    "specified bucket does not exist). Check the name, the credentials and the network, as with "
    "'aws s3 ls s3://other/pack'."
)
COPY_RUN = "Copy it, as with 'aws s3 sync s3://bucket/run run', and give run."
NO_PACK = "data=s3://bucket/images holds no finished pack: it has no pack.npz. Make one with"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("check s3://bucket/run", f"s3://bucket/run is in an object store, and this takes {HERE}"),
        ("check s3://bucket/pack/", "'aws s3 sync s3://bucket/pack pack', and give pack."),
        ("knn gs://bucket/run", "'gcloud storage rsync -r gs://bucket/run run', and give run."),
        ("probe s3://bucket/run", COPY_RUN),
        ("probe s3://bucket/run --quick", COPY_RUN),
        ("finetune s3://bucket/run", COPY_RUN),
        ("embed s3://bucket/run --out x.npy", COPY_RUN),
        ("export s3://bucket/run --format keras --out x.keras", COPY_RUN),
        ("convert s3://bucket/run x.safetensors --to torchvision", COPY_RUN),
        ("pretrain shapes --init s3://bucket/run", COPY_RUN),
        ("pretrain shapes --data s3://bucket/images", NO_PACK),
        ("pretrain --data s3://bucket/images", NO_PACK),
        ("estimate shapes --data s3://bucket/images", NO_PACK),
        (
            "pack s3://bucket/images pack",
            f"s3://bucket/images is in an object store, and this takes {HERE}",
        ),
        ("pretrain shapes --data s3://other/pack", f"data=s3://other/pack (The {WRONG}"),
    ],
)
def test_what_is_not_there_or_not_here_is_told_in_one_line(server, capsys, words, said):
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and error.startswith("moco-tf: error: ")


def test_packs_are_made_on_this_machine(server, packs, capsys):
    assert main(["pack", str(packs[0].parent / "folder"), "s3://bucket/new"]) == 2
    assert "is in an object store. Pack into a folder of this machine" in capsys.readouterr().err
    upload(packs[0], "s3://bucket/pack")
    assert main(["pack", "s3://bucket/pack", "pack"]) == 2
    assert "is in an object store" in capsys.readouterr().err


def refused(url, match):
    with pytest.raises(InputError, match=match) as said, working_folder(url):
        pass
    assert "\n" not in str(said.value)


def test_who_may_not_write_is_told_before_the_run(server, monkeypatch):
    def forbid(method, path):
        server.status = "403 Forbidden" if method == "PUT" else None

    server.before = forbid
    refused(URL, r"cannot use run_dir=s3://bucket/run \(.*\)\. Check the name, the credentials")


def test_a_wrong_bucket_no_credentials_and_no_extra_are_told(server, monkeypatch, tmp_path):
    refused("s3://other/run", r"run_dir=s3://other/run \(The specified bucket does not exist\)")
    refused(
        "what://bucket/run", r"run_dir=what://bucket/run: what:// is not known\. Use s3:// or gs://"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    refused(URL, r"run_dir=s3://bucket/run \(Unable to locate credentials\)")
    monkeypatch.delitem(_registry, "s3")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    refused(URL, r"s3:// needs an extra: pip install 'moco-tf\[s3\]'\.")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    refused("gs://bucket/run", r"gs:// needs an extra: pip install 'moco-tf\[gcs\]'\.")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    refused(URL, r"s3:// needs an extra: pip install 'moco-tf\[s3\]'\.")


def test_advice_is_given_for_stores_alone():
    assert copy_advice("runs/s3") is None and copy_advice("C:/runs") is None
    assert "'aws s3 sync s3://bucket bucket', and give bucket." in copy_advice(Path("s3://bucket"))
