"""Whether every file of a run is what was once written to it. Imports no TensorFlow."""

from moco_tf.runs.check.run import check_run, report

__all__ = ["check_run", "report"]
