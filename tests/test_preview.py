"""`moco-tf preview`: what is said of the images before a run, and the sheet of its first views."""

import io
import json
import os
import re

import numpy as np
import pytest
from PIL import Image
from support.records import imagenet, write_shards
from support.runs import config as tiny_config

from moco_tf.building import build_batches, build_images
from moco_tf.commands.cli import main
from moco_tf.data.order import epoch_order
from moco_tf.look import pictures as pictures_module
from moco_tf.look.hints import crop_facts, hints
from moco_tf.look.pictures import look_at
from moco_tf.look.preview import SHOWN, view_rows
from moco_tf.look.survey import near_duplicates
from moco_tf.runs import folder as run_folder

EVIL = '"><script>alert(1)<.png'  # "/" cannot be in a name
COUNT = 20


def picture(seed, width=40, height=30):
    """Smooth blobs, no two alike."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """20 pictures in two classes, one of them gray, one larger, one a copy, and a broken file."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(COUNT - 3):
        folder = root / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        picture(number).save(folder / f"{number}.png")
    picture(0).convert("L").save(root / "b" / "gray.png")
    picture(99, 80, 60).save(root / "b" / EVIL)
    picture(3).resize((36, 27)).save(root / "a" / "copy.jpg", quality=80)
    (root / "a" / f"{EVIL}.jpg").write_bytes(b"\xff\xd8\xff no picture")
    return root


def flags(**changes):
    settings = {"image_size": 16, "batch_size": 8, "group_size": 4, "stem": "small"} | changes
    settings |= {"queue_size": 64, "width": 4}
    return [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]


