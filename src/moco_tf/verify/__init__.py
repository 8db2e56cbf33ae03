"""Replay of recorded steps of the official code through our own training step."""

from moco_tf.verify.command import print_report, verify_files

__all__ = ["print_report", "verify_files"]
