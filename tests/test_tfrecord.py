"""TFRecords as they are: the index against TensorFlow's own parser, labels and bad shards."""

import gzip
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.records import example, imagenet, write, write_shards

from moco_tf.data.sources import open_images
from moco_tf.data.tfrecord import index as index_of_records
from moco_tf.data.tfrecord.examples import features, int_values
from moco_tf.data.tfrecord.framing import find_records
from moco_tf.data.tfrecord.index import open_index
from moco_tf.data.tfrecord.shards import Keys, list_shards
from moco_tf.errors import InputError


def png(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (10 + seed, 12, 3), dtype=np.uint8)
    return tf.io.encode_png(pixels).numpy()


PICTURES = [png(n) for n in range(10)]
NAMES = ("tench", "crane", "crane")  # as in ImageNet, where two classes are called so


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "moco-tf"


@pytest.fixture
def shards(tmp_path):
    """Ten pictures in three shards and two beside them, the labels from 1 on."""
    records = [imagenet(p, 1 + n % 3, NAMES[n % 3]) for n, p in enumerate(PICTURES)]
    write_shards(tmp_path, records, 3)
    write_shards(tmp_path, [records[4], records[2]], 1, "validation")
    write_shards(tmp_path, records[:1], 1, "test")
    return tmp_path


def stored(images):
    return [images.read(tf.constant(n, tf.int64)).numpy() for n in range(images.count)]


def test_images_labels_and_names_are_those_of_the_records(shards):
    train, test = open_images(f"tfrecord:{shards}/train-*-of-00003")
    assert stored(train) == PICTURES
    assert train.labels.tolist() == [n % 3 for n in range(10)]
    assert train.class_names == ("tench", "crane (2)", "crane (3)")
    assert stored(test) == [PICTURES[4], PICTURES[2]]
    assert (test.split, test.labels.tolist()) == ("validation", [1, 2])
    assert len(train.passed_over) == 1 and "test" in train.passed_over[0]
    assert train.name_of(5) == f"record 1 of {shards}/train-00001-of-00003"
    assert open_images(f"tfrecord:{shards}/train-*", split="test")[1].count == 1
    with pytest.raises(InputError, match="has no part known as test"):
        open_images(f"tfrecord:{shards}/validation-*", split="test")


