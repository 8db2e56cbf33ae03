"""The parts of a run, each measured for some seconds: steps, a kNN evaluation, a checkpoint."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from safetensors.numpy import load

from moco_tf.benchmark.rounds import Round, summarize
from moco_tf.data.listing import spread
from moco_tf.evaluate.knn import knn_predict
from moco_tf.evaluate.split import Split
from moco_tf.runs import checkpoint_file

PHASE_SECONDS = 8.0  # of the measured rounds of each phase
MOST_ROUNDS, FEWEST_ROUNDS = 5, 3  # of a phase: a median of fewer is no median
MOST_STEPS = 16  # in a round
KNN_SECONDS = 4.0
SAMPLE_BANK, SAMPLE_QUERIES = 512, 256  # of the first, small kNN pass
VOTE_BANK, VOTE_QUERIES = 8192, 256


def phase(one_round: Callable[[int], Round], *, warm_up: int = 1) -> dict[str, Any]:
    """Medians over a few rounds, see `summarize`, with `steps_per_round`.

    Steps that take too long get the fewest rounds there may be, of one step, and take longer.

    Args:
        warm_up: steps before; of more batches than that may lie ready, they are to be used up.
    """
    one_round(warm_up)
    seconds = one_round(1).seconds
    steps = min(MOST_STEPS, int(PHASE_SECONDS / (MOST_ROUNDS * seconds)))
    rounds = MOST_ROUNDS if steps else FEWEST_ROUNDS
    measured = [one_round(max(steps, 1)) for _ in range(rounds)]
    return summarize(measured) | {"steps_per_round": max(steps, 1)}


def knn_seconds(top1: Callable[[Split], float], split: Split, dim: int, k: int) -> float:
    """Seconds of a kNN evaluation with features of `dim` numbers, on a part of images and votes."""
    bank, queries = len(split.bank_indices), len(split.query_indices)
    vote = _vote_seconds(bank, dim, k)
    return (bank + queries) * image_seconds(top1, split, vote) + bank * queries * vote


def image_seconds(top1: Callable[[Split], float], split: Split, vote_seconds: float) -> float:
    """Seconds for each image of a kNN pass, beside the votes; on a part of the images."""
    part = _part(split, SAMPLE_BANK, SAMPLE_QUERIES)
    top1(part)  # traces
    seconds = seconds_of(lambda: top1(part))
    larger = KNN_SECONDS / seconds
    if larger > 2:
        part = _part(split, int(larger * SAMPLE_BANK), int(larger * SAMPLE_QUERIES))
        seconds = seconds_of(lambda: top1(part))
    bank, queries = len(part.bank_indices), len(part.query_indices)
    return max(seconds - bank * queries * vote_seconds, 0.0) / (bank + queries)


def save_seconds(
    state: Mapping[str, np.ndarray], *, step: int, extra: Mapping[str, Any]
) -> tuple[float, int]:
    """Seconds to make, write and read back a checkpoint, and its bytes. Its file has no name.

    It lies where temporary files do. What does not fit there is not written, and not counted.
    """
    started = time.perf_counter()
    data = checkpoint_file.to_bytes(state, step=step, extra=extra)
    size = len(data)
    try:
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.flush()
            file.seek(0)
            data = file.read()
    except OSError:
        pass
    checkpoint_file.digest(load(data))
    return time.perf_counter() - started, size


def seconds_of(work: Callable[[], Any]) -> float:
    """Seconds that `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _vote_seconds(bank: int, dim: int, k: int) -> float:
    """Seconds for one similarity and its part of the votes: random features of `dim` numbers."""
    bank = min(bank, VOTE_BANK)
    rows = np.random.default_rng(0).standard_normal((bank + VOTE_QUERIES, dim), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    labels = np.zeros(bank, np.int64)

    def vote() -> None:
        knn_predict(rows[:bank], labels, rows[bank:], classes=1, k=k, temperature=0.1)

    vote()
    return seconds_of(vote) / (bank * VOTE_QUERIES)


def _part(split: Split, bank: int, queries: int) -> Split:
    """At most so many images of the bank and of the queries, evenly spread."""
    return split._replace(
        bank_indices=_spread(split.bank_indices, bank),
        query_indices=_spread(split.query_indices, queries),
    )


def _spread(indices: np.ndarray, count: int) -> np.ndarray:
    return indices[spread(len(indices), count)]
