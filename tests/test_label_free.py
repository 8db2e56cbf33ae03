"""The label-free signals against closed forms, and on views that are the same at each pass."""

import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from moco_tf.config import make_config
from moco_tf.data.file_set import file_set
from moco_tf.data.image_folder import open_files
from moco_tf.data.sources import from_arrays
from moco_tf.errors import DivergedError, InputError
from moco_tf.evaluate.label_free import (
    SIGNALS,
    alignment,
    effective_rank,
    held_out,
    label_free_signals,
    uniformity,
    view_retrieval,
)
from moco_tf.evaluate.monitor import build_views
from moco_tf.recipes import RECIPES

EYE = np.eye(8, dtype=np.float32)
EQUAL = np.tile(EYE[:1], (8, 1))


def test_views_are_found_where_they_are_nearest_to_each_other():
    assert view_retrieval(EYE, EYE) == 100
    assert view_retrieval(EYE, np.roll(EYE, 1, axis=0)) == 0
    assert view_retrieval(EYE, EYE[[1, 0, *range(2, 8)]]) == 75
    assert view_retrieval(EQUAL, EQUAL) == 100 / 8  # by chance


def test_only_what_is_mutual_counts():
    """View 2 of the second picture is nearest to the first one's view 1, and not the other way."""
    view1 = np.array([[1, 0], [0, 1]], np.float32)
    view2 = np.array([[1, 0], [0.8, 0.6]], np.float32)
    assert view_retrieval(view1, view2) == 50


def test_alignment_is_the_mean_squared_distance():
    assert alignment(EYE, EYE) == 0
    assert alignment(EYE, -EYE) == 4
    assert alignment(EYE, np.roll(EYE, 1, axis=0)) == 2
    angles = np.array([0.0, 0.3, 1.0])
    turned = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert alignment(np.tile([1.0, 0.0], (3, 1)), turned) == pytest.approx(
        np.mean(2 - 2 * np.cos(angles))
    )


def test_uniformity_is_of_all_pairs():
    assert uniformity(EQUAL) == pytest.approx(0)
    assert uniformity(EYE) == pytest.approx(-4)  # every pair at a squared distance of 2
    assert uniformity(np.array([[1.0, 0], [-1, 0]])) == pytest.approx(-8)
    three = np.array([[1.0, 0], [1, 0], [0, 1]])  # distances 0, 2 and 2
    assert uniformity(three) == pytest.approx(math.log((1 + 2 * math.exp(-4)) / 3))


@pytest.mark.parametrize("shape", [(8, 8), (100, 8), (8, 100)])
def test_the_effective_rank_of_equal_singular_values_is_their_number(shape):
    orthogonal = np.linalg.qr(np.random.default_rng(0).standard_normal((100, 8)))[0]
    rows = EYE if shape == (8, 8) else orthogonal if shape == (100, 8) else orthogonal.T
    assert effective_rank(3 * rows) == pytest.approx(8, rel=1e-4)


def test_the_effective_rank_weighs_the_singular_values():
    assert effective_rank(EQUAL) == pytest.approx(1, rel=1e-4)
    assert effective_rank(np.zeros((8, 4))) == pytest.approx(1, rel=1e-4)
    values = np.array([4.0, 2.0, 1.0, 1.0])
    shares = values / 8
    expected = math.exp(-sum(p * math.log(p) for p in shares))  # 2 ** 1.75
    assert expected == pytest.approx(2**1.75)
    assert effective_rank(np.diag(values)) == pytest.approx(expected, rel=1e-4)
    wide = np.random.default_rng(1).standard_normal((30, 50))
    singular = np.linalg.svd(wide, compute_uv=False)
    shares = singular / singular.sum()
    assert effective_rank(wide) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-4)


@tf.function(autograph=False)
def colours(images):
    return tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2])


def test_the_signals_are_of_unit_features_of_all_batches():
    draw = np.random.default_rng(0)
    view1, view2 = (draw.integers(1, 255, (10, 4, 4, 3)).astype(np.uint8) for _ in range(2))
    found = label_free_signals(colours, [(view1[:6], view2[:6]), (view1[6:], view2[6:])])
    assert tuple(found) == SIGNALS
    features = [view.mean(axis=(1, 2), dtype=np.float32) for view in (view1, view2)]
    units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in features]
    assert found == pytest.approx(
        {
            "view_retrieval": view_retrieval(*units),
            "alignment": alignment(*units),
            "uniformity": (uniformity(units[0]) + uniformity(units[1])) / 2,
            "effective_rank": effective_rank(features[0]),
        },
        rel=1e-4,
    )


def test_features_that_are_no_numbers_are_refused():
    views = np.zeros((4, 2, 2, 3), np.uint8)
    broken = tf.function(lambda images: colours(images) / 0.0)
    with pytest.raises(DivergedError, match="must be finite"):
        label_free_signals(broken, [(views, views)])


def test_the_views_are_the_same_at_each_pass_and_of_each_picture_once():
    pixels = np.arange(12, dtype=np.uint8)[:, None, None, None] * np.full((1, 16, 16, 3), 20)
    images = from_arrays("grays", pixels.astype(np.uint8))
    changes = {"image_size": 8, "augmentation": "v1", "batch_size": 4, "group_size": 4}
    config = make_config(RECIPES["shapes"].config, changes)
    views = build_views(config, images, None)
    (first,), (again,) = ([tuple(v.numpy() for v in pair) for pair in views()] for _ in range(2))
    assert [view.shape for view in first] == [(12, 8, 8, 3)] * 2
    np.testing.assert_array_equal(first, again)
    assert (first[0] != first[1]).any()
    (few,) = build_views(config, images, None, pictures=5)()
    assert few[0].shape == (5, 8, 8, 3)


def test_the_images_are_held_out_where_some_are():
    train, test = (from_arrays(name, np.zeros((2, 8, 8, 3), np.uint8)) for name in ("a", "b"))
    assert held_out(train, test) is test
    assert held_out(train, None) is train
    assert held_out(train, test.subset(np.array([0]))) is train


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    for n in range(4):
        Image.fromarray(np.full((16, 16, 3), n, np.uint8)).save(tmp_path / f"{n}.png")
    images, _ = open_files(file_set([tmp_path]), 0.0)
    (tmp_path / "2.png").write_bytes(b"no picture")
    config = make_config(
        RECIPES["shapes"].config, {"image_size": 8, "batch_size": 4, "group_size": 4}
    )
    with pytest.raises(InputError, match=r"2\.png could not be read"):
        list(build_views(config, images, None)())
