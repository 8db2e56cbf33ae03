"""What a module of our side makes, in a process of its own: one with PyTorch holds no TensorFlow.

python apart.py MODULE FUNCTION ARGUMENTS      (writes what the generator yields; ARGUMENTS is JSON)
"""

import importlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np

Arrays = dict[str, np.ndarray]


def arrays_of(module: str, function: str, *arguments) -> Iterator[Arrays]:
    """Yields the named arrays that `function(*arguments)` of `module` yields in another process."""
    command = [sys.executable, os.path.abspath(__file__), module, function, json.dumps(arguments)]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        while size := worker.stdout.read(8):
            yield dict(np.load(io.BytesIO(worker.stdout.read(int.from_bytes(size, "big")))))
        if worker.wait():
            raise SystemExit(f"{module}.{function} ended early, exit code {worker.returncode}")
    finally:
        worker.kill()
        worker.stdout.close()
        worker.wait()


def _write(module: str, function: str, arguments: str) -> None:
    out, sys.stdout = sys.stdout.buffer, sys.stderr
    for arrays in getattr(importlib.import_module(module), function)(*json.loads(arguments)):
        file = io.BytesIO()
        np.savez(file, **arrays)
        out.write(len(file.getvalue()).to_bytes(8, "big") + file.getvalue())
        out.flush()


if __name__ == "__main__":
    _write(*sys.argv[1:])
