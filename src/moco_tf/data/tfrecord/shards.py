"""The shards that `tfrecord:PATTERN` names. None is opened, and TensorFlow is not imported."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import NamedTuple

from moco_tf.data.file_set import siblings
from moco_tf.errors import InputError
from moco_tf.files.store import is_url
from moco_tf.names.data import options_of, paths_of


class Keys(NamedTuple):
    """Keys of a record's features: those of ImageNet, unless `data` names others."""

    image: str = "image/encoded"
    label: str = "image/class/label"
    text: str = "image/class/text"


class Shards(NamedTuple):
    keys: Keys
    train: list[Path]
    test: list[Path]
    split: str = ""  # what the test part is called
    passed_over: tuple[str, ...] = ()  # patterns of other parts


def list_shards(data: str, split: str | None = None) -> Shards:
    """Returns the shards that `data` names, and those of the test part beside them.

    Test shards lie where the pattern leads with the word "train" exchanged for "val", "valid",
    "validation", "test" or "testing", the first that there are.

    Args:
        split: "val" or "test": the only part that counts.

    Raises:
        InputError: for a pattern without a file, a file named twice, or an unknown option.
    """
    if is_url(data):
        raise InputError(
            f"data={data} is not on this machine. Copy the shards, and give their pattern here."
        )
    keys = Keys(**options_of(data))
    patterns = [str(path) for path in paths_of(data)]
    train = _files(data, patterns)
    tests: dict[str, list[str]] = {}
    for name, beside in (pair for one in patterns[:1] for pair in siblings(one, split)):
        found = [path for path in sorted(glob.glob(beside)) if os.path.isfile(path)]
        if found and found not in tests.values():
            tests[name] = found
    part, *others = tests or [""]
    shown = tuple(f"{os.path.dirname(tests[name][0])}/*{name}*" for name in others)
    return Shards(keys, train, [Path(path) for path in tests.get(part, [])], part, shown)


def _files(data: str, patterns: list[str]) -> list[Path]:
    files: dict[str, Path] = {}  # by their real path
    for pattern in patterns:
        found = sorted(path for path in glob.glob(pattern) if os.path.isfile(path))
        if not found:
            raise InputError(
                f"data={data}: no file is called {pattern}. Give a pattern of the shards, in "
                f"quotes: --data 'tfrecord:/data/imagenet/train-*'."
            )
        for path in found:
            real = os.path.realpath(path)
            if real in files:
                raise InputError(
                    f"data={data} names the shard {path} twice. Use patterns that do not overlap."
                )
            files[real] = Path(path)
    return list(files.values())
