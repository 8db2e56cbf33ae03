"""The same pictures, however they are given: the same order, the same views, the same state."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.quick_runs import put_in_place
from support.records import imagenet, write_shards
from support.runs import config

from moco_tf.config import make_config
from moco_tf.data.pack.write import pack
from moco_tf.data.pipeline import decoded
from moco_tf.data.sources import open_images
from moco_tf.errors import InputError
from moco_tf.pretraining import pretrain
from moco_tf.runs.snapshot import images_of

COUNT = 48
NAMES = ("bird", "cat", "dog")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of PNGs in three class folders, as many of each, and their pixels in its order."""
    return _draw(tmp_path_factory.mktemp("pictures"), COUNT)


def _draw(root, count):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 20, 24, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        path = root / NAMES[number * 3 // count] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return root, pixels


def _files(root):
    return sorted(root.glob("*/*.png"))


def _records(root, _pixels, folder):
    records = [imagenet(f.read_bytes(), NAMES.index(f.parent.name), "") for f in _files(root)]
    write_shards(folder, records, 7)
    return f"tfrecord:{folder}/train-*"


def _list(root, _pixels, folder):
    (folder / "list.txt").write_text("\n".join(map(str, _files(root))))
    return str(folder / "list.txt")


def _pack(root, _pixels, folder):
    pack(str(root), folder / "pack")
    return str(folder / "pack")


def _hugging_face(root, _pixels, _folder):
    datasets = pytest.importorskip("datasets", reason="Hugging Face datasets is not installed")
    rows = {"image": list(map(str, _files(root)))}
    return datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())


def _grain(_root, pixels, _folder):
    grain = pytest.importorskip("grain", reason="Grain is not installed")
    return grain.MapDataset.source([{"image": image} for image in pixels])


WAYS = {
    "list": _list,
    "paths": lambda root, pixels, folder: _files(root),
    "folders": lambda root, pixels, folder: ",".join(str(root / name) for name in NAMES),
    "tfrecord": _records,
    "pack": _pack,
    "array": lambda root, pixels, folder: pixels,
    "Hugging Face": _hugging_face,
    "Grain": _grain,
    "pictures": lambda root, pixels, folder: [Image.open(f) for f in _files(root)],
    "bytes": lambda root, pixels, folder: [f.read_bytes() for f in _files(root)],
}


@pytest.fixture(params=WAYS)
def given(request, pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return WAYS[request.param](*pictures, tmp_path)


def test_images_are_those_of_the_folder_in_its_order(pictures, given):
    images, _ = open_images(given)
    for place, image in enumerate(pictures[1]):
        np.testing.assert_array_equal(decoded(images, tf.constant(place, tf.int64)), image)
    assert images.count == COUNT


@pytest.fixture(scope="module")
def of_folder(pictures, tmp_path_factory):
    """What a run on the folder ends with."""
    with pytest.MonkeyPatch.context() as patch:
        put_in_place(patch)
        run_dir = tmp_path_factory.mktemp("runs") / "run"
        pretrain(config(str(pictures[0]), run_dir, augment_on="host"))
        return json.loads((run_dir / "summary.json").read_text())["state_sha256"]


@pytest.mark.slow
def test_a_run_ends_with_the_state_of_the_folders(of_folder, given, tmp_path, monkeypatch):
    """Stopped and continued. The stand-in for MoCo depends on every view, in its order."""
    put_in_place(monkeypatch)
    settings = config("shapes", tmp_path / "run", augment_on="host")
    pretrain(make_config(settings, {"max_steps": 4}), source=given)
    summary = pretrain(settings, source=given)
    assert (summary["state_sha256"], summary["step"]) == (of_folder, 9)


@pytest.mark.long
def test_a_thousand_pictures_train_a_real_encoder_to_one_state(
    tmp_path, monkeypatch, shallow, compiled_once
):
    """Given in every way: six steps of MoCo end in the same arrays, bit for bit."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root, pixels = _draw(tmp_path / "drawn", 1000)
    settings = {"augment_on": "host", "batch_size": 160, "epochs": 1, "knn_every": 0}
    found = {}
    for way, give in ({"folder": lambda root, *_: str(root)} | WAYS).items():
        folder = tmp_path / way
        folder.mkdir()
        images = give(root, pixels, folder)
        summary = pretrain(config("shapes", folder / "run", **settings), source=images)
        found[way] = summary["state_sha256"], summary["step"]
    assert found == dict.fromkeys(found, (found["folder"][0], 6))


def test_a_run_on_an_object_asks_for_it(pictures, tmp_path, monkeypatch):
    put_in_place(monkeypatch)
    run_dir = tmp_path / "run"
    pretrain(config("shapes", run_dir, max_steps=2), source=list(pictures[1]))
    saved = json.loads((run_dir / "config.json").read_text())
    assert (saved["data"], saved["data_path"]) == ("object:list", None)
    settings = config("object:list", run_dir)
    with pytest.raises(InputError, match="data=object:list was an object of Python"):
        pretrain(settings)
    with pytest.raises(InputError, match=f"{run_dir}: data=object:list was an object of Python"):
        images_of(settings, None, run_dir)
    assert images_of(settings, pictures[1], run_dir) is pictures[1]
    with pytest.raises(InputError, match=r"data \(object:list there, object:numpy.ndarray now\)"):
        pretrain(settings, source=pictures[1])
