"""Several folders, and lists of paths: which images, labels and parts they give."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from moco_tf.config import data_from_here, make_config
from moco_tf.data.source_kind import check_source
from moco_tf.data.sources import open_images
from moco_tf.errors import InputError
from moco_tf.names.data import absolute, paths_of, text_of
from moco_tf.recipes import RECIPES
from moco_tf.runs.same_config import same_path


@pytest.fixture
def pictures(tmp_path):
    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(len(name)).integers(0, 256, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
        return tmp_path

    return make


def opened(*parts, **settings):
    return open_images(",".join(map(str, parts)), **settings)


def test_folders_follow_one_another_and_classes_of_one_name_are_one(pictures):
    root = pictures("a/dog/1.png", "a/cat/1.png", "b/dog/1.png", "b/fish/1.png", "c/1.png")
    train, test = opened(root / "b", root / "a", root / "c")
    assert train.paths == ("b/dog/1.png", "b/fish/1.png", "a/cat/1.png", "a/dog/1.png", "c/1.png")
    assert (train.class_names, test) == (("cat", "dog", "fish"), None)
    assert train.labels.tolist() == [1, 2, 0, 1, -1]
    contents = [tf.io.read_file(str(root / path)).numpy() for path in train.paths]
    assert [train.read(tf.constant(n)).numpy() for n in range(5)] == contents
    assert train.identity != opened(root / "a", root / "b", root / "c")[0].identity
    assert open_images([root / "b", str(root / "a"), root / "c"])[0].identity == train.identity


def test_folders_without_class_folders_are_classes_themselves(pictures):
    root = pictures("dogs/1.png", "cats/1.png", "cats/2.png", "more/cats/3.png")
    train, _ = opened(root / "dogs", root / "cats")
    assert (train.class_names, train.labels.tolist()) == (("cats", "dogs"), [1, 0, 0])
    train, _ = opened(root / "cats", root / "more/cats")
    assert train.labels is None and "one folder" in train.why_unlabelled


def test_parts_of_several_folders_are_put_together(pictures):
    names = [
        f"{root}/{part}/{name}/1.png" for root in "ab" for part in ("train", "val") for name in "xy"
    ]
    root = pictures(*names, "b/test/x/1.png")
    train, test = opened(root / "a", root / "b")
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1, 0, 1], [0, 1, 0, 1])
    assert test.paths == tuple(name for name in names if "val" in name)
    assert train.passed_over == (f"{root / 'b'}: test/",)
    _, test = opened(root / "a", root / "b", split="test")
    assert test.paths == ("b/test/x/1.png",)


def test_a_list_is_the_folder_it_lists(pictures, monkeypatch):
    names = [f"set/{name}/{n}.png" for name in ("cat", "dog") for n in range(3)]
    root = pictures(*names)
    folder, _ = open_images(str(root / "set"))
    lines = [names[0], f"set/../{names[1]}", str(root / names[2]), "", *names[3:]]
    (root / "list.txt").write_text("\r\n".join(lines))
    monkeypatch.chdir(root)
    for listed in ("list.txt", names, [root / name for name in names]):
        images, test = open_images(listed)
        assert images.identity == folder.identity and test is None
        assert images.labels.tolist() == folder.labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert [images.read(tf.constant(n)) for n in range(6)] == [
            folder.read(tf.constant(n)) for n in range(6)
        ]
    (root / "list.txt").write_text("\n".join(reversed(names)))
    assert open_images("list.txt")[0].labels.tolist() == [1, 1, 1, 0, 0, 0]


def test_the_list_of_the_test_part_lies_beside_that_of_training(pictures):
    root = pictures("x/cat/1.png", "x/dog/2.png", "y/dog/3.png")
    (root / "train.txt").write_text("x/cat/1.png\nx/dog/2.png\n")
    (root / "val.txt").write_text("y/dog/3.png\n")
    (root / "test.txt").write_text("y/dog/3.png\nx/cat/1.png")
    train, test = open_images(str(root / "train.txt"))
    assert train.labels.tolist() == [0, 1] and train.class_names == ("cat", "dog")
    assert (test.labels.tolist(), test.split) == ([1], "val")
    assert open_images(str(root / "train.txt"), split="test")[1].count == 2


def test_a_path_with_a_comma_is_one_path(pictures):
    root = pictures("a,b/1.png", "a/1.png", "b/1.png")
    assert paths_of(f"{root}/a,b") == (root / "a,b",)
    assert paths_of(f"{root}/a,{root}/b") == (root / "a", root / "b")
    assert text_of([root / "a", root / "b"]) == f"{root}/a,{root}/b"
    assert text_of([root / "a,b", root / "b"]) == "object:list"  # its text would be read otherwise


def test_a_run_finds_its_folders_from_elsewhere(pictures, monkeypatch, tmp_path):
    root = pictures("a/1.png", "b/1.png")
    monkeypatch.chdir(root)
    for data in ("a,b", "tfrecord:a/*.png,b/1.png?image=x"):
        known = absolute(data)
        settings = make_config(RECIPES["shapes"].config, {"data": data})
        settings = settings.model_copy(update={"data_path": known})
        assert data_from_here(settings) == data
        assert same_path([data, known], known) and not same_path([data, known], "a")
        monkeypatch.chdir("/")
        assert data_from_here(settings) == known
        assert paths_of(known)[0].parent in (root, root / "a")
        monkeypatch.chdir(root)
    assert same_path(["b/../a,b"], "a,b") and not same_path(["a,b"], "b,a")
    assert not same_path(["tfrecord:gone/*"], "a") and same_path(
        ["tfrecord:gone/*"], "tfrecord:a/*"
    )


def _bad(root):
    (root / "list.txt").write_text("a/1.png\nno.png\nnor.png\nneither.png\nfour.png\n")
    (root / "folders.txt").write_text("a/1.png\na\nno.png\n")
    (root / "twice.txt").write_text("a/1.png\na/1.png\n")
    (root / "empty.txt").write_text("\n\n")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            "{0}/list.txt",
            "lists 4 files that are not there, of 5: {0}/no.png, {0}/nor.png, ",
        ),
        ("{0}/folders.txt", "lists 1 paths of folders, not of files, of 3: {0}/a. Take"),
        ("{0}/twice.txt", "lists 1 files twice, of 2: {0}/a/1.png"),
        ("{0}/empty.txt", "empty.txt lists no image"),
        ("{0}/a,{0}/none", "names several folders of images, and '{0}/none' is not there"),
        ("{0}/a,{0}/list.txt", "'{0}/list.txt' is no folder"),
        ("{0}/a,{0}/a", "the folder {0}/a is given twice, or lies in {0}/a"),
        ("{0}/a,{0}", "the folder {0}/a is given twice, or lies in {0}"),
    ],
)
def test_bad_folders_and_lists_are_one_line(pictures, data, said):
    root = pictures("a/1.png")
    _bad(root)
    for check in (check_source, open_images):  # before TensorFlow is started, too
        with pytest.raises(InputError) as caught:
            check(data.format(root))
        assert said.format(root) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_files_of_a_list_from_python(pictures):
    root = pictures("a/1.png")
    with pytest.raises(InputError, match="object:list lists 1 files that are not there, of 2"):
        open_images([root / "a/1.png", root / "a/2.png"])
