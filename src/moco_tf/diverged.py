"""A run whose numbers are no numbers any more stops, and what was saved before stays the last."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from moco_tf import checkpoint
from moco_tf.errors import DivergedError


def refuse_diverged(
    losses: Mapping[int, tf.Tensor], state: Mapping[str, np.ndarray], folder: Path
) -> None:
    """Raises `DivergedError` if a loss, or anything in the state, is NaN or infinite.

    Args:
        losses: step to scalar, in order: the first that is not finite is told.
        state: name to array, about to be saved.
        folder: of the checkpoints, of which the newest is told.
    """
    values = {step: float(loss) for step, loss in losses.items()}
    step = next((step for step, value in values.items() if not np.isfinite(value)), None)
    wrong = [name for name, array in state.items() if not np.isfinite(array).all()]
    if step is None and not wrong:
        return
    found = []
    if step is not None:
        before = f", at the step before {values[step - 1]:.4g}" if step - 1 in values else ""
        found.append(f"the loss of step {step} is {values[step]}{before}")
    if wrong:
        found.append(f"{len(wrong)} of {len(state)} arrays are not finite, the first is {wrong[0]}")
    newest = checkpoint.newest_step(folder)
    kept = "nothing was saved" if newest is None else f"the checkpoint of step {newest} is kept"
    raise DivergedError(
        f"the run has diverged: {'; '.join(found)}. Nothing of it is saved, {kept}. Use a smaller "
        f"--learning-rate, or --precision float32, with another --run-dir."
    )
