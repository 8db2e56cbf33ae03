"""The learning rate and the key encoder's momentum as functions of the step alone."""

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
    warmup_epochs=0,
):
    """Returns the learning rate of a step (0-based).

    step: base * drop ** (milestones reached); cosine: base / 2 * (1 + cos(pi * e / epochs)), where
    e is the whole epoch (unit "epoch", as official) or its fraction (unit "step"). A warm-up rises
    in a line from 0; the cosine comes after it, in the epochs that are left.

    Args:
        step: 0, 1, ...
        schedule: "step" or "cosine".
        milestones: epochs from which one more drop applies.
        first_epoch: number of the first epoch: 0, or 1 as the CIFAR demo counts.

    Source: arXiv:1911.05722 section 4.1, arXiv:2003.04297 section 3; the warm-up arXiv:2104.02057.
    """
    epoch = step // steps_per_epoch + first_epoch
    exact = step / steps_per_epoch + first_epoch if unit == "step" else epoch
    if exact < warmup_epochs:
        return base * exact / warmup_epochs
    if schedule == "step":
        return base * drop ** sum(milestone <= epoch for milestone in milestones)
    done, last = exact - warmup_epochs, epochs - warmup_epochs
    return base * 0.5 * (1 + math.cos(math.pi * done / last))


def warm_cosine(step, *, steps_per_epoch, epochs, base, warmup_epochs=0, first=0.0, last=0.0):
    """Returns the learning rate of a step (0-based) of fine-tuning.

    It rises in a line from `first` to `base` in the warm-up, and then falls on a cosine to `last`,
    which began with the first epoch: last + (base - last) / 2 * (1 + cos(pi * e / epochs)), e the
    fraction of the epoch.

    Source: DeiT, arXiv:2012.12877, whose rate moves once an epoch.
    """
    epoch = step / steps_per_epoch
    if epoch < warmup_epochs:
        return first + (base - first) * epoch / warmup_epochs
    return last + (base - last) * 0.5 * (1 + math.cos(math.pi * epoch / epochs))


def cosine_momentum(step, *, steps_per_epoch, epochs, base):
    """Returns the key encoder's momentum of a step (0-based), from `base` up to 1.

    Source: the official MoCo v3: 1 - (1 - base) / 2 * (1 + cos(pi * e / epochs)), e the fraction
    of the epoch.
    """
    epoch = step / steps_per_epoch
    return 1 - (1 - base) * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
