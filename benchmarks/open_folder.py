"""Opening a folder of images for training, beside a plain listing as torchvision's ImageFolder.

    python benchmarks/open_folder.py --data FOLDER [--rounds 3] [--processes 2] [--json]
    python benchmarks/open_folder.py --data FOLDER --first-batch 64 [--rounds 3] [--json]

Ours lists the folder, numbers its classes and decodes a sample; the peer makes a list of (path,
class). Each runs in a process of its own, or in several at once, which opens the folder several
times. Memory is what opening takes beyond the imports, at its peak.

With --first-batch B it is our seconds from the imports until the first batch of moco-v2 is there
(B images of 224 pixels, twice), each time in a process of its own.
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
    before, seconds, cpu = peak_memory_bytes(), [], []
    for _ in range(rounds):
        start, of_processor = time.perf_counter(), time.process_time()
        images = function(root)
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - of_processor)
    peak = peak_memory_bytes() - before
    return {"images": images, "seconds": seconds, "cpu": cpu, "imports": before, "peak": peak}


def first_batch(root, size):
    """Seconds of the clock and of the processor from the imports to two moments."""
    import moco_tf.pretraining  # noqa: F401
    from moco_tf.building import build_batches, build_images
    from moco_tf.recipes import RECIPES

    start, of_processor = time.perf_counter(), time.process_time()

    def since():
        return time.perf_counter() - start, time.process_time() - of_processor

    config = RECIPES["moco-v2"].config.model_copy(update={"data": root, "batch_size": size})
    train, _ = build_images(config)
    opened = since()
    batches = build_batches(config, train, 0)
    next(batches)
    ready = since()
    batches.close()
    names = ("opened_s", "opened_cpu_s", "first_batch_s", "first_batch_cpu_s")
    return {"images": train.count} | dict(zip(names, opened + ready, strict=True))


def in_processes(command, count):
    """What the command prints, run in some processes at once."""
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    printed = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit(1)
    return [json.loads(text.splitlines()[-1]) for text in printed]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1, help="that open it at once")
    parser.add_argument("--first-batch", type=int, metavar="B")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=("ours", "peer", "batch"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side == "batch":
        print(json.dumps(first_batch(arguments.data, arguments.first_batch)))
    elif arguments.side:
        print(json.dumps(measure(arguments.side, arguments.data, arguments.rounds)))
    else:
        result = (batches if arguments.first_batch else openings)(arguments)
        lines = "\n".join(f"{name}: {value}" for name, value in result.items())
        print(json.dumps(result) if arguments.json else lines)


def batches(arguments):
    """Medians of the rounds."""
    command = [sys.executable, *sys.argv, "--side", "batch"]
    rounds = [in_processes(command, 1)[0] for _ in range(arguments.rounds)]
    medians = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    slowest = max(one["first_batch_s"] for one in rounds)
    return {"n": len(rounds)} | medians | {"slowest_first_batch_s": slowest}


def openings(arguments):
    """Both sides; of several processes the slowest and the largest."""
    command = [sys.executable, *sys.argv, "--side"]
    sides = {}
    for side in ("ours", "peer"):
        found = in_processes([*command, side], arguments.processes)
        sides[side] = {"images": found[0]["images"]} | {
            name: max(one[name] for one in found) for name in ("imports", "peak")
        }
        for name in ("seconds", "cpu"):
            sides[side][name] = [max(each) for each in zip(*(f[name] for f in found), strict=True)]
    ours, peer = sides["ours"], sides["peer"]
    ratios = [a / b for a, b in zip(ours["seconds"], peer["seconds"], strict=True)]
    return {
        "images": ours["images"],
        "peer_images": peer["images"],
        "ours_s": statistics.median(ours["seconds"]),
        "ours_first_s": ours["seconds"][0],
        "ours_second_s": ours["seconds"][min(1, arguments.rounds - 1)],
        "ours_cpu_s": statistics.median(ours["cpu"]),
        "peer_s": statistics.median(peer["seconds"]),
        "peer_cpu_s": statistics.median(peer["cpu"]),
        "ratio_median": statistics.median(ratios),
        "peak_memory_bytes": ours["peak"],
        "peer_peak_memory_bytes": peer["peak"],
        "imports_memory_bytes": ours["imports"],
    }


if __name__ == "__main__":
    main()
