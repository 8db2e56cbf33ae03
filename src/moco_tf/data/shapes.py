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
    y, x = np.meshgrid(grid, grid, indexing="ij")
    radius = RADIUS[0] + (RADIUS[1] - RADIUS[0]) * u[:, 0]
    reach = 1 - radius
    cx, cy = reach * (2 * u[:, 1] - 1), reach * (2 * u[:, 2] - 1)
    angle = 2 * np.pi * u[:, 3]

    def per_image(v):
        return v[:, None, None]

    dx, dy = x - per_image(cx), y - per_image(cy)
    cos, sin = per_image(np.cos(angle)), per_image(np.sin(angle))
    a = (dx * cos + dy * sin) / per_image(radius)
    b = (dy * cos - dx * sin) / per_image(radius)
    mask = np.empty(a.shape, np.float32)
    for label, inside in enumerate(_INSIDE):
        rows = labels == label
        mask[rows] = inside(a[rows], b[rows])
    mask = mask[..., None]
    # The object differs from the background by 70 to 130 grey levels, in either direction.
    # Tints and waves stay within what colour jitter changes, so that they identify no image.
    sign = np.where(u[:, 4] < 0.5, -1, 1)
    middle = 128 + 25 * (2 * u[:, 5] - 1)
    gap = (35 + 30 * u[:, 6]) * sign
    ground = _textured(x, y, u[:, 7:14], middle - gap)
    figure = _textured(x, y, u[:, 14:21], middle + gap)
    image = ground * (1 - mask) + figure * mask
    image = image.reshape(len(u), size, 3, size, 3, 3).mean((2, 4))
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _textured(x, y, u, level):
    """A tinted wave around a grey level: [n, side, side, 3]."""
    tint = TINT * (2 * u[:, :3] - 1)
    tint -= tint.mean(1, keepdims=True)
    frequency, angle, phase = 2 + 10 * u[:, 3], np.pi * u[:, 4], 2 * np.pi * u[:, 5]
    along = x * np.cos(angle)[:, None, None] + y * np.sin(angle)[:, None, None]
    wave = np.sin(frequency[:, None, None] * along + phase[:, None, None])
    color = (level[:, None] + tint)[:, None, None, :]
    return color + (WAVE * u[:, 6])[:, None, None, None] * wave[..., None]


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
