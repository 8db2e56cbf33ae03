"""Whether a checkpoint's results are of as many classifiers as are trained now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moco_tf.config import short_repr
from moco_tf.errors import InputError

RESULTS = ("loss", "top1", "top5", "top1_best")
SUMS = {"loss", "top1", "top5", "images"}  # of `classifier.batch_sums`


def check_heads(extra: Mapping[str, Any], heads: int, out: Path) -> None:
    """Raises `InputError` unless all results in `extra` that are there are of `heads` classifiers.

    Args:
        extra: the fields of a `training.Progress`, each of its type.
        out: the folder that holds the checkpoint, for the message.
    """
    lists = {name: extra.get(name) for name in RESULTS}
    sums = extra.get("sums")
    if sums is not None:
        lists |= {f"sums/{name}": sums.get(name, ()) for name in SUMS - {"images"}}
    odd = [n for n, v in lists.items() if v is not None and (_length(v) != heads)]
    if sums is not None and (set(sums) != SUMS or _length(sums["images"]) is not None):
        odd.append("sums")
    if odd:
        name = odd[0].partition("/")[0]
        raise InputError(
            f"the newest checkpoint in {out} does not fit {heads} classifier(s): its field "
            f"{name!r} is {short_repr(extra[name])}. Use another --out, or remove that folder."
        )


def _length(value: Any) -> int | None:
    return len(value) if isinstance(value, list | tuple) else None
