"""The drawn shapes: pixels that recorded numbers rest on, and the mean of nine samples a pixel."""

import hashlib

import numpy as np
import pytest

from moco_tf.data import shapes
from moco_tf.data.shapes import CLASS_NAMES, PARAMETERS, TINT, WAVE, draw_shapes

# Of the first version, which computed all three colours of each sample.
RECORDED = {
    (0, 32, 1024): "d5e552347d0718b7",
    (2**31, 32, 1024): "f8add8d2148a4ce0",
    (3, 48, 64): "55fb85969024cfd2",
    (5, 224, 3): "3475150e8678c3c8",
}


@pytest.mark.parametrize(("seed", "size", "count"), RECORDED)
def test_pixels_are_what_they_have_always_been(seed, size, count):
    images, labels = draw_shapes(seed, np.arange(count), size)
    assert hashlib.sha256(images.tobytes()).hexdigest()[:16] == RECORDED[seed, size, count]
    np.testing.assert_array_equal(labels, np.arange(count) % len(CLASS_NAMES))


def sampled(u, label, size, row, column):
    """One pixel of an image by its definition: the mean of nine samples of one of two textures."""
    samples = []
    grid = (np.arange(3 * size) + 0.5) / (3 * size) * 2 - 1
    radius = 0.5 + 0.25 * u[0]
    centre = (1 - radius) * (2 * u[1:3] - 1)
    turn = 2 * np.pi * u[3]
    middle, gap = 128 + 25 * (2 * u[5] - 1), (35 + 30 * u[6]) * (-1 if u[4] < 0.5 else 1)
    for y in grid[3 * row : 3 * row + 3]:
        for x in grid[3 * column : 3 * column + 3]:
            dx, dy = x - centre[0], y - centre[1]
            a = (dx * np.cos(turn) + dy * np.sin(turn)) / radius
            b = (dy * np.cos(turn) - dx * np.sin(turn)) / radius
            inside = bool(shapes._INSIDE[label](np.array(a), np.array(b)))
            v, level = (u[14:21], middle + gap) if inside else (u[7:14], middle - gap)
            tint = TINT * (2 * v[:3] - 1)
            wave = np.sin(
                (2 + 10 * v[3]) * (x * np.cos(np.pi * v[4]) + y * np.sin(np.pi * v[4]))
                + 2 * np.pi * v[5]
            )
            samples.append(level + tint - tint.mean() + WAVE * v[6] * wave)
    return np.clip(np.round(np.mean(samples, axis=0)), 0, 255)


@pytest.mark.parametrize("label", range(len(CLASS_NAMES)))
def test_a_pixel_is_the_mean_of_nine_samples(label):
    size, seed, index = 8, 11, label + 8
    images, _ = draw_shapes(seed, [index], size)
    u = np.random.Generator(np.random.Philox(key=[seed, index])).random(PARAMETERS)
    expected = [[sampled(u, label, size, y, x) for x in range(size)] for y in range(size)]
    np.testing.assert_array_equal(images[0], expected)
