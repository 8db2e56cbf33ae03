"""What a whole run takes, from its config and from measured parts of it. Measures nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moco_tf.config import Config
from moco_tf.data.pipeline import steps_per_epoch
from moco_tf.runs.checkpoint import KEEP

# Share of the input in the time of input and step, each alone, from which on it is called the
# limit; up to one minus this it is the step. Nearer to a half, which of them is slower changes from
# round to round: rounds of one process differ by 5 % and more on a shared machine.
INPUT_LIMITS_FROM = 0.55

# One logging point in metrics.jsonl and in TensorBoard's file: 308 and 750 bytes in a run of the
# shapes, by 4 % more or less with the digits of the numbers.
LOGGED_ROW_BYTES = 1100


def last_step(config: Config, images: int) -> int:
    """Steps of the run in all, of so many images."""
    planned = config.epochs * steps_per_epoch(images, config.batch_size)
    return planned if config.max_steps is None else min(planned, config.max_steps)


def checkpoints_and_evaluations(config: Config, images: int) -> tuple[int, int]:
    """How many step-N files the loop writes, and how often it evaluates.

    Not counted: the untrained encoder and the plain pixels, once each before the first step.
    """
    epoch_steps, last = steps_per_epoch(images, config.batch_size), last_step(config, images)
    steps = range(1, last + 1)
    saves = sum(
        n == last or n % epoch_steps == 0 or n % config.checkpoint_every == 0 for n in steps
    )
    between = config.knn_every * epoch_steps or last + 1  # 0: only at the end
    return max(saves, 1), sum(n == last or n % between == 0 for n in steps)


def limit(input_share: float) -> str:
    """What a run waits for: "input", "compute" or "balanced"."""
    if input_share > INPUT_LIMITS_FROM:
        return "input"
    return "compute" if input_share < 1 - INPUT_LIMITS_FROM else "balanced"


def whole_run(
    config: Config,
    *,
    images: int,
    input_speed: float,
    step_speed: float,
    together: Mapping[str, Any],
    start_seconds: float,
    knn_seconds: tuple[float, float] | None,
    label_free_seconds: float,
    save_seconds: float,
    checkpoint_bytes: int,
) -> dict[str, Any]:
    """Returns time and disk of the run, and what limits it.

    `seconds_per_epoch` is of the training steps alone; `seconds_total` is the sum of `seconds`.
    `disk_bytes` is the most that the folder ever holds: an older checkpoint is deleted only when
    the new one is whole.

    Args:
        images: of the training set.
        input_speed, step_speed: images/s of each alone.
        together: of both, as `summarize` returns it.
        start_seconds: opening the images, building, the first step.
        knn_seconds: of one evaluation of the encoder and of one of plain pixels; None: no labels.
        label_free_seconds: of one evaluation.
        save_seconds, checkpoint_bytes: of one checkpoint.
    """
    epoch_steps, steps = steps_per_epoch(images, config.batch_size), last_step(config, images)
    step_seconds = config.batch_size / together["images_per_second"]
    saves, evaluations = checkpoints_and_evaluations(config, images)
    knn_evaluations = evaluations if knn_seconds else 0
    encoder, pixels = knn_seconds or (0.0, 0.0)
    seconds = {
        "start": start_seconds,
        "steps": steps * step_seconds,
        "knn": (1 + evaluations) * encoder + pixels,
        "label_free": (1 + evaluations) * label_free_seconds,
        "checkpoints": saves * save_seconds,  # the best one is another name of one of them
    }
    share = step_speed / (input_speed + step_speed)
    kept = min(saves, KEEP + 1) + (knn_evaluations > 0)
    logged = -(-steps // config.log_every) + 1 + evaluations
    return {
        "seconds_per_epoch": epoch_steps * step_seconds,
        "seconds_total": sum(seconds.values()),
        "seconds": seconds,
        "images_per_second": together["images_per_second"],
        "input_images_per_second": input_speed,
        "step_images_per_second": step_speed,
        "cpu_seconds_per_image": together["cpu_seconds_per_image"],
        "data_wait": together["data_wait"],
        "limits": limit(share),
        "input_share": share,
        "checkpoint_bytes": checkpoint_bytes,
        "disk_bytes": kept * checkpoint_bytes + logged * LOGGED_ROW_BYTES,
        "images": images,
        "steps_per_epoch": epoch_steps,
        "steps_total": steps,
        "knn_evaluations": knn_evaluations,
        "checkpoints_written": saves,
        "queue_epochs": config.queue_size / (2 if config.symmetric else 1) / images,
    }
