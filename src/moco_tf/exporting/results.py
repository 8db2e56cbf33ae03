"""What is known of an encoder's worth: the summaries that a run's commands left beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from moco_tf.config import Config
from moco_tf.files.digests import read_json

LARGEST = 1e6  # of the percentages that a summary holds


def known_results(run: Path, config: Config, step: int) -> list[str]:
    """Returns a paragraph for each result in the folder of `run`, numbers and protocol.

    Args:
        run: a run folder, or a converted or fine-tuned file.
        config: of the run.
        step: of the encoder; results of another step are not its own.
    """
    if run.is_dir():
        return [*_pretraining(run, config, step), *_evaluations(run, step)]
    summary = _read(run.parent / "summary.json")
    tuned = run.name == "encoder.safetensors" and "from_scratch" in summary
    return [_accuracy("fine-tuned (this encoder)", summary)] if tuned and _whole(summary) else []


def _pretraining(run: Path, config: Config, step: int) -> Iterator[str]:
    summary = _read(run / "summary.json")
    if not _is_number(summary.get("knn_top1")) or summary.get("step") != step:
        return
    text = (
        f"kNN top-1 {summary['knn_top1']:.2f} % at step {step} (monitor of the "
        f"pre-training: at most {config.knn_max_queries} queries, test images or held-out training "
        f"images of {config.data}; {config.knn_k} nearest among at most {config.knn_max_bank} "
        f"training images by cosine of the {config.knn_features} features, weight "
        f"exp(similarity / {config.knn_temperature:g}))."
    )
    others = {"untrained encoder": "knn_top1_untrained", "raw pixels": "knn_top1_pixels"}
    shown = [
        f"{what} {summary[key]:.2f} %"
        for what, key in others.items()
        if _is_number(summary.get(key))
    ]
    yield f"{text} For comparison: {', '.join(shown)}." if shown else text


def _evaluations(run: Path, step: int) -> Iterator[str]:
    for path in sorted(run.glob("*/summary.json")):
        summary = _read(path)
        same = summary.get("encoder_step", step) == step and not summary.get("from_scratch")
        if not _whole(summary) or not same:
            continue  # no evaluation, or not of this encoder
        further = " (this encoder, trained further)" if "from_scratch" in summary else ""
        yield _accuracy(path.parent.name + further, summary)


def _whole(summary: dict[str, Any]) -> bool:
    """Whether it holds what `_accuracy` says."""
    numbers = all(_is_number(summary.get(name)) for name in ("top1", "top5"))
    return numbers and isinstance(summary.get("protocol"), str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < LARGEST  # so neither NaN nor infinite


def _accuracy(name: str, summary: dict[str, Any]) -> str:
    return (
        f"{name}: top-1 {summary['top1']:.2f} %, top-5 {summary['top5']:.2f} %. "
        f"{summary['protocol']}"
    )


def _read(path: Path) -> dict[str, Any]:
    """The object in a whole JSON file, or an empty one: a card can do without."""
    try:
        return read_json(path)
    except (OSError, ValueError, RecursionError):
        return {}
