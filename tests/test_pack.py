"""Packs: the same images, order and views as the folder's, whatever ends the packing on the way."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.records import imagenet, write_shards
from support.views import views_of

from moco_tf.commands.cli import main
from moco_tf.data import image_folder as files_of_images
from moco_tf.data.failures import first_unreadable, readable
from moco_tf.data.pack import shards
from moco_tf.data.pack.index import INDEX, read_index
from moco_tf.data.pack.request import request_of
from moco_tf.data.pack.write import pack
from moco_tf.data.sources import open_images
from moco_tf.data.view_making import DeviceColor, HostViews
from moco_tf.errors import InputError

SIZES = [(40, 60), (64, 48), (100, 30), (33, 33)]  # height, width
CLASSES = ("cat", "dog")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """24 photos of noise in train/ and val/, in two classes; a PNG among them, and a broken one."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(24):
        height, width = SIZES[number % len(SIZES)]
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        image = Image.fromarray(coarse).resize((width, height))
        where = root / ("train" if number < 18 else "val") / CLASSES[number % 2]
        where.mkdir(parents=True, exist_ok=True)
        image.save(where / f"{number:02d}.{'png' if number == 3 else 'jpg'}")
    (root / "train" / "dog" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    return root


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("packed") / "pack"
    pack(str(folder), target, max_bad_images=0.1)
    return target


def opened(data):
    return open_images(str(data), max_bad_images=0.1)


def stored(images):
    return [images.read(tf.constant(i, tf.int64)).numpy() for i in range(images.count)]


def files(target):
    return {path.name: path.read_bytes() for path in target.iterdir()}


def test_a_pack_is_the_folder(folder, packed):
    for ours, theirs in zip(opened(packed), opened(folder), strict=True):
        assert stored(ours) == stored(theirs)
        assert (ours.name, ours.count, ours.paths) == (theirs.name, theirs.count, theirs.paths)
        assert ours.identity == theirs.identity
        assert ours.class_names == theirs.class_names == CLASSES
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        np.testing.assert_array_equal(ours.sizes, theirs.sizes)
    assert opened(packed)[0].files[0] == "images-00000.tfrecord: train/cat/00.jpg"


@pytest.mark.parametrize("way", [pytest.param(HostViews, marks=pytest.mark.slow), DeviceColor])
def test_the_views_are_the_folders_bit_for_bit(folder, packed, way):
    settings = {"batch_size": 6, "image_size": 16, "seed": 3, "start_step": 2, "way": way}
    ours, theirs = (
        views_of(opened(data)[0], "v2", **settings).take(2) for data in (packed, folder)
    )
    for a, b in zip(ours, theirs, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, a, b)


def test_a_shard_is_a_tfrecord_file_with_imagenets_keys(folder, packed):
    records = list(tf.data.TFRecordDataset([str(packed / "images-00000.tfrecord")]))
    parts = opened(folder)
    text = tf.io.FixedLenFeature([], tf.string)
    keys = ("image/encoded", "image/format", "image/filename", "image/class/text")
    number = tf.io.FixedLenFeature([], tf.int64)
    parsed = tf.io.parse_example(records, dict.fromkeys(keys, text) | {"image/class/label": number})
    encoded, kinds, names, texts = (parsed[key].numpy().tolist() for key in keys)
    assert encoded == [image for part in parts for image in stored(part)]
    assert names == [path.encode() for part in parts for path in part.paths]
    assert kinds == [b"PNG" if b"png" in name else b"JPEG" for name in names]
    labels = np.concatenate([part.labels for part in parts])
    np.testing.assert_array_equal(parsed["image/class/label"], labels)
    assert texts == [CLASSES[label].encode() for label in labels]
    for record, image in zip(records, encoded, strict=True):
        assert record.numpy().endswith(image)
        features = tf.train.Example.FromString(record.numpy()).features.feature
        assert features["image/encoded"].bytes_list.value[0] == image and len(features) == 5


def test_a_pack_is_read_as_tfrecords_too(folder, packed, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    images, _ = open_images(f"tfrecord:{packed}/images-*.tfrecord")
    parts = opened(packed)
    assert stored(images) == [image for part in parts for image in stored(part)]
    assert images.labels.tolist() == [label for part in parts for label in part.labels]


def test_a_pack_of_an_earlier_version_opens_and_is_checked(folder, packed, tmp_path):
    """Its records are the images alone."""
    old = tmp_path / "pack"
    old.mkdir()
    parts = opened(packed)
    images = [image for part in parts for image in stored(part)]
    with tf.io.TFRecordWriter(str(old / "images-00000.tfrecord")) as writer:
        for image in images:
            writer.write(image)
    with np.load(packed / INDEX) as arrays:
        rows = dict(arrays)
    ends = np.cumsum(rows["length"] + 12 + 4)
    rows["offset"] = ends - 4 - rows["length"]
    np.savez(old / INDEX, **rows)
    assert [image for part in opened(old) for image in stored(part)] == images
    done = pack(str(folder), old, max_bad_images=0.1)
    assert done["already_packed"] and done["images"] == len(images)


def test_the_index_says_where_each_image_lies(packed):
    rows, shard = read_index(packed / INDEX).rows, (packed / "images-00000.tfrecord").read_bytes()
    columns = (rows[name] for name in ("offset", "length", "crc", "sizes"))
    for offset, length, crc, size in zip(*columns, strict=True):
        image = shard[offset : offset + length]
        assert zlib.crc32(image) == crc
        assert Image.open(io.BytesIO(image)).size == tuple(size[::-1].tolist())
    assert sorted(files(packed)) == ["images-00000.tfrecord", "pack.npz"]  # and nothing hidden


def test_larger_images_are_reduced_to_the_short_side(folder, tmp_path):
    result = pack(str(folder), tmp_path / "pack", short_side=33, max_bad_images=0.1)
    ours, theirs = opened(tmp_path / "pack")[0], opened(folder)[0]
    for new, old, size, before in zip(
        stored(ours), stored(theirs), ours.sizes, theirs.sizes, strict=True
    ):
        if before.min() <= 33:
            assert new == old
            continue
        scale = 33 / before.min()
        assert size.tolist() == [round(side * scale) for side in before.tolist()]
        naive = Image.open(io.BytesIO(old)).convert("RGB").resize(size[::-1], Image.LANCZOS)
        image = Image.open(io.BytesIO(new))
        ours_gray, naive_gray = (np.asarray(i.convert("L"), float) for i in (image, naive))
        assert image.format == "JPEG"
        assert image.size == tuple(size[::-1].tolist())
        assert np.abs(ours_gray - naive_gray).mean() < 1.5  # gray: its colours are subsampled
    assert ours.identity != theirs.identity
    assert (result["short_side"], result["quality"], result["images"]) == (33, 95, 24)


def test_arrays_are_packed_without_loss(tmp_path):
    rng = np.random.default_rng(0)
    train, test = (rng.integers(0, 256, (n, 9, 11, 3), np.uint8) for n in (5, 2))
    np.savez(tmp_path / "a.npz", x_train=train, y_train=[0, 2, 0, 1, 2], x_test=test, y_test=[1, 2])
    pack(str(tmp_path / "a.npz"), tmp_path / "pack")
    for images, pixels, labels in zip(
        opened(tmp_path / "pack"), (train, test), ([0, 2, 0, 1, 2], [1, 2]), strict=True
    ):
        decoded = [np.asarray(Image.open(io.BytesIO(contents))) for contents in stored(images)]
        np.testing.assert_array_equal(decoded, pixels)
        assert images.labels.tolist() == labels
        assert images.paths is None


@pytest.mark.parametrize(
    "stop_at", [7, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 20, 24))]
)
def test_an_interrupted_pack_goes_on_and_ends_the_same(folder, tmp_path, monkeypatch, stop_at):
    monkeypatch.setattr(shards, "SHARD_BYTES", 3000)
    ask = {"short_side": 32, "max_bad_images": 0.1}
    pack(str(folder), tmp_path / "whole", **ask)

    def stop(done, total):
        assert total == 24
        if done == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(str(folder), tmp_path / "pack", **ask, progress=stop)
    with pytest.raises(InputError, match="unfinished pack"):
        opened(tmp_path / "pack")
    result = pack(str(folder), tmp_path / "pack", **ask)
    assert files(tmp_path / "pack") == files(tmp_path / "whole")
    assert result["shards"] > 3
    assert (result["resumed"] > 0) == (stop_at >= 7)
    assert result["resumed"] < stop_at


