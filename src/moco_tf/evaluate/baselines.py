"""What a number is to be compared with, such as an untrained encoder's: computed once and kept."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from moco_tf.config import Config
from moco_tf.data.sources import Images
from moco_tf.errors import DamagedError, InputError
from moco_tf.evaluate.features_key import file_stamps
from moco_tf.files.digests import read_json, write_json

FILE = "baselines.json"
MOST = 32  # results kept; the oldest goes first
# What the weights of an untrained encoder depend on, and what it sees.
_ENCODER = {"encoder", "width", "stem", "head", "dim", "seed", "image_size", "normalization"}


def once(
    folder: Path | None,
    key: str,
    compute: Callable[[], dict[str, float]],
    say: Callable[[str], None],
) -> dict[str, float]:
    """Returns {"untrained": percent, "pixels": percent}: computed, or kept in `folder` for `key`.

    Args:
        folder: of the results; none, or one that cannot be written to: nothing is kept.
        say: called with a line if what was kept is damaged.
    """
    known: dict[str, Any] = {}
    if folder is not None:
        try:
            known = read_json(folder / FILE)
        except DamagedError as error:
            say(f"{folder / FILE} is damaged ({error}). The baselines are computed again.")
        except OSError:  # there is none yet
            pass
    if _is_result(known.get(key)):
        return known[key]
    found = compute()
    if folder is not None:
        known.pop(key, None)
        newest = dict([*known.items(), (key, found)][-MOST:])
        with contextlib.suppress(InputError):
            write_json(folder / FILE, newest)
    return found


def key_of(config: Config, settings: Mapping[str, Any], *parts: tuple[Images, np.ndarray]) -> str:
    """Twenty hexadecimal digits that change with all that an untrained encoder's number depends on.

    Args:
        settings: of the evaluation.
        parts: images, and which of them are used.
    """
    total = hashlib.sha256()
    fields = config.model_dump(mode="json", include=_ENCODER)
    if config.architecture:  # left out for a ResNet, so that what was kept is found
        fields["architecture"] = config.architecture
    total.update(json.dumps([fields, dict(settings)], sort_keys=True).encode())
    for images, indices in parts:
        described = [images.name, images.count, images.identity, images.content]
        total.update(json.dumps([*described, list(images.class_names)]).encode())
        total.update(np.asarray(images.labels, "<i8").tobytes())
        total.update(np.asarray(indices, "<i8").tobytes())
        if not images.content:
            total.update("".join(map(json.dumps, file_stamps(images))).encode())
    return total.hexdigest()[:20]


def _is_result(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"untrained", "pixels"}
        and all(isinstance(number, float) for number in value.values())
    )