@pytest.mark.parametrize("rows", [3, 2**18])
def test_the_index_finds_what_tensorflow_parses(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(index_of_records, "ROWS", rows)  # looked into by parts, too
    rng = np.random.default_rng(0)
    labels, sizes = rng.integers(0, 2**40, 50), rng.integers(1, 40_000, 50)
    words = [bytes(rng.integers(0, 256, size, dtype=np.uint8)) for size in sizes]
    filler = {f"f{n}": tf.train.Feature(float_list=tf.train.FloatList(value=[n])) for n in range(9)}
    extra = tf.train.Example(features=tf.train.Features(feature=filler)).SerializeToString()
    records = [
        extra * (n % 3) + example(x=word, y=label, image_class_text=b"t") + extra * (n % 2)
        for n, (word, label) in enumerate(zip(words, labels, strict=True))
    ]
    write(tmp_path / "a", records)
    found = open_index([tmp_path / "a"], Keys("x", "y", "image/class/text"), tmp_path)
    spec = {"x": tf.io.FixedLenFeature([], tf.string), "y": tf.io.FixedLenFeature([], tf.int64)}
    parsed = tf.io.parse_example(list(tf.data.TFRecordDataset(str(tmp_path / "a"))), spec)
    data = (tmp_path / "a").read_bytes()
    spans = zip(found.offsets, found.lengths, strict=True)
    assert [data[at : at + length] for at, length in spans] == parsed["x"].numpy().tolist()
    np.testing.assert_array_equal(found.labels, parsed["y"].numpy())


def test_numbers_are_read_packed_bare_negative_and_absent(tmp_path):
    bare = b"\x0a\x0b" + b"\x0a\x09" + b"\x0a\x01y" + b"\x12\x04" + b"\x1a\x02\x08\x07"
    records = [bare, example(y=-5), example(y=[3, 4]), example(y=[]), example(z=1), example(y=b"a")]
    assert tf.train.Example.FromString(bare).features.feature["y"].int64_list.value[0] == 7
    write(tmp_path / "a", records)
    data = np.fromfile(tmp_path / "a", np.uint8)
    places = find_records(data, tmp_path / "a")
    assert int_values(data, features(data, *places, ["y"])["y"]).tolist() == [7, -5, 3, -1, -1, -1]


def test_labels_may_be_texts_unknown_or_under_other_keys(tmp_path):
    write(tmp_path / "train.rec", [example(i=PICTURES[n], k=b"cdc"[n : n + 1]) for n in range(3)])
    write(tmp_path / "val.rec", [example(i=PICTURES[n], k=b"dx"[n : n + 1]) for n in range(2)])
    train, test = open_images(f"tfrecord:{tmp_path}/train.rec?image=i&label=k")
    assert (train.class_names, train.labels.tolist()) == (("c", "d"), [0, 1, 0])
    assert test.labels is None and "the label x, train has not" in test.why_unlabelled
    write(tmp_path / "val.rec", [example(i=PICTURES[n], k=b"dc"[n : n + 1]) for n in range(2)])
    assert open_images(f"tfrecord:{tmp_path}/train.rec?image=i&label=k")[1].labels.tolist() == [
        1,
        0,
    ]
    write(tmp_path / "n.rec", [example(i=PICTURES[n], k=[[], -1, 9][n]) for n in range(3)])
    train, _ = open_images(f"tfrecord:{tmp_path}/n.rec?image=i&label=k")
    assert (train.class_names, train.labels.tolist()) == (("9",), [-1, -1, 0])
    assert open_images(f"tfrecord:{tmp_path}/n.rec?image=i")[0].labels is None


def test_texts_of_the_test_part_meet_the_names_of_numbers_in_the_training_part(tmp_path):
    rows = [(9, b"d"), (3, b"c"), (9, b"d")]
    train = [example(i=PICTURES[0], k=label, t=text) for label, text in rows]
    write(tmp_path / "train.rec", train)
    write(tmp_path / "val.rec", [example(i=PICTURES[n], k=b"dc"[n : n + 1]) for n in range(2)])
    data = f"tfrecord:{tmp_path}/train.rec?image=i&label=k&text=t"
    train, test = open_images(data)
    assert (train.labels.tolist(), train.class_names) == ([1, 0, 1], ("c", "d"))
    assert test.labels.tolist() == [1, 0]
    write(tmp_path / "val.rec", [example(i=PICTURES[0], k=b"e")])
    assert open_images(data)[1].labels is None


def test_an_index_is_kept_and_made_again_where_it_is_damaged_or_a_shard_changed(shards, cache):
    data = f"tfrecord:{shards}/train-*"
    identity = open_images(data)[0].identity
    kept = max(cache.glob("tfrecord-*.npz"), key=os.path.getsize)
    whole, time = kept.read_bytes(), kept.stat().st_mtime_ns
    assert open_images(data)[0].identity == identity and kept.stat().st_mtime_ns == time
    for damaged in (b"", whole[:-40], whole[:200] + b"\0" * 30 + whole[230:]):
        kept.write_bytes(damaged)
        assert stored(open_images(data)[0]) == PICTURES
        assert kept.read_bytes() == whole
    write(shards / "train-00000-of-00003", [imagenet(PICTURES[9], 3, "crane")])
    train, _ = open_images(data)
    assert stored(train) == [PICTURES[9], *PICTURES[4:]] and train.identity != identity


def test_other_shards_with_the_same_images_have_the_same_identity(shards):
    one, _ = open_images(f"tfrecord:{shards}/train-*")
    (shards / "two").mkdir()
    records = [imagenet(p, 1, "a") for p in PICTURES]
    write_shards(shards / "two", records, 2)
    other, _ = open_images(f"tfrecord:{shards}/two/train-*")
    assert one.identity == other.identity and one.content != other.content


def test_an_image_that_is_none_is_named(tmp_path):
    write(tmp_path / "a", [imagenet(p if n != 6 else b"?", 1, "") for n, p in enumerate(PICTURES)])
    with pytest.raises(InputError, match=r"1 of 10 images .* record 6 of .*no JPEG") as caught:
        open_images(f"tfrecord:{tmp_path}/a")
    assert "\n" not in str(caught.value)
    assert open_images(f"tfrecord:{tmp_path}/a", max_bad_images=0.1)[0].count == 10


def _bad(folder):
    write(folder / "good", [imagenet(PICTURES[0], 1, "a")] * 2)
    whole = (folder / "good").read_bytes()
    (folder / "cut").write_bytes(whole[:-9])
    (folder / "cut-header").write_bytes(whole + whole[:7])
    (folder / "damaged").write_bytes(whole[: len(whole) // 2] + b"?" + whole[len(whole) // 2 + 1 :])
    (folder / "zipped").write_bytes(gzip.compress(whole))
    (folder / "text").write_bytes(b"hello, this is no record at all")
    (folder / "empty").write_bytes(b"")
    write(folder / "raw", [b"\x0a\x05nothing"])
    Image.new("RGB", (9, 9)).save(folder / "p.png")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{0}/no-*", "no file is called {0}/no-*"),
        ("{0}/goo*,{0}/*d", "names the shard {0}/good twice"),
        ("{0}/cut", "{0}/cut is truncated: its record 1 begins at byte"),
        ("{0}/cut-header", "is truncated: its record 2 begins at byte"),
        ("{0}/damaged", "{0}/damaged is damaged at its record 1"),
        ("{0}/zipped", "is compressed (gzip), which has no random access"),
        ("{0}/text", "{0}/text is no TFRecord file"),
        ("{0}/p.png", "{0}/p.png is no TFRecord file"),
        ("{0}/empty", "holds no record"),
        ("{0}/raw", "record 0 of {0}/raw is not a tf.train.Example"),
        (
            "{0}/good?image=jpg",
            "its keys are: image/class/label, image/class/text, image/color",
        ),
        ("{0}/good?image=image/class/label", "no image as bytes at the key image/class/label"),
        ("{0}/good?img=jpg", "img=jpg names no key of the records. Use image=KEY"),
        ("gs://bucket/train-*", "is not on this machine"),
    ],
)
def test_bad_shards_are_one_line(tmp_path, data, said):
    _bad(tmp_path)
    with pytest.raises(InputError) as caught:
        open_images("tfrecord:" + data.format(tmp_path))
    assert said.format(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_shard_is_told_or_read_and_never_runs_on(tmp_path, seed):
    write(tmp_path / "a", [imagenet(PICTURES[n], n, "abc") for n in range(3)])
    rng, data = np.random.default_rng(seed), bytearray((tmp_path / "a").read_bytes())
    for place in rng.integers(12, 200, 3):
        data[place] = rng.integers(256)
    (tmp_path / "a").write_bytes(data)
    try:
        found = open_index([tmp_path / "a"], Keys(), tmp_path)
    except InputError:
        return
    ends = found.offsets + found.lengths
    assert (found.lengths > 0).all() and (ends < len(data)).all()


@pytest.mark.parametrize(
    ("pattern", "beside"),
    [
        ("train-*", "val-0"),
        ("train-?-of-00003", "test-0-of-00007"),
        ("cifar10-train.tfrecord*", "cifar10-test.tfrecord-0"),
        ("train/*", "validation/0"),
    ],
)
def test_test_shards_are_found_beside_the_training_shards(tmp_path, pattern, beside):
    for name in (pattern.replace("*", "0").replace("?", "0"), beside):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, [])
    assert list_shards(f"tfrecord:{tmp_path}/{pattern}").test == [tmp_path / beside]
