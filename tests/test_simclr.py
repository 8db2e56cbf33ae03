"""SimCLR's augmentations against a pixel-by-pixel twin in plain Python."""

import colorsys

import numpy as np
import pytest
import tensorflow as tf

from moco_tf.augmentation import Solarize, View
from moco_tf.augmentation.named import view_pair
from moco_tf.data.augment import simclr as module
from moco_tf.data.augment.simclr import sampled_gaussian_blur, simclr, simclr_window


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).random((12, 10, 3)).astype(np.float32)


def in_hsv(image, change):
    return np.array(
        [
            [colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*pixel))) for pixel in row]
            for row in image.astype(float)
        ]
    )


TWINS = (
    lambda x, f: x * f,
    lambda x, f: (x - x.mean((0, 1))) * f + x.mean((0, 1)),
    lambda x, f: in_hsv(x, lambda h, s, v: (h, min(s * f, 1.0), v)),
    lambda x, f: in_hsv(x, lambda h, s, v: ((h + f) % 1, s, v)),
)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
def test_jitter_matches_the_twin_in_any_order(image, order):
    factors = np.array([1.3, 0.6, 1.5, 0.15], np.float32)
    expected = image
    for operation in order:
        expected = np.clip(TWINS[operation](expected, factors[operation]), 0, 1)
    ours = module._jitter(tf.constant(image), tf.constant(factors), tf.constant(order))
    np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_blur_is_a_sampled_gaussian_of_a_twentieth_of_the_side():
    image = np.random.default_rng(1).random((64, 64, 3)).astype(np.float32)
    radius, sigma = 3, 1.3
    weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    expected = np.zeros_like(image)
    padded = np.pad(image, ((radius, radius), (radius, radius), (0, 0)))
    for i in range(7):
        for j in range(7):
            expected += weights[i] * weights[j] * padded[i : i + 64, j : j + 64]
    np.testing.assert_allclose(
        sampled_gaussian_blur(tf.constant(image), sigma), expected, atol=1e-6
    )


def draws(**chosen):
    """Draws with nothing applied, but for the named ones."""
    u = np.full(16, 0.99, np.float32)
    u[5:9] = np.arange(4) / 10
    for position, value in chosen.items():
        u[int(position[1:])] = value
    return tf.constant(u)


def named(strength):
    """SimCLR's value, of that strength of the jitter."""
    return view_pair("simclr", 0.08, strength)[0]


def test_each_draw_switches_its_operation():
    crop = np.random.default_rng(2).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    np.testing.assert_array_equal(simclr(crop, draws(), named(1.0)), crop)
    np.testing.assert_array_equal(simclr(crop, draws(u12=0.4), named(1.0)), crop[:, ::-1])
    gray = crop @ np.array([0.2989, 0.587, 0.114])
    np.testing.assert_allclose(simclr(crop, draws(u9=0.1), named(1.0))[..., 2], gray, atol=0.51)
    assert not np.array_equal(simclr(crop, draws(u10=0.4), named(1.0)), crop)
    # Jitter: all factors in the middle of their ranges change nothing but the last 8-bit level.
    middle = {f"u{i}": 0.5 for i in (1, 2, 3, 4)}
    same = simclr(crop, draws(u0=0.1, **middle), named(1.0))
    np.testing.assert_allclose(tf.cast(same, tf.int32), crop, atol=1)
    dark = simclr(crop, draws(u0=0.1, **middle | {"u1": 0.0}), named(0.5))  # brightness x 0.6
    np.testing.assert_allclose(dark, crop * 0.6, atol=1)


def test_a_description_solarizes_flips_and_turns_too():
    crop = np.random.default_rng(2).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    view = View(family="simclr", solarize=Solarize(), vertical_flip=1, quarter_turns=True)
    expected = np.rot90(np.where(crop < 128, crop, 255 - crop)[::-1])
    np.testing.assert_array_equal(simclr(crop, draws(u14=0.3), view), expected)


def test_crops_are_those_of_a_skewed_area():
    """Spec 3.6: mean area .388, and 23.5 % of the crops below .2, of a 500 x 375 image."""

    @tf.function(autograph=False)
    def windows(count):
        return tf.map_fn(
            lambda i: simclr_window(tf.stack([tf.constant(3), i]), 375, 500, named(1.0).crop),
            tf.range(count),
            fn_output_signature=tf.int32,
        )

    found = windows(4000).numpy()
    area = found[:, 2] * found[:, 3] / (375 * 500)
    assert area.mean() == pytest.approx(0.388, abs=0.012)
    assert (area < 0.2).mean() == pytest.approx(0.235, abs=0.03)
    assert ((found[:, 0] + found[:, 2] <= 375) & (found[:, 1] + found[:, 3] <= 500)).all()
