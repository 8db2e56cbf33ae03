"""Replays recorded training steps of the official code through our own training step."""

from moco_tf.verify.report import print_report
from moco_tf.verify.run import verify_files

__all__ = ["print_report", "verify_files"]
