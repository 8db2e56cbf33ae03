"""Memory of this process: how much it holds, and when Python looks for what nobody needs."""

import contextlib
import ctypes
import gc
import re
import sys
from collections.abc import Iterator
from pathlib import Path

try:
    import resource
except ImportError:  # native Windows
    resource = None  # type: ignore[assignment]


def peak_memory_bytes() -> int:
    """The largest resident memory that this process ever had; 0 where the system does not tell."""
    # Not ru_maxrss where there is better: a process starts with that of its parent.
    with contextlib.suppress(OSError):  # macOS has no /proc
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        if peak_kib := re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE):
            return int(peak_kib[1]) * 1024
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def give_back_freed_memory() -> None:
    """Returns to the system what is freed and kept for reuse: after compiling tens of megabytes.

    Else that happens when chance has it, hundreds of steps later. Only glibc offers it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Python's garbage collector waits meanwhile, and takes what there is then for old.

    Imports and graphs make many objects that stay. Each time the collector looks through all of
    them it finds next to nothing, and that takes a fifth of importing TensorFlow.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.unfreeze()  # into the oldest generation, which is looked through least often
        if enabled:
            gc.enable()
