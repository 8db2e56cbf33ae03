"""What a whole run takes, from its config and from measured parts of it. Measures nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from moco_tf.benchmark import cost
from moco_tf.config import Config
from moco_tf.data.pipeline import steps_per_epoch
from moco_tf.recipes import RECIPES
from moco_tf.runs.checkpoint import KEEP
from moco_tf.training.advice import Facts, suggestions


@dataclass(frozen=True)
class KnnParts:
    """One kNN evaluation: its images, its votes (bank x queries), and seconds for each of them."""

    images: int
    votes: int
    image_seconds: float
    vote_seconds: float
    pixel_image_seconds: float = 0.0  # of the plain pixels, evaluated once
    pixel_vote_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """Of the encoder's features."""
        return self.images * self.image_seconds + self.votes * self.vote_seconds

    @property
    def pixel_seconds(self) -> float:
        """Of the plain pixels."""
        return self.images * self.pixel_image_seconds + self.votes * self.pixel_vote_seconds


@dataclass(frozen=True)
class Parts:
    """What was measured: speeds, alone and together, and what comes once or now and then."""

    images: int
    input_images_per_second: float
    step_images_per_second: float
    images_per_second: float  # input and step together, as in training
    cpu_seconds_per_image: float
    data_wait: float
    n: int  # rounds behind these medians, of each of the three
    start_seconds: float  # opening the images, building, the first step
    save_seconds: float
    knn: KnnParts | None
    label_free_seconds: float  # one evaluation
    checkpoint_bytes: int
    peak_memory_bytes: int
    memory_bytes: int | None = None
    gpu_peak_bytes: int = 0
    gpu_bytes: int | None = None
    disk_free_bytes: int | None = None
    devices: int = 1
    gpus: int = 0
    encoded: bool = False
    short_sides: tuple[int, int] | None = None
    small_images: int = 0


def last_step(config: Config, images: int) -> int:
    """Steps of the run in all, of so many images."""
    planned = config.epochs * steps_per_epoch(images, config.batch_size)
    return planned if config.max_steps is None else min(planned, config.max_steps)


def whole_run(config: Config, parts: Parts) -> dict[str, Any]:
    """Returns time, memory and disk of the run, what limits it, and what is off in the config.

    `seconds_per_epoch` is of the training steps alone; `seconds_total` is the sum of `seconds`.
    """
    epoch_steps = steps_per_epoch(parts.images, config.batch_size)
    steps = last_step(config, parts.images)
    step_seconds = config.batch_size / parts.images_per_second
    numbered = cost.numbered_checkpoints(steps, epoch_steps, config.checkpoint_every)
    evaluations = cost.evaluations(steps, epoch_steps, config.knn_every)
    with_knn = evaluations if parts.knn else 0
    in_the_loop = with_knn * parts.knn.seconds if parts.knn else 0.0
    before = parts.knn.seconds + parts.knn.pixel_seconds if parts.knn else 0.0
    seconds = {
        "start": parts.start_seconds,
        "steps": steps * step_seconds,
        "knn": before + in_the_loop,
        "label_free": (1 + evaluations) * parts.label_free_seconds,
        "checkpoints": (numbered + with_knn) * parts.save_seconds,  # each may be the best yet
    }
    disk = cost.disk_bytes(
        parts.checkpoint_bytes,
        numbered,
        keep=KEEP,
        best=with_knn > 0,
        logged_rows=-(-steps // config.log_every) + 1 + evaluations,
    )
    share = cost.input_share(1 / parts.input_images_per_second, 1 / parts.step_images_per_second)
    recipe = RECIPES.get(config.recipe)
    facts = Facts(
        images=parts.images,
        steps=config.epochs * epoch_steps,
        devices=parts.devices,
        gpus=parts.gpus,
        encoded=parts.encoded,
        short_sides=parts.short_sides,
        small_images=parts.small_images,
        input_share=share,
        data_wait=parts.data_wait,
        peak_memory_bytes=parts.peak_memory_bytes,
        memory_bytes=parts.memory_bytes,
        gpu_peak_bytes=parts.gpu_peak_bytes,
        gpu_bytes=parts.gpu_bytes,
        disk_bytes=disk,
        disk_free_bytes=parts.disk_free_bytes,
        knn_seconds=in_the_loop + evaluations * parts.label_free_seconds,
        seconds=sum(seconds.values()),
        recipe_learning_rate=recipe.config.learning_rate if recipe else None,
    )
    calls = 2 if config.symmetric else 1
    return {
        "seconds_per_epoch": epoch_steps * step_seconds,
        "seconds_total": sum(seconds.values()),
        "seconds": seconds,
        "images_per_second": parts.images_per_second,
        "input_images_per_second": parts.input_images_per_second,
        "step_images_per_second": parts.step_images_per_second,
        "cpu_seconds_per_image": parts.cpu_seconds_per_image,
        "data_wait": parts.data_wait,
        "limits": cost.limit(share),
        "input_share": share,
        "peak_memory_bytes": parts.peak_memory_bytes,
        "memory_bytes": parts.memory_bytes,
        "gpu_peak_memory_bytes": parts.gpu_peak_bytes,
        "gpu_memory_bytes": parts.gpu_bytes,
        "checkpoint_bytes": parts.checkpoint_bytes,
        "disk_bytes": disk,
        "images": parts.images,
        "steps_per_epoch": epoch_steps,
        "steps_total": steps,
        "knn_evaluations": with_knn,
        "checkpoints_written": numbered,
        "queue_epochs": config.queue_size / calls / parts.images,
        "suggestions": [asdict(found) for found in suggestions(config, facts)],
        "n": parts.n,
    }