def test_rows_of_a_shard_that_are_damaged_are_made_again(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 3000)
    pack(str(folder), tmp_path / "whole", max_bad_images=0.1)

    def stop(done, total):
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(str(folder), tmp_path / "pack", max_bad_images=0.1, progress=stop)
    (tmp_path / "pack" / ".rows-00001.npz").write_bytes(b"PK\x03\x04")
    (tmp_path / "pack" / "images-00002.tfrecord").write_bytes(b"")
    pack(str(folder), tmp_path / "pack", max_bad_images=0.1)
    assert files(tmp_path / "pack") == files(tmp_path / "whole")


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("sizes", np.ones(3, np.int32)),
        ("crc", np.array(["a", "b", "c"])),
        ("shard", np.zeros((), np.int32)),
        ("source", np.zeros((3, 1), np.int64)),
        ("source", np.array([5, -1, 5])),
        ("source", np.array([5, 2**62, 2**62])),
    ],
)
def test_rows_that_are_none_count_for_nothing(tmp_path, name, column):
    rows = {n: np.full((3, 2) if n == "sizes" else 3, 20, kind) for n, kind in shards.KEPT.items()}
    (tmp_path / "images-00000.tfrecord").write_bytes(bytes(20 + 20 + 4))
    np.savez(tmp_path / ".rows-00000.npz", **rows)
    assert len(shards.whole_shards(tmp_path)) == 1
    np.savez(tmp_path / ".rows-00000.npz", **rows | {name: column})
    assert shards.whole_shards(tmp_path) == []


