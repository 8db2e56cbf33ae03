"""What a linear probe keeps: how far it is, its arrays, and the classifier that it reports."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from moco_tf import checkpoint, run_folder
from moco_tf.errors import InputError
from moco_tf.evaluate.linear import LinearProbe


@dataclass
class Progress:
    """How far a probe is, beside its arrays. Accuracies in percent, one of each head."""

    step: int = 0
    seconds: float = 0.0
    probed: dict[str, Any] = field(default_factory=dict)  # which encoder, on how many images
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
    out: Path, linear: LinearProbe, probed: dict[str, Any], *, warn: Callable[[str], None]
) -> Progress:
    """Gives `linear` the arrays of the newest checkpoint in `out`, if any; returns its progress.

    Args:
        probed: which encoder, on how many images.

    Raises:
        InputError: if the checkpoint is of another encoder or of other images.
    """
    restored = checkpoint.load_latest(run_folder.checkpoint_folder(out), warn=warn)
    if restored is None:
        return Progress(probed=probed)
    arrays, _, extra = restored
    there = extra["probed"]
    different = [name for name in probed if there.get(name) != probed[name]]
    if different:
        listed = ", ".join(f"{n} ({there.get(n)} there, {probed[n]} now)" for n in different)
        raise InputError(
            f"{out} holds a probe of another encoder or of other images: {listed}. "
            f"Use another --out, or remove that folder."
        )
    checkpoint.assign(linear.state(), arrays)
    return Progress(**extra)


def arrays_of(linear: LinearProbe) -> dict[str, np.ndarray]:
    """Everything that a step changes, as a checkpoint holds it."""
    return {name: variable.numpy() for name, variable in linear.state().items()}


def save_head(out: Path, linear: LinearProbe, summary: dict, class_names) -> None:
    """head.safetensors: the reported classifier alone, [D, C] and [C], with its class names."""
    number = [head["lr"] for head in summary["heads"]].index(summary["lr"])
    arrays = {"fc/kernel": linear.kernels.numpy()[number], "fc/bias": linear.biases.numpy()[number]}
    extra = {"lr": summary["lr"], "top1": summary["top1"], "class_names": list(class_names)}
    folder = run_folder.checkpoint_folder(out)
    checkpoint.save(folder, arrays, step=summary["step"], extra=extra, tag="head")
