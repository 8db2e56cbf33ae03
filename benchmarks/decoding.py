"""Ways to decode a JPEG for two crops: CPU time an image, and whether the crops stay the same.

    python benchmarks/decoding.py --data FOLDER --json

One thread, moco-v2's own windows (two an image), each way in turns; what a way changes is the mean
and the largest difference of the two resized crops, 224 px, in grey levels.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"

import numpy as np
import tensorflow as tf

from moco_tf.augmentation import View
from moco_tf.data.augment.crop import TRIES, resize_with_pillow
from moco_tf.data.augment.views import CROP_DRAWS
from moco_tf.data.view_making import both_draws, window
from moco_tf.recipes import RECIPES

ACCURATE = "INTEGER_ACCURATE"
SIDE = 224


def whole(contents, windows, dct_method=ACCURATE):
    return [(tf.io.decode_jpeg(contents, channels=3, dct_method=dct_method), windows)]


def fast(contents, windows):
    return whole(contents, windows, "INTEGER_FAST")


def each_crop(contents, windows):
    return [_part(contents, one, one[None]) for one in windows]


def around_both(contents, windows):
    low, high = windows[:, :2].min(axis=0), (windows[:, :2] + windows[:, 2:]).max(axis=0)
    return [_part(contents, np.concatenate([low, high - low]), windows)]


def reduced(contents, windows):
    """At 1/2 or 1/4 in the DCT, where no crop has to be enlarged then."""
    ratio = next(r for r in (4, 2, 1) if windows[:, 2:].min() >= r * SIDE or r == 1)
    image = tf.io.decode_jpeg(contents, channels=3, ratio=ratio, dct_method=ACCURATE)
    low = windows[:, :2] // ratio
    high = np.minimum(-(-(windows[:, :2] + windows[:, 2:]) // ratio), image.shape[:2])
    return [(image, np.concatenate([low, high - low], axis=1))]


def _part(contents, part, windows):
    """The part of the image in the window `part`, and windows within it."""
    image = tf.image.decode_and_crop_jpeg(contents, part, channels=3, dct_method=ACCURATE)
    return image, windows - np.array([*part[:2], 0, 0], np.int32)


WAYS = {w.__name__: w for w in (whole, fast, each_crop, around_both, reduced)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of JPEGs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    view = RECIPES["moco-v2"].config.views[0]
    files = [path.read_bytes() for path in sorted(options.data.rglob("*.JPEG"))]
    images = [(contents, windows_of(contents, n, view)) for n, contents in enumerate(files)]
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(options.rounds):
        for name in list(WAYS) if number % 2 else list(reversed(WAYS)):
            started = time.process_time()
            for contents, windows in images:
                WAYS[name](contents, windows)
            times[name].append(1000 * (time.process_time() - started) / len(images))
    wanted = [crops(WAYS["whole"](*image)) for image in images]
    result = {"images": len(images), "n": options.rounds, "ways": {}}
    for name, way in WAYS.items():
        pairs = zip(images, wanted, strict=True)
        change = [np.abs(crops(way(*image)) - crop) for image, crop in pairs]
        result["ways"][name] = {
            "cpu_ms": statistics.median(times[name]),
            "of_whole": statistics.median(np.divide(times[name], times["whole"]).tolist()),
            "images_changed": sum(bool(one.any()) for one in change),
            "mean_change": float(np.mean([one.mean() for one in change])),
            "largest_change": float(max(one.max() for one in change)),
        }
    print(json.dumps(result) if options.json else json.dumps(result, indent=1))


def windows_of(contents: bytes, number: int, view: View) -> np.ndarray:
    """Both windows of the image, int32 [2, 4]: top, left, height, width."""
    height, width = tf.unstack(tf.image.extract_jpeg_shape(contents)[:2])
    tries = tf.reshape(both_draws(0, number)[:, :CROP_DRAWS], [2, TRIES, 4])
    return window(tries, height, width, view.crop).numpy()


def crops(parts) -> np.ndarray:
    """Both views' crops, resized: int [2, SIDE, SIDE, 3]."""
    made = [
        resize_with_pillow(image.numpy(), windows, SIDE, ["bilinear"] * len(windows))
        for image, windows in parts
    ]
    return np.concatenate(made).astype(int)


if __name__ == "__main__":
    main()