def test_a_full_disk_is_told_in_one_line(folder, tmp_path, monkeypatch):
    def no_space(path):
        raise tf.errors.ResourceExhaustedError(None, None, f"{path}; No space left on device")

    monkeypatch.setattr(tf.io, "TFRecordWriter", no_space)
    with pytest.raises(InputError, match="No space left on device") as caught:
        pack(str(folder), tmp_path / "pack", max_bad_images=0.1)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert pack(str(folder), tmp_path / "pack", max_bad_images=0.1)["images"] == 24


def test_what_is_written_is_read_back(folder, tmp_path, monkeypatch):
    def lose_a_byte(path):
        contents = bytearray(path.read_bytes())
        contents[100] ^= 1
        path.write_bytes(contents)

    monkeypatch.setattr(shards, "_flush", lose_a_byte)
    with pytest.raises(InputError, match="does not read back"):
        pack(str(folder), tmp_path / "pack", max_bad_images=0.1)
    assert not list((tmp_path / "pack").glob("images-*"))


def test_rows_that_are_not_of_the_shard_are_noticed(packed):
    path = packed / "images-00000.tfrecord"
    rows = {name: read_index(packed / INDEX).rows[name] for name in ("offset", "length", "crc")}
    shards.read_back(path, rows)
    third = np.arange(len(rows["crc"])) == 2
    wrong = [rows | {name: rows[name] - third.astype(rows[name].dtype)} for name in rows]
    for other in (*wrong, {name: column[1:] for name, column in rows.items()}):
        with pytest.raises(InputError, match="does not read back"):
            shards.read_back(path, other)


def copy(packed, tmp_path):
    target = tmp_path / "copy"
    target.mkdir()
    for name, contents in files(packed).items():
        (target / name).write_bytes(contents)
    return target


