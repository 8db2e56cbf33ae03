"""The cost of a whole run from measured parts: closed forms of plain numbers."""

from __future__ import annotations

import math
from typing import Literal

from moco_tf.training.advice import INPUT_LIMITS_FROM

Limit = Literal["input", "compute", "balanced"]

COMPUTE_LIMITS_TO = 0.45  # as far from a half as `INPUT_LIMITS_FROM`

MOST_ROUNDS, FEWEST_ROUNDS = 5, 3  # of a measurement: a median of fewer is no median
MOST_STEPS = 16  # in a round

# One logging point in metrics.jsonl and in TensorBoard's file: 308 and 750 bytes in a run of the
# shapes, by 4 % more or less with the digits of the numbers.
LOGGED_ROW_BYTES = 1100


def rounds_and_steps(step_seconds: float, seconds: float) -> tuple[int, int]:
    """Returns (rounds, steps in each) of a measurement that is to take `seconds`.

    Steps that take too long get the fewest rounds there may be, of one step, and take longer.
    """
    steps = min(MOST_STEPS, int(seconds / (MOST_ROUNDS * step_seconds)))
    return (MOST_ROUNDS, steps) if steps else (FEWEST_ROUNDS, 1)


def input_share(input_seconds: float, step_seconds: float) -> float:
    """Share of the input path in what a batch takes, each alone on the whole machine: 0 to 1."""
    return input_seconds / (input_seconds + step_seconds)


def limit(share: float) -> Limit:
    """What a run waits for, by `input_share`."""
    if share > INPUT_LIMITS_FROM:
        return "input"
    return "compute" if share < COMPUTE_LIMITS_TO else "balanced"


def evaluations(last_step: int, epoch_steps: int, knn_every: int) -> int:
    """How often the loop evaluates up to `last_step`: every so many epochs, and at the end.

    Not counted: the untrained encoder and the plain pixels, once each before the first step.
    """
    if last_step == 0:
        return 0
    due = last_step // (knn_every * epoch_steps) if knn_every else 0
    at_end = bool(knn_every) and last_step % (knn_every * epoch_steps) == 0
    return due + (not at_end)


def numbered_checkpoints(last_step: int, epoch_steps: int, checkpoint_every: int) -> int:
    """How many step-N files a run writes: at ends of epochs, every so many steps, at the end."""
    if last_step == 0:
        return 1
    both = math.lcm(epoch_steps, checkpoint_every)
    count = last_step // epoch_steps + last_step // checkpoint_every - last_step // both
    return count + bool(last_step % epoch_steps and last_step % checkpoint_every)


def disk_bytes(
    checkpoint_bytes: int, numbered: int, *, keep: int, best: bool, logged_rows: int
) -> int:
    """The most that the run folder ever holds: `keep` checkpoints, one being written, the best one.

    An older checkpoint is deleted only when the new one is whole.

    Args:
        numbered: how many are written in all.
        best: whether best_knn is kept beside them.
        logged_rows: logging points and evaluations in metrics.jsonl and TensorBoard's file.
    """
    files = min(numbered, keep + 1) + best
    return files * checkpoint_bytes + logged_rows * LOGGED_ROW_BYTES
