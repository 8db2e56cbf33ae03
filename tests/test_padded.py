"""Canvases: their shape in small cases, and what lies where."""

import numpy as np
import pytest
import tensorflow as tf

from moco_tf.data.augment.crop import resize_with_pillow
from moco_tf.data.augment.padded import pad_image, padded_shape

FILTERS = ["bilinear", "bicubic"]


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ([(10, 20), (12, 9)], (12, 20)),
        ([(3, 5)], (3, 5)),
        ([(10, 12), (10, 21)], (10, 16)),  # a large one: room for two crops of 8
        ([(3, 5), (30, 5)], (8, 16)),
        ([(10, 12), (10, 21), (21, 10)], None),  # too many
        (None, None),
    ],
)
def test_the_canvas_holds_all_but_few(sizes, shape):
    assert padded_shape(sizes and np.array(sizes), 8) == shape


def test_an_image_lies_in_the_corner_and_a_large_ones_crops_side_by_side():
    image = np.random.default_rng(0).integers(0, 256, (10, 20, 3), np.uint8)
    windows = np.array([[0, 1, 8, 9], [2, 3, 5, 16]], np.int32)
    canvas, placed = pad_image(tf.constant(image), tf.constant(windows), (11, 24), 8, FILTERS)
    np.testing.assert_array_equal(canvas[:10, :20], image)
    assert not canvas[10:].numpy().any() and not canvas[:, 20:].numpy().any()
    np.testing.assert_array_equal(placed, windows)
    canvas, placed = pad_image(tf.constant(image), tf.constant(windows), (9, 16), 8, FILTERS)
    first, second = resize_with_pillow(image, windows, 8, FILTERS)
    np.testing.assert_array_equal(canvas[:8], np.concatenate([first, second], axis=1))
    assert placed.numpy().tolist() == [[0, 0, 8, 8], [0, 8, 8, 8]]
