"""Resident memory of this process."""

import ctypes
import resource
import sys


def peak_memory_bytes() -> int:
    """The largest resident memory that this process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def give_back_freed_memory() -> None:
    """Returns to the system what is freed and kept for reuse: after compiling tens of megabytes.

    Else that happens when chance has it, hundreds of steps later. Only glibc offers it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
