"""Memory, open files and bytes written of one process that trains for long, as a curve over steps.

    python benchmarks/long_run.py
    python benchmarks/long_run.py --steps 20000 --json

A tiny run logs every 10 steps, saves at the end of each epoch (6 steps), and evaluates kNN every 40
epochs. Resident memory and open file handles are read from /proc at every 100th step; growth is
from step 200, when everything has been used once, to the end. Linux only.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tiny_run

EVERY = 100
SETTLED = 200


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        result = measure(Path(name), options.steps)
    print(json.dumps(result) if options.json else _table(result))
    return 0


def measure(folder: Path, steps: int) -> dict:
    """One run; returns what is printed."""
    data, run_dir = tiny_run.write_images(folder / "images"), folder / "run"
    flags = tiny_run.FLAGS | {"log_every": 10, "checkpoint_every": 1000, "knn_every": 40}
    flags |= {"epochs": -(-steps // tiny_run.EPOCH_STEPS), "max_steps": steps}
    (process,) = tiny_run.start(flags | {"data": data, "run_dir": run_dir}, folder / "said.txt")
    curve, began = [], time.monotonic()
    while process.poll() is None:
        step = _logged_step(run_dir)
        if step >= EVERY * (len(curve) + 1):
            curve.append({"step": step} | _now(process) | _written(run_dir))
        time.sleep(0.01)
    tiny_run.wait_for_end([process], folder / "said.txt")
    settled = [point for point in curve if point["step"] >= SETTLED]
    head, tail = settled[:3], settled[-3:]  # a sample may fall into a save, with its open file

    def growth(name):
        return min(point[name] for point in tail) - min(point[name] for point in head)

    return {
        "steps": steps,
        "seconds": time.monotonic() - began,
        "rss_growth": tail[-1]["rss_bytes"] / head[0]["rss_bytes"] - 1,
        "rss_bytes_per_step": _slope(settled),
        "open_files_growth": growth("open_files"),
        "threads_growth": growth("threads"),
        "metrics_bytes_per_step": tail[-1]["metrics_bytes"] / tail[-1]["step"],
        "tensorboard_bytes_per_step": tail[-1]["tensorboard_bytes"] / tail[-1]["step"],
        "curve": curve,
    }


def _now(process: subprocess.Popen) -> dict[str, int]:
    of = Path(f"/proc/{process.pid}")
    status = dict(line.split(":", 1) for line in (of / "status").read_text().splitlines())
    return {
        "rss_bytes": 1024 * int(status["VmRSS"].split()[0]),
        "threads": int(status["Threads"]),
        "open_files": len(list((of / "fd").iterdir())),
    }


def _written(run_dir: Path) -> dict[str, int]:
    curves = (run_dir / "tensorboard").iterdir()
    return {
        "metrics_bytes": (run_dir / "metrics.jsonl").stat().st_size,
        "tensorboard_bytes": sum(path.stat().st_size for path in curves),
    }


def _logged_step(run_dir: Path) -> int:
    path = run_dir / "metrics.jsonl"
    return 10 * path.read_bytes().count(b'"loss"') if path.exists() else 0


def _slope(points: list[dict]) -> float:
    steps = [point["step"] for point in points]
    return statistics.linear_regression(steps, [point["rss_bytes"] for point in points]).slope


def _table(result: dict) -> str:
    lines = ["| step | memory, MB | open files | threads |", "|---|---|---|---|"]
    for point in result["curve"]:
        lines.append(
            f"| {point['step']} | {point['rss_bytes'] / 1e6:.1f} | {point['open_files']} | "
            f"{point['threads']} |"
        )
    lines.append(
        f"\nFrom step {SETTLED} to {result['steps']}: memory {result['rss_growth']:+.2%} (slope "
        f"{result['rss_bytes_per_step']:.0f} bytes a step), open files "
        f"{result['open_files_growth']:+d}, threads {result['threads_growth']:+d}. Written a step: "
        f"metrics.jsonl {result['metrics_bytes_per_step']:.0f} bytes, tensorboard "
        f"{result['tensorboard_bytes_per_step']:.0f} bytes, logged every 10 steps. "
        f"{result['seconds']:.0f} s."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