def test_a_damaged_image_is_named(packed, tmp_path):
    target = copy(packed, tmp_path)
    offset = read_index(target / INDEX).rows["offset"][4]
    shard = target / "images-00000.tfrecord"
    contents = bytearray(shard.read_bytes())
    contents[offset + 20] ^= 255
    shard.write_bytes(contents)
    images = opened(target)[0]
    batches = tf.data.Dataset.range(images.count).map(images.read)
    with pytest.raises(InputError, match=r"image 4 in .*images-00000.tfrecord is damaged") as told:
        list(readable(batches, images, np.arange(images.count)))
    assert "Traceback" not in str(told.value)
    assert first_unreadable(images, np.arange(images.count)) == images.files[4]


def test_a_shard_cut_short_or_absent_is_refused(packed, tmp_path):
    target = copy(packed, tmp_path)
    shard = target / "images-00000.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(InputError, match="is not whole"):
        opened(target)
    shard.unlink()
    with pytest.raises(InputError, match=r"images-00000\.tfrecord could not be read"):
        opened(target)


def _about(changes, key="train"):
    def change(arrays):
        about = json.loads(arrays["about"].tobytes())
        if key:
            about[key] |= changes
        else:
            about |= changes
        arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)

    return change


def _column(name, value, row=None):
    def change(arrays):
        if row is None:
            arrays[name] = value
        else:
            arrays[name] = arrays[name].copy()
            arrays[name][row] = value

    return change


