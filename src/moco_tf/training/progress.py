"""How far a run is, as its checkpoint says: looked at before the run goes on from it.

Right digests tell that a file is as it was written, not that this version wrote it. Imports no
TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from moco_tf.config import short_repr
from moco_tf.errors import InputError
from moco_tf.runs.log_digests import Digests

Kind = TypeVar("Kind")
STRICT = ConfigDict(strict=True, extra="forbid")
FORMER = {"probed": "provenance", "knn_due": "evaluation_due"}  # names in older checkpoints


def progress_of(kind: type[Kind], extra: Mapping[str, Any], *, step: int, folder: Path) -> Kind:
    """Returns what a checkpoint holds beside its arrays.

    Args:
        kind: a `STRICT` dataclass with a field `step`; fields that are absent, as in checkpoints of
            older versions, get their defaults.
        extra: the checkpoint's, any JSON object.
        step: the checkpoint's own.
        folder: where it lies, for the message.

    Raises:
        InputError: a field is unknown, or of another type, or the steps are not the same.
    """
    extra = {FORMER.get(name, name): value for name, value in extra.items()}
    unknown = sorted(extra.keys() - {field.name for field in fields(kind)})  # type: ignore[arg-type]
    try:
        if unknown:
            problem = f"its field {short_repr(unknown[0])} is not known"
        else:
            found: Any = kind(**extra)
            if found.step == step:
                return found
            problem = f"its field 'step' is {short_repr(found.step)}"
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        problem = f"its field {name!r} is {short_repr(extra[name])}"
    raise InputError(
        f"the checkpoint of step {step} in {folder} is not one that this version goes on from: "
        f"{problem}. Was it written by a newer version? Use that, or another folder."
    )


@dataclass(config=STRICT)
class Progress:
    """How far a run is, beside its arrays; every checkpoint keeps it. Accuracies in percent."""

    step: int = 0
    epoch: int = 0  # whole ones
    images: str | None = None  # identity of the training data, whose order is shuffled
    seconds: float = 0.0
    loss: float | None = None
    images_per_second: float | None = None
    knn_top1: float | None = None
    knn_top1_best: float | None = None
    knn_top1_untrained: float | None = None
    knn_top1_pixels: float | None = None
    view_retrieval: float | None = None  # these four as in evaluate/label_free.py
    view_retrieval_untrained: float | None = None
    alignment: float | None = None
    alignment_untrained: float | None = None
    uniformity: float | None = None
    uniformity_untrained: float | None = None
    effective_rank: float | None = None
    effective_rank_untrained: float | None = None
    evaluation_due: bool = False  # a signal came before or during the evaluation after this step
    written: Digests | None = None  # of the logs


def summary_of(progress: Progress) -> dict[str, Any]:
    """Returns what a summary tells of it: the numbers, not what only the loop needs."""
    summary = asdict(progress)  # type: ignore[call-overload]
    del summary["images"], summary["epoch"], summary["evaluation_due"], summary["written"]
    return summary
