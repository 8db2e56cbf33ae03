"""The parts of a run, each measured for some seconds: input, step, both, kNN, a checkpoint."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from safetensors.numpy import load

from moco_tf.benchmark.cost import rounds_and_steps
from moco_tf.benchmark.rounds import Round, summarize
from moco_tf.data.pipeline import PREFETCHED_BATCHES
from moco_tf.evaluate.knn import knn_predict
from moco_tf.evaluate.split import Split
from moco_tf.runs import checkpoint

PHASE_SECONDS = 8.0  # of the measured rounds of each phase
KNN_SECONDS = 4.0
SAMPLE_BANK, SAMPLE_QUERIES = 512, 256  # of the first, small kNN pass
VOTE_BANK, VOTE_QUERIES = 8192, 256


def phase(one_round: Callable[[int], Round], *, buffered: bool) -> dict[str, Any]:
    """Medians over a few rounds, see `summarize`, with `steps_per_round`; warms up before.

    Args:
        buffered: more batches than usual may lie ready: they are used up first.
    """
    warm = PREFETCHED_BATCHES + 1 if buffered else 1
    one_round(warm)
    rounds, steps = rounds_and_steps(one_round(1).seconds, PHASE_SECONDS)
    measured = summarize([one_round(steps) for _ in range(rounds)])
    return measured | {"steps_per_round": steps}


def knn_image_seconds(top1: Callable[[Split], float], split: Split, vote_seconds: float) -> float:
    """Seconds for each image of a kNN pass, beside the votes; on a part of the images."""
    part = _part(split, SAMPLE_BANK, SAMPLE_QUERIES)
    top1(part)  # traces
    seconds = _seconds(top1, part)
    larger = KNN_SECONDS / seconds
    if larger > 2:
        part = _part(split, int(larger * SAMPLE_BANK), int(larger * SAMPLE_QUERIES))
        seconds = _seconds(top1, part)
    bank, queries = len(part.bank_indices), len(part.query_indices)
    return max(seconds - bank * queries * vote_seconds, 0.0) / (bank + queries)


def label_free_seconds(signals: Callable[[Any], Any], views: Any, pictures: float) -> float:
    """Seconds for the label-free signals of so many times the pictures that `views` are of."""
    signals(views)  # traces
    return pictures * _seconds(signals, views)


def vote_seconds(bank: int, dim: int, k: int) -> float:
    """Seconds for one similarity and its part of the votes: random features of `dim` numbers."""
    bank = min(bank, VOTE_BANK)
    rows = np.random.default_rng(0).standard_normal((bank + VOTE_QUERIES, dim), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    labels = np.zeros(bank, np.int64)

    def vote() -> None:
        knn_predict(rows[:bank], labels, rows[bank:], classes=1, k=k, temperature=0.1)

    vote()
    started = time.perf_counter()
    vote()
    return (time.perf_counter() - started) / (bank * VOTE_QUERIES)


def save_seconds(state: Mapping[str, np.ndarray], *, step: int, extra: Mapping[str, Any]) -> float:
    """Seconds to make, write and read back a checkpoint: in a nameless file, gone at once.

    It lies where temporary files do. What does not fit there is not written, and not counted.
    """
    started = time.perf_counter()
    data = checkpoint.to_bytes(state, step=step, extra=extra)
    try:
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.flush()
            file.seek(0)
            data = file.read()
    except OSError:
        pass
    checkpoint.digest(load(data))
    return time.perf_counter() - started


def _seconds(evaluation: Callable[[Any], Any], data: Any) -> float:
    started = time.perf_counter()
    evaluation(data)
    return time.perf_counter() - started


def _part(split: Split, bank: int, queries: int) -> Split:
    """At most so many images of the bank and of the queries, evenly spread."""
    return split._replace(
        bank_indices=_spread(split.bank_indices, bank),
        query_indices=_spread(split.query_indices, queries),
    )


def _spread(indices: np.ndarray, count: int) -> np.ndarray:
    return indices[np.unique(np.linspace(0, len(indices) - 1, count).astype(np.int64))]
