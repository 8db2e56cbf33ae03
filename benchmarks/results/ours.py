"""Our side: `moco_tf.pretraining.pretrain`, which the command line calls, on the same images."""

import os
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import tensorflow as tf

from moco_tf.config import make_config
from moco_tf.pretraining import pretrain
from moco_tf.recipes import RECIPES
from moco_tf.runs.folder import versions
from moco_tf.training.reporting import Reporter


class Curves(Reporter):
    """Keeps kNN top-1 of each epoch and the losses that are logged in it."""

    def __init__(self):
        super().__init__(json_mode=True)
        self.knn, self.losses = [], defaultdict(list)

    def metrics(self, step, values):
        super().metrics(step, values)
        self.losses[values["epoch"]].append(values["loss"])

    def evaluation(self, step, values, baselines):
        super().evaluation(step, values, baselines)
        if step:  # before that it is the untrained encoder's
            self.knn.append(values["knn_top1"])

    def line(self, text):
        if "kNN" in text:
            print(text, file=sys.stderr)


def train(images: Path, setting: dict, seed: int) -> dict:
    """Returns kNN top-1 (percent) before and after each epoch, and the mean loss of each."""
    threads = int(os.environ.get("OMP_NUM_THREADS", "0"))  # as PyTorch reads it; 0: all cores
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        own = {"data": str(images), "seed": seed, "run_dir": f"{folder}/run"}
        curves = Curves()
        recipe = RECIPES[setting.get("recipe", "cifar10-demo")]
        summary = pretrain(
            make_config(recipe.config, {"knn_every": 1} | setting | own), reporter=curves
        )
    return {
        "curve": curves.knn,
        "losses": [statistics.fmean(losses) for losses in curves.losses.values()],
        "untrained": summary["knn_top1_untrained"],
        "steps": summary["step"],
        "versions": versions(),
    }
