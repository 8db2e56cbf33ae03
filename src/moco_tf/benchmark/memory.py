"""The memory that this machine has for a run: of the host, and of a GPU if there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import tensorflow as tf

MEMINFO, STATM = Path("/proc/meminfo"), Path("/proc/self/statm")
CONTROL_GROUP = Path("/sys/fs/cgroup")


def host_bytes() -> int | None:
    """Host memory that this process can have, or None where the system does not tell.

    What it has, and Linux's MemAvailable or what its container (control group, version 2) has left.
    """
    free = _free_bytes()
    return None if free is None else free + resident_bytes()


def resident_bytes() -> int:
    """Host memory that this process has now; 0 where the system does not tell."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _free_bytes() -> int | None:
    try:
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    try:
        most = int((CONTROL_GROUP / "memory.max").read_text())  # "max": no limit
        taken = int((CONTROL_GROUP / "memory.current").read_text())
        kinds = dict(
            line.split() for line in (CONTROL_GROUP / "memory.stat").read_text().splitlines()
        )
        return min(free, most - taken + int(kinds["inactive_file"]))  # a cache that gives way
    except (OSError, KeyError, ValueError):
        return free


def gpu_bytes() -> tuple[int, int] | None:
    """Returns (peak of this process, memory) of a GPU; None without one, or without nvidia-smi."""
    gpus = tf.config.list_logical_devices("GPU")
    tool = shutil.which("nvidia-smi")
    if not gpus or not tool:
        return None
    query = [tool, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout
        total = min(int(line) for line in said.split()) * 2**20
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    peaks = [tf.config.experimental.get_memory_info(f"GPU:{n}")["peak"] for n in range(len(gpus))]
    return max(peaks), total
