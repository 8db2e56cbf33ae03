"""Run folders whose JSON is not what a run writes."""

import json
import random
from pathlib import Path

from cases import Case, broken
from texts import hostile_json

from moco_tf.runs.config_file import read_config_of

RESULTS = {"knn_top1": 50.0, "knn_top1_pixels": 20.5, "step": 7, "seconds": 3.0}
ACCURACIES = {"top1": 50.0, "top5": 90.0, "protocol": "as said", "encoder_step": 7}
ROW = {"step": 3, "loss": 1.5, "top1": 20.0, "epoch": 0}
CONFIGS = ("config.json", "probe/config.json", "tuned/config.json")


def hostile_run(rng: random.Random) -> Case:
    from moco_tf.evaluate.finetune_config import FinetuneConfig
    from moco_tf.evaluate.probe_config import ProbeConfig
    from moco_tf.recipes import RECIPES

    configs = (
        RECIPES["moco-v2"].config.model_dump(mode="json"),
        ProbeConfig(run="runs/a").model_dump(mode="json"),
        FinetuneConfig(run="runs/a").model_dump(mode="json"),
    )
    rows = [json.dumps(ROW | {"step": step}).encode() for step in range(4)]
    rows[rng.randrange(4)] = hostile_json(rng, ROW)
    text = b"\n".join(rows)
    values = dict(zip(CONFIGS, configs, strict=True)) | {
        "summary.json": RESULTS,
        "probe/summary.json": ACCURACIES,
        "tuned/summary.json": ACCURACIES | {"from_scratch": False},
    }
    case: Case = {name: json.dumps(value).encode() for name, value in values.items()}
    for name in rng.sample(list(values), rng.choice((1, 1, 2, 6))):
        case[name] = hostile_json(rng, values[name])
    return case | {"metrics.jsonl": broken(rng, text) if rng.random() < 0.3 else text}


def read_run(case: Path) -> str:
    """Reads every file; what is refused must not keep the others from being read."""
    from moco_tf.config import Config
    from moco_tf.errors import InputError
    from moco_tf.evaluate.finetune_config import FinetuneConfig
    from moco_tf.evaluate.probe_config import ProbeConfig
    from moco_tf.exporting.results import known_results
    from moco_tf.recipes import RECIPES
    from moco_tf.runs import folder as run_folder
    from moco_tf.training.reporting import rows_until

    rows_until(case / "metrics.jsonl", 2)
    known_results(case, RECIPES["moco-v2"].config, 7)
    refused = None
    for kind, name in zip((Config, ProbeConfig, FinetuneConfig), CONFIGS, strict=True):
        try:
            found = read_config_of(kind, (case / name).parent)
            run_folder.check((case / name).parent, found)
        except InputError as error:
            refused = error
    if refused:
        raise refused
    return "read"
