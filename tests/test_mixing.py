"""Mixup and cutmix against closed forms: shares, boxes, labels."""

import numpy as np
import pytest
import tensorflow as tf

from moco_tf.evaluate.mixing import ALONE, draw_mix, mixed_images, mixed_labels

SIDE = 16


def drawn(count=600, **alphas):
    return np.stack([draw_mix(3, step, side=SIDE, **alphas) for step in range(count)])


def test_mixup_draws_a_beta_distribution_and_no_box():
    mixes = drawn(3000, mixup=0.8, cutmix=0.0)
    assert (mixes[:, 0] == mixes[:, 1]).all() and not mixes[:, 2:].any()
    assert mixes[:, 0].mean() == pytest.approx(0.5, abs=0.03)
    assert mixes[:, 0].var() == pytest.approx(0.25 / (2 * 0.8 + 1), abs=0.01)  # Beta(a, a)


def test_cutmix_cuts_a_square_whose_visible_part_is_the_partners_share():
    mixes = drawn(cutmix=1.0, mixup=0.0)
    heights, widths = mixes[:, 3] - mixes[:, 2], mixes[:, 5] - mixes[:, 4]
    assert (mixes[:, 0] == 1).all()
    np.testing.assert_allclose(mixes[:, 1], 1 - heights * widths / SIDE**2, rtol=1e-6)
    whole = (mixes[:, 2] > 0) & (mixes[:, 3] < SIDE) & (mixes[:, 4] > 0) & (mixes[:, 5] < SIDE)
    np.testing.assert_array_equal(heights[whole], widths[whole])
    assert mixes[:, 2:].min() == 0 and mixes[:, 2:].max() == SIDE and whole.sum() > 50


def test_of_both_kinds_each_comes_half_the_time_and_a_step_has_one():
    mixes = drawn(mixup=0.8, cutmix=1.0)
    cut = mixes[:, 0] == 1
    assert 250 < cut.sum() < 350
    np.testing.assert_array_equal(mixes[17], draw_mix(3, 17, side=SIDE, mixup=0.8, cutmix=1.0))
    assert (mixes[17] != draw_mix(4, 17, side=SIDE, mixup=0.8, cutmix=1.0)).any()
    np.testing.assert_array_equal(draw_mix(3, 5, side=SIDE, mixup=0, cutmix=0), ALONE)


@pytest.mark.parametrize("mix", [(0.3, 0.3, 0, 0, 0, 0), (1, 0.75, 2, 10, 4, 12)])
def test_pixels_are_a_blend_or_the_partners_box(mix):
    generator = np.random.default_rng(0)
    a, b = generator.integers(0, 256, (2, 5, SIDE, SIDE, 3)).astype(np.uint8)
    wanted = mix[0] * a.astype(np.float64) + (1 - mix[0]) * b
    wanted[:, mix[2] : mix[3], mix[4] : mix[5]] = b[:, mix[2] : mix[3], mix[4] : mix[5]]
    found = mixed_images(tf.constant(a), tf.constant(b), tf.constant(mix, tf.float32))
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_labels_are_shares_of_both_classes_and_a_little_of_all():
    mix = tf.constant((1, 0.75, 2, 10, 4, 12), tf.float32)
    found = mixed_labels(tf.constant([0, 2]), tf.constant([1, 2]), mix, 4, 0.1).numpy()
    # on = 1 - 0.1 + 0.1 / 4, off = 0.1 / 4
    wanted = [[0.75 * 0.925 + 0.25 * 0.025, 0.25 * 0.925 + 0.75 * 0.025, 0.025, 0.025]]
    wanted += [[0.025, 0.025, 0.925, 0.025]]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
