"""Random erasing: how often, how much, and what with."""

import numpy as np
import pytest
import tensorflow as tf

from moco_tf.data.augment.erasing import erase

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def erased(images, probability, side=32):
    image = tf.constant(np.full((side, side, 3), 7, np.uint8))
    seeds = tf.stack([tf.fill([images], np.int64(5)), tf.range(images, dtype=tf.int64)], axis=1)
    one = lambda seed: erase(image, seed, probability, MEAN, STD)  # noqa: E731
    return tf.function(lambda: tf.map_fn(one, seeds, tf.uint8))().numpy()


def test_a_share_of_the_images_has_one_rectangle_of_normal_noise():
    images = erased(400, 0.25)
    np.testing.assert_array_equal(images[1], erased(2, 0.25)[1])
    changed = [image for image in images if (image != 7).any()]
    assert 70 <= len(changed) <= 130  # 100 +- 8.7
    values, areas, aspects = [], [], []
    for image in changed:
        rows, columns = np.nonzero((image != 7).any(axis=-1))
        height, width = (int(np.ptp(places)) + 1 for places in (rows, columns))
        box = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert np.mean(box != 7) > 0.95  # a whole rectangle
        values.append(box.reshape(-1, 3))
        areas.append(height * width / 32**2)
        aspects.append(width / height)
    assert min(areas) > 0.01 and max(areas) < 0.37
    assert np.mean(areas) == pytest.approx((0.02 + 1 / 3) / 2, abs=0.03)
    assert np.mean(np.log(aspects)) == pytest.approx(0, abs=0.25)
    normal = (np.concatenate(values) / 255 - MEAN) / STD
    np.testing.assert_allclose(np.median(normal, axis=0), 0, atol=0.03)  # clipping moves the mean
    inner = np.percentile(normal, [15.87, 84.13], axis=0)  # one standard deviation
    np.testing.assert_allclose(inner, [[-1] * 3, [1] * 3], atol=0.05)


def test_never_and_always():
    assert (erased(20, 0.0) == 7).all()
    assert all((image != 7).any() for image in erased(20, 1.0))