HOSTILE = {
    "no column": lambda arrays: arrays.pop("offset"),
    "another type": _column("offset", np.zeros(24, np.float64)),
    "another shape": _column("length", np.zeros((24, 2), np.int64)),
    "too few rows": _column("crc", np.zeros(23, np.uint32)),
    "a negative offset": _column("offset", -5, 3),
    "an offset beyond the file": _column("offset", 2**40, 3),
    "an offset beyond everything": _column("offset", 2**62, 3),
    "a negative length": _column("length", -1, 0),
    "a length of everything": _column("length", 2**62, 0),
    "no length": _column("length", 0, 0),
    "a shard that is not there": _column("shard", 5, 23),
    "a negative shard": _column("shard", -1, 0),
    "a huge shard": _column("shard", 2**31 - 1, 0),
    "no size": _column("sizes", 0, 0),
    "a label of no class": _column("labels", 2, 0),
    "a label below -1": _column("labels", -2, 0),
    "about that is no JSON": _column("about", np.frombuffer(b"{", np.uint8)),
    "about that is a list": _column("about", np.frombuffer(b"[]", np.uint8)),
    "about of another type": _column("about", np.array("{}")),
    "another version": _about({"version": 2}, None),
    "an unknown field": _about({"pickle": "no"}, None),
    "no images": _about({"count": 0}),
    "a huge count": _about({"count": 2**60}),
    "text as count": _about({"count": "18"}),
    "class names of another type": _about({"class_names": [1, 2]}),
    "paths of too few": _column("paths", np.frombuffer(b"a\0b", np.uint8)),
    "pickled objects": _column("offset", np.array([{}] * 24, object)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_index_that_lies_is_refused_in_one_line(packed, tmp_path, name):
    target = copy(packed, tmp_path)
    arrays = dict(np.load(target / INDEX))
    HOSTILE[name](arrays)
    np.savez(target / INDEX, **arrays)
    with pytest.raises(InputError) as caught:
        opened(target)
    assert "\n" not in str(caught.value)
    assert str(target) in str(caught.value)


@pytest.mark.parametrize("length", [0, 10, 500])
def test_an_index_cut_short_is_refused(packed, tmp_path, length):
    target = copy(packed, tmp_path)
    (target / INDEX).write_bytes((packed / INDEX).read_bytes()[:length])
    with pytest.raises(InputError, match="index of a pack"):
        opened(target)


def test_other_requests_are_refused(folder, packed, tmp_path):
    ask = {"max_bad_images": 0.1}
    assert pack(str(folder), packed, **ask)["already_packed"]
    with pytest.raises(InputError, match="short_side=None; received short_side=33"):
        pack(str(folder), packed, short_side=33, **ask)
    with pytest.raises(InputError, match="is a pack already"):
        pack(str(packed), tmp_path / "other", **ask)
    with pytest.raises(InputError, match="received quality=90"):
        pack(str(folder), tmp_path / "other", quality=90, **ask)
    with pytest.raises(InputError, match="short_side=7"):
        pack(str(folder), tmp_path / "other", short_side=7, **ask)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"something else \(thesis.txt\)"):
        pack(str(folder), tmp_path / "other", **ask)
    with pytest.raises(InputError, match="Mend them, or raise --max-bad-images"):
        pack(str(folder), tmp_path / "third")


def test_a_request_without_a_shard_may_be_corrected(folder, tmp_path):
    with pytest.raises(InputError, match="there is no such file or folder"):
        pack(str(tmp_path / "nothing"), tmp_path / "pack")
    assert not (tmp_path / "pack").exists()
    with pytest.raises(InputError, match="Mend them, or raise --max-bad-images"):
        pack(str(folder), tmp_path / "pack")
    assert pack(str(folder), tmp_path / "pack", max_bad_images=0.1, short_side=16)["images"] == 24


def test_images_that_are_readable_again_are_not_mixed_in(tmp_path, monkeypatch):
    """The same files, but one of them could not be read when the packing began."""
    source = tmp_path / "pictures"
    source.mkdir()
    for name in range(8):
        Image.new("RGB", (8, 8 + name)).save(source / f"{name}.png")
    sizes = files_of_images.file_sizes

    def without_the_second(*args, **kind):
        found = sizes(*args, **kind)
        found[1] = 0
        return found

    def stop(done, total):
        if done == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(shards, "SHARD_BYTES", 200)
    monkeypatch.setattr(files_of_images, "file_sizes", without_the_second)
    with pytest.raises(KeyboardInterrupt):
        pack(str(source), tmp_path / "pack", max_bad_images=0.5, progress=stop)
    monkeypatch.setattr(files_of_images, "file_sizes", sizes)
    with pytest.raises(InputError, match="has changed since"):
        pack(str(source), tmp_path / "pack", max_bad_images=0.5)


def test_a_second_process_is_kept_out(folder, tmp_path):
    def second(done, total):
        if done == 2:
            with pytest.raises(InputError, match="being packed by another process"):
                pack(str(folder), tmp_path / "pack", max_bad_images=0.1, short_side=16)

    pack(str(folder), tmp_path / "pack", max_bad_images=0.1, progress=second)
    assert sorted(files(tmp_path / "pack")) == ["images-00000.tfrecord", "pack.npz"]


def test_a_finished_pack_that_is_damaged_is_told(folder, packed, tmp_path):
    target = copy(packed, tmp_path)
    shard = target / "images-00000.tfrecord"
    contents = bytearray(shard.read_bytes())
    contents[-30] ^= 1
    shard.write_bytes(contents)
    with pytest.raises(InputError, match="Remove the pack, and pack again"):
        pack(str(folder), target, max_bad_images=0.1)


@pytest.mark.parametrize("name", [b"odd\xff", b"~nobody-here"])
def test_folders_with_odd_names(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / os.fsdecode(name)
    source.mkdir()
    for number in range(2):
        Image.new("RGB", (8, 8)).save(source / f"{number}.png")
    assert pack(os.fsdecode(name), tmp_path / "pack")["images"] == 2
    assert opened(tmp_path / "pack")[0].count == 2


def test_a_folder_does_not_hide_a_source_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shapes").mkdir()
    assert request_of("shapes", None, None)["stamp"] == ""
    with pytest.raises(InputError, match="holds no image"):
        request_of("./shapes", None, None)


def test_a_source_that_has_changed_is_told(tmp_path):
    source = tmp_path / "pictures"
    source.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(source / name)
    pack(str(source), tmp_path / "pack")
    Image.new("RGB", (9, 9)).save(source / "b.png")
    with pytest.raises(InputError, match="has changed since"):
        pack(str(source), tmp_path / "pack")


def test_the_command_says_what_it_did(folder, tmp_path, capsys):
    command = ["pack", str(folder), str(tmp_path / "pack"), "--max-bad-images", "0.1"]
    assert main([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    expected = {"images": 24, "test_images": 6, "shards": 1, "already_packed": False}
    assert result | expected == result
    assert result["skipped"] == [str(folder / "train" / "dog" / "broken.jpg")]
    shard = tmp_path / "pack" / "images-00000.tfrecord"
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(shard))]
    assert result["bytes"] == shard.stat().st_size == sum(len(r) + 16 for r in records)
    assert result["source_bytes"] == sum(len(image) for p in opened(folder) for image in stored(p))
    assert main(command) == 0
    assert "24 images (6 for tests)" in capsys.readouterr().out
    assert main([*command, "--short-side", "16"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["pack", str(tmp_path / "nothing"), str(tmp_path / "p")]) == 2


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_the_same(folder, tmp_path):
    run = (
        "import sys, time; from pathlib import Path; "
        "from moco_tf.data.pack import shards; from moco_tf.data.pack.write import pack; "
        "shards.SHARD_BYTES = 3000; "
        "pack(sys.argv[1], Path(sys.argv[2]), short_side=32, max_bad_images=0.1, "
        "progress=lambda done, total: time.sleep(0.05))"
    )
    command = [sys.executable, "-c", run, str(folder)]
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    rng, kills = np.random.default_rng(0), 0
    while True:
        process = subprocess.Popen([*command, str(tmp_path / "pack")])
        if kills < 8:
            while process.poll() is None and not (tmp_path / "pack" / ".pack.json").exists():
                time.sleep(0.02)
            time.sleep(rng.uniform(0, 1.5))
            process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
        kills += 1
    assert kills >= 3
    assert files(tmp_path / "pack") == files(tmp_path / "whole")


@pytest.mark.parametrize("name", [".images-00000.tfrecord.tmp", "..pack.json.tmp", ".pack.lock"])
def test_a_link_in_the_target_is_not_written_through(folder, tmp_path, name):
    outside, target = tmp_path / "mine.txt", tmp_path / "pack"
    outside.write_text("mine")
    target.mkdir()
    (target / ".pack.json").write_text("{}")  # begun, and no shard yet
    (target / name).symlink_to(outside)
    with contextlib.suppress(InputError):
        pack(str(folder), target, max_bad_images=0.1)
    assert outside.read_text() == "mine"


def test_a_note_that_is_too_deep_is_damaged(folder, packed, tmp_path):
    target = copy(packed, tmp_path)
    (target / INDEX).unlink()
    (target / ".pack.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"\.pack\.json is damaged"):
        pack(str(folder), target)


@pytest.mark.parametrize("kind", ["folders", "list", "tfrecord"])
def test_other_sources_are_packed_and_a_change_of_them_is_told(folder, tmp_path, kind, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    whole = sorted((folder / "val").glob("*/*.jpg"))
    sources = {
        "folders": f"{folder}/val/dog,{folder}/val/cat",
        "list": str(tmp_path / "list.txt"),
        "tfrecord": f"tfrecord:{tmp_path}/train-*",
    }
    (tmp_path / "list.txt").write_text("\n".join(map(str, whole)))
    write_shards(tmp_path, [imagenet(path.read_bytes(), 1, "") for path in whole], 2)
    source, target = sources[kind], tmp_path / "pack"
    done = pack(source, target)
    assert done["images"] == len(whole) and pack(source, target)["already_packed"]
    ours, theirs = open_images(str(target))[0], open_images(source)[0]
    assert stored(ours) == stored(theirs) and ours.identity == theirs.identity
    assert ours.labels.tolist() == theirs.labels.tolist()
    if kind == "tfrecord":
        with pytest.raises(InputError, match=r"label=image/height"):  # other labels
            pack(f"{source}?label=image/height", target)
        write_shards(tmp_path, [imagenet(path.read_bytes(), 2, "") for path in whole[1:]], 2)
        with pytest.raises(InputError, match="which has changed since"):
            pack(source, target)
