"""What counts as an image, a part and a class in a folder. No file is opened: all are empty."""

import os
from pathlib import Path

import pytest
from PIL import features

from moco_tf.data.class_folders import class_names, labels_of
from moco_tf.data.listing import left_out_line, list_parts
from moco_tf.errors import InputError


def make(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def inner(part):
    return [str(path.relative_to(part.folder)) for path in part.files]


def test_every_suffix_of_a_format_that_is_read_counts(tmp_path):
    images = ["a.jpg", "b.JPEG", "c.jpe", "d.jfif", "e.pjpeg", "f.pjp", "g.tif", "h.TIFF"]
    images += ["i.ppm", "j.pgm", "k.pbm", "l.pnm", "n.png", "o.bmp", "p.gif", "q.webp", "r.WebP"]
    images += ["s.avif"] if features.check("avif") else []
    others = ["1.heic", "2.heic", "3.HEIC", "1.txt", "2.txt", "noname", "jpg", "x.jpg~", "y.0001"]
    make(tmp_path, *images, *others, ".hidden", "._a.jpg")
    (tmp_path / "z.jpg").symlink_to(tmp_path / "absent")
    os.mkfifo(tmp_path / "pipe.jpg")
    train, test, passed_over = list_parts(tmp_path)
    assert (inner(train), test, passed_over) == (images, None, [])
    assert train.left_out == {
        "file without a usual suffix": 4,
        ".heic": 3,
        ".txt": 2,
        "link to nothing": 1,
        "pipe or the like": 1,
    }
    assert left_out_line(train.left_out) == (
        "left out: 4 files without a usual suffix, 3 .heic, 2 .txt, 1 link to nothing, "
        "1 pipe or the like"
    )


def test_kinds_beyond_ten_are_counted_together(tmp_path):
    make(tmp_path, "a.jpg", *(f"{n}.x{n:02}" for n in range(12)), "again.x03")
    left_out = list_parts(tmp_path).train.left_out
    assert len(left_out) == 11 and left_out[".x03"] == 2 and left_out["other"] == 2
    assert left_out_line(left_out).startswith("left out: 2 .x03, ")


SYSTEM = [
    "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
    ".ipynb_checkpoints/a-checkpoint.jpg",
    "__MACOSX/._a.jpg",
    "__MACOSX/b.jpg",
    "cat/@eaDir/c.jpg",
    "$RECYCLE.BIN/d.jpg",
    "#recycle/e.jpg",
    "lost+found/f.jpg",
    "System Volume Information/g.jpg",
    "@Recycle/h.jpg",
    "cat/._a.jpg",
    "cat/Thumbs.db",
    "desktop.ini",
    ".DS_Store",
]


def test_what_systems_put_beside_pictures_is_not_seen(tmp_path):
    train, test, passed_over = list_parts(make(tmp_path, "cat/a.jpg", "dog/b.jpg", *SYSTEM))
    assert (inner(train), test, passed_over) == (["cat/a.jpg", "dog/b.jpg"], None, [])
    assert not train.left_out
    assert class_names(train) == (("cat", "dog"), "")


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING"])
@pytest.mark.parametrize("other", ["val", "Val", "valid", "Validation", "test", "Testing"])
def test_names_of_parts_are_known_in_any_case(tmp_path, train, other):
    make(tmp_path, f"{train}/cat/a.jpg", f"{train}/dog/b.jpg", f"{other}/dog/c.jpg")
    parts = list_parts(tmp_path)
    assert (parts.train.folder, parts.test.folder) == (tmp_path / train, tmp_path / other)
    classes, _ = class_names(parts.train)
    assert labels_of(parts.test, classes)[0].tolist() == [1]


def test_a_part_is_chosen_and_the_others_are_named(tmp_path):
    make(tmp_path, "train/a.jpg", "val/b.jpg", "test/c.jpg", "extra/d.jpg", "notes/e.txt", "f.jpg")
    (tmp_path / "valid").mkdir()

    def chosen(split=None):
        parts = list_parts(tmp_path, split)
        return parts.test.folder.name, parts.passed_over

    beside = ["valid/ (no image)", "1 images beside train/"]
    assert chosen() == chosen("val") == ("val", ["extra/", "test/", *beside])
    assert chosen("test") == ("test", ["extra/", "val/", *beside])
    (tmp_path / "val/b.jpg").unlink()
    assert chosen()[0] == "test"
    assert list_parts(tmp_path, "val").test is None


@pytest.mark.parametrize(
    "files",
    [
        ["photos/cat/a.jpg", "photos/dog/b.jpg"],
        ["photos/photos/cat/a.jpg", "photos/photos/dog/b.jpg", "__MACOSX/photos/a.jpg"],
        ["train/train/cat/a.jpg", "train/train/dog/b.jpg", "test/test/cat/c.jpg"],
        ["set/train/cat/a.jpg", "set/train/dog/b.jpg", "set/valid/cat/c.jpg", "readme.txt"],
    ],
)
def test_classes_are_found_in_folders_that_were_unpacked_twice(tmp_path, files):
    parts = list_parts(make(tmp_path, *files))
    classes, why = class_names(parts.train)
    assert (classes, why) == (("cat", "dog"), "")
    assert labels_of(parts.train, classes)[0].tolist() == [0, 1]
    if parts.test:
        assert labels_of(parts.test, classes)[0].tolist() == [0]
    assert (parts.test is None) == (len(files) < 3 or "photos" in files[0])


def test_a_stray_image_beside_class_folders_has_no_label(tmp_path):
    train = list_parts(make(tmp_path, "cat/a.jpg", "dog/b.jpg", "odd.jpg")).train
    assert class_names(train) == (("cat", "dog"), "")
    labels, why = labels_of(train, ("cat", "dog"))
    assert (inner(train)[2], labels.tolist(), why) == ("odd.jpg", [0, 1, -1], "")


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (["a.jpg", "b.jpg"], "all images lie in one folder"),
        (["cat/a.jpg", "cat/b.jpg"], "all images lie in one folder"),
        (["cat/a.jpg", "odd.jpg"], "images lie in cat/ and beside it, as odd.jpg"),
        (["test/a.jpg", "Val/b.jpg"], "Val and test are parts, and no folder is called train"),
    ],
)
def test_why_there_are_no_classes(tmp_path, files, why):
    assert class_names(list_parts(make(tmp_path, *files)).train) == ((), why)


def test_a_class_of_the_training_part_may_have_the_name_of_a_part(tmp_path):
    parts = list_parts(make(tmp_path, "train/car/a.jpg", "train/train/b.jpg", "test/car/c.jpg"))
    classes, _ = class_names(parts.train)
    assert classes == ("car", "train")
    assert labels_of(parts.train, classes)[0].tolist() == [0, 1]
    assert labels_of(parts.test, classes)[0].tolist() == [0]


def test_a_folder_without_an_image_says_what_it_holds(tmp_path):
    make(tmp_path, "a.heic", "b.heic", "c.mov")
    with pytest.raises(InputError, match=r"holds no image .*; left out: 2 \.heic, 1 \.mov\. Give"):
        list_parts(tmp_path)


def test_a_folder_that_cannot_be_read_is_counted(tmp_path, monkeypatch):
    make(tmp_path, "a.jpg", "locked/b.jpg")
    scan = os.scandir

    def refuse(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert list_parts(tmp_path).train.left_out == {"folder that cannot be read": 1}
