"""How a batch divides into BatchNorm groups, and these over devices and microbatches.

What an error advises is accepted by every check here, and asks for no more images.
"""

import math
from typing import Literal

from moco_tf.errors import InputError
from moco_tf.names.encoder import ALL

GroupSize = int | Literal["all"]


def check_batch(
    batch_size: int, group_size: GroupSize, devices: int = 1, accumulation_steps: int = 1
) -> None:
    """Raises `InputError` unless the batch consists of whole BatchNorm groups."""
    if group_size == ALL:
        return
    if batch_size % group_size:
        whole = group_size * devices * accumulation_steps
        below = batch_size // whole * whole
        options = [f"--batch-size {below}"] if below else []
        raise InputError(
            f"batch_size must be a multiple of group_size; received batch_size={batch_size}, "
            f"group_size={group_size}. "
            f"{_advice(options, batch_size, group_size, devices, accumulation_steps)}"
        )


def check_devices(
    batch_size: int,
    group_size: GroupSize,
    devices: int,
    workers: int = 1,
    accumulation_steps: int = 1,
) -> None:
    """Raises `InputError` unless whole BatchNorm groups fit on each of `devices` devices.

    Where the whole batch is one group, each device has an equal share of it.

    Args:
        workers: processes that have so many devices each.
    """
    if group_size == ALL:
        _check_shares(batch_size, devices, workers, accumulation_steps)
        return
    groups = batch_size // group_size
    if groups % (devices * workers):
        each = f" on each of {workers} workers" if workers > 1 else ""
        share, rest = divmod(groups, workers * accumulation_steps)
        fewer = 0 if rest else max((d for d in _divisors(share) if d <= devices), default=0)
        options = [f"--devices {fewer}"] if fewer else []
        raise InputError(
            f"devices must divide the number of BatchNorm groups, batch_size / group_size = "
            f"{groups}; received devices={devices}{each}. "
            f"{_advice(options, batch_size, group_size, devices * workers, accumulation_steps)}"
        )


def _check_shares(batch_size: int, devices: int, workers: int, microbatches: int) -> None:
    if not batch_size % (devices * workers):
        return
    each = f" on each of {workers} workers" if workers > 1 else ""
    share, rest = divmod(batch_size, workers * microbatches)
    options = []
    if not rest:
        options.append(f"--devices {max(d for d in _divisors(share) if d <= devices)}")
    whole = devices * workers * microbatches
    if batch_size > whole:
        options.append(f"--batch-size {batch_size // whole * whole}")
    advice = f"Use {', or '.join(options)}." if options else "Use fewer workers."
    raise InputError(
        f"devices must divide batch_size={batch_size}; received devices={devices}{each}. {advice}"
    )


def check_accumulation(
    batch_size: int, group_size: GroupSize, devices: int, accumulation_steps: int
) -> None:
    """Raises `InputError` unless a device's BatchNorm groups make that many equal microbatches.

    Args:
        devices: of all workers.
    """
    if group_size == ALL:
        share = batch_size // devices
        if share % accumulation_steps:
            nearest = min((n for n in _divisors(share) if n > accumulation_steps), default=share)
            raise InputError(
                f"accumulation_steps must divide the images of a device, batch_size / devices = "
                f"{share}; received accumulation_steps={accumulation_steps}. Use "
                f"--accumulation-steps {nearest}."
            )
        return
    groups = batch_size // group_size // devices
    if groups % accumulation_steps:
        fits = _divisors(groups)
        nearest = min((n for n in fits if n > accumulation_steps), default=fits[-1])
        options = [f"--accumulation-steps {nearest}"]
        raise InputError(
            f"accumulation_steps must divide the number of BatchNorm groups on a device, "
            f"batch_size / group_size / devices = {groups}; received accumulation_steps="
            f"{accumulation_steps}. "
            f"{_advice(options, batch_size, group_size, devices, accumulation_steps)}"
        )


def check_microbatches(
    batch_size: int, group_size: GroupSize, devices: int, accumulation_steps: int, encoder: str
) -> None:
    """Raises `InputError` for microbatches of what BatchNorm normalises over the whole batch."""
    if group_size == ALL and accumulation_steps > 1:
        share, rest = divmod(batch_size, devices * accumulation_steps)
        smaller = f" Use --group-size {share}." if share > 1 and not rest else ""
        raise InputError(
            f"accumulation_steps must be 1 with group_size=all and encoder={encoder}, for "
            f"BatchNorm needs the whole batch at once; received accumulation_steps="
            f"{accumulation_steps}.{smaller}"
        )


def check_xla(group_size: GroupSize, devices: int, xla: str) -> None:
    """Raises `InputError` for XLA where BatchNorm meets the other devices inside the network."""
    if group_size == ALL and devices > 1 and xla == "on":
        raise InputError(
            f"xla=on does not go with group_size=all on several devices, which meet in every "
            f"BatchNorm; received devices={devices}. Use --xla off, or a number for --group-size."
        )


def check_enough_images(
    images: int,
    batch_size: int,
    group_size: GroupSize,
    devices: int = 1,
    accumulation_steps: int = 1,
) -> None:
    """Raises `InputError` if there is no whole batch."""
    if batch_size > images:
        if group_size == ALL:
            shares = devices * accumulation_steps
            most = images // shares * shares
            fix = f"Use --batch-size {most}." if most > 1 else "Give more images."
        else:
            fix = _smaller(images, group_size, devices, accumulation_steps)
        raise InputError(
            f"batch_size must be at most the number of images, {images}; received "
            f"batch_size={batch_size}. {fix}"
        )


def _advice(
    options: list[str], batch_size: int, group_size: int, devices: int, microbatches: int
) -> str:
    """Says which of `options`, or which smaller group, makes the batch one that divides."""
    share, rest = divmod(batch_size, devices * microbatches)
    fits = [] if rest else [size for size in _divisors(share) if 2 <= size < group_size]
    several = [size for size in fits if size < batch_size]  # one group alone shuffles nothing
    if fits:
        options = [*options, f"--group-size {max(several or fits)}"]
    if options:
        return f"Use {', or '.join(options)}."
    return _smaller(batch_size, group_size, devices, microbatches)


def _smaller(most: int, group_size: int, devices: int, microbatches: int) -> str:
    """Advises a batch of at most `most` images, of two groups or more if that can be."""
    if most < 2:
        return "Give more images."
    shares, fewer = devices * microbatches, ""
    if most < 2 * shares:
        fewer = " --devices 1" * (devices > 1) + " --accumulation-steps 1" * (microbatches > 1)
        shares = 1
    group = min(group_size, most // max(shares, 2))
    if group < 2:
        group = min(group_size, most)
    whole = most // (group * shares) * group * shares
    return f"Use --batch-size {whole} --group-size {group}{fewer}."


def _divisors(number: int) -> list[int]:
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})
