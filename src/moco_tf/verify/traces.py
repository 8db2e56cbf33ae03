"""Reading recorded traces, and the official names and layouts of what they hold."""

import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moco_tf.errors import InputError

LEAVES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


@dataclass(frozen=True)
class Trace:
    """One file: its arrays, its settings, and which kind of recording it is."""

    path: str
    kind: str  # "moco": steps on several processes; "demo": steps of the CIFAR-10 notebook
    config: dict
    arrays: dict
    symmetric: bool = False

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            raise InputError(f"{self.path} is not a whole trace: the array {name!r} is missing.")
        return self.arrays[name]


def read_trace(path: str) -> Trace:
    """Returns the trace in `path`.

    Raises:
        InputError: no such file, not an .npz, pickled content, or not a known kind of trace.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(str(arrays["meta_json"]))
        config = dict(meta["config"])
    except FileNotFoundError:
        raise InputError(f"no such trace: {path}.") from None
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, EOFError,
        zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise InputError(f"{path} is not a trace: {type(error).__name__}: {error}.") from None
    if {"world", "T", "K", "m", "batch"} <= set(config) and "logits" in arrays:
        return Trace(path, "moco", config, arrays)
    if {"bn_splits", "T", "K", "m", "batch"} <= set(config) and "q" in arrays:
        return Trace(path, "demo", config, arrays, bool(meta.get("symmetric")))
    raise InputError(f"{path} is not a trace of MoCo's steps or of the CIFAR-10 demo.")


def bundled_traces() -> list[str]:
    """Paths of the traces that come with the package."""
    folder = Path(__file__).resolve().parent.parent / "traces"
    return [str(path) for path in sorted(folder.glob("*.npz"))]


def demo_layer(layer: str) -> str:
    """Name of a layer in the demo's flat list: conv1, bn1, ReLU, four stages, pool, flatten, fc."""
    flat = {"conv1": "net.0", "bn1": "net.1", "fc": "net.9"}
    if layer in flat:
        return flat[layer]
    stage, rest = layer.split(".", 1)
    return f"net.{int(stage.removeprefix('layer')) + 2}.{rest}"


def official_name(path: str, rename=str) -> str:
    """Official name of our variable, e.g. "layer1.0.conv1/kernel" -> "layer1.0.conv1.weight"."""
    layer, leaf = path.rsplit("/", 1)
    return f"{rename(layer)}.{LEAVES[leaf]}"


def to_official(value: np.ndarray) -> np.ndarray:
    """Convolutions HWIO -> OIHW, linear (in, out) -> (out, in)."""
    return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T


def from_official(value: np.ndarray) -> np.ndarray:
    """The inverse of `to_official`."""
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T


def drawn_weight(name: str, shape) -> np.ndarray:
    """Deterministic initial weights of the demo's traces, from a checksum of their name."""
    rng = np.random.default_rng(zlib.crc32(name.encode("utf-8")))
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "weight" and len(shape) == 1:
        value = 0.5 + rng.random(shape)
    elif leaf == "weight":
        value = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    else:
        value = 0.1 * rng.standard_normal(shape)
    return value.astype(np.float32)


def drawn_normal(tag: str, shape) -> np.ndarray:
    """Deterministic standard-normal float32 numbers, from a checksum of `tag`."""
    rng = np.random.default_rng(zlib.crc32(tag.encode("utf-8")))
    return rng.standard_normal(shape).astype(np.float32)
