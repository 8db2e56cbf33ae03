"""Run folders that are written, not trained: config, rows and summary alone."""

import json

from moco_tf.config import make_config
from moco_tf.files.digests import write_json
from moco_tf.recipes import RECIPES
from moco_tf.runs import folder as run_folder
from moco_tf.runs.config_file import CONFIG

EPOCH_STEPS = 4


def logged(step, **changes):
    """A logging point of a run whose loss falls by 0.1 a step."""
    row = {
        "step": step, "epoch": (step - 1) // EPOCH_STEPS, "lr": 0.06, "loss": 6.0 - step / 10,
        "top1": 2.0 * step, "top5": 3.0 * step, "feature_std": 0.08, "positive_similarity": 0.7,
        "negative_similarity": 0.1, "images_per_second": 100.0, "data_wait": 0.01,
    }  # fmt: skip
    return row | changes


def evaluated(step, knn_top1, **others):
    return {"step": step, "knn_top1": knn_top1, **others}


ROWS = (
    evaluated(0, 29.0, knn_top1_pixels=40.0),
    *(logged(step) for step in range(1, 9)),
    evaluated(8, 65.0),
)


def write_run(folder, rows=ROWS, summary=None, recipe="shapes", **changes):
    """A folder whose run has come to its end, unless `summary` says otherwise."""
    config = make_config(RECIPES[recipe].config, {"run_dir": str(folder)} | changes)
    run_folder.claim(folder, config)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / run_folder.METRICS).write_text(text)
    if summary is not False:
        write_json(folder / run_folder.SUMMARY, summary or {"step": 8, "knn_top1": 65.0})
    return folder


def write_probe(folder, **changes):
    """The folder of a probe of two rates, trained for two epochs."""
    write_json(folder / CONFIG, {"run": "runs/x", "epochs": 2, "lr": [30.0, 3.0]})
    rows = [
        {
            "step": step, "epoch": step - 1, "lr": 30.0, "loss": 1.0, "top1": 50.0,
            "top1_lr30": 50.0, "val_top1_lr30": 40.0 + step, "loss_lr30": 1.0, "val_loss_lr30": 2.0,
        }
        for step in (1, 2)
    ]  # fmt: skip
    (folder / run_folder.METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = {"top1": 42.0, "top5": 90.0, "top1_best": 42.0, "classes": 10, "step": 2}
    write_json(folder / run_folder.SUMMARY, summary | {"protocol": "as ever"} | changes)
    return folder
