"""Rounds of equal work, timed: medians over them, and the memory of the process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from moco_tf.training.memory import peak_memory_bytes


@dataclass(frozen=True)
class Round:
    """What one round took. CPU seconds are of all threads of this process."""

    images: int
    seconds: float
    cpu_seconds: float
    waited: float = 0.0  # seconds of them spent waiting for data

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds


def timed(work: Callable[[], int], waited: Callable[[], float] = lambda: 0.0) -> Round:
    """Runs `work`, which returns how many images it took, and times it.

    Args:
        waited: returns the seconds spent waiting for data up to now.
    """
    wall, cpu, before = time.perf_counter(), time.process_time(), waited()
    images = work()
    seconds = time.perf_counter() - wall
    return Round(images, seconds, time.process_time() - cpu, waited() - before)


def summarize(rounds: list[Round]) -> dict[str, Any]:
    """Returns medians over the rounds, their number `n`, the rounds themselves and the peak."""

    def median(value: Callable[[Round], float]) -> float:
        return statistics.median(value(one) for one in rounds)

    return {
        "images_per_second": median(lambda one: one.images_per_second),
        "cpu_seconds_per_image": median(lambda one: one.cpu_seconds / one.images),
        "data_wait": median(lambda one: one.waited / one.seconds),
        "peak_memory_bytes": peak_memory_bytes(),
        "n": len(rounds),
        "rounds": [asdict(one) for one in rounds],
    }