def told(capsys, data, *words, **changes):
    capsys.readouterr()
    assert main(["preview", "small", "--data", str(data), *words, *flags(**changes), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_it_tells_what_is_there(capsys, photos):
    result = told(capsys, photos)
    assert (result["images"], result["looked_at"], result["test_images"]) == (COUNT, COUNT, 0)
    assert result["classes"] == {"a": 10, "b": 10}
    assert result["sizes"] == {"smallest": [36, 27], "median": [40, 30], "largest": [80, 60]}
    assert result["channels"] == {"gray": 1, "colour": COUNT - 1}
    assert result["unreadable"] == 1
    assert result["unreadable_files"] == [f"{photos}/a/{EVIL}.jpg"]
    pairs = {frozenset((p["first"], p["second"])) for p in result["near_duplicates"]}
    names = [("a/copy.jpg", "b/3.png"), ("a/0.png", "b/gray.png")]
    assert pairs == {frozenset(f"{photos}/{name}" for name in pair) for pair in names}
    assert result["upright"] is None  # of 20 pictures
    (refused,) = result["refused"]
    assert "1 of 21 images cannot be read, more than max_bad_images=0.01" in refused
    assert told(capsys, photos, max_bad_images=0.1)["refused"] == []


def test_the_views_are_those_of_the_first_batch_of_training(photos):
    config = tiny_config(str(photos), photos / "run", max_bad_images=0.5, augmentation="v2")
    train, _ = build_images(config)
    first = next(build_batches(config, train, 0))
    rows = view_rows(config, look_at(config, SHOWN, lambda _: None))
    assert len(rows) == SHOWN
    for place, row in enumerate(rows):
        for number in (0, 1):
            np.testing.assert_array_equal(row.views[number], first[number][place])


@pytest.mark.slow
def test_of_many_files_some_are_looked_at_and_the_views_stay_the_same(
    capsys, photos, monkeypatch, tmp_path
):
    whole = tmp_path / "whole"
    for name in "ab":
        (whole / name).mkdir(parents=True)
        for file in (photos / name).glob("[0-9]*"):
            os.link(file, whole / name / file.name)
    everything = told(capsys, whole)
    monkeypatch.setattr(pictures_module, "MOST_LOOKED_AT", 5)
    some = told(capsys, whole)
    assert some["looked_at"] < everything["looked_at"] == COUNT - 3
    assert (some["images"], some["classes"]) == (COUNT - 3, everything["classes"])
    drawn = [
        [row[name] for name in ("position", "size", "view1", "view2")] for row in some["views"]
    ]
    assert drawn == [
        [row[name] for name in ("position", "size", "view1", "view2")]
        for row in everything["views"]
    ]
    ends = [row["image"].rpartition("/")[2] for row in some["views"]]
    assert ends == [row["image"].rpartition("/")[2] for row in everything["views"]]


def test_arrays_are_looked_at_like_files(capsys, tmp_path):
    images = np.stack([np.asarray(picture(n, 16, 16)) for n in range(12)])
    np.savez(tmp_path / "x.npz", images=images, labels=np.arange(12) % 3)
    result = told(capsys, tmp_path / "x.npz")
    assert result["classes"] == {"0": 4, "1": 4, "2": 4}
    assert result["sizes"]["median"] == [16, 16]
    assert [row["size"] for row in result["views"]] == [[16, 16]] * SHOWN


def test_records_that_cannot_be_read_are_told_and_not_shown(capsys, tmp_path):
    records = []
    for number in range(12):
        file = io.BytesIO()
        picture(number, 16, 16).save(file, "PNG")
        records.append(imagenet(b"broken" if number % 3 == 0 else file.getvalue(), 1, "fish"))
    write_shards(tmp_path, records, 2)
    result = told(capsys, f"tfrecord:{tmp_path}/train-*")
    assert (result["images"], result["looked_at"], result["unreadable"]) == (12, 8, 4)
    order = epoch_order(0, 0, 12)[:SHOWN].tolist()
    readable = [position for position, place in enumerate(order) if place % 3]
    assert [row["position"] for row in result["views"]] == readable
    assert any("cannot be read, more than max_bad_images" in line for line in result["refused"])


def test_views_that_a_function_of_pythons_makes_are_not_guessed(capsys, tmp_path, photos):
    config = tiny_config(str(photos), tmp_path / "run", augment_function="mine.views")
    run_folder.claim(tmp_path / "run", config)
    assert main(["preview", "--config", str(tmp_path / "run" / "config.json")]) == 2
    assert "augment_function=mine.views: a function of Python's" in capsys.readouterr().err


def test_the_page_shows_each_view_and_no_script_but_its_own(capsys, photos, tmp_path):
    out = tmp_path / "p.html"
    result = told(capsys, photos, "--out", str(out), seed=3)
    text = out.read_text(encoding="utf-8")
    assert text.count("<img ") == 3 * SHOWN
    assert {"data", "advice", "views", "duplicates", "unreadable"} == set(
        re.findall(r'<section id="(\w+)">', text)
    )
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;.png.jpg" in text
    width, height = result["views"][0]["view1"]["crop"][3:1:-1]
    assert f"crop {width} x {height} at (" in text


@pytest.mark.slow
def test_the_picture_is_written_by_its_suffix(capsys, photos, tmp_path):
    out = tmp_path / "p.png"
    told(capsys, photos, "--out", str(out))
    with Image.open(out) as image:
        assert image.format == "PNG"
        assert image.width == 1100
        assert image.height > SHOWN * 160
        assert len(image.getcolors(2**24)) > 1000


def test_pictures_without_contrast_are_no_near_duplicates():
    small = np.random.default_rng(0).uniform(0, 255, (4, 8, 9))
    small[1] = small[0] + 2
    small[2:] = 100
    assert near_duplicates(small) == [(0, 1, 0)]


FACTS = {
    "channels": {"gray": 0, "colour": 100},
    "upright": 1.5,
    "near_duplicates": [],
    "classes": {"a": 1},
    "looked_at": 100,
}


@pytest.mark.parametrize(
    ("facts", "fields", "words"),
    [
        ({}, {}, None),
        ({"channels": {"gray": 95, "colour": 5}}, {"augmentation": "v2"}, "saturation, hue"),
        ({"channels": {"gray": 95, "colour": 5}}, {"augmentation": {"gray": 0.2}}, None),
        ({"channels": {"gray": 50, "colour": 50}}, {"augmentation": "microscopy"}, "Use gray 0.2"),
        ({"upright": 1.02}, {}, "--augmentation satellite"),
        ({"upright": None}, {}, None),
        ({"upright": 1.02}, {"augmentation": "satellite"}, None),
        ({"upright": 1.6}, {"augmentation": "satellite"}, "--augmentation v2"),
        ({"classes": {}}, {"knn_every": 1}, "there are no labels"),
        ({"near_duplicates": [{"first": "x", "second": "y"}]}, {}, "1 pairs of 100 pictures"),
    ],
)
def test_advice_is_given_where_something_is_off(facts, fields, words):
    config = tiny_config("shapes", "run", image_size=32, **fields)
    if fields.get("augmentation") in ("satellite", "microscopy") and facts.get("upright") is None:
        facts = facts | {"upright": 1.0}
    found = hints(config, FACTS | {"crop": crop_facts(config, 40, 40)} | facts)
    assert len(found) == (words is not None)
    assert all(words in line for line in found)


def test_what_a_crop_leaves_is_told_in_pixels():
    config = tiny_config("shapes", "run", image_size=224, crop_min_area=0.25, stem="imagenet")
    facts = crop_facts(config, 32, 128)
    assert (facts["smallest"], facts["largest"]) == (32.0, 64.0)  # of 64 x 64 pixels
    assert facts["enlarged"] == 7.0
    (line,) = hints(config, FACTS | {"crop": facts})
    assert "about 32 pixels a side and is enlarged 7.0 times" in line
    large = crop_facts(config, 2000, 1500)
    (line,) = hints(config, FACTS | {"crop": large})
    assert "--short-side 448" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "nowhere"], "there is no such file or folder"),
        (["--data", "empty"], "holds no image"),
        (["--data", "broken"], "none of the 1 images in broken can be read"),
        (["--data", "broken", "--out", "x.pdf"], "out must end in .html or .png"),
        (["--data", "broken", "--out", "there.png"], "there.png exists. Use another name"),
        (["--data", "broken", "--image-size", "x"], "image_size"),
    ],
)
def test_bad_input_is_told_in_one_line(capsys, monkeypatch, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.jpg").write_bytes(b"\xff\xd8 no")
    (tmp_path / "there.png").touch()
    assert main(["preview", "small", *words]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert (tmp_path / "there.png").read_bytes() == b""
