"""Variables to arrays, for a checkpoint to hold, and back. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moco_tf.errors import InputError
from moco_tf.runs.checkpoint_file import State


def arrays_of(variables: Mapping[str, Any]) -> State:
    """Returns the values of variables, by the same names."""
    return {name: variable.numpy() for name, variable in variables.items()}


def assign(variables: Mapping[str, Any], state: State) -> None:
    """Gives each variable the array of its name.

    Raises:
        InputError: unless names and shapes are the same.
    """
    if set(variables) != set(state):
        odd = sorted(set(variables) ^ set(state))[0]
        raise InputError(f"the checkpoint does not fit this config: {odd!r} is in one only.")
    for name, variable in variables.items():
        if tuple(variable.shape) != state[name].shape:
            raise InputError(
                f"the checkpoint does not fit this config: {name!r} has shape "
                f"{state[name].shape}, expected {tuple(variable.shape)}."
            )
        variable.assign(state[name])
