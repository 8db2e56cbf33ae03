"""Sides of a comparison, each in a process of its own, measured in turns.

A worker prints one JSON line when it is warm, and one for each line "go" that it reads. This
imports neither TensorFlow nor PyTorch: no process should hold both, because where TensorFlow 2.21
is loaded `torch.optim` of PyTorch 2.14 ends it with SIGSEGV.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable


def serve(one_round: Callable[[], dict], ready: dict) -> None:
    """The worker's part: one round for each line that comes in."""
    print(json.dumps(ready), flush=True)
    for _ in sys.stdin:
        print(json.dumps(one_round()), flush=True)


def timed(work: Callable[[], int]) -> dict:
    """One round: runs `work`, which returns how many images it took; CPU seconds of all threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    images = work()
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    return {"images": images, "seconds": seconds, "cpu_seconds": cpu_seconds} | peak_memory()


def peak_memory() -> dict:
    """The largest resident memory that this process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak_memory_bytes": peak if sys.platform == "darwin" else peak * 1024}


def measure(
    commands: dict[str, list[str]], rounds: int, heard: Callable = lambda side, answer: None
) -> dict[str, dict]:
    """Returns of each side what it said when it was ready, and its rounds in order of time.

    Args:
        heard: called with a side's name and each of its answers as it comes.
    """
    workers, said = {}, {}
    try:
        for name, command in commands.items():  # one after the other: each warms up alone
            workers[name] = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
                env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            )
            said[name] = {"ready": _answer(workers[name], name), "rounds": []}
            heard(name, said[name]["ready"])
        for number in range(rounds):
            names = list(workers) if number % 2 == 0 else list(reversed(workers))
            for name in names:
                workers[name].stdin.write("go\n")
                said[name]["rounds"].append(_answer(workers[name], name))
                heard(name, said[name]["rounds"][-1])
    finally:
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()
    return said


def ratios(ours: list[dict], peer: list[dict]) -> dict:
    """Median of the ratios ours / peer of images/s, round by round, with its spread."""
    pairs = [
        a["images"] / a["seconds"] / (b["images"] / b["seconds"])
        for a, b in zip(ours, peer, strict=True)
    ]
    return {
        "ratio_median": statistics.median(pairs),
        "ratio_min": min(pairs),
        "ratio_max": max(pairs),
        "n": len(pairs),
    }


def speed(side: dict) -> dict:
    """Medians of one side."""
    rounds = side["rounds"]
    return {
        "images_per_second": statistics.median(r["images"] / r["seconds"] for r in rounds),
        "cpu_seconds_per_image": statistics.median(r["cpu_seconds"] / r["images"] for r in rounds),
        "peak_memory_bytes": rounds[-1]["peak_memory_bytes"],
        "n": len(rounds),
    } | side["ready"]


def _answer(worker: subprocess.Popen, name: str) -> dict:
    line = worker.stdout.readline()
    if not line:
        raise SystemExit(f"{name} ended early, exit code {worker.wait()}")
    return json.loads(line)
