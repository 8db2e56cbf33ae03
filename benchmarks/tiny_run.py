"""A pre-training run that takes seconds, in one process or several: what others here start."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

FLAGS = {
    "encoder": "resnet18",
    "stem": "small",
    "width": 4,
    "image_size": 16,
    "batch_size": 16,
    "group_size": 8,
    "queue_size": 65536,  # a checkpoint of 10 MB, so that a good part of the time is spent saving
    "dim": 32,
    "knn_every": 20,
    "log_every": 1,
    "checkpoint_every": 4,
}
IMAGES = 96
EPOCH_STEPS = IMAGES // FLAGS["batch_size"]


def write_images(folder: Path) -> Path:
    """Writes a folder of small PNG files: noise around one of two greys. Returns the folder."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(IMAGES):
        base = np.where(n % 2, 60, 190) + rng.normal(0, 30, (20, 20, 3))
        Image.fromarray(base.clip(0, 255).astype(np.uint8)).save(folder / f"{n}.png")
    return folder


def start(flags: dict, said: Path, workers: int = 1) -> list[subprocess.Popen]:
    """Starts one process a worker, all with the same flags; what they say is added to `said`."""
    addresses = ",".join(f"127.0.0.1:{port}" for port in _free_ports(workers))
    processes = []
    for index in range(workers):
        own = {"workers": addresses, "worker_index": index} if workers > 1 else {}
        command = [sys.executable, "-m", "moco_tf", "pretrain", "shapes"]
        command += [f"--{k.replace('_', '-')}={v}" for k, v in (flags | own).items()]
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
        with open(said, "ab") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
        processes.append(process)
    return processes


def wait_for_end(processes: list[subprocess.Popen], said: Path) -> None:
    """Ends this script, with what they said, if one of them has not ended well."""
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit(f"exit codes {codes}:\n{said.read_text()[-3000:]}")


def wait_until(
    processes: list[subprocess.Popen], ready: Callable[[], object], timeout: float = 3600
) -> None:
    """Waits until it is so, or a process has ended."""
    deadline = time.monotonic() + timeout
    while all(process.poll() is None for process in processes) and not ready():
        if time.monotonic() > deadline:
            raise SystemExit(f"nothing was saved within {timeout:.0f} s")
        time.sleep(0.001)


def wait_for_step(processes: list[subprocess.Popen], run_dir: Path, step: int) -> None:
    """Waits for a checkpoint of that step or a later one, or until a process has ended."""
    wait_until(processes, lambda: newest_step(run_dir) >= step)


def newest_step(run_dir: Path) -> int:
    """Returns the step of the newest checkpoint, 0 if there is none."""
    found = run_dir.glob("checkpoints/step-*.safetensors")
    return max((int(path.stem.removeprefix("step-")) for path in found), default=0)


def digest(run_dir: Path) -> str:
    """Returns the digest of the state that a run ended with."""
    return json.loads((run_dir / "summary.json").read_text())["state_sha256"]


def arrays_of(run_dir: Path) -> dict[str, np.ndarray]:
    """Returns the state that a run has saved last, by name."""
    from moco_tf.runs import checkpoint

    return checkpoint.load_latest(run_dir / "checkpoints", warn=print)[0]


def largest_difference(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> float:
    """Returns the largest |a - b| / (1 + |b|) over all numbers of two states."""
    if a.keys() != b.keys():
        raise SystemExit(f"arrays of one state alone: {sorted(a.keys() ^ b.keys())}")
    return max(float(np.max(np.abs(a[n] - b[n]) / (1 + np.abs(b[n])))) for n in b)


def losses(run_dir: Path) -> list[tuple[int, float]]:
    """Returns (step, loss) of every logging point in metrics.jsonl."""
    rows = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
