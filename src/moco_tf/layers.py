"""Keras layers of this package for models and training loops of your own: docs/own-loop.md."""

from moco_tf.models.batch_norm import GroupBatchNorm

__all__ = ["GroupBatchNorm"]
