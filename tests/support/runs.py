"""Tiny runs of pre-training: their settings, their start in another process, their logs."""

import json
import os
import subprocess
import sys
import time

from moco_tf.config import make_config
from moco_tf.recipes import RECIPES

SHALLOW = {"block": "basic", "blocks": (1, 1, 1, 1)}  # quick to compile
PREPARE = f"""
import runpy
from moco_tf.models import ENCODERS
ENCODERS["resnet18"] = {SHALLOW}
"""
RUN = '\nrunpy.run_module("moco_tf", run_name="__main__", alter_sys=True)\n'
START = PREPARE + RUN  # python -m moco_tf, on the encoder of the other tests
TINY = {
    "width": 4,
    "image_size": 16,
    "batch_size": 16,
    "group_size": 8,
    "queue_size": 50,
    "dim": 8,
    "epochs": 3,
    "knn_every": 0,
    "log_every": 1,
    "checkpoint_every": 1,
    "learning_rate": 0.06,
    "precision": "float32",  # in every process, whatever its processor has
}


TINY_V3 = {
    "image_size": 16,
    "mlp_dim": 10,
    "dim": 8,
    "batch_size": 16,
    "epochs": 3,
    "warmup_epochs": 1,
    "knn_every": 0,
    "log_every": 1,
    "checkpoint_every": 1,
}
V3 = {  # recipe and changes of a run of MoCo v3: LARS and AdamW
    "resnet": ("cifar10-v3", TINY_V3 | {"width": 4, "learning_rate": 6}),
    "vit": ("cifar10-v3-vit", TINY_V3 | {"vit_width": 24, "vit_depth": 1, "learning_rate": 0.01}),
}


def config(data, run_dir, recipe="shapes", tiny=TINY, **changes):
    base = RECIPES[recipe].config
    return make_config(base, tiny | {"data": data, "run_dir": str(run_dir)} | changes)


def rows(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def metrics(run_dir):
    """The logging points, without the evaluations."""
    return [row for row in rows(run_dir) if "loss" in row]


def start(data, run_dir, recipe="shapes", tiny=TINY, **changes):
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in (tiny | changes).items()]
    command = [sys.executable, "-c", START, "pretrain", recipe, "--no-report", *flags]
    return subprocess.Popen(
        [*command, "--data", data, "--run-dir", str(run_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )


def wait_for_step(run_dir, process, step, timeout=120):
    """Waits until a checkpoint of `step` or later stands, or the process has ended."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and process.poll() is None:
        found = (run_dir / "checkpoints").glob("step-*.safetensors")
        if any(int(path.stem.removeprefix("step-")) >= step for path in found):
            return
        time.sleep(0.001)
