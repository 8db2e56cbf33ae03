"""What a training step costs as devices, batch and queue grow: each setting in a fresh process.

    python benchmarks/scaling.py --json
    python benchmarks/scaling.py --width 64 --batch-sizes 16 64 --queue-sizes 4096 65536

ResNet-18 with the small stem on one synthetic batch in four BatchNorm groups, so that every number
of devices computes the same. Without GPUs the devices are virtual ones on the same cores: what is
measured then is what spreading costs, not what it gains. The settings follow one another.
"""

import argparse
import json
import os
import subprocess
import sys

GROUPS = 4  # of each batch, whatever its size: 1, 2 and 4 devices take them
IMAGES_A_ROUND = 512  # at least: a round of few steps would be mostly noise


def main() -> None:
    options = _options()
    if options.worker:
        print(json.dumps(_measure(options)))
        return
    grid = [
        {"devices": devices, "batch_size": batch, "queue_size": options.queue_size}
        for batch in options.batch_sizes
        for devices in options.devices
    ]
    queues = [
        {"devices": 1, "batch_size": options.queue_batch_size, "queue_size": size}
        for size in options.queue_sizes
    ]
    result = {
        "settings": {k: v for k, v in vars(options).items() if k not in ("worker", "json")},
        "devices_and_batch": [_fresh(options, setting) for setting in grid],
        "queue": [_fresh(options, setting) for setting in queues],
    }
    print(json.dumps(result) if options.json else _tables(result))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--queue-size", type=int, default=4096, help="of the first table")
    parser.add_argument(
        "--queue-sizes", type=int, nargs="+", default=[4096, 65536, 262_144, 1_048_576]
    )
    parser.add_argument("--queue-batch-size", type=int, default=64, help="of the second table")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _fresh(options: argparse.Namespace, setting: dict) -> dict:
    """The setting with what a process of its own measured, or with how that process ended."""
    command = [sys.executable, os.path.abspath(__file__), "--worker", json.dumps(setting)]
    for name in ("width", "image_size", "rounds"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    print(f"{setting}: exit code {done.returncode}", file=sys.stderr)
    if done.returncode:
        return setting | {"exit_code": done.returncode}
    return setting | json.loads(done.stdout.splitlines()[-1])


def _measure(options: argparse.Namespace) -> dict:
    from moco_tf.api.starting import start_tensorflow
    from moco_tf.commands.quiet import be_quiet

    be_quiet()
    start_tensorflow()
    from moco_tf.benchmark.rounds import step_rounds, summarize
    from moco_tf.config import make_config
    from moco_tf.recipes import RECIPES
    from moco_tf.runs.folder import versions

    setting = json.loads(options.worker)
    batch = setting["batch_size"]
    fields = {"width": options.width, "image_size": options.image_size}
    fields |= setting | {"group_size": batch // GROUPS}
    config = make_config(RECIPES["shapes"].config, fields)
    one_round, first = step_rounds(config, steps=max(2, IMAGES_A_ROUND // batch))
    one_round()
    measured = summarize([one_round() for _ in range(options.rounds)])
    del measured["data_wait"]
    return measured | {"first_step_seconds": first, "versions": versions()}


def _tables(result: dict) -> str:
    grid, queues = result["devices_and_batch"], result["queue"]
    n = result["settings"]["rounds"]
    lines = [f"Medians of n = {n} rounds.", ""]
    lines += _table(grid, {"devices": "devices", "batch_size": "batch"})
    lines += ["", f"Batch {result['settings']['queue_batch_size']} on one device.", ""]
    lines += _table(queues, {"queue_size": "K"})
    return "\n".join(lines)


def _table(rows: list[dict], named: dict[str, str]) -> list[str]:
    heads = [*named.values(), "images/s", "CPU ms an image", "peak memory, GB", "first step, s"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = [f"{row[name]:,}" for name in named]
        if "exit_code" in row:
            cells += [f"ended with exit code {row['exit_code']}", "", "", ""]
        else:
            cells += [
                f"{row['images_per_second']:.0f}",
                f"{1000 * row['cpu_seconds_per_image']:.2f}",
                f"{row['peak_memory_bytes'] / 1e9:.2f}",
                f"{row['first_step_seconds']:.1f}",
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    main()
