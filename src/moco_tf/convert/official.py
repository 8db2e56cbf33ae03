"""The official code's checkpoint: {epoch, arch, state_dict, optimizer}, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from moco_tf.convert.contents import Arrays, Parts
from moco_tf.convert.state_dict import parameter_names, to_ours, to_state_dict
from moco_tf.errors import InputError
from moco_tf.models.torch_names import torch_name
from moco_tf.runs.snapshot import KEY_ENCODER, MOMENTUM, QUERY_ENCODER, EncoderCheckpoint


def checkpoint_of(snapshot: EncoderCheckpoint) -> dict[str, Any]:
    """Returns what the official `--resume` reads, as arrays.

    A snapshot of a whole run gives everything; one of an encoder alone gives encoder_q, as the
    released files do.
    """
    state, steps = snapshot.state, snapshot.step
    state_dict: Arrays = {}
    if "queue" in state:
        state_dict["module.queue"] = np.ascontiguousarray(state["queue"].T)  # [C, K]
        state_dict["module.queue_ptr"] = np.array([state["queue_pointer"]], np.int64)
    for theirs, ours in (("encoder_q", QUERY_ENCODER), ("encoder_k", KEY_ENCODER)):
        arrays = to_state_dict(state, ours, steps=steps)
        state_dict |= {f"module.{theirs}.{name}": array for name, array in arrays.items()}
    content = {
        "epoch": int(snapshot.provenance.get("epoch") or 0),
        "arch": snapshot.config.encoder,
        "state_dict": state_dict,
    }
    buffers = to_state_dict(state, MOMENTUM, steps=None)
    return content | ({"optimizer": _optimizer(snapshot, buffers)} if buffers else {})


def whole_state(
    parts: Parts,
    optimizer: Any,
    expected: Mapping[str, tuple[int, ...]],
    dim: int | None,
    name: str,
) -> Arrays:
    """Returns all arrays of a state dict named as in our checkpoints.

    Args:
        optimizer: state of PyTorch's SGD over the model's parameters, the query encoder's first;
            anything else gives no momentum buffers.
        expected: the encoder's names and shapes, in PyTorch's layouts.
        dim: C.

    Raises:
        InputError: for an array that does not fit, naming it and both shapes.
    """
    state = to_ours(parts.query, expected, QUERY_ENCODER, f"{name}, query encoder")
    if parts.key:
        state |= to_ours(parts.key, expected, KEY_ENCODER, f"{name}, key encoder")
    if "queue" in parts.queue:
        state |= _queue(parts.queue, dim, name)
    buffers = _buffers(optimizer, parameter_names(parts.query))
    if buffers:
        shapes = {key: expected[key] for key in parameter_names(expected)}
        state |= to_ours(buffers, shapes, MOMENTUM, f"{name}, optimizer's momentum buffers")
    return state


def _queue(arrays: Arrays, dim: int | None, name: str) -> Arrays:
    queue, pointers = arrays["queue"], np.ravel(arrays.get("queue_ptr", 0))
    if queue.ndim != 2 or not queue.size or dim not in queue.shape:
        raise InputError(f"{name}: queue has shape {queue.shape}, expected ({dim}, K).")
    if queue.dtype != np.float32 or not np.isfinite(queue).all():
        raise InputError(f"{name}: queue must hold finite numbers of type float32 or near.")
    rows = queue.T if queue.shape[0] == dim else queue  # [K, C]
    if pointers.shape != (1,) or not 0 <= (pointer := int(pointers[0])) < len(rows):
        raise InputError(
            f"{name}: queue_ptr must be one number from 0 to {len(rows) - 1}; received {pointers}."
        )
    return {"queue": np.ascontiguousarray(rows), "queue_pointer": np.array(pointer, np.int64)}


def _optimizer(snapshot: EncoderCheckpoint, buffers: Arrays) -> dict[str, Any]:
    """State of PyTorch's SGD; the key encoder's parameters are in its list, but have no buffers."""
    config, state = snapshot.config, snapshot.state
    keys = [torch_name(n.removeprefix(KEY_ENCODER)) for n in state if n.startswith(KEY_ENCODER)]
    group = {
        "lr": config.scaled_learning_rate,  # the official code sets it anew at each epoch
        "momentum": config.sgd_momentum,
        "dampening": 0,
        "weight_decay": config.weight_decay,
        "nesterov": False,
        "maximize": False,
        "foreach": None,
        "differentiable": False,
        "fused": None,
        "params": list(range(len(buffers) + len(parameter_names(keys)))),
    }
    numbered = enumerate(buffers.values())
    return {
        "state": {number: {"momentum_buffer": buffer} for number, buffer in numbered},
        "param_groups": [group],
    }


def _buffers(optimizer: Any, names: list[str]) -> Arrays:
    """Momentum buffers by parameter; none unless all of `names` have one."""
    try:
        numbers = optimizer["param_groups"][0]["params"][: len(names)]
        buffers = [optimizer["state"][number]["momentum_buffer"] for number in numbers]
    except (KeyError, IndexError, TypeError):  # of another optimizer, or without momentum
        return {}
    if len(buffers) < len(names) or not all(isinstance(b, np.ndarray) for b in buffers):
        return {}
    return dict(zip(names, buffers, strict=True))
