"""The parent of a worker: gives it inputs, and notices where it hangs, dies, or finds something."""

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

MOST_SECONDS = 5  # of processor time, for one input
MOST_WAIT = 60  # of waiting for anything else, such as for a pipe that nobody writes to
MOST_GIB = 2  # of memory above that before the input
KEPT = 2  # inputs of one kind of finding
STARTED = "started"


def run(reader: str, inputs: int, seed: int, findings: Path) -> dict:
    """Returns the counts of `inputs` inputs to `reader`; keeps what is found below `findings`."""
    result = {"reader": reader, "inputs": 0, "read": 0, "refused": 0, "seconds": 0.0, "mib": 0.0}
    found: Counter[str] = Counter()
    examples: dict[str, str] = {}  # of what was said
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        worker = Worker(reader, seed, Path(folder))
        if worker.why_not:
            return result | {"findings": {}, "why": worker.why_not}
        for number in range(inputs):
            said = worker.ask(str(number))
            result["inputs"] += 1
            result["seconds"] = max(result["seconds"], said["seconds"])
            result["mib"] = max(result["mib"], said["mib"])
            if said["finding"]:
                found[said["finding"]] += 1
                examples.setdefault(said["finding"], said["example"])
                if found[said["finding"]] <= KEPT:
                    kept = findings / f"{reader}-{seed}-{number}"
                    shutil.rmtree(kept, ignore_errors=True)
                    shutil.copytree(Path(folder) / "case", kept, symlinks=True, ignore=_special)
            else:
                result[said["outcome"]] += 1
        worker.end()
    return result | {"findings": dict(found), "examples": examples}


def replay(kept: Path) -> dict:
    """Gives the input in the folder `kept`, named READER-SEED-NUMBER, to its reader once more."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        reader, seed, number = kept.name.split("-")
        worker = Worker(reader, int(seed), Path(folder))
        said = worker.ask(f"{number} {kept.resolve()}")
        worker.end()
    return said


def _special(folder: str, names: list[str]) -> list[str]:
    """What cannot be copied: pipes, and files that are mostly holes."""
    paths = {name: os.path.join(folder, name) for name in names}
    large = [n for n, p in paths.items() if os.path.isfile(p) and os.path.getsize(p) > 2**30]
    return large + [n for n, p in paths.items() if os.path.exists(p) and not _plain(p)]


def _plain(path: str) -> bool:
    return os.path.isfile(path) or os.path.isdir(path)


class Worker:
    """A process that reads one input after another; a new one takes over where it must be ended."""

    def __init__(self, reader: str, seed: int, folder: Path):
        self._arguments = [reader, str(seed), str(folder), str(MOST_GIB)]
        self._log = folder / "log"  # what a worker says as it dies
        self._start()

    def _start(self) -> None:
        program = str(Path(__file__).with_name("worker.py"))
        command = [sys.executable, program, *self._arguments]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log, **pipes)
        self._said = b""
        self.why_not = (self._line(None) or "the worker does not start").removeprefix("ready")

    def ask(self, text: str) -> dict:
        """Returns what the worker says of an input, or what there is to be said of the worker."""
        self._process.stdin.write(text.encode() + b"\n")
        self._process.stdin.flush()
        if self._line(None) != STARTED:
            raise RuntimeError(self._log.read_text(errors="replace")[-3000:])
        said = self._line(self._processor_seconds())
        if said:
            return json.loads(said)
        code = self._process.poll()
        finding = f"does not end within {MOST_SECONDS} s" if code is None else f"ends with {code}"
        seconds = float(MOST_SECONDS) if code is None else 0.0
        self._process.kill()
        self._process.wait()
        self._start()
        said = {"outcome": "", "seconds": seconds, "mib": 0.0, "example": ""}
        return said | {"finding": f"the process {finding}"}

    def end(self) -> None:
        self._process.stdin.close()
        self._process.wait()

    def _line(self, start: float | None) -> str:
        """The next line of the worker; empty if it has ended, or works longer than it may.

        Args:
            start: processor seconds at the start of the input; none: there is no limit.
        """
        waited = 0.0
        while b"\n" not in self._said:
            before = time.monotonic()
            ready, _, _ = select.select([self._process.stdout], [], [], 0.2)
            if ready:
                more = os.read(self._process.stdout.fileno(), 65536)
                if not more:
                    self._process.wait()
                    return ""
                self._said += more
            elif start is not None:
                waited += min(time.monotonic() - before, 0.3)  # this process may be stopped too
                if self._processor_seconds() - start > MOST_SECONDS or waited > MOST_WAIT:
                    return ""
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    def _processor_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
