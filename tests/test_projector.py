"""The projector's files: read back, pixel by pixel, and by a TensorBoard really started."""

import json
import re
import subprocess
import sys
import urllib.request
from functools import partial
from io import BytesIO
from types import SimpleNamespace
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image

from moco_tf.exporting import projector
from moco_tf.exporting.embed import embed as embed_run
from moco_tf.exporting.projector import MAX_POINTS, THUMBNAIL, Points, evenly
from moco_tf.exporting.rows import Rows

embed = partial(embed_run, features="pooled", split="all")  # as `moco_tf.embed` calls it

COLORS = {
    "train/red/0": (250, 10, 20),
    "train/red/1": (200, 60, 0),
    "train/sea\tblue/0": (0, 9, 240),
    "train/sea\tblue/1": (0, 120, 255),
    "train/sea\tblue/2": (30, 60, 90),
}


@pytest.fixture(scope="module")
def shown(small_run, tmp_path_factory):
    """A folder for the projector, of five images of one colour each; and the file of features."""
    root = tmp_path_factory.mktemp("shown")
    for name, color in COLORS.items():
        path = root / "data" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20), color).save(path)
    out, folder = root / "x.npz", root / "deep" / "points"
    result = embed(str(small_run), out, data=str(root / "data"), projector_folder=folder)
    assert result["projector_points"] == 5
    with np.load(out) as z:
        return SimpleNamespace(folder=folder, features=z["features"], names=z["names"].tolist())


def lines_of(path):
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def thumbnails(sheet, side):
    """The tiles of a sprite image, row by row: [n, side, side, 3]."""
    rows, columns = sheet.shape[0] // side, sheet.shape[1] // side
    tiles = sheet.reshape(rows, side, columns, side, 3).swapaxes(1, 2)
    return tiles.reshape(rows * columns, side, side, 3)


def test_the_files_read_back(shown):
    vectors = np.array(lines_of(shown.folder / "tensors.tsv"), np.float32)
    np.testing.assert_array_equal(vectors, shown.features)  # nine digits are all of them
    header, *lines = lines_of(shown.folder / "metadata.tsv")
    assert header == ["name", "split", "class"]
    assert [line[0] for line in lines] == shown.names
    assert [line[1] for line in lines] == ["train"] * 5
    assert [line[2] for line in lines] == ["red"] * 2 + [r"sea\u0009blue"] * 3
    sheet = np.asarray(Image.open(shown.folder / "sprite.png"))
    assert sheet.shape == (3 * 16, 3 * 16, 3)  # images of 16 pixels are not enlarged
    tiles = thumbnails(sheet, 16)
    for tile, color in zip(tiles[:5], COLORS.values(), strict=True):
        np.testing.assert_array_equal(tile, np.broadcast_to(color, tile.shape))
    assert not tiles[5:].any()


def test_points_are_evenly_chosen_and_their_thumbnails_are_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(projector, "MAX_POINTS", 10)
    count, points = 37, Points(37, 64)
    assert points.indices.tolist() == [0, 3, 7, 11, 14, 18, 22, 25, 29, 33]
    images = np.arange(count, dtype=np.uint8).repeat(64 * 64 * 3).reshape(count, 64, 64, 3)
    features = np.arange(2 * count, dtype=np.float32).reshape(count, 2) / 3
    batches = [slice(start, start + 5) for start in range(0, count, 5)]
    for seen, batch in zip(
        points.with_thumbnails(images[b] for b in batches), batches, strict=True
    ):
        np.testing.assert_array_equal(seen, images[batch])
    passed = np.concatenate(list(points.with_features(features[b] for b in batches)))
    np.testing.assert_array_equal(passed, features)
    rows = Rows([f"train/{i}" for i in range(count)], ["train"] * count, None, ())
    points.save(tmp_path, rows, "pooled")
    tiles = thumbnails(np.asarray(Image.open(tmp_path / "sprite.png")), THUMBNAIL)
    assert len(tiles) == 16
    for tile, place in zip(tiles[:10], points.indices, strict=True):
        np.testing.assert_array_equal(tile, place)
    vectors = np.array(lines_of(tmp_path / "tensors.tsv"), np.float32)
    np.testing.assert_array_equal(vectors, features[points.indices])
    assert [line[0] for line in lines_of(tmp_path / "metadata.tsv")[1:]] == [
        f"train/{place}" for place in points.indices
    ]


def test_at_most_ten_thousand_on_a_sheet_that_tensorboard_takes():
    for count in (1, 2, MAX_POINTS - 1, MAX_POINTS, MAX_POINTS + 1, 1_281_167):
        places = evenly(count, MAX_POINTS)
        assert len(set(places.tolist())) == len(places) == min(count, 10_000)
        assert places[0] == 0 and places[-1] < count
        gaps = np.diff(places)
        assert not len(gaps) or gaps.max() - gaps.min() <= 1
    points = Points(2_000_000, 224)
    assert points.columns * points.side == 4800  # of 8192
    assert points.columns**2 >= 10_000


def test_fewer_points_are_told(small_run, tmp_path, monkeypatch):
    monkeypatch.setattr(projector, "MAX_POINTS", 4)
    np.savez(tmp_path / "data.npz", images=np.zeros((9, 16, 16, 3), np.uint8))
    said = []
    result = embed(
        str(small_run), tmp_path / "x.npy", data=str(tmp_path / "data.npz"),
        projector_folder=tmp_path / "points", reporter=SimpleNamespace(line=said.append),
    )  # fmt: skip
    assert (result["images"], result["projector_points"]) == (9, 4)
    assert "the projector gets 4 of 9 images, evenly chosen" in said


@pytest.fixture(scope="module")
def tensorboard(shown):
    """Returns a function: route of the projector and its arguments -> bytes."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(shown.folder)]
    options = ["--host", "127.0.0.1", "--port", "0", "--load_fast", "false"]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as process:
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"(http://127\.0\.0\.1:\d+)/", line):
                break
        assert found, said

        def get(route, **arguments):
            url = f"{found[1]}/data/plugin/projector/{route}?{urlencode(arguments)}"
            with urllib.request.urlopen(url, timeout=60) as response:
                return response.read()

        yield get
        process.terminate()


@pytest.mark.slow
def test_tensorboard_serves_what_was_written(tensorboard, shown):
    assert json.loads(tensorboard("runs")) == ["."]
    (about,) = json.loads(tensorboard("info", run="."))["embeddings"]
    assert about["tensorName"] == "pooled" and about["tensorShape"] == [5, 32]
    assert about["sprite"]["singleImageDim"] == [16, 16]
    of = {"run": ".", "name": "pooled"}
    vectors = np.frombuffer(tensorboard("tensor", num_rows=100_000, **of), "<f4").reshape(5, 32)
    np.testing.assert_array_equal(vectors, shown.features)
    metadata = tensorboard("metadata", num_rows=100_000, **of).decode()
    assert metadata == (shown.folder / "metadata.tsv").read_text(encoding="utf-8")
    sheet = np.asarray(Image.open(BytesIO(tensorboard("sprite_image", **of))))
    colors = thumbnails(sheet, 16)[:5, 8, 8].tolist()
    assert colors == [list(color) for color in COLORS.values()]
