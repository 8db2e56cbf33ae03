"""Trainings, each in a process of its own, kept line by line: a rerun does only what is missing.

python recorded.py SIDE IMAGES SETTING SEED        (one training; SETTING is JSON)
"""

import importlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TRAININGS = "trainings.jsonl"


def recorded(file: Path, side: str, images: Path, digest: str, setting: dict, seed: int) -> dict:
    """Returns the row of one training, from `file` or, if it is not there, by training now.

    Args:
        side: module with `train(images, setting, seed)`, and after a colon what it shall break.
        digest: SHA-256 of the images: other ones are another training.

    Returns:
        What `train` returns, and "minutes" (wall time of the process, start-up and kNN
        included), "cpu_minutes", "images_per_second" (trained on, over those minutes).
    """
    key = {"side": side, "images": digest, "setting": setting, "seed": seed}
    for row in rows(file):
        if row["key"] == key:
            return row
    command = [sys.executable, os.path.abspath(__file__), side, str(images), json.dumps(setting)]
    print(f"{side}, seed {seed}", file=sys.stderr)
    began = time.perf_counter()
    done = subprocess.run(
        [*command, str(seed)],
        stdout=subprocess.PIPE,
        check=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    seconds = time.perf_counter() - began
    row = {"key": key} | json.loads(done.stdout.splitlines()[-1])
    row |= {"minutes": seconds / 60, "images_per_second": row["images_seen"] / seconds}
    with open(file, "a", encoding="utf-8") as out:
        out.write(json.dumps(row) + "\n")
    return row


def all_recorded(file: Path, images: Path, digest: str, wanted: list, at_once: int) -> list[dict]:
    """Returns the rows of `wanted`, a list of (side, setting, seed), in its order.

    `at_once` trainings run side by side, each on one core if they are several.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    if at_once > 1:
        os.environ["OMP_NUM_THREADS"] = "1"
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda w: recorded(file, w[0], images, digest, *w[1:]), wanted))


def rows(file: Path) -> list[dict]:
    """Every whole row of a file that may be absent or cut off."""
    found = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def _train(side: str, images: str, setting: str, seed: str) -> None:
    module, _, broken = side.partition(":")
    train, asked = importlib.import_module(module).train, json.loads(setting)
    arguments = (Path(images), asked, int(seed), *([broken] if broken else []))
    result = train(*arguments)
    result["images_seen"] = result.pop("steps") * asked["batch_size"]
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    result["cpu_minutes"] = sum(usage.ru_utime + usage.ru_stime for usage in spent) / 60
    result["versions"] |= {"python": platform.python_version(), "cores": os.cpu_count()}
    print(json.dumps(result))


if __name__ == "__main__":
    _train(*sys.argv[1:])
