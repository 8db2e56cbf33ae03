"""A pre-training run killed at random moments (SIGKILL) ends as one that nobody touched.

    python benchmarks/kills.py --json
    python benchmarks/kills.py --kills 5 --workers 2

One run is left alone. Another with the same flags is killed again and again and started with the
same command each time. Of five kills one comes while the process starts, two at any moment of a
second after a checkpoint that was drawn, and two after such a checkpoint within the time of a save
from the moment on that the temporary file of the next one is seen. A kill counts as one during a
save if it leaves such a file behind. In the end the digests of both states (`state_sha256`) and the
losses of all steps in metrics.jsonl have to be the same.

With several workers every process gets the same flags and its own --worker-index; each time one of
them, drawn at random, is killed. Those that do not end by themselves within --grace seconds are
killed as well.
"""

import argparse
import atexit
import contextlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tiny_run

KINDS = ("any moment", "a save", "any moment", "a save", "the start")  # in turns
SAVE_SECONDS = 0.06  # until a temporary file is renamed


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        result = measure(Path(name), options)
    print(json.dumps(result) if options.json else _table(result))
    return 0 if result["equal"] else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, help="none: 30 a kill")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--grace", type=float, default=60, help="seconds, see above")
    parser.add_argument("--seed", type=int, help="of the moments; none: another each time")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(folder: Path, options: argparse.Namespace) -> dict:
    """Both runs, one after the other; returns what is printed."""
    draw, began = random.Random(options.seed), time.monotonic()
    epochs = -(-(options.steps or 30 * options.kills) // tiny_run.EPOCH_STEPS)
    data = tiny_run.write_images(folder / "images")
    flags = tiny_run.FLAGS | {"epochs": epochs, "data": data}
    alone, run_dir, said = folder / "alone", folder / "killed", folder / "said.txt"

    def start(run_dir: Path) -> list[subprocess.Popen]:
        processes = tiny_run.start(flags | {"run_dir": run_dir}, said, options.workers)
        for process in processes:
            atexit.register(process.kill)  # does nothing to one that has ended
        return processes

    processes = start(alone)
    tiny_run.wait_for_step(processes, alone, 1)
    until_saved = time.monotonic() - began
    tiny_run.wait_for_end(processes, said)
    alone_seconds = time.monotonic() - began
    steps, kills = epochs * tiny_run.EPOCH_STEPS, []
    for number, target in enumerate(sorted(draw.sample(range(1, steps * 4 // 5), options.kills))):
        older = _half_saves(run_dir)  # left by the kill before
        processes, kind = start(run_dir), KINDS[number % len(KINDS)]
        if kind == "the start":
            time.sleep(draw.uniform(0, until_saved))
        else:
            tiny_run.wait_until(
                processes, lambda step=target: tiny_run.newest_step(run_dir) >= step
            )
            if kind == "a save":
                tiny_run.wait_until(processes, lambda older=older: _half_saves(run_dir) - older)
            time.sleep(draw.uniform(0, 1.0 if kind == "any moment" else SAVE_SECONDS))
        codes, killed = _kill_one(processes, draw, options.grace)
        step = tiny_run.newest_step(run_dir)
        kills.append(
            {
                "aimed_at": kind,
                "killed": killed,
                "codes": codes,
                "step": step,
                "steps_lost": max(_logged_step(run_dir) - step, 0),
                "saving": bool(_half_saves(run_dir) - older),
            }
        )
    tiny_run.wait_for_end(start(run_dir), said)
    same_state = tiny_run.digest(alone) == tiny_run.digest(run_dir)
    same_losses = tiny_run.losses(alone) == tiny_run.losses(run_dir)
    return {
        "workers": options.workers,
        "steps": steps,
        "kills": sum(kill["killed"] for kill in kills),
        "while_saving": sum(kill["saving"] for kill in kills),
        "while_starting": sum(kill["aimed_at"] == "the start" for kill in kills),
        "restarts": len(kills),
        "steps_lost_median": statistics.median(kill["steps_lost"] for kill in kills),
        "seconds": time.monotonic() - began,
        "seconds_alone": alone_seconds,
        "equal_state": same_state,
        "equal_losses": same_losses,
        "equal": same_state and same_losses and all(kill["killed"] for kill in kills),
        "each": kills,
    }


def _kill_one(processes, draw: random.Random, grace: float) -> tuple[list[int], bool]:
    """Kills one process, and after a while those that are left.

    Returns the exit codes of all, and whether the one was still there to be killed.
    """
    victim, deadline = draw.choice(processes), time.monotonic() + grace
    victim.kill()
    for process in (victim, *processes):
        try:
            process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return [process.returncode for process in processes], victim.returncode == -9


def _half_saves(run_dir: Path) -> set[tuple[str, int]]:
    """(name, file number) of each temporary file of a checkpoint."""
    found = set()
    for path in run_dir.glob("checkpoints/.*.tmp"):
        with contextlib.suppress(FileNotFoundError):  # renamed in the meantime
            found.add((path.name, path.stat().st_ino))
    return found


def _logged_step(run_dir: Path) -> int:
    path = run_dir / "metrics.jsonl"
    return path.read_text().count('"loss"') if path.exists() else 0


def _table(result: dict) -> str:
    lines = ["| kill | aimed at | exit codes | checkpoint | steps lost | half a save left |"]
    lines.append("|---|---|---|---|---|---|")
    for number, kill in enumerate(result["each"], 1):
        lines.append(
            f"| {number} | {kill['aimed_at']} | {', '.join(map(str, kill['codes']))} | "
            f"{kill['step']} | {kill['steps_lost']} | {'yes' if kill['saving'] else 'no'} |"
        )
    lines.append(
        f"\n{result['kills']} kills, {result['while_saving']} of them during a save; "
        f"{result['restarts']} restarts; {result['seconds']:.0f} s, of which "
        f"{result['seconds_alone']:.0f} s for the run left alone ({result['steps']} steps); "
        f"state equal: {result['equal_state']}, losses equal: {result['equal_losses']}."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
