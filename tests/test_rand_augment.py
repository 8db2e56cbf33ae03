"""RandAugment's operations against Pillow's, with the levels of timm's "increasing" policy."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from moco_tf.data.augment import rand_augment as ra

SIDE = 24


def picture(seed=0):
    """Smooth colours, noise and a flat part, of a narrow range of values."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    smooth = np.stack([80 + 100 * x, 60 + 120 * y, 90 + 80 * (x + y) / 2], axis=-1)
    image = (smooth + generator.normal(0, 20, smooth.shape)).clip(5, 240).astype(np.uint8)
    image[:5, :7] = (30, 90, 200)
    return image


def with_pillow(name, image, level, sign):
    """The naive twin: level from 0 to 10, as timm counts."""
    image, part = Image.fromarray(image), level / 10
    moved = {
        "shear_x": (1, sign * part * 0.3, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, sign * part * 0.3, 1, 0),
        "translate_x": (1, 0, sign * part * 0.45 * SIDE, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, sign * part * 0.45 * SIDE),
    }
    how = {"resample": Image.Resampling.BICUBIC, "fillcolor": ra.FILL}
    if name in moved:
        return image.transform(image.size, Image.Transform.AFFINE, moved[name], **how)
    factor = 1 + sign * part * 0.9
    return {
        "auto_contrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "invert": lambda: ImageOps.invert(image),
        "rotate": lambda: image.rotate(sign * part * 30, **how),
        "posterize": lambda: ImageOps.posterize(image, max(1, 4 - int(part * 4))),
        "solarize": lambda: ImageOps.solarize(image, 256 - int(part * 256)),
        "solarize_add": lambda: image.point(
            [min(255, v + int(part * 110)) if v < 128 else v for v in range(256)] * 3
        ),
        "color": lambda: ImageEnhance.Color(image).enhance(factor),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(factor),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(factor),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(factor),
    }[name]()


def ours(name, image, level, sign):
    numbers = (tf.constant(float(v), tf.float64) for v in (level / 10, sign))
    return ra.OPERATIONS[name](tf.constant(image), *numbers).numpy()


@pytest.mark.parametrize("name", ra.OPERATIONS)
def test_every_pixel_is_pillows(name):
    image = picture()
    for level in (0.7, 5.0, 9.3, 10.0):
        for sign in (1, -1):
            wanted = np.asarray(with_pillow(name, image, level, sign))
            np.testing.assert_array_equal(ours(name, image, level, sign), wanted, str(level))


@pytest.mark.parametrize("name", ["auto_contrast", "equalize"])
def test_channels_of_one_value_and_of_two_stay_whole_numbers(name):
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[..., 1], image[3:, :, 2] = 77, 255
    wanted = np.asarray(with_pillow(name, image, 9, 1))
    np.testing.assert_array_equal(ours(name, image, 9, 1), wanted)


def seeds(count):
    return tf.stack(
        [tf.fill([count], tf.constant(3, tf.int64)), tf.range(count, dtype=tf.int64)], 1
    )


@pytest.mark.slow
def test_the_drawn_operations_come_one_after_another():
    image = picture()
    augmented = tf.function(
        lambda: tf.map_fn(lambda s: ra.rand_augment(image, s, 9.0), seeds(12), tf.uint8)
    )
    found = augmented().numpy()
    for result, seed in zip(found, seeds(12), strict=True):
        which, levels, signs = (array.numpy() for array in ra.drawn(seed, 9.0))
        wanted = image
        for number, level, sign in zip(which, levels, signs, strict=True):
            if number < len(ra.OPERATIONS):
                name = list(ra.OPERATIONS)[number]
                wanted = np.asarray(with_pillow(name, wanted, 10 * level, sign))
        np.testing.assert_array_equal(result, wanted)


def test_half_the_time_one_of_all_operations_with_levels_around_the_magnitude():
    kinds = (tf.int32, tf.float64, tf.float64)
    draw = tf.function(
        lambda: tf.map_fn(lambda s: ra.drawn(s, 9.0), seeds(1500), fn_output_signature=kinds)
    )
    which, levels, signs = (array.numpy() for array in draw())
    count = np.bincount(which.ravel(), minlength=16)
    assert count[15] == pytest.approx(1500, abs=100)  # none of them
    assert count[:15].min() > 60 and count[:15].max() < 140  # 100 +- 10
    assert np.mean(signs) == pytest.approx(0, abs=0.06) and set(signs.ravel()) == {-1, 1}
    assert np.mean(levels) == pytest.approx(0.9, abs=0.005)
    assert np.std(levels) == pytest.approx(0.05, abs=0.005) and levels.max() <= 1
