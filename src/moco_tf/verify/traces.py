"""Reading a file of recorded steps: its settings and arrays, checked before anything runs."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from moco_tf.errors import InputError
from moco_tf.files.npz import read_npz
from moco_tf.verify.limits import Count, NonNegative, Positive, Share, check_size
from moco_tf.verify.v3_replay import V3Settings


class Settings(BaseModel):
    """Settings of a run of the official code, by its own names: those that both kinds have."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    block: Literal["basic", "bottleneck"]
    layers: tuple[Count, ...] = Field(min_length=1, max_length=8)
    width: Count
    dim: Count
    size: Count
    batch: int = Field(ge=2)  # images of one process
    K: Count
    m: Share
    T: Positive
    lr: NonNegative
    mom: Share = 0.9
    wd: NonNegative
    cos: bool
    epochs: Count
    schedule: tuple[int, ...] | None = None
    steps: Count

    @property
    def images(self) -> int:
        """Images in the batch of a step."""
        return self.batch

    @model_validator(mode="after")
    def _check_size(self):
        """Refuses settings with which a small file could ask for all memory."""
        check_size(self.layers, self.width, self.images, self.size)
        return self


class OfficialSettings(Settings):
    """Of the official MoCo v1 or v2 on several processes, each of which is one BatchNorm group."""

    mlp: bool
    world: Count
    steps_per_epoch: Count
    snaps: tuple[Count, ...] = Field(min_length=1)
    symmetric: ClassVar[bool] = False

    @property
    def images(self) -> int:
        return self.world * self.batch

    @model_validator(mode="after")
    def _check_snaps(self):
        if max(self.snaps) > self.steps:
            raise ValueError(f"snaps must be at most steps; received {self.snaps}, {self.steps}")
        return self


class DemoSettings(Settings):
    """Of the official CIFAR demo on one device."""

    block: Literal["basic", "bottleneck"] = "basic"
    layers: tuple[Count, ...] = Field((2, 2, 2, 2), min_length=1, max_length=8)
    width: Count = 64
    size: Count = 32
    cos: bool = True
    bn_splits: Count
    tag: str
    wmul: float
    symmetric: bool
    steps_per_epoch: ClassVar[int] = 1  # its epochs count from 1, and each is a step here

    @model_validator(mode="after")
    def _check_splits(self):
        if self.batch % self.bn_splits:
            raise ValueError(f"bn_splits={self.bn_splits} must divide batch={self.batch}")
        return self


SETTINGS: dict[str, type[BaseModel]] = {"official": OfficialSettings, "v3": V3Settings}


@dataclass(frozen=True)
class Trace:
    """A file of recorded steps."""

    file: str
    kind: str  # "official", "demo" or "v3"
    settings: Any  # OfficialSettings, DemoSettings or V3Settings
    arrays: dict[str, np.ndarray]

    def require(self, name: str, shape: tuple[int, ...], kinds: str = "f") -> None:
        """Raises `InputError` unless array `name` is there, of `shape` and of a dtype in `kinds`.

        Args:
            kinds: letters of numpy's `dtype.kind`: "f" floating point, "iu" integers.
        """
        if name not in self.arrays:
            raise InputError(f"{self.file} is not a whole trace: the array {name!r} is missing.")
        array = self.arrays[name]
        if array.shape != tuple(shape) or array.dtype.kind not in kinds:
            raise InputError(
                f"{self.file} is not a sound trace: the array {name!r} is {array.dtype} of shape "
                f"{array.shape}; expected shape {tuple(shape)} of kind {kinds!r} by its settings."
            )

    def of_step(self, name: str, number: int, shape: tuple[int, ...]) -> np.ndarray:
        """Returns what array `name` holds, in `shape`, of step `number`: 1, 2, ..."""
        self.require(name, (self.settings.steps, *shape), "fiu")
        return self.arrays[name][number - 1]

    def refuse(self, reason: str) -> NoReturn:
        """Raises `InputError` that names the file and says `reason`."""
        raise InputError(f"{self.file} is not a sound trace: {reason}.")

    def names(self, name: str, expected: Iterable[str]) -> list[str]:
        """Returns the strings stored as array `name`: those expected, in any order."""
        expected = sorted(expected)
        self.require(name, (len(expected),), "U")
        found = [str(value) for value in self.arrays[name]]
        if sorted(found) != expected:
            self.refuse(f"{name} are not those of the encoder")
        return found


def bundled_traces() -> list[Path]:
    """Files of recorded steps that come with the package."""
    return sorted((Path(__file__).parent.parent / "traces").glob("*.npz"))


def read_trace(path) -> Trace:
    """Returns the trace in the .npz file `path`.

    Raises:
        InputError: the file cannot be read or holds no trace; the message names it.
    """
    arrays = read_npz(path, "a trace")
    if {"meta_json", "q1", "k2"} <= set(arrays):
        return Trace(str(path), "v3", _read_settings(path, "v3", arrays["meta_json"]), arrays)
    if not {"meta_json", "idx_shuffle"} <= set(arrays):
        raise InputError(
            f"{path} is not a trace of training steps: it has no 'meta_json' and 'idx_shuffle'."
        )
    kind = "demo" if {"enqueued", "param_names"} & set(arrays) else "official"
    return Trace(str(path), kind, _read_settings(path, kind, arrays["meta_json"]), arrays)


def _read_settings(path, kind: str, meta_json: np.ndarray):
    try:
        (text,) = np.ravel(meta_json).tolist()
        meta = json.loads(text)
        values = {**meta["config"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{path} is not a trace: its 'meta_json' holds no config.") from None
    try:
        if kind in SETTINGS:
            return SETTINGS[kind].model_validate(values)
        return DemoSettings.model_validate({"symmetric": meta.get("symmetric"), **values})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "config"
        raise InputError(f"{path} is not a trace: setting {place}: {first['msg']}.") from None
