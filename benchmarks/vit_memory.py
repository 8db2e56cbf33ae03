"""Peak memory of one step of MoCo v3 with a ViT: as it is, by microbatches, recomputed.

    python benchmarks/vit_memory.py --batch-sizes 16 32 64 128 --microbatch 16 --json
    python benchmarks/vit_memory.py --encoder vit_tiny --batch-sizes 16 32 64

Each step is one of a fresh process, on a synthetic batch, and the peak is that of the process:
TensorFlow, the weights and the optimizer's state are in it. CPU seconds have the tracing in them.
Where a process is killed for want of memory its row says so.
"""

import argparse
import json
import os
import subprocess
import sys
import time

WAYS = ("plain", "recompute", "cache", "cache, recompute")


def main() -> None:
    options = _options()
    if options.worker:
        print(json.dumps(_measure(options, *json.loads(options.worker))))
        return
    rows = []
    for batch in options.batch_sizes:
        for way in options.ways:
            if not way.startswith("cache") or batch > options.microbatch:
                rows.append({"batch_size": batch, "way": way} | _fresh(batch, way))
                print(rows[-1], file=sys.stderr)
    print(json.dumps(rows) if options.json else _table(rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="vit_small")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--microbatch", type=int, default=16, help="images of one, in the cache")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _fresh(batch: int, way: str) -> dict:
    """What a process of its own measured, or how it ended."""
    command = [sys.executable, os.path.abspath(__file__), *sys.argv[1:]]
    command += ["--worker", json.dumps([batch, way])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return json.loads(done.stdout.splitlines()[-1]) if not done.returncode else {
        "exit_code": done.returncode
    }  # fmt: skip


def _measure(options: argparse.Namespace, batch: int, way: str) -> dict:
    from moco_tf.api.starting import start_tensorflow
    from moco_tf.commands.quiet import be_quiet

    be_quiet()
    start_tensorflow()
    from moco_tf.benchmark.rounds import step_rounds
    from moco_tf.config import make_config
    from moco_tf.recipes import RECIPES
    from moco_tf.training.memory import peak_memory_bytes

    changes = {name: getattr(options, name) for name in ("encoder", "image_size")}
    changes |= {"batch_size": batch, "augment_on": "host", "recompute": way.endswith("recompute")}
    if way.startswith("cache"):
        changes["accumulation_steps"] = batch // options.microbatch
    step_rounds(make_config(RECIPES["moco-v3-vit-s"].config, changes), steps=1)
    return {"peak_memory_bytes": peak_memory_bytes(), "cpu_seconds": time.process_time()}


def _table(rows: list[dict]) -> str:
    lines = ["| batch | way | peak memory, GB | CPU s |", "|---|---|---|---|"]
    for row in rows:
        cells = f"ended with exit code {row['exit_code']} |" if "exit_code" in row else (
            f"{row['peak_memory_bytes'] / 1e9:.2f} | {row['cpu_seconds']:.0f}"
        )  # fmt: skip
        lines.append(f"| {row['batch_size']} | {row['way']} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
