"""Watches a process while it reads an input: what it opens, changes and starts, and its memory."""

import os
import re
import sys
import sysconfig
from pathlib import Path

STARTING = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "pty.spawn")
CHANGING = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod")
REACHING = ("socket.connect", "socket.getaddrinfo", "webbrowser.open", "urllib.Request")
NUMPYS = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "_codecs")
SECRET = "secret.txt"


class Guard:
    """A context; afterwards `finding` says what went wrong, if anything, and `mib` the memory.

    Files that are opened by Python are judged by path. What C++ writes outside is seen by looking
    at the folder `outside`, in which the process stands and to which hostile paths lead.
    """

    def __init__(self, case: Path, outside: Path, *given: Path):
        outside.mkdir(exist_ok=True)
        (outside / SECRET).write_text("not to be read")
        self._outside = outside
        self._own = tuple(os.path.realpath(folder) + os.sep for folder in (case, *given))
        libraries = {*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix, *sys.path[1:]}
        package = str(Path(__file__).parents[2])
        self._readable = tuple(filter(None, (*libraries, package, "/proc", "/sys")))
        self._on, self.finding, self.mib = False, "", 0.0
        sys.addaudithook(self._see)

    def __enter__(self):
        self._before, self.finding = self._listing(), ""
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        self._start, self._on = _memory("VmRSS"), True
        return self

    def __exit__(self, *_):
        self._on = False
        self.mib = max(0.0, (_memory("VmHWM") - self._start) / 1024)
        if self._listing() != self._before:
            self.finding = self.finding or "changes files outside the folder"

    def _listing(self) -> list:
        return sorted(
            (e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in os.scandir(self._outside)
        )

    def _see(self, event: str, arguments: tuple) -> None:
        if not self._on:
            return
        if event in STARTING or event in REACHING:
            self._find(f"{event} {arguments[0]!r}")
        elif event in CHANGING:
            self._judge(event, arguments[0], writes=True)
        elif event == "open":
            path, _, flags = arguments
            self._judge(event, path, bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)))
        elif event == "pickle.find_class" and arguments[0] not in NUMPYS:
            self._find(f"a pickle asks for {arguments[0]}.{arguments[1]}")

    def _judge(self, event: str, path, writes: bool) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return  # a descriptor, opened before
        name = os.path.abspath(os.fsdecode(path))
        if f"{name}{os.sep}".startswith(self._own) or name == os.devnull:
            return
        if writes or not name.startswith(self._readable):
            self._find(f"{event}{' to write' if writes else ''} {name}")

    def _find(self, what: str) -> None:
        self.finding = self.finding or re.sub(r"\d+", "N", f"leaves its folder: {what[:150]}")


def _memory(field: str) -> int:
    """KiB of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {field}")
