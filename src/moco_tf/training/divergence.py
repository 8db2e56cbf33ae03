"""A run whose numbers are no numbers any more stops, and what was saved before stays the last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from moco_tf.errors import DivergedError
from moco_tf.runs import checkpoint
from moco_tf.training.finite import IMAGES

ADVICE = "Use a smaller --learning-rate, or --precision float32, with another --run-dir."


def refuse_diverged(
    unchecked_steps: Mapping[int, tuple[tf.Tensor, tf.Tensor]],
    names: Sequence[str],
    state: Mapping[str, np.ndarray],
    folder: Path,
    advice: str = ADVICE,
) -> None:
    """Raises `DivergedError` if a number of a step, or anything in the state, is NaN or infinite.

    Args:
        unchecked_steps: step to (loss, number of the tensor where it began or 0), in order: the
            first that is not finite is reported.
        names: of the tensors, from 1 on.
        state: name to array, about to be saved.
        folder: of the checkpoints, of which the newest is reported.
        advice: what to try.
    """
    losses = {step: float(loss) for step, (loss, _) in unchecked_steps.items()}
    began = {step: int(number) for step, (_, number) in unchecked_steps.items()}
    step = next((n for n in unchecked_steps if began[n] or not np.isfinite(losses[n])), None)
    wrong = [name for name, array in state.items() if not np.isfinite(array).all()]
    if step is None and not wrong:
        return
    found, name = [], ""
    if step is not None:
        name = names[began[step] - 1] if began[step] else "the loss"
        before = f", at the step before {losses[step - 1]:.4g}" if step - 1 in losses else ""
        found.append(
            f"at step {step}, where it began with {name} (the loss of step {step} is "
            f"{losses[step]:.4g}{before})"
        )
    if wrong:
        found.append(f"{len(wrong)} of {len(state)} arrays are not finite, the first is {wrong[0]}")
    newest = checkpoint.newest_step(folder)
    kept = "nothing was saved" if newest is None else f"the checkpoint of step {newest} is kept"
    if name == IMAGES:
        advice = "Look for what is wrong with the images."
    raise DivergedError(
        f"the run has diverged: {'; '.join(found)}. Nothing of it is saved, {kept}. {advice}"
    )


class DivergenceWatch:
    """Numbers of the steps since the last check, which stays on the device until then.

    Args:
        names: of the tensors that a step's "first_nonfinite" counts, from 1 on.
        folder: of the checkpoints.
        loss_scale: the variable, where a step that overflows changes nothing; only when there is
            nothing left to halve has such a run diverged.
        of_state: whether the arrays to be saved are looked at as well.
        advice: what to try.
    """

    def __init__(
        self,
        names: Sequence[str],
        folder: Path,
        loss_scale: tf.Variable | None = None,
        *,
        of_state: bool = True,
        advice: str = ADVICE,
    ):
        self._names, self._folder, self._loss_scale = names, folder, loss_scale
        self._of_state, self._advice = of_state, advice
        self._unchecked: dict[int, tuple[tf.Tensor, tf.Tensor]] = {}

    def add(self, step: int, loss: tf.Tensor, first_nonfinite: tf.Tensor) -> None:
        """Notes what the step returned."""
        self._unchecked[step] = loss, first_nonfinite

    def check(self, state: Mapping[str, np.ndarray] | None = None) -> None:
        """Raises `DivergedError` as `refuse_diverged` does, for all steps since the last check."""
        unchecked, self._unchecked = self._unchecked, {}
        if self._loss_scale is None:
            arrays = state if state and self._of_state else {}
            refuse_diverged(unchecked, self._names, arrays, self._folder, self._advice)
        elif unchecked and self._loss_scale.numpy() <= 1:
            last = max(unchecked)
            refuse_diverged({last: unchecked[last]}, self._names, {}, self._folder, self._advice)
