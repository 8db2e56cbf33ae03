"""How far the training of classifiers is, as a checkpoint says, and going on from there."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

import tensorflow as tf
from pydantic import ValidationError, conlist, create_model
from pydantic.dataclasses import dataclass

from moco_tf.config import short_repr
from moco_tf.errors import InputError
from moco_tf.runs import checkpoint, variables
from moco_tf.runs import folder as run_folder
from moco_tf.runs.log_digests import Digests
from moco_tf.training.progress import STRICT, progress_of

RESULTS = ("loss", "top1", "top5", "top1_best")
SUMS = {"loss", "top1", "top5", "images"}  # of `classifier.batch_sums`


@dataclass(config=STRICT)
class Progress:
    """How far a probe is, beside its arrays. Accuracies in percent, one of each head."""

    step: int = 0
    epoch: int = 0  # whole ones
    seconds: float = 0.0
    images_per_second: float | None = None
    provenance: dict[str, Any] = field(default_factory=dict)  # which encoder, on which images
    written: Digests | None = None  # of the logs
    evaluation_due: bool = False  # a signal came before or during the evaluation after this step
    sums: dict[str, list[float] | float] | None = None  # `batch_sums` since the last logging point
    loss: list[float] | None = None
    top1: list[float] | None = None  # of the last whole epoch, on the test images
    top5: list[float] | None = None
    top1_best: list[float] | None = None

    def note(self, tested: dict[str, list[float]]) -> bool:
        """Keeps the results of an epoch; returns whether one of its top-1 is the best so far."""
        before = self.top1_best or [-math.inf] * len(tested["top1"])
        self.top1, self.top5 = tested["top1"], tested["top5"]
        self.top1_best = [max(pair) for pair in zip(before, tested["top1"], strict=True)]
        return max(tested["top1"]) > max(before)


def restore(
    out: Path, model: Any, provenance: dict[str, Any], heads: int, warn: Callable[[str], None]
) -> Progress:
    """Gives `model` the arrays of the newest checkpoint in `out`, if any; returns its progress.

    Args:
        model: `LinearProbe` or `Finetuner`.
        provenance: which encoder, on which images.
        heads: classifiers that are trained.

    Raises:
        InputError: if the checkpoint is of another encoder or of other images, or not one that
            this version writes.
    """
    folder = run_folder.checkpoint_folder(out)
    restored = checkpoint.load_latest(folder, warn=warn)
    if restored is None:
        return Progress(provenance=provenance)
    arrays, step, extra = restored
    progress = progress_of(Progress, extra, step=step, folder=folder)
    there = progress.provenance
    different = [name for name in provenance if there.get(name) != provenance[name]]
    if different:
        listed = ", ".join(f"{n} ({there.get(n)} there, {provenance[n]} now)" for n in different)
        raise InputError(
            f"{out} holds results of another encoder or of other images: {listed}. "
            f"Use another --out, or remove that folder."
        )
    check_heads(extra, heads, out)
    variables.assign(model.state(), arrays)
    if progress.sums is not None:
        progress.sums = {n: tf.constant(v, tf.float32) for n, v in progress.sums.items()}
    return progress


def check_heads(extra: Mapping[str, Any], heads: int, out: Path) -> None:
    """Raises `InputError` unless all results in `extra` that are there are of `heads` classifiers.

    Args:
        extra: the fields of a `Progress`, each of its type.
        out: the folder that holds the checkpoint, for the message.
    """
    each: Any = conlist(float, min_length=heads, max_length=heads)
    sums: dict[str, Any] = dict.fromkeys(SUMS, each) | {"images": float}
    fields: dict[str, Any] = dict.fromkeys(RESULTS, (each | None, None))
    fields["sums"] = create_model("Sums", __config__=STRICT, **sums) | None, None
    try:
        create_model("Results", **fields).model_validate(extra)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise InputError(
            f"the newest checkpoint in {out} does not fit {heads} classifier(s): its field "
            f"{name!r} is {short_repr(extra[name])}. Use another --out, or remove that folder."
        ) from None
