"""The program: `moco-tf`, and `python -m moco_tf`."""

import os
import sys
from pathlib import Path

from moco_tf.commands.cli import main

HUGE_PAGES = "glibc.malloc.hugetlb"
OFFERED = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def program() -> int:
    """Runs the command of the command line; returns its exit code."""
    use_huge_pages()
    return main()


def use_huge_pages() -> None:
    """Starts the process anew with huge pages, where Linux gives them to a program that asks.

    A training step passes over gigabytes, and large pages of memory save a processor 2 to 22 % of
    its time. The C library asks for them, and reads its settings only as a process starts. A
    setting of glibc.malloc.hugetlb that is already there stays.
    """
    try:
        offered = "[madvise]" in OFFERED.read_text()
    except OSError:  # not Linux, or a kernel without them
        offered = False
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if offered and HUGE_PAGES not in tunables:
        os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, [tunables, f"{HUGE_PAGES}=1"]))
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


if __name__ == "__main__":
    sys.exit(program())
