"""The learning rate as a function of the step alone, which `PretrainingJob.step` asks for."""

import math


def learning_rate(
    step,
    *,
    steps_per_epoch,
    epochs,
    base,
    schedule="cosine",
    milestones=(),
    drop=0.1,
    unit="epoch",
    first_epoch=0,
):
    """Returns the learning rate of a step (0-based).

    step: base * drop ** (milestones reached); cosine: base / 2 * (1 + cos(pi * e / epochs)), where
    e is the whole epoch (unit "epoch", as official) or its fraction (unit "step").

    Args:
        step: 0, 1, ...
        schedule: "step" or "cosine".
        milestones: epochs from which one more drop applies.
        first_epoch: number of the first epoch: 0, or 1 as the CIFAR demo counts.

    Source: arXiv:1911.05722 section 4.1, arXiv:2003.04297 section 3.
    """
    epoch = step // steps_per_epoch + first_epoch
    if schedule == "step":
        return base * drop ** sum(milestone <= epoch for milestone in milestones)
    if unit == "step":
        epoch = step / steps_per_epoch + first_epoch
    return base * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
