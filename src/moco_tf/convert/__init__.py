"""Encoders to and from the formats of PyTorch's world: `convert` is the one function to call.

Importing this imports no TensorFlow.
"""

from typing import Any

__all__ = ["convert", "describe"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from moco_tf.convert import command

        return getattr(command, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
