"""A run continued with more epochs than its folder says."""

from __future__ import annotations

from collections.abc import Callable

from moco_tf.config import Config
from moco_tf.errors import InputError

Rate = Callable[[int], float]  # the learning rate of a step


def more_epochs(
    there: Config, epochs: int, *, step: int, rate_of: Callable[[Config], Rate], allowed: bool
) -> tuple[Config, str]:
    """Returns `there` with more epochs, and a line that says what becomes of the learning rate.

    The step schedule does not depend on the number of epochs. The cosine does: the new one counts
    from `step` on, and the config keeps until when the old one did, so that all rates of the run
    can still be told from it.

    Args:
        step: steps taken so far.
        rate_of: a config's schedule.
        allowed: whether the learning rate may change so.

    Raises:
        InputError: if it would change and that is not allowed.
    """
    longer = there.model_copy(update={"epochs": epochs})
    say = f"{epochs} epochs instead of {there.epochs}"
    if there.schedule != "cosine" or not step:
        return longer, f"{say}; the learning rate is that of a run of {epochs} from the beginning"
    before, after = f"{rate_of(there)(step - 1):.3g}", f"{rate_of(longer)(step):.3g}"
    jump = f"at step {step} from {before} to {after}" if before != after else f"after step {step}"
    if not allowed:
        raise InputError(
            f"epochs={epochs} is more than the run's {there.epochs}, and its cosine schedule "
            f"depends on the number: the learning rate would change {jump}. Add --extend to go on "
            f"so, or begin another run with these weights: --init."
        )
    kept = (*there.earlier_schedules, (step, there.epochs))
    return longer.model_copy(update={"earlier_schedules": kept}), (
        f"{say}: the learning rate changes {jump}"
    )
