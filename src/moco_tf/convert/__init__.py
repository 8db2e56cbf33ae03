"""Encoders to and from the formats of PyTorch's world: `convert` is the one function to call."""

from moco_tf.convert.command import convert, describe

__all__ = ["convert", "describe"]
