"""Training on a folder in which 2 % of the files are broken: what it promises, checked.

    python benchmarks/broken_folder.py --json

400 pictures in four classes, of which eight are broken: cut off, empty, or a page of HTML; a folder
called x.jpg lies beside them. Whole processes train two epochs, which have to agree:

    killed      SIGKILL inside each epoch, and started again: the state, losses and list of one left
                alone, bit for bit
    divided     in float64 two devices, and two processes, beside one: every number within 1e-9
    changed     one file is removed and one cut off while training: it goes on and names both
    refused     with 20 % broken: exit code 2 and one line before anything is written

In each the count and the names of unreadable images are those that were broken.
"""

import argparse
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import tiny_run
from PIL import Image

COUNT, CLASSES, STEPS = 400, 4, 25  # steps of an epoch: the batch is 16
HTML = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
EVERY, MANY = 50, 5  # one of so many is broken: 2 %, and 20 %
TOLERANCE = 1e-9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name))
    found["passed"] = all(one["passed"] for one in found.values())
    print(json.dumps(found) if options.json else "\n".join(f"{k}: {v}" for k, v in found.items()))
    return 0 if found["passed"] else 1


def measure(folder: Path) -> dict[str, dict]:
    """Check -> `passed`, `seconds` and its numbers."""
    data, broken = write_images(folder / "images", EVERY)
    flags = tiny_run.FLAGS | {"queue_size": 256, "knn_every": 0, "epochs": 2, "data": data}
    flags |= {"max_bad_images": 0.03}
    checks = {
        "killed": partial(_killed, folder, flags, broken),
        "divided": partial(_divided, folder, flags, broken),
        "changed": partial(_changed, folder, flags, broken),
        "refused": partial(_refused, folder, flags),
    }
    found = {}
    for name, check in checks.items():
        began = time.monotonic()
        found[name] = check() | {"seconds": round(time.monotonic() - began, 1)}
        print(name, found[name], file=sys.stderr, flush=True)
    return found


def write_images(folder: Path, every: int) -> tuple[Path, set[str]]:
    """Writes the pictures, one of `every` broken. Returns the folder and the broken ones' names."""
    rng, broken = np.random.default_rng(0), set()
    for n in range(COUNT):
        path = folder / f"class{n % CLASSES}" / f"{n:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((20, 20)).save(path)
        if n % every == 1:
            whole = path.read_bytes()
            path.write_bytes((whole[: len(whole) // 2], b"", HTML)[len(broken) % 3])
            broken.add(path.name)
    (folder / "class0" / "x.jpg").mkdir()
    return folder, broken


def _killed(folder: Path, flags: dict, broken: set[str]) -> dict:
    alone, killed, said = folder / "alone", folder / "killed", folder / "said.txt"
    tiny_run.wait_for_end(tiny_run.start(flags | {"run_dir": alone}, said), said)
    at = []
    for step in (STEPS // 2, STEPS + STEPS // 2):
        processes = tiny_run.start(flags | {"run_dir": killed}, said)
        tiny_run.wait_for_step(processes, killed, step)
        processes[0].kill()
        processes[0].wait()
        at.append(tiny_run.newest_step(killed))
    tiny_run.wait_for_end(tiny_run.start(flags | {"run_dir": killed}, said), said)
    equal = {
        "state": tiny_run.digest(alone) == tiny_run.digest(killed),
        "losses": tiny_run.losses(alone) == tiny_run.losses(killed),
        "list": _list(alone) == _list(killed),
    }
    inside = all(step % STEPS for step in at)
    named = _named(alone, broken)
    passed = inside and named["passed"] and all(equal.values())
    return named | {"passed": passed, "equal": equal, "killed_after_steps": at}


def _divided(folder: Path, flags: dict, broken: set[str]) -> dict:
    """One process with one device, one with two, and two processes with one each."""
    said, runs = folder / "said.txt", {}
    for name, workers, devices in (("one", 1, 1), ("devices", 1, 2), ("processes", 2, 1)):
        runs[name] = folder / name
        own = {"run_dir": runs[name], "devices": devices, "precision": "float64"}
        tiny_run.wait_for_end(tiny_run.start(flags | own, said, workers), said)
    one = runs.pop("one")
    state = tiny_run.arrays_of(one)
    differences = {
        name: tiny_run.largest_difference(state, tiny_run.arrays_of(run))
        for name, run in runs.items()
    }
    same = {name: _list(one, "reason") == _list(run, "reason") for name, run in runs.items()}
    named = [_named(run, broken)["passed"] for run in (one, *runs.values())]
    passed = max(differences.values()) <= TOLERANCE and all([*same.values(), *named])
    return {"passed": passed, "differences": differences, "same_list": same, "named": named}


def _changed(folder: Path, flags: dict, broken: set[str]) -> dict:
    """The files are changed after some steps of the first epoch; the second one reads them."""
    run, said = folder / "changed", folder / "said.txt"
    removed, cut = (flags["data"] / "class0" / name for name in ("000.jpg", "004.jpg"))
    whole = {path: path.read_bytes() for path in (removed, cut)}
    processes = tiny_run.start(flags | {"run_dir": run}, said)
    tiny_run.wait_for_step(processes, run, 4)
    removed.unlink()
    cut.write_bytes(whole[cut][:100])
    tiny_run.wait_for_end(processes, said)
    for path, contents in whole.items():
        path.write_bytes(contents)
    return _named(run, broken | {removed.name, cut.name})


def _refused(folder: Path, flags: dict) -> dict:
    said, run = folder / "refused.txt", folder / "refused"
    data, _ = write_images(folder / "many", MANY)
    [process] = tiny_run.start(flags | {"run_dir": run, "data": data}, said)
    code = process.wait()
    line = said.read_text().splitlines()[-1]
    wanted = "images that were looked at cannot be read, more than max_bad_images=0.03"
    passed = code == 2 and wanted in line and "Traceback" not in said.read_text()
    return {"passed": passed and not run.exists(), "code": code, "line": line}


def _list(run: Path, *but: str) -> list[dict]:
    rows = [json.loads(line) for line in (run / "bad_images.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in but} for row in rows]


def _named(run: Path, broken: set[str]) -> dict:
    """Whether the list names what is broken, each once, and the counts agree with it."""
    names = [Path(row["file"]).name for row in _list(run)]
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    counts = [row["bad_images"] for row in rows if "bad_images" in row]
    told = json.loads((run / "summary.json").read_text())["bad_images"]
    passed = sorted(names) == sorted(broken) and told == counts[-1] == len(broken)
    return {"passed": passed, "bad_images": told, "counts_in_metrics": sorted({*counts})}


if __name__ == "__main__":
    sys.exit(main())
