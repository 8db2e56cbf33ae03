"""`moco-tf neighbours` and `Run.neighbours`: what an encoder finds alike, kept features, pages."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.labelled_run import SIDE, make_run, save_folder

import moco_tf
from moco_tf.commands.cli import main
from moco_tf.look import computing as module
from moco_tf.look import found_page

pytestmark = pytest.mark.usefixtures("encoders_once")
EVIL = '"><script>alert(1)<'  # "/" cannot be in a name


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Nine training and six test pictures of three classes, one of them with an evil name."""
    root = tmp_path_factory.mktemp("photos")
    save_folder(root, train="abc", test="ab")
    (root / "train" / "b" / "1.jpg").rename(root / "train" / "b" / f"{EVIL}.jpg")
    return root


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "run", str(photos))


def asked(capsys, run, *words):
    capsys.readouterr()
    assert main(["neighbours", run.folder, *map(str, words), "--json"]) == 0
    captured = capsys.readouterr()
    return json.loads(captured.out) | {"err": captured.err}


def unit_features(run, photos):
    """Of all images, by `embed`."""
    rows = moco_tf.embed(run.folder, photos)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_neighbours_are_the_rows_of_embed_that_are_nearest(capsys, run, photos):
    result = asked(capsys, run, "train/a/0.jpg", photos / "test" / "b" / "2.jpg", "-k", 4)
    unit = unit_features(run, photos).astype(np.float64)
    assert result["images"] == len(unit) == 15
    for found, row in zip(result["queries"], (0, 14), strict=True):
        similarity = unit @ unit[row]
        similarity[row] = -2  # not its own
        wanted = np.argsort(-similarity)[:4]
        assert [one["row"] for one in found["neighbours"]] == wanted.tolist()
        values = [one["similarity"] for one in found["neighbours"]]
        np.testing.assert_allclose(values, similarity[wanted], atol=1e-5)
    first, second = result["queries"]
    assert (first["image"], first["class"]) == ("train/a/0.jpg", "a")
    assert (second["image"], second["class"]) == ("test/b/2.jpg", "b")
    assert first["neighbours"][0]["file"].startswith(str(photos))


def test_a_picture_from_elsewhere_is_embedded_as_those_of_the_data(capsys, run, photos, tmp_path):
    copy = shutil.copy(photos / "train" / "c" / "2.jpg", tmp_path / "x.png")  # still a JPEG
    (found,) = asked(capsys, run, copy, "-k", 1)["queries"]
    assert found["image"] is None
    assert found["neighbours"][0]["image"] == "train/c/2.jpg"
    assert found["neighbours"][0]["similarity"] == pytest.approx(1, abs=1e-5)
    pixels = np.asarray(Image.open(copy))
    (same,) = moco_tf.Run(run.folder).neighbours(pixels, k=1)
    assert same["neighbours"] == found["neighbours"]


@pytest.mark.slow
def test_features_are_computed_once_until_something_changes(
    capsys, run, photos, tmp_path, monkeypatch
):
    data = shutil.copytree(photos, tmp_path / "data")
    before = {*Path(run.folder).glob("neighbours-*/features.safetensors")}
    calls, real = [], module._compute

    def counting(parts, *rest):
        calls.extend(images.count for _, images in parts)
        return real(parts, *rest)

    monkeypatch.setattr(module, "_compute", counting)
    first = asked(capsys, run, "train/a/0.jpg", "--data", data)
    again = asked(capsys, run, "train/a/0.jpg", "--data", data)
    assert calls == [9, 6]
    assert (first["features_kept"], again["features_kept"]) == (False, True)
    assert again["queries"] == first["queries"]
    asked(capsys, run, "train/a/0.jpg", "--data", data, "--features", "projection")
    assert calls == [9, 6] * 2
    asked(capsys, run, "train/a/0.jpg", "--data", data)
    assert calls == [9, 6] * 2  # both are kept
    changed = data / "train" / "c" / "0.jpg"
    Image.new("RGB", (SIDE, SIDE), "red").save(changed)
    os.utime(changed, (1, 1))
    asked(capsys, run, "train/a/0.jpg", "--data", data)
    assert calls == [9, 6] * 3
    (data / "train" / "c" / "1.jpg").unlink()
    assert asked(capsys, run, "train/a/0.jpg", "--data", data)["images"] == 14
    kept = {*Path(run.folder).glob("neighbours-*/features.safetensors")} - before
    assert len(kept) == 2  # of each kind of features; those of other images have been replaced


