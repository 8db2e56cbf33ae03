"""The measuring of `moco-tf estimate`: from a `Config` to the parts that its run consists of."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tensorflow as tf

from moco_tf.benchmark import measure, memory
from moco_tf.benchmark.checkpoint_size import checkpoint_bytes
from moco_tf.benchmark.input import input_rounds
from moco_tf.benchmark.step import repeated, rounds_of
from moco_tf.benchmark.whole_run import KnnParts, Parts, last_step, whole_run
from moco_tf.build import (
    build_batches,
    build_images,
    build_method,
    build_monitors,
    build_split,
    build_step,
    build_strategy,
    build_views,
)
from moco_tf.config import Config
from moco_tf.evaluate.knn import EVAL_BATCH, PIXEL_SIZE
from moco_tf.evaluate.label_free import PICTURES, held_out
from moco_tf.evaluate.split import Split
from moco_tf.methods.moco import MoCo
from moco_tf.runs.folder import versions
from moco_tf.training.advice import short_sides
from moco_tf.training.memory import peak_memory_bytes
from moco_tf.training.progress import Progress


def estimate(config: Config, *, line: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Measures a few steps of the run and tells what all of it takes. Leaves no files.

    Args:
        line: called with what is going on.

    Returns:
        What `whole_run` does, with the config and the versions.

    Raises:
        InputError: what pre-training would refuse.
    """
    found = whole_run(config, _parts(config, line))
    return found | {"versions": versions(), "config": config.model_dump(mode="json")}


def _parts(config: Config, line: Callable[[str], None]) -> Parts:
    memory_bytes, started = memory.host_bytes(), time.perf_counter()
    strategy = build_strategy(config)
    train, test = build_images(config, None)
    opening = time.perf_counter() - started
    line(f"opened {train.count} images in {opening:.1f} s")
    input_alone = measure.phase(input_rounds(config, train), buffered=True)
    line(f"input alone: {input_alone['images_per_second']:.1f} images/s")

    started = time.perf_counter()
    method = build_method(config, strategy, train)
    built = memory.resident_bytes()
    train_step = build_step(config, method)
    one_round = rounds_of(config, train_step, repeated(build_batches(config, train, 0)))
    one_round(1)
    first = time.perf_counter() - started
    line(f"first step after {first:.1f} s")
    step_alone = measure.phase(one_round, buffered=False)
    line(f"step alone: {step_alone['images_per_second']:.1f} images/s")

    waits = input_alone["images_per_second"] < step_alone["images_per_second"]
    one_round = rounds_of(config, train_step, build_batches(config, train, 0))
    together = measure.phase(one_round, buffered=waits)
    line(f"together: {together['images_per_second']:.1f} images/s")
    del one_round  # with its batches, which would go on being made

    split = build_split(config, train, test)
    top1, pixels, signals = build_monitors(config, method)
    knn = _knn(config, method, split, top1, pixels) if split else None
    if knn:
        line(f"one kNN evaluation: {knn.seconds:.1f} s")
    few, all_of_them = (min(held_out(train, test).count, n) for n in (EVAL_BATCH, PICTURES))
    label_free_seconds = measure.label_free_seconds(
        signals, build_views(config, train, test, few), all_of_them / few
    )
    line(f"one evaluation without labels: {label_free_seconds:.1f} s")
    state = {name: variable.numpy() for name, variable in method.state().items()}
    steps = last_step(config, train.count)
    counts = {
        "step": steps,
        "epoch": config.epochs,
        "images": train.identity,
        "written": None,
        "evaluation_due": False,
    }
    end = dict.fromkeys(asdict(Progress()), 100 / 3) | counts
    shapes = {name: (array.shape, array.dtype.name) for name, array in state.items()}
    gpu_peak, gpu = memory.gpu_bytes() or (0, None)
    return Parts(
        images=train.count,
        input_images_per_second=input_alone["images_per_second"],
        step_images_per_second=step_alone["images_per_second"],
        images_per_second=together["images_per_second"],
        cpu_seconds_per_image=together["cpu_seconds_per_image"],
        data_wait=together["data_wait"],
        n=min(one["n"] for one in (input_alone, step_alone, together)),
        start_seconds=opening + first,
        save_seconds=measure.save_seconds(state, step=steps, extra=end),
        knn=knn,
        label_free_seconds=label_free_seconds,
        checkpoint_bytes=checkpoint_bytes(shapes, step=steps, extra=end),
        peak_memory_bytes=_peak(config, built, split, peak_memory_bytes()),
        memory_bytes=memory_bytes,
        gpu_peak_bytes=gpu_peak,
        gpu_bytes=gpu,
        disk_free_bytes=_disk_free(Path(config.run_dir or f"runs/{config.recipe}")),
        devices=strategy.num_replicas_in_sync,
        gpus=len(tf.config.list_physical_devices("GPU")),
        encoded=train.encoded,
        short_sides=short_sides(train.sizes),
        small_images=len(train.smaller_than(config.image_size)),
    )


def _knn(
    config: Config,
    method: MoCo,
    split: Split,
    features: Callable[[Split], float],
    pixels: Callable[[Split], float],
) -> KnnParts:
    bank, queries = len(split.bank_indices), len(split.query_indices)
    dim = config.dim
    if config.knn_features == "pooled":
        dim = method.query.encoder.backbone.output_shape[-1]
    vote, pixel_vote = (
        measure.vote_seconds(bank, d, config.knn_k) for d in (dim, _pixel_dim(config))
    )
    return KnnParts(
        images=bank + queries,
        votes=bank * queries,
        image_seconds=measure.knn_image_seconds(features, split, vote),
        vote_seconds=vote,
        pixel_image_seconds=measure.knn_image_seconds(pixels, split, pixel_vote),
        pixel_vote_seconds=pixel_vote,
    )


def _peak(config: Config, built: int, split: Split | None, measured: int) -> int:
    """The peak of the run: that of the steps, or of the plain pixels, compared before the first.

    Their float32 features are held twice: as an array, and where the votes are counted.
    """
    images = len(split.bank_indices) + len(split.query_indices) if split else 0
    return max(measured, built + 2 * 4 * images * _pixel_dim(config))


def _pixel_dim(config: Config) -> int:
    return 3 * min(config.image_size, PIXEL_SIZE) ** 2


def _disk_free(run_dir: Path) -> int | None:
    """Bytes free where the run folder is or will be."""
    there = next(path for path in (run_dir, *run_dir.absolute().parents) if path.exists())
    try:
        return shutil.disk_usage(there).free
    except OSError:
        return None
