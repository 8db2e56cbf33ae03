"""Between state dicts with PyTorch's names and arrays named as in our checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from moco_tf.convert.vit_names import FIRST, timm_order
from moco_tf.errors import InputError
from moco_tf.models.torch_names import (
    COUNTER,
    STATISTICS,
    from_torch,
    our_name,
    to_torch,
    torch_name,
    torch_order,
)

HEADS = ("fc", "head")
Arrays = dict[str, np.ndarray]


def to_ours(
    arrays: Mapping[str, np.ndarray],
    expected: Mapping[str, tuple[int, ...]],
    prefix: str,
    name: str,
) -> Arrays:
    """Returns one encoder named as in our checkpoints, in our layouts.

    Args:
        arrays: by torchvision's names; counters of BatchNorm layers are dropped.
        expected: the encoder's names and shapes, in PyTorch's layouts.
        prefix: of the new names, e.g. "query_encoder/".
        name: what an error calls the file.

    Raises:
        InputError: for an unknown key, a missing one, a wrong shape or values not finite.
    """
    arrays = {key: value for key, value in arrays.items() if not key.endswith("." + COUNTER)}
    for key, value in arrays.items():
        if key not in expected:
            raise InputError(
                f"{name}: unknown key {key} of shape {value.shape}; the encoder expects none."
            )
    for key, shape in expected.items():
        if key not in arrays:
            raise InputError(f"{name}: missing key {key}, expected with shape {shape}.")
        if arrays[key].shape != shape:
            raise InputError(f"{name}: {key} has shape {arrays[key].shape}, expected {shape}.")
        if arrays[key].dtype != np.float32 or not np.isfinite(arrays[key]).all():
            raise InputError(f"{name}: {key} must hold finite numbers of type float32 or near.")
    return {
        prefix + our_name(key, len(shape)): np.ascontiguousarray(from_torch(arrays[key]))
        for key, shape in expected.items()
    }


def to_state_dict(
    state: Mapping[str, np.ndarray], prefix: str, *, steps: int | None, with_head: bool = True
) -> Arrays:
    """Returns an encoder of ours by torchvision's names, in its order.

    Args:
        state: arrays named as in our checkpoints.
        prefix: of the encoder in `state`, e.g. "query_encoder/".
        steps: what the counters of the BatchNorm layers say; None: no counters.
        with_head: whether to give `fc` too.
    """
    arrays = {
        torch_name(key.removeprefix(prefix)): np.ascontiguousarray(to_torch(value))
        for key, value in state.items()
        if key.startswith(prefix) and not key.startswith(f"{prefix}predictor.")
    }
    if steps is not None:
        counted = [key.rsplit(".", 1)[0] for key in arrays if key.endswith("running_var")]
        arrays |= {f"{layer}.{COUNTER}": np.array(steps, np.int64) for layer in counted}
    if not with_head:
        arrays = without_head(arrays)
    order = timm_order if FIRST in arrays else torch_order
    return {key: arrays[key] for key in sorted(arrays, key=order)}


def without_head(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Returns `arrays` (torchvision's or timm's names) without those of `fc` or `head`."""
    return {key: value for key, value in arrays.items() if key.split(".")[0] not in HEADS}


def parameter_names(names: Iterable[str]) -> list[str]:
    """Returns `names` (torchvision's) without running statistics and counters."""
    return [name for name in names if name.rsplit(".", 1)[-1] not in (*STATISTICS, COUNTER)]


def counted_steps(arrays: Mapping[str, np.ndarray]) -> int:
    """Returns the training steps that the first BatchNorm layer counted; 0 if it did not."""
    return int(arrays.get(f"bn1.{COUNTER}", 0))
