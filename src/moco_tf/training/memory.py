"""Resident memory of this process."""

import ctypes
import re
import resource
import sys
from pathlib import Path


def peak_memory_bytes() -> int:
    """The largest resident memory that this process ever had."""
    # Not ru_maxrss where there is better: a process starts with that of its parent.
    status = Path("/proc/self/status")
    peak_kib = status.exists() and re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.M)
    if peak_kib:
        return int(peak_kib[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def give_back_freed_memory() -> None:
    """Returns to the system what is freed and kept for reuse: after compiling tens of megabytes.

    Else that happens when chance has it, hundreds of steps later. Only glibc offers it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
