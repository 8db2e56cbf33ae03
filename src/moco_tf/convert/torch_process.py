"""PyTorch's part of a conversion, in a process of its own.

No process holds both frameworks: where TensorFlow 2.21 is loaded, parts of PyTorch 2.14 end it with
SIGSEGV. What the two processes tell each other is pickled: plain containers and arrays, which this
package made on either side, and nothing of a file as it is.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from moco_tf.convert import torch_file, torch_resnet
from moco_tf.errors import InputError

_TASKS: dict[str, Callable[..., Any]] = {
    "read": torch_file.read,
    "to_bytes": torch_file.to_bytes,
    "features": torch_resnet.torch_features,
}
_SOURCES = str(Path(__file__).parents[2])  # the folder that holds this package


def installed() -> bool:
    """Returns whether torch can be imported; imports nothing."""
    return importlib.util.find_spec("torch") is not None


def read(path: Path) -> Any:
    """Returns what `torch_file.read` does; other objects of PyTorch's as their type's name.

    Raises:
        InputError: as it does.
    """
    if not installed():
        raise torch_file.needs_extra(path)
    return _ask("read", path)


def to_bytes(content: Any) -> bytes:
    """Returns what `torch_file.to_bytes` does.

    Raises:
        InputError: as it does.
    """
    if not installed():
        raise torch_file.needs_extra()
    return _ask("to_bytes", content)


def features(state_dict: Mapping[str, np.ndarray], images: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what `torch_features` does."""
    return _ask("features", state_dict, images)


def _ask(task: str, *arguments: Any) -> Any:
    paths = [_SOURCES, *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=pickle.dumps((task, arguments)),
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise InputError(
            f"PyTorch failed in its own process, exit code {done.returncode} ({said[-1]}). "
            f"See whether python -c 'import torch' works."
        )
    answer, failed = pickle.loads(done.stdout)
    if failed:
        raise InputError(answer)
    return answer


class _Plain(pickle.Pickler):
    """Without objects that would have the other process import PyTorch."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj).__module__.split(".")[0] == "torch":
            return str, (type(obj).__name__,)
        return NotImplemented


def _answer() -> None:
    out, sys.stdout = sys.stdout.buffer, sys.stderr
    task, arguments = pickle.load(sys.stdin.buffer)
    try:
        answer = (_TASKS[task](*arguments), False)
    except InputError as error:
        answer = (str(error), True)
    file = BytesIO()
    _Plain(file, protocol=pickle.HIGHEST_PROTOCOL).dump(answer)
    out.write(file.getbuffer())


if __name__ == "__main__":
    _answer()
