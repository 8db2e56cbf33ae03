"""Files of recorded steps, whole and small, of both kinds."""

import json
import random

import numpy as np
from texts import hostile_json

S, W, B, C, K, SIDE = 2, 2, 2, 4, 8, 6  # steps, processes, images, dimensions, queue, pixels
SHARED = {
    "block": "basic",
    "layers": [1, 1],
    "width": 2,
    "dim": C,
    "size": SIDE,
    "batch": B,
    "K": K,
}
SHARED |= {"m": 0.9, "T": 0.1, "lr": 0.1, "wd": 0.0, "cos": True, "epochs": 2, "steps": S}
OFFICIAL = SHARED | {"mlp": False, "world": W, "steps_per_epoch": 1, "snaps": [1, 2]}
DEMO = SHARED | {"bn_splits": 1, "tag": "a", "wmul": 1.0}


def _official() -> dict[str, np.ndarray]:
    shapes = {
        **dict.fromkeys(("q", "k", "fp64/k"), (S, W, B, C)),
        **dict.fromkeys(("logits", "fp64/logits"), (S, W, B, 1 + K)),
        **dict.fromkeys(("loss", "acc1", "acc5", "fp64/loss"), (S, W)),
        "queue": (S, C, K),
        "lr": (S,),
        "init/encoder_q.conv1.weight": (2, 3, 7, 7),
    }
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    images = np.zeros((S, W, B, 3, SIDE, SIDE), np.uint8)
    order = np.tile(np.arange(W * B), (S, 1))
    names = np.array([f"encoder_q.layer{i}.0.bn1" for i in range(20)])
    return (
        arrays
        | {"im_q": images, "im_k": images, "idx_shuffle": order, "bn_names": names}
        | {"queue_ptr": np.zeros(S, np.int64)}
    )


def _demo() -> dict[str, np.ndarray]:
    shapes = {
        **dict.fromkeys(("loss", "fp64/loss", "lr"), (S,)),
        **dict.fromkeys(("loss_terms", "fp64/loss_terms"), (S, 1)),
        "q": (S, 1, B, C),
        "enqueued": (S, B, C),
        "queue_after_step1": (C, K),
        "bn_q_first": (S, 2, 2),
    }
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    names = {"bn_names": np.array([f"net.{i}" for i in range(20)])}
    names["param_names"] = np.array([f"net.{i}.weight" for i in range(20)])
    return (
        arrays
        | names
        | {
            "idx_shuffle": np.tile(np.arange(B), (S, 1, 1)),
            "queue_ptr": np.zeros(S, np.int64),
        }
    )


def hostile_traces(rng: random.Random, hostile_npz) -> bytes:
    official = rng.random() < 0.5
    arrays = _official() if official else _demo()
    meta = {"config": OFFICIAL} if official else {"config": DEMO, "symmetric": False}
    text = json.dumps(meta).encode() if rng.random() < 0.5 else hostile_json(rng, meta)
    stored = np.array(text.decode("utf-8", "replace"))
    return hostile_npz(rng, {"meta_json": stored} | arrays)