@pytest.mark.slow
def test_a_folder_is_opened_again_only_where_something_in_it_changed(
    capsys, run, photos, tmp_path, monkeypatch
):
    data = shutil.copytree(photos, tmp_path / "data")
    opened, real = [], module.open_images

    def counting(*args, **settings):
        opened.append(args)
        return real(*args, **settings)

    monkeypatch.setattr(module, "open_images", counting)
    query = "train/a/0.jpg", "--data", data, "-k", 20, "--out", tmp_path / "x.html", "--overwrite"
    first, again = asked(capsys, run, *query), asked(capsys, run, *query)
    assert len(opened) == 1
    assert again["features_kept"] and again["queries"] == first["queries"]
    assert (tmp_path / "x.html").read_text(encoding="utf-8").count("<img ") == 1 + 14
    outside = tmp_path / "query.jpg"
    shutil.copy(data / "test" / "b" / "0.jpg", outside)
    (found,) = asked(capsys, run, outside, *query[1:])["queries"]
    assert found["neighbours"][0]["image"] == "test/b/0.jpg"
    assert len(opened) == 1
    (data / "train" / "a" / "more").mkdir()
    shutil.copy(outside, data / "train" / "a" / "more" / "0.jpg")
    assert asked(capsys, run, *query)["images"] == 16
    assert len(opened) == 2
    (new,) = (p for p in Path(run.folder).glob("neighbours-*") if b"more" in rows_in(p))
    (new / "features.safetensors").unlink()
    assert asked(capsys, run, *query)["images"] == 16
    assert len(opened) == 3


