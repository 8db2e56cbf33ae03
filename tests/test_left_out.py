"""Unreadable images where features are computed once: left out, counted, named, or refused.

All numbers are those of a folder whose files are decoded first.
"""

import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import moco_tf.exporting.embed
from moco_tf.commands.cli import main
from moco_tf.data.decode import decoded
from moco_tf.data.pipeline import eval_batches
from moco_tf.data.readable import read_in_place_of
from moco_tf.data.sources import open_images
from moco_tf.errors import InputError
from moco_tf.evaluate import knn_run
from moco_tf.evaluate.knn_run import evaluate_run
from moco_tf.evaluate.split import monitor_split
from moco_tf.exporting import projector
from moco_tf.exporting.embed import embed

pytestmark = pytest.mark.usefixtures("encoders_once")
SIDE, CLASSES, SHARE = 16, 3, 0.03
COUNTS = {"train": 330, "val": 270}  # more than are looked at when it is opened
CUT, HTML = None, b"<html><body>404</body></html>"
BAD = {
    "train": {0: b"", 63: HTML, 64: CUT, 65: b"", 190: CUT, 191: HTML, 329: CUT},
    "val": {13: b"", 269: HTML},
}
PARTS = {"train": ["train"], "test": ["val"], "all": ["train", "val"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Noise that is brighter with the class."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for part, count in COUNTS.items():
        for number in range(count):
            path = folder / name_of(part, number)
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 200, (SIDE, SIDE, 3)) + 25 * class_of(part, number)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
            if number in BAD[part]:
                contents = BAD[part][number]
                path.write_bytes(path.read_bytes()[:300] if contents is None else contents)
    return folder


def class_of(part, number):
    return number * CLASSES // COUNTS[part]


def name_of(part, number):
    return f"{part}/{class_of(part, number)}/{number:03}.jpg"


def whole(part):
    return [number for number in range(COUNTS[part]) if number not in BAD[part]]


def skipped(lines):
    """The lines on unreadable images, each once: here the second way says them at both ends."""
    return [*dict.fromkeys(line for line in lines if "unreadable" in line)]


def opened(monkeypatch, module, look):
    """The module's command opens a folder so; by listing it decodes none but the sample."""

    def opening(data, *, max_bad_images, look, as_asked=look, **settings):
        assert look == "later"
        return open_images(data, max_bad_images=SHARE, look=as_asked, **settings)

    monkeypatch.setattr(module, "open_images", opening)
    if look == "later":
        monkeypatch.setattr("moco_tf.data.image_folder.file_sizes", None)


@pytest.mark.parametrize("split", PARTS)
def test_embed_gives_what_it_gives_of_files_decoded_first(
    small_run, folder, tmp_path, monkeypatch, split
):
    results, arrays, said = [], [], []
    for look in ("later", "all"):
        out, lines = tmp_path / look / "x.npz", []
        with monkeypatch.context() as patched:
            opened(patched, moco_tf.exporting.embed, look)
            settings = {"features": "pooled", "split": split, "data": str(folder)}
            settings["reporter"] = SimpleNamespace(line=lines.append)
            result = embed(str(small_run), out, **settings)
        results.append(result | {"out": "", "images_per_second": 0})
        said.append(skipped(lines))
        with np.load(out) as z:
            arrays.append({name: z[name] for name in z.files})
    parts = PARTS[split]
    names = [name_of(part, number) for part in parts for number in whole(part)]
    assert arrays[0]["names"].tolist() == names
    assert arrays[0]["features"].shape == (len(names), 32)
    assert arrays[0].keys() == arrays[1].keys()
    for name, array in arrays[0].items():
        np.testing.assert_array_equal(array, arrays[1][name], strict=True)
    assert results[0] == results[1] | {"bad_images": sum(len(BAD[part]) for part in parts)}
    assert results[0]["images"] == len(names)
    expected = {
        "train": f"skipped 7 unreadable images: {folder}/train/0/000.jpg, {folder}/train/0/063.jpg,"
        f" {folder}/train/0/064.jpg ...",
        "val": f"skipped 2 unreadable test images: {folder}/val/0/013.jpg, {folder}/val/2/269.jpg",
    }
    assert said[0] == [expected[part] for part in parts]  # of the other part a sample is looked at
    assert said[1] == [*expected.values()]


def test_the_projectors_points_keep_their_names(small_run, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(projector, "MAX_POINTS", 100)
    settings = {"features": "pooled", "split": "all", "data": str(folder)}
    settings |= {"max_bad_images": SHARE, "projector_folder": tmp_path / "points"}
    result = embed(str(small_run), tmp_path / "x.npz", **settings)
    points = [place for place in projector.evenly(600, 100) if place < 591]
    assert result["projector_points"] == len(points) == 99
    with np.load(tmp_path / "x.npz") as z:
        names, features = z["names"][points], z["features"][points]
    lines = (tmp_path / "points" / "metadata.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[0] for line in lines] == names.tolist()
    tensors = np.loadtxt(tmp_path / "points" / "tensors.tsv", np.float32, delimiter="\t")
    np.testing.assert_array_equal(tensors, features)


def test_knn_gives_what_it_gives_of_files_decoded_first(small_run, folder, monkeypatch):
    monkeypatch.setattr("moco_tf.evaluate.baselines.once", lambda _f, _k, compute, _s: compute())
    results, said = [], []
    for look in ("later", "all"):
        lines = []
        with monkeypatch.context() as patched:
            opened(patched, knn_run, look)
            settings = {"features": "pooled", "k": 5, "temperature": 0.1, "data": str(folder)}
            results.append(evaluate_run(str(small_run), warn=lines.append, **settings))
        said.append(skipped(lines))
    assert results[0] == results[1] and said[0] == said[1]
    assert (results[0]["bank_images"], results[0]["query_images"]) == (323, 268)
    for name in ("knn_top1", "knn_top1_pixels"):
        assert results[0][name] > 50  # which three classes give 33 by chance


def test_without_test_images_queries_are_drawn_among_all_and_the_readable_count(folder):
    train, _ = open_images(str(folder / "train"), look="later", max_bad_images=SHARE)
    split = monitor_split(train, None, seed=0)
    assert (len(split.bank_indices), len(split.query_indices)) == (297, 33)
    settings = {"image_size": SIDE, "batch_size": 50}
    for indices, labels in (
        (split.bank_indices, lambda: split.bank_labels),
        (split.query_indices, lambda: split.query_labels),
    ):
        pixels = np.concatenate([*eval_batches(train, indices=indices, **settings)])
        read = [index for index in indices.tolist() if index not in BAD["train"]]
        assert labels().tolist() == [class_of("train", index) for index in read]
        for one, index in zip(pixels, read, strict=True):
            np.testing.assert_array_equal(one, decoded(train, index))
    assert sorted(train.unreadable) == sorted(BAD["train"])
    assert train.readable.tolist() == whole("train")
    everything = np.arange(train.count)
    (again,) = eval_batches(train, indices=everything, image_size=SIDE, batch_size=1000)
    assert len(again) == len(read_in_place_of(train, everything)) == 323


def test_an_image_that_was_left_out_is_not_read_again(folder, monkeypatch):
    train, _ = open_images(str(folder / "train"), look="later", max_bad_images=SHARE)
    train.unreadable.update({5: "left out", 7: "left out"})  # which can be read
    indices = np.array([4, 5, 6, 7, 8])
    (pixels,) = eval_batches(train, indices=indices, image_size=SIDE, batch_size=5)
    np.testing.assert_array_equal(pixels, [decoded(train, index) for index in (4, 6, 8)])


def test_a_storage_that_is_gone_is_an_error_at_any_share(folder, tmp_path):
    gone = shutil.copytree(folder / "val", tmp_path / "val")
    images, _ = open_images(str(gone), look="later", max_bad_images=1)
    shutil.rmtree(gone)
    with pytest.raises(InputError, match="270 of 270 images cannot be read"):
        list(eval_batches(images, indices=np.arange(270), image_size=SIDE, batch_size=50))


@pytest.mark.parametrize("share", [0.02, 0.01])
def test_a_share_beyond_the_limit_ends_it_where_it_is_passed(small_run, folder, tmp_path, share):
    out = tmp_path / "x.npy"
    settings = {"features": "pooled", "split": "train", "data": str(folder)}
    # The first batch of 64 ends with image 67, the last but one with 324.
    met, first = {0.01: 4, 0.02: 7}[share], re.escape(str(folder / name_of("train", 0)))
    said = f"{met} of 330 images cannot be read, more than max_bad_images={share}: {first}. Mend"
    with pytest.raises(InputError, match=said):
        embed(str(small_run), out, max_bad_images=share, **settings)
    assert not list(tmp_path.iterdir())


def test_knn_takes_a_share_of_its_own(small_run, folder, capsys):
    arguments = ["knn", str(small_run), "--data", str(folder), "--no-baselines"]
    assert main([*arguments, "--max-bad-images", "0.001"]) == 2
    assert "more than max_bad_images=0.001" in capsys.readouterr().err
    assert main([*arguments, "--max-bad-images", "0.05"]) == 0
