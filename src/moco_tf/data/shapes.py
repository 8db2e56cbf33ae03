"""Images drawn from a seed: the class is a shape; place, size, angle and colours say nothing.

Pixels of one class have little in common, so that nearest neighbours of raw pixels fail.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

CLASS_NAMES = ("disc", "square", "triangle", "star", "plus", "ring", "bar", "crescent")
PARAMETERS = 24
RADIUS = (0.5, 0.75)  # of half the side
TINT, WAVE = 5, 5  # amplitudes, grey levels
AT_ONCE = 16  # images: what is computed of them stays in the caches


def draw_shapes(seed, indices, size=32):
    """Returns uint8 images [n, size, size, 3] and int64 labels [n].

    Image i is a function of (seed, i); its class is i modulo the number of classes.

    Args:
        seed: int, at least 0.
        indices: int [n].
        size: side, pixels.
    """
    indices = np.asarray(indices)
    draws = np.stack(
        [
            np.random.Generator(np.random.Philox(key=[seed, int(i)])).random(PARAMETERS)
            for i in indices
        ]
    )
    labels = indices % len(CLASS_NAMES)
    parts = [slice(start, start + AT_ONCE) for start in range(0, len(indices), AT_ONCE)]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        images = list(threads.map(lambda part: _draw(draws[part], labels[part], size), parts))
    return np.concatenate(images), labels.astype(np.int64)


def _draw(u, labels, size):
    side = 3 * size  # three samples a pixel and axis
    grid = (np.arange(side) + 0.5) / side * 2 - 1
    mask = _masks(u, labels, grid)  # [n, side, side]
    covered = _summed(mask, size)[..., None]  # of nine samples, [n, size, size, 1]
    # The object differs from the background by 70 to 130 grey levels, in either direction.
    # Tints and waves stay within what colour jitter changes, so that they identify no image.
    sign = np.where(u[:, 4] < 0.5, -1, 1)
    middle = 128 + 25 * (2 * u[:, 5] - 1)
    gap = (35 + 30 * u[:, 6]) * sign
    ground, rows, columns = _texture(grid, u[:, 7:14], middle - gap)
    figure, rows_of_figure, columns_of_figure = _texture(grid, u[:, 14:21], middle + gap)
    # A wave is a product of rows and columns. Of the ground's whole one all sums are known.
    all_ground = rows.reshape(-1, size, 3, 2).sum(2) @ columns.reshape(-1, 2, size, 3).sum(3)
    change = np.concatenate([rows_of_figure, -rows], 2) @ np.concatenate(
        [columns_of_figure, columns], 1
    )
    waves = all_ground + _summed(change * mask, size)
    image = ((9 - covered) * ground + covered * figure + waves[..., None]) / 9
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _masks(u, labels, grid):
    """1.0 where a sample is of the object, [n, side, side]."""
    radius = RADIUS[0] + (RADIUS[1] - RADIUS[0]) * u[:, :1]
    reach = 1 - radius
    dx, dy = (grid - reach * (2 * u[:, place, None] - 1) for place in (1, 2))  # [n, side]
    angle = 2 * np.pi * u[:, 3:4]
    cos, sin, radius = np.cos(angle), np.sin(angle), radius[..., None]
    a = ((dx * cos)[:, None] + (dy * sin)[:, :, None]) / radius
    b = ((dy * cos)[:, :, None] - (dx * sin)[:, None]) / radius
    mask = np.empty(a.shape)
    for label, inside in enumerate(_INSIDE):
        rows = labels == label
        if rows.any():
            mask[rows] = inside(a[rows], b[rows])
    return mask


def _summed(samples, size):
    """The sums over the nine samples of each pixel: [n, side, side] -> [n, size, size]."""
    return samples.reshape(-1, size, 3, 3 * size).sum(2).reshape(-1, size, size, 3).sum(3)


def _texture(grid, u, level):
    """A tinted grey level [n, 1, 1, 3], and the wave on it as a product of rows and columns.

    Rows [n, side, 2] are of y, columns [n, 2, side] of x: sin(x + y) = sin y cos x + cos y sin x.
    """
    tint = TINT * (2 * u[:, :3] - 1)
    tint -= tint.mean(1, keepdims=True)
    frequency, angle, phase = 2 + 10 * u[:, 3:4], np.pi * u[:, 4:5], 2 * np.pi * u[:, 5:6]
    x, y = frequency * np.cos(angle) * grid, frequency * np.sin(angle) * grid + phase
    rows = WAVE * u[:, 6, None, None] * np.stack([np.sin(y), np.cos(y)], 2)
    return (level[:, None] + tint)[:, None, None], rows, np.stack([np.cos(x), np.sin(x)], 1)


def _polygon(a, b, corners):
    step = 2 * np.pi / corners
    turns = step * np.arange(corners)
    edges = [a * np.cos(t) + b * np.sin(t) for t in turns]
    return np.max(edges, axis=0) < np.cos(step / 2)


def _star(a, b):
    turn = np.abs((np.arctan2(b, a) / (2 * np.pi) * 5) % 1 - 0.5) * 2  # 1 at the tips
    return np.hypot(a, b) < 0.4 + 0.6 * turn


_INSIDE = (
    lambda a, b: np.hypot(a, b) < 0.85,
    lambda a, b: np.maximum(np.abs(a), np.abs(b)) < 0.75,
    lambda a, b: _polygon(a, b, 3),
    _star,
    lambda a, b: (np.minimum(np.abs(a), np.abs(b)) < 0.22) & (np.maximum(abs(a), abs(b)) < 0.95),
    lambda a, b: np.abs(np.hypot(a, b) - 0.75) < 0.2,
    lambda a, b: (np.abs(a) < 1) & (np.abs(b) < 0.25),
    lambda a, b: (np.hypot(a, b) < 0.95) & (np.hypot(a - 0.5, b) > 0.75),
)