def test_kept_features_are_searched_without_tensorflow(capsys, run, photos, tmp_path):
    data = shutil.copytree(photos, tmp_path / "data")
    words = [data / "test" / "b" / "2.jpg", f"train/b/{EVIL}.jpg", "-k", 3, "--duplicates", 0.5]
    words += ["--data", data, "--overwrite", "--out"]
    computed = asked(capsys, run, *words, tmp_path / "found.html")
    page = (tmp_path / "found.html").read_bytes()
    script = """if True:
        import sys
        from moco_tf.commands.cli import main
        code = main(sys.argv[1:])
        sys.exit(code or sorted({"tensorflow", "keras"} & set(sys.modules)) or 0)"""
    command = ["neighbours", run.folder, *words, tmp_path / "found.html", "--json"]
    ended = subprocess.run(
        [sys.executable, "-c", script, *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr.count("\n")) == (0, 1), ended.stderr
    kept = json.loads(ended.stdout)
    assert (computed["features_kept"], kept["features_kept"]) == (False, True)
    assert kept | {"features_kept": False, "err": computed["err"]} == computed
    assert (tmp_path / "found.html").read_bytes() == page


def rows_in(folder):
    return np.load(folder / ".images-rows.npz")["names"].tobytes()


@pytest.mark.slow
def test_a_run_that_cannot_be_written_to_is_searched_all_the_same(
    capsys, run, photos, tmp_path, monkeypatch
):
    data = shutil.copytree(photos, tmp_path / "data")
    before = {*Path(run.folder).iterdir()}
    monkeypatch.setattr(module.os, "access", lambda path, mode: False)
    result = asked(capsys, run, "train/a/0.jpg", "--data", data)
    monkeypatch.undo()
    new = {path.name for path in {*Path(run.folder).iterdir()} - before}
    assert not [name for name in new if name.startswith("neighbours-")]
    assert "cannot be written to: the features are not kept" in result["err"]
    assert result["queries"] == asked(capsys, run, "train/a/0.jpg", "--data", data)["queries"]


def test_unreadable_files_are_left_out_up_to_a_share(capsys, run, photos, tmp_path):
    data = shutil.copytree(photos, tmp_path / "data")
    (data / "train" / "a" / "bad.jpg").write_bytes(b"no")
    assert main(["neighbours", run.folder, "train/a/0.jpg", "--data", str(data)]) == 2
    assert "more than max_bad_images" in capsys.readouterr().err
    words = ("--data", data, "--max-bad-images", 0.5)
    assert asked(capsys, run, "train/a/0.jpg", *words)["images"] == 15


def test_pairs_above_a_similarity(capsys, run, photos):
    result = asked(capsys, run, "--duplicates", "0.9")
    unit = unit_features(run, photos).astype(np.float64)
    similarity = unit @ unit.T
    wanted = [(i, j) for i in range(15) for j in range(i + 1, 15) if similarity[i, j] >= 0.9]
    found = [(one["first"]["row"], one["second"]["row"]) for one in result["duplicates"]]
    assert sorted(found) == wanted
    assert result["duplicate_pairs"] == len(wanted) > 0
    values = [one["similarity"] for one in result["duplicates"]]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("installed", [True, False])
def test_among_many_images_pairs_are_found_by_an_index_if_there_is_one(
    capsys, run, monkeypatch, installed
):
    if installed:
        pytest.importorskip("voyager", reason="voyager is not installed")
    exact = asked(capsys, run, "--duplicates", "0.9")
    monkeypatch.setattr(found_page, "MANY", 15)
    monkeypatch.setattr(found_page, "has_index", lambda: installed)
    found = asked(capsys, run, "--duplicates", "0.9")
    assert found["duplicate_pairs"] == exact["duplicate_pairs"]
    for one, other in zip(found["duplicates"], exact["duplicates"], strict=True):
        assert one == other | {"similarity": pytest.approx(other["similarity"], abs=1e-6)}
    assert ("moco-tf[index]" in found["err"]) is not installed
    assert ("an index found" in found["protocol"]) is installed


def test_the_page_holds_the_pictures_and_no_script_but_its_own(capsys, run, tmp_path):
    out = tmp_path / "found.html"
    words = ["neighbours", run.folder, f"train/b/{EVIL}.jpg", "-k", "3", "--duplicates", "0.5"]
    assert main([*words, "--out", str(out)]) == 0
    text = out.read_text(encoding="utf-8")
    section = text[
        text.index('<section id="neighbours">') : text.index('<section id="duplicates">')
    ]
    assert section.count("<img ") == 4
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;" in section
    assert len(re.findall(r'class="picture (right|wrong)"', section)) == 3
    assert "https://" not in re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    assert main([*words, "--out", str(out)]) == 2
    assert "exists. Use another name, or --overwrite" in capsys.readouterr().err
    assert main([*words, "--out", str(out), "--overwrite"]) == 0


@pytest.mark.slow
def test_names_that_are_no_utf8_are_kept_apart_and_noticed(capsys, run, photos, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(photos / "train", data)
    strange = data / "a" / os.fsdecode(b"caf\xe9.jpg")
    shutil.copy(data / "a" / "0.jpg", strange)
    (found,) = asked(capsys, run, strange, "--data", data, "-k", 1)["queries"]
    assert found["image"] == "a/caf\\xe9.jpg"
    assert found["neighbours"][0]["image"] == "a/0.jpg"
    assert asked(capsys, run, "a/0.jpg", "--data", data)["features_kept"]
    Image.new("RGB", (SIDE, SIDE), "red").save(strange)
    result = asked(capsys, run, "a/0.jpg", "--data", data, "-k", 10)
    assert not result["features_kept"]
    assert "a/caf\\xe9.jpg" in [one["image"] for one in result["queries"][0]["neighbours"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no query was given. Give pictures, or --duplicates"),
        (["nowhere.jpg"], "query nowhere.jpg is neither a file nor the name of an image in data="),
        (["text.jpg"], "query text.jpg is not a picture that can be read"),
        (["empty.jpg"], "query empty.jpg is not a picture that can be read"),
        (["folder"], "query folder is not a picture that can be read: it is a folder"),
        (["train/a/0.jpg", "-k", "0"], "k must be at least 1; received k=0"),
        (["--duplicates", "1.5"], "--duplicates must be a similarity, -1 to 1; received 1.5"),
        (["--duplicates", "x.jpg"], "must be a number; received x.jpg"),
        (["train/a/0.jpg", "--out", "x.txt"], "out must end in .html; received out=x.txt"),
        (["train/a/0.jpg", "--data", "gone"], "there is no such file or folder"),
    ],
)
def test_bad_input_is_told_in_one_line(capsys, monkeypatch, tmp_path, run, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder").mkdir()
    try:
        code = main(["neighbours", run.folder, *words])
    except SystemExit as stopped:
        code = stopped.code
    captured = capsys.readouterr()
    assert code == 2
    assert message in captured.err
    assert captured.err.count("error:") == 1
    assert captured.err.splitlines()[-1].startswith("moco-tf: error: ")


def test_another_backend_is_refused_where_a_picture_is_to_be_embedded(
    capsys, run, photos, tmp_path, monkeypatch
):
    outside = shutil.copy(photos / "train" / "a" / "0.jpg", tmp_path)
    kept = asked(capsys, run, "train/a/0.jpg")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert main(["neighbours", run.folder, str(outside)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("moco-tf: error: KERAS_BACKEND must be tensorflow; received KERAS_BACKE")
    assert asked(capsys, run, "train/a/0.jpg")["queries"] == kept["queries"]


def test_of_a_damaged_checkpoint_the_one_before_is_taken_and_told(capsys, photos, tmp_path):
    run = make_run(tmp_path / "run", str(photos))
    first = asked(capsys, run, "train/a/0.jpg")
    checkpoints = tmp_path / "run" / "checkpoints"
    damaged = bytearray((checkpoints / "step-00000007.safetensors").read_bytes())
    damaged[-9] ^= 1
    (checkpoints / "step-00000009.safetensors").write_bytes(damaged)
    for _ in range(2):
        result = asked(capsys, run, "train/a/0.jpg")
        assert (result["step"], result["queries"]) == (7, first["queries"])


def test_a_run_without_checkpoint_and_data_that_are_gone(capsys, photos, tmp_path):
    data = shutil.copytree(photos, tmp_path / "data")
    run = make_run(tmp_path / "run", str(data))
    shutil.rmtree(data)
    assert main(["neighbours", run.folder, "train/a/0.jpg"]) == 2
    assert "leads nowhere" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    assert main(["neighbours", run.folder, "train/a/0.jpg"]) == 2
    assert "holds no checkpoint yet" in capsys.readouterr().err
