"""Our input path against the official one, MoCo v2, two views of every picture, in turns.

    python benchmarks/input_vs_official.py --data FOLDER --json
    python benchmarks/input_vs_official.py --data FOLDER --augment-on device --json

Needs torch. Both decode, augment and batch with all cores. Ours leaves normalisation to the device,
and with `--augment-on device` colour, blur and flip, as beside a GPU; `--normalized` makes it
normalise on the host as well. `ratio_median` is of images/s, ours / official;
`cpu_ratio_median` of CPU seconds an image over all threads and processes, official / ours, which a
busy machine disturbs less.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time

from alternate import measure, ratios, serve, speed, timed

SETTLE_SECONDS = 4  # until the other side has filled its buffers and rests
BUFFERED = 8  # batches that wait ready, at most, on either side: not part of a round


def main() -> None:
    options = _options()
    if options.worker:
        serve(*(_ours if options.worker == "ours" else _official)(options))
        return
    command = [sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--worker"]
    said = measure({side: [*command, side] for side in ("ours", "official")}, options.rounds)
    rounds = [said[side]["rounds"] for side in ("ours", "official")]
    result = {
        "settings": {k: v for k, v in vars(options).items() if k not in ("worker", "json")},
        **ratios(*rounds),
        "cpu_ratio_median": statistics.median(
            b["cpu_seconds"] / b["images"] / (a["cpu_seconds"] / a["images"])
            for a, b in zip(*rounds, strict=True)
        ),
        "ours": speed(said["ours"]),
        "peer": speed(said["official"]),
        "versions": {k: v for s in said.values() for k, v in s["ready"]["versions"].items()}
        | {"python": platform.python_version()},
    }
    if options.json:
        print(json.dumps(result))
        return
    for name in ("ours", "peer"):
        side = result[name]
        print(
            f"{name}: {side['images_per_second']:.1f} images/s, "
            f"{1000 * side['cpu_seconds_per_image']:.2f} ms of CPU an image"
        )
    print(
        f"images/s ours / official {result['ratio_median']:.2f}, CPU official / ours "
        f"{result['cpu_ratio_median']:.2f}, n = {result['n']}"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of pictures")
    parser.add_argument("--ours", help="what we read instead, such as a pack of the same folder")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument(
        "--augment-on",
        default="host",
        choices=["host", "device", "device_resize"],
        help="device: we decode, crop and resize, as the host does beside a GPU; device_resize: we "
        "decode only",
    )
    parser.add_argument("--normalized", action="store_true", help="we normalise on the host too")
    parser.add_argument("--steps", type=int, default=8, help="batches in a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--worker", choices=["ours", "official"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.normalized and options.augment_on != "host":
        parser.error("--normalized needs --augment-on host: the device finishes the views")
    return options


def _serve_batches(batches, options, versions):
    def work():
        for _ in range(options.steps):
            next(batches)
        return options.steps * options.batch_size

    def one_round():
        time.sleep(SETTLE_SECONDS)
        for _ in range(BUFFERED):
            next(batches)
        before = _cpu_of_children()  # a DataLoader's workers are processes of their own
        measured = timed(work)
        measured["cpu_seconds"] += _cpu_of_children() - before
        return measured

    work()
    return one_round, {"versions": versions}


def _cpu_of_children() -> float:
    """CPU seconds of the processes that this one has started and that still run."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0.0
    for child in _children():
        with open(f"/proc/{child}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / ticks
    return total


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]


def _ours(options):
    import tensorflow as tf

    from moco_tf.building import build_batches
    from moco_tf.config import make_config
    from moco_tf.data.pipeline import normalize
    from moco_tf.data.sources import open_images
    from moco_tf.recipes import RECIPES
    from moco_tf.runs.folder import versions

    changes = {
        "data": options.ours or options.data,
        "batch_size": options.batch_size,
        "group_size": options.batch_size,
        "image_size": options.image_size,
        "augment_on": options.augment_on,
    }
    config = make_config(RECIPES["moco-v2"].config, changes)
    images, _ = open_images(config.data, max_bad_images=0.01, seed=0, image_size=config.image_size)
    batches = build_batches(config, images, 0)
    if options.normalized:
        batches = (
            tuple(normalize(view, config.normalization, tf.float32) for view in pair)
            for pair in batches
        )
    return _serve_batches(batches, options, versions())


def _official(options):
    import PIL
    import torch
    from pillow_views import batches

    loader = batches(
        options.data,
        batch_size=options.batch_size,
        image_size=options.image_size,
        workers=options.workers,
    )
    versions = {"torch": torch.__version__, "pillow": PIL.__version__}
    return _serve_batches(loader, options, versions)


if __name__ == "__main__":
    main()
