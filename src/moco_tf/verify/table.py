"""One row of what is compared after a replayed step, and the walk over such rows."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from moco_tf.verify.report import Ledger
from moco_tf.verify.tolerances import Gate
from moco_tf.verify.traces import Trace

FLOAT64_RUN = "fp64/"  # begins the names of the arrays of the official code's float64 run
TITLES = {"encoder_q": "query encoder", "encoder_k": "key encoder"}


@dataclass(frozen=True)
class Row:
    """A number of the replay and the recorded one.

    Attributes:
        array: name in the file. With `tight` and without `recorded`, the float64 run's array of
            this name is compared as well.
        gate: how far they may be apart.
        tight: the same for a float64 replay against the float64 run.
        recorded: None: the step's part of the array.
        scale: both are divided by it, unless `tight` holds.
    """

    quantity: str
    array: str
    ours: Any
    gate: Gate
    tight: Gate | None = None
    recorded: Any = None
    scale: Any = 1.0


def compare_rows(
    rows: Iterable[Row], trace: Trace, number: int, ledger: Ledger, *, double: bool, restarted: bool
) -> None:
    """Enters each row of step `number` (1, 2, ...) into the ledger.

    Args:
        double: the replay is in float64.
        restarted: it began in the middle, at a state of the float32 run; only this is compared.
    """
    for row in rows:
        both = row.tight and row.recorded is None
        for array in (row.array, FLOAT64_RUN + row.array) if both else (row.array,):
            of_float64 = array.startswith(FLOAT64_RUN)
            if of_float64 and restarted:
                continue
            recorded = row.recorded
            if recorded is None:
                recorded = trace.of_step(array, number, np.shape(row.ours))
            tight = row.tight if of_float64 and double else None
            gate, scale = tight or row.gate, 1.0 if tight else row.scale
            quantity = row.quantity + (", float64 run" if of_float64 else "")
            error = gate.measure(np.divide(row.ours, scale), np.divide(recorded, scale))
            label = quantity + (", restarted" if restarted else "")
            ledger.add(label, number, array, error, gate.tolerance)
