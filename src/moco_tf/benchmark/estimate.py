"""`moco-tf estimate`: from a `Config` to what its run takes, by measuring a few steps of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from moco_tf.benchmark import measure, memory
from moco_tf.benchmark.rounds import input_rounds, repeated, rounds_of, told_views
from moco_tf.benchmark.whole_run import last_step, whole_run
from moco_tf.building import (
    Method,
    build_batches,
    build_images,
    build_method,
    build_step,
    build_strategy,
    with_precision,
)
from moco_tf.config import Config
from moco_tf.data.pipeline import PREFETCHED_BATCHES
from moco_tf.data.sources import Images
from moco_tf.evaluate.features import EVAL_BATCH
from moco_tf.evaluate.knn import PIXEL_SIZE
from moco_tf.evaluate.label_free import PICTURES, held_out
from moco_tf.evaluate.monitor import build_monitors, build_split, build_views
from moco_tf.evaluate.opening import advice
from moco_tf.runs.backbone import find_backbone
from moco_tf.runs.folder import versions
from moco_tf.runs.variables import arrays_of
from moco_tf.training.memory import peak_memory_bytes
from moco_tf.training.progress import Progress


def estimate(config: Config, *, line: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Measures a few steps of the run and tells what all of it takes. Leaves no files.

    Args:
        line: called with what is going on.

    Returns:
        What `whole_run` does, memory, suggestions, the config and the versions.

    Raises:
        InputError: what pre-training would refuse.
    """
    memory_bytes, started = memory.host_bytes(), time.perf_counter()
    told_views(config, line)
    strategy = build_strategy(config)
    config, _ = find_backbone(with_precision(config))
    train, test = build_images(config)
    opening = time.perf_counter() - started
    line(f"opened {train.count} images in {opening:.1f} s")
    input_alone = measure.phase(input_rounds(config, train), warm_up=PREFETCHED_BATCHES + 1)
    line(f"input alone: {input_alone['images_per_second']:.1f} images/s")

    started = time.perf_counter()
    method = build_method(config, strategy, train)
    built = memory.resident_bytes()
    train_step = build_step(config, method)
    one_round = rounds_of(config, train_step, repeated(build_batches(config, train, 0)))
    one_round(1)
    first = time.perf_counter() - started
    line(f"first step after {first:.1f} s")
    step_alone = measure.phase(one_round)
    line(f"step alone: {step_alone['images_per_second']:.1f} images/s")

    waits = input_alone["images_per_second"] < step_alone["images_per_second"]
    one_round = rounds_of(config, train_step, build_batches(config, train, 0))
    together = measure.phase(one_round, warm_up=PREFETCHED_BATCHES + 1 if waits else 1)
    line(f"together: {together['images_per_second']:.1f} images/s")
    del one_round  # with its batches, which would go on being made

    now_and_then, pixel_bytes = _now_and_then(config, method, train, test, line)
    found = whole_run(
        config,
        images=train.count,
        input_speed=input_alone["images_per_second"],
        step_speed=step_alone["images_per_second"],
        together=together,
        start_seconds=opening + first,
        **now_and_then,
    )
    gpu_peak, gpu_bytes = memory.gpu_bytes() or (0, None)
    advised = advice(config, train, strategy.num_replicas_in_sync)
    return found | {
        "peak_memory_bytes": max(peak_memory_bytes(), built + pixel_bytes),
        "memory_bytes": memory_bytes,
        "gpu_peak_memory_bytes": gpu_peak,
        "gpu_memory_bytes": gpu_bytes,
        "suggestions": [asdict(one) for one in advised],
        "n": min(one["n"] for one in (input_alone, step_alone, together)),
        "versions": versions(),
        "config": config.model_dump(mode="json", exclude={"architecture"}),
    }


def _now_and_then(
    config: Config,
    method: Method,
    train: Images,
    test: Images | None,
    line: Callable[[str], None],
) -> tuple[dict[str, Any], int]:
    """Seconds of evaluations and of a checkpoint, for `whole_run`; bytes of the pixels' features.

    These float32 features are held twice: as an array, and where the votes are counted.
    """
    split, knn, pixel_bytes = build_split(config, train, test), None, 0
    top1, pixels, signals = build_monitors(config, method)
    if split:
        dim, pixel_dim = config.dim, 3 * min(config.image_size, PIXEL_SIZE) ** 2
        if config.knn_features == "pooled":
            dim = method.query.encoder.backbone.output_shape[-1]
        knn = (
            measure.knn_seconds(top1, split, dim, config.knn_k),
            measure.knn_seconds(pixels, split, pixel_dim, config.knn_k),
        )
        line(f"one kNN evaluation: {knn[0]:.1f} s")
        pixel_bytes = 2 * 4 * pixel_dim * (len(split.bank_indices) + len(split.query_indices))
    few, all_of_them = (min(held_out(train, test).count, n) for n in (EVAL_BATCH, PICTURES))
    views = build_views(config, train, test, few)
    signals(views)  # traces
    label_free_seconds = measure.seconds_of(lambda: signals(views)) * all_of_them / few
    line(f"one evaluation without labels: {label_free_seconds:.1f} s")
    steps = last_step(config, train.count)
    end = dict.fromkeys(asdict(Progress()), 100 / 3) | {  # numbers of as many digits as a run's
        "step": steps,
        "epoch": config.epochs,
        "images": train.identity,
        "written": None,
        "evaluation_due": False,
    }
    state = arrays_of(method.state())
    save_seconds, checkpoint_bytes = measure.save_seconds(state, step=steps, extra=end)
    return {
        "knn_seconds": knn,
        "label_free_seconds": label_free_seconds,
        "save_seconds": save_seconds,
        "checkpoint_bytes": checkpoint_bytes,
    }, pixel_bytes
