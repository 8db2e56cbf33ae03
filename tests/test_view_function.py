"""A user's function makes the views: by seeds of its own, refused if it will not do, resumed."""

import json

import numpy as np
import pytest
import tensorflow as tf
from support.quick_runs import put_in_place
from support.runs import config

from moco_tf.building import build_batches
from moco_tf.commands.cli import main
from moco_tf.data.order import epoch_order
from moco_tf.data.sources import from_arrays
from moco_tf.data.view_function import checked_function
from moco_tf.errors import InputError
from moco_tf.names.data import qualified_name
from moco_tf.pretraining import pretrain

SIDE = 16


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return from_arrays("test", rng.integers(0, 256, (32, 20, 18, 3), dtype=np.uint8))


def cut(image, seed):
    """A random part of the size of a view, flipped or not."""
    part = tf.image.stateless_random_crop(image, [SIDE, SIDE, 3], seed)
    return tf.image.stateless_random_flip_left_right(part, seed)


def darker(image, seed):
    return cut(image, seed) // 2


def test_each_view_is_what_the_function_makes_of_its_image_and_seed(images):
    settings = config("shapes", "run", seed=5)
    function = checked_function(cut, images, SIDE)
    batches = build_batches(settings, images, 1, augment=function)
    order, seen = epoch_order(5, 0, 32), set()
    for number, view in enumerate(next(batches)):
        assert view.dtype == tf.uint8 and view.shape == (16, SIDE, SIDE, 3)
        for row, made in enumerate(view):
            position = 16 + row  # in the second batch of the run
            seed = tf.constant([5, 2 * position + number], tf.int64)
            np.testing.assert_array_equal(made, cut(images.pixels[order[position]], seed))
            seen.add(made.numpy().tobytes())
    assert len(seen) > 24  # of 30 that a picture has


def broken(image, seed):
    raise RuntimeError("no such\nlayer")


def with_global_seed(image, seed):
    """Draws that a global seed makes repeat, though they depend on the calls before."""
    return tf.image.random_crop(image, [SIDE, SIDE, 3], seed=3)


BAD = {
    "float32": (
        lambda image, seed: tf.cast(cut(image, seed), tf.float32),
        r"received float32 \[16",
    ),
    "shape": (lambda image, seed: image, r"must return uint8 \[16, 16, 3\] \(image_size=16\); rec"),
    "no tensor": (lambda image, seed: (image, seed), "received tuple"),
    "stateful": (
        lambda image, seed: tf.image.random_crop(image, [SIDE, SIDE, 3]),
        "gave two views for one image and seed",
    ),
    "python's": (
        lambda image, seed: (
            cut(image, seed) + np.random.default_rng().integers(0, 2, (SIDE, SIDE, 3), np.uint8)
        ),
        "gave two views for one image and seed",
    ),
    "stateful, its seed set": (
        with_global_seed,
        "gave two views for one image and seed",
    ),
    "error": (
        broken,
        r"broken failed on an image uint8 \[20, 18, 3\]: RuntimeError: no such layer",
    ),
    "zero": (lambda image, seed: image // (1 // 0), r"3\]: ZeroDivisionError: integer division"),
    "arguments": (
        lambda image: image,
        r"3\]: TypeError: .*takes 1 positional argument but 2 were given",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_function_that_will_not_do_is_refused_in_one_line(images, name):
    tf.random.set_seed(1)  # then operations draw the same numbers in every graph
    function, message = BAD[name]
    with pytest.raises(InputError, match=message) as caught:
        checked_function(function, images, SIDE)
    assert str(caught.value).startswith(f"augment={qualified_name(function)}")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_run_in_pieces_ends_alike_and_knows_its_function(data, tmp_path, monkeypatch, capsys):
    put_in_place(monkeypatch)
    whole = pretrain(config(data, tmp_path / "whole"), augment=cut)
    run = tmp_path / "run"
    for stop in (1, 4):
        pretrain(config(data, run, max_steps=stop), augment=cut)
    name = f"{__name__}.cut"
    assert json.loads((run / "config.json").read_text())["augment_function"] == name
    with pytest.raises(InputError, match=f"augment_function={name}: .*, with augment={name}"):
        pretrain(config(data, run))
    with pytest.raises(InputError, match=rf"augment_function \({name} there, .*darker now\)"):
        pretrain(config(data, run), augment=darker)
    assert main(["pretrain", "--run-dir", str(run)]) == 2
    assert f"augment_function={name}: a function of Python's" in capsys.readouterr().err
    resumed = pretrain(config(data, run), augment=cut)
    assert resumed["step"] == 9 and resumed["state_sha256"] == whole["state_sha256"]
    other = pretrain(config(data, tmp_path / "darker"), augment=darker)
    assert other["state_sha256"] != whole["state_sha256"]


def test_a_run_without_a_function_goes_on_without(data, tmp_path, monkeypatch):
    put_in_place(monkeypatch)
    pretrain(config(data, tmp_path / "run", max_steps=1))
    with pytest.raises(InputError, match=r"augment_function \(None there, .*cut now\)"):
        pretrain(config(data, tmp_path / "run"), augment=cut)
    on = config(data, tmp_path / "device", augment_on="device")
    with pytest.raises(InputError, match="augment_on must be host or auto with augment"):
        pretrain(on, augment=cut)
    assert not (tmp_path / "device").exists()


def fussy(image, seed):
    with tf.control_dependencies([tf.debugging.assert_less(seed[1], tf.constant(80, tf.int64))]):
        return cut(image, seed)


def test_a_function_that_fails_later_is_named_and_nothing_is_lost(data, tmp_path, monkeypatch):
    put_in_place(monkeypatch)
    with pytest.raises(InputError, match=r"after step 2, which is saved\. .*fussy made its views"):
        pretrain(config(data, tmp_path / "run"), augment=fussy)
