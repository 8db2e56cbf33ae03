"""The three measurements of `moco-tf benchmark`, from a `Config` to a result."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from moco_tf.benchmark.rounds import Round, input_rounds, step_rounds, summarize, told_views
from moco_tf.building import build_images
from moco_tf.config import Config
from moco_tf.errors import InputError
from moco_tf.runs.folder import versions

What = Literal["input", "step", "train"]


def benchmark(
    what: What,
    config: Config,
    *,
    steps: int = 5,
    rounds: int = 7,
    line: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measures the input path, the step, or both together, as `config` says.

    Args:
        what: "input" (the run's images, nothing trained), "step" (one synthetic batch) or "train".
        steps: batches in a round.
        rounds: how many are measured; one more comes before them and does not count.
        line: called with what is going on.

    Returns:
        Medians over the rounds: `images_per_second` (an image is both of its views),
        `cpu_seconds_per_image`; `peak_memory_bytes`, `n`, `rounds`, and the conditions.

    Raises:
        InputError: for a number out of range, or anything wrong with config or data.
    """
    for name, value in (("steps", steps), ("rounds", rounds)):
        if value < 1:
            raise InputError(f"{name} must be at least 1; received {name}={value}.")
    if what != "step":
        told_views(config, line)
    first: float | None = None
    one_round: Callable[[], Round]
    if what == "input":
        one_round = partial(input_rounds(config, build_images(config)[0]), steps)
    else:
        images = build_images(config)[0] if what == "train" else None
        one_round, first = step_rounds(config, images, steps=steps)
        line(f"first step after {first:.1f} s")
    one_round()
    measured: list[Round] = []
    for number in range(1, rounds + 1):
        measured.append(one_round())
        line(f"round {number}/{rounds}: {measured[-1].images_per_second:.2f} images/s")
    result = {"what": what} | summarize(measured) | {"steps_per_round": steps}
    if what != "train":
        del result["data_wait"]
    if first is not None:
        result["first_step_seconds"] = first
    return result | {"config": config.model_dump(mode="json"), "versions": versions()}
