"""The lines on what `--data` holds, and the one rule of labels that are unknown, by source."""

import hashlib
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from moco_tf.data.found import found_lines, left_out
from moco_tf.data.pack.write import pack
from moco_tf.data.sources import Images, from_arrays, labelled_indices, open_images
from moco_tf.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes, a stray image, a broken one, two that are none; Val, test and more beside."""
    root, jpeg = tmp_path_factory.mktemp("photos"), io.BytesIO()
    Image.fromarray(PIXELS[0]).save(jpeg, "JPEG")
    images = ["Train/cat/a.jpg", "Train/cat/b.jfif", "Train/dog/c.jpg", "Train/odd.pjpeg"]
    images += ["Val/cat/d.jpg", "Val/dog/e.jpg", "Val/f.jpg", "test/cat/g.jpg", "test/dog/h.jpg"]
    images += ["unlabelled/i.jpg"]
    for name in images:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(jpeg.getvalue())
    for name in ("Train/cat/broken.jpg", "Train/classes.txt", "Val/x.heic", "Val/y.heic"):
        (root / name).write_bytes(b"x")
    return root


LEFT_OUT = "left out: 2 .heic, 1 .txt"


def test_a_folder_is_told_in_lines(photos):
    train, test = open_images(str(photos), max_bad_images=0.5)
    assert train.labels.tolist() == [0, 0, 1, -1] and test.labels.tolist() == [0, 1, -1]
    assert found_lines(train, test) == [
        f"Train: 4 images, 2 classes (cat, dog), 1 of them without a label "
        f"({photos}/Train/odd.pjpeg); Val: 3 images, 1 of them without a label ({photos}/Val/f.jpg)"
        f"; passed over: test/, unlabelled/",
        LEFT_OUT,
        f"skipped 1 unreadable images: {photos}/Train/cat/broken.jpg",
    ]
    assert left_out(train, test) == {".heic": 2, ".txt": 1}


@pytest.mark.slow
def test_the_other_part_can_be_chosen(photos):
    train, test = open_images(str(photos), max_bad_images=0.5, split="test")
    assert (test.split, test.count) == ("test", 2)
    assert "; test: 2 images; passed over: Val/, unlabelled/" in found_lines(train, test)[0]
    with pytest.raises(InputError, match=r"part known as val; .*those of test; .*split=val"):
        open_images("shapes", split="val")
    with pytest.raises(InputError, match=r"has no part known as test; received split=test\. Leave"):
        open_images(str(photos / "unlabelled"), split="test")


def test_a_pack_holds_the_same(photos, tmp_path):
    said = []
    made = pack(str(photos), tmp_path / "pack", max_bad_images=0.5, line=said.append)
    assert LEFT_OUT in said and made["left_out"] == {".heic": 2, ".txt": 1}
    folder, packed = (open_images(str(p), max_bad_images=0.5) for p in (photos, tmp_path / "pack"))
    for ours, theirs in zip(packed, folder, strict=True):
        assert ours.labels.tolist() == theirs.labels.tolist()
        assert (ours.split, ours.class_names) == (theirs.split, theirs.class_names)
    assert left_out(*packed) == left_out(*folder)
    assert pack(str(photos), tmp_path / "pack")["left_out"] == made["left_out"]  # packed already


def test_why_there_are_no_labels_is_told(photos):
    (line,) = found_lines(*open_images(str(photos / "unlabelled")))
    assert line == "unlabelled: 1 images, no labels (all images lie in one folder)"


@pytest.mark.parametrize("labels", [[-1, 0, 1, -1, 0, 1], ["-1", "a", "b", "-1", "a", "b"]])
def test_a_label_of_minus_one_in_arrays_is_unknown(tmp_path, labels):
    test = {"x_test": PIXELS[:3], "y_test": labels[:3]}
    np.savez(tmp_path / "set.npz", x_train=PIXELS, y_train=labels, **test)
    parts = open_images(str(tmp_path / "set.npz"))
    pack(str(tmp_path / "set.npz"), tmp_path / "pack")
    for train, test in (parts, open_images(str(tmp_path / "pack"))):
        assert train.labels.tolist() == [-1, 0, 1, -1, 0, 1]
        assert test.labels.tolist() == [-1, 0, 1]
        assert train.class_names == test.class_names == tuple(map(str, labels[1:3]))
        assert labelled_indices(train).tolist() == [1, 2, 4, 5]
    assert found_lines(*parts) == [
        f"train: 6 images, 2 classes ({labels[1]}, {labels[2]}), 2 of them without a label; "
        f"test: 3 images, 1 of them without a label"
    ]


def test_labels_that_are_all_unknown_are_none():
    train = from_arrays("x", PIXELS, [0, 1, 0, 1, 0, 1])
    assert from_arrays("x", PIXELS, [-1] * 6, train.class_names).labels is None
    assert train.subset(np.array([0, 2])).labels.tolist() == [0, 0]
    of_tfds = Images("tfds:x", 2, lambda i: i, True, labels=np.array([-1, -1]), class_names=("a",))
    assert of_tfds.labels is None and of_tfds.class_names == ("a",)


def test_nothing_is_said_of_arrays_with_all_labels_or_none():
    for labels in (None, [0, 1, 0, 1, 0, 1]):
        images = from_arrays("x", PIXELS, labels)
        assert found_lines(images, images) == []


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("one.JPG", r"Use --data /.* for the folder that it lies in\."),
        ("x.npy", r"Put the array into one: np.savez\('x.npz', images=np.load\('"),
        ("photos.zip", "Unpack it, and give the folder."),
        ("table.csv", "Give the folder of the images, or put them into an .npz file."),
    ],
)
def test_a_file_of_another_kind_is_told(tmp_path, name, instead):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=f"{name}', a file of another kind. {instead}"):
        open_images(str(tmp_path / name))


def test_the_images_of_a_folder_and_their_order_are_those_of_before(photos):
    """Of another identity a resumed run says so: SHA-256 of the names below the part."""
    train, _ = open_images(str(photos), max_bad_images=0.5)
    names = b"cat/a.jpg\0cat/b.jfif\0dog/c.jpg\0odd.pjpeg"
    assert train.identity == hashlib.sha256(names).hexdigest()
    wrapped, _ = open_images(str(photos / "test"))
    assert wrapped.identity == hashlib.sha256(b"cat/g.jpg\0dog/h.jpg").hexdigest()
    assert tf.io.is_jpeg(train.read(0))
