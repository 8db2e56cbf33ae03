"""Opening a folder of images for training, beside a plain listing as torchvision's ImageFolder.

    python benchmarks/open_folder.py --data FOLDER [--rounds 3] [--json]

Ours lists the folder, numbers its classes and decodes a sample; the peer makes a list of (path,
class). Each runs in a process of its own, which opens the folder several times. Memory is what
opening takes beyond the imports, at its peak.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def list_like_image_folder(root):
    """What torchvision.datasets.ImageFolder holds: (path, class number) of each image, sorted."""
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    samples = []
    for number, name in enumerate(classes):
        for base, _, files in sorted(os.walk(os.path.join(root, name), followlinks=True)):
            for file in sorted(files):
                if file.lower().endswith(SUFFIXES):
                    samples.append((os.path.join(base, file), number))
    return len(samples)


def open_as_we_do(root):
    """The number of images that `moco-tf pretrain --data` opens."""
    from moco_tf.data.sources import open_images

    return open_images(root, look="some")[0].count


def measure(side, root, rounds):
    """Opens the folder some times in this process."""
    from moco_tf.training.memory import peak_memory_bytes

    function = {"ours": open_as_we_do, "peer": list_like_image_folder}[side]
    if side == "ours":
        import moco_tf.data.sources  # noqa: F401
    before, seconds = peak_memory_bytes(), []
    for _ in range(rounds):
        start = time.perf_counter()
        images = function(root)
        seconds.append(time.perf_counter() - start)
    peak = peak_memory_bytes()
    return {"images": images, "seconds": seconds, "imports": before, "peak": peak - before}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=("ours", "peer"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measure(arguments.side, arguments.data, arguments.rounds)))
        return
    command = [sys.executable, *sys.argv, "--side"]
    ours, peer = (
        json.loads(subprocess.check_output([*command, side]).splitlines()[-1])
        for side in ("ours", "peer")
    )
    ratios = [a / b for a, b in zip(ours["seconds"], peer["seconds"], strict=True)]
    result = {
        "images": ours["images"],
        "peer_images": peer["images"],
        "ours_s": statistics.median(ours["seconds"]),
        "ours_first_s": ours["seconds"][0],
        "ours_second_s": ours["seconds"][min(1, arguments.rounds - 1)],
        "peer_s": statistics.median(peer["seconds"]),
        "ratio_median": statistics.median(ratios),
        "peak_memory_bytes": ours["peak"],
        "peer_peak_memory_bytes": peer["peak"],
        "imports_memory_bytes": ours["imports"],
    }
    print(
        json.dumps(result) if arguments.json else "\n".join(f"{k}: {v}" for k, v in result.items())
    )


if __name__ == "__main__":
    main()
