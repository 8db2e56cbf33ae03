"""Records training steps of MoCo v3 in PyTorch, for `moco-tf verify`.

python record_v3.py OUT_FOLDER        (needs torch and numpy alone)

The files have the names and layouts of recordings of the official code, of which nothing is here.
Of 30 seeds this is one whose float32 run stays near its float64 run.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch_moco_v3 import AdamW, Lars, contrast, moco_v3

STEPS, BATCH, SIZE = 3, 8, 16
RUNS = {
    "own_v3_resnet": {
        "kind": "resnet", "block": "basic", "layers": [1, 1], "width": 4, "opt": "lars",
        "lr": 2.0, "wd": 1e-6, "T": 1.0, "m": 0.9, "m_cos": False,
    },
    "own_v3_vit": {
        "kind": "vit", "width": 8, "depth": 1, "heads": 2, "stem": "patch", "patch": 4,
        "stop_grad_conv1": True, "opt": "adamw", "lr": 2e-3, "wd": 0.1, "T": 0.2, "m": 0.95,
        "m_cos": True,
    },
}  # fmt: skip
SHARED = {
    "dim": 6, "mlp_dim": 12, "batch": BATCH, "size": SIZE, "steps": STEPS, "ipe": 2, "epochs": 3,
    "warmup": 1, "opt_momentum": 0.9, "seed": 10,
}  # fmt: skip


RECORDED = ("q1", "q2", "k1", "k2", "loss", "loss_terms", "grad_l2", "lr", "m")


def scheduled(s, step):
    epoch, warmup, epochs = step / s["ipe"], s["warmup"], s["epochs"]
    rate = s["lr"] * epoch / warmup
    if epoch >= warmup:
        rate = s["lr"] * 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup)))
    momentum = 1 - (1 - s["m"]) * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
    return rate, momentum if s["m_cos"] else s["m"]


def run(s, views, dtype):
    """The steps from the seeded start, in `dtype`; returns what is recorded."""
    torch.manual_seed(s["seed"])
    model = moco_v3(s)
    model.spread(torch.Generator().manual_seed(s["seed"] + 1))
    model.to(dtype).train()
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    parameters = [p for _, p in named]
    lars = s["opt"] == "lars"
    optimizer = Lars(parameters, s["opt_momentum"], s["wd"]) if lars else AdamW(parameters, s["wd"])
    found = {"trainable_names": np.array([n for n, _ in named])} | state_of(model, "init/")
    rows = {name: [] for name in RECORDED}
    for index in range(s["steps"]):
        x1, x2 = (
            torch.tensor((v[index].astype(np.float32) - 128) / 64, dtype=dtype) for v in views
        )
        rate, momentum = scheduled(s, index)
        q1, q2 = (model.predictor(model.base_encoder(x)) for x in (x1, x2))
        with torch.no_grad():
            sides = model.base_encoder.parameters(), model.momentum_encoder.parameters()
            for q, k in zip(*sides, strict=True):
                k.copy_(k * momentum + q * (1 - momentum))
            k1, k2 = (model.momentum_encoder(x) for x in (x1, x2))
        terms = contrast(q1, k2, s["T"]), contrast(q2, k1, s["T"])
        for p in parameters:
            p.grad = None
        sum(terms).backward()
        norms = [p.grad.norm().item() for p in parameters]
        with torch.no_grad():
            optimizer.step(rate)
        values = [t.detach().numpy() for t in (q1, q2, k1, k2)]
        values += [sum(terms).item(), [t.item() for t in terms], norms, rate, momentum]
        for row, value in zip(rows.values(), values, strict=True):
            row.append(value)
        if index + 1 == s["steps"]:
            found |= state_of(model, f"step{index + 1}/")
            for slot, tensors in optimizer.slots().items():
                for (name, _), tensor in zip(named, tensors, strict=True):
                    found[f"step{index + 1}_opt/{name}/{slot}"] = tensor.detach().numpy().copy()
    return found | {name: np.array(row) for name, row in rows.items()}


def state_of(model, prefix):
    arrays = {n: v.numpy().copy() for n, v in model.state_dict().items() if "num_batches" not in n}
    return {prefix + name: array for name, array in arrays.items()}


def stored(name, array):
    """Tensors in float32, scalars of the loss and the gradients as they are."""
    whole = name.endswith(("loss", "loss_terms", "grad_l2", "lr", "/m")) or name == "m"
    return array.astype(np.float32) if array.dtype == np.float64 and not whole else array


def record(folder, name):
    s = RUNS[name] | SHARED
    generator = np.random.default_rng(7)
    shape = (STEPS, BATCH, 3, SIZE // 2, SIZE // 2)
    coarse = generator.integers(0, 16, (2, *shape)) * 17  # blocks of few levels: a small file
    views = coarse.repeat(2, axis=-1).repeat(2, axis=-2).astype(np.uint8)
    single, double = (run(s, views, dtype) for dtype in (torch.float32, torch.float64))
    keep = ("q1", "q2", "k1", "k2", "loss", "loss_terms", "grad_l2")
    arrays = dict(zip(("x1", "x2"), views, strict=True)) | single
    arrays |= {f"fp64/{n}": a for n, a in double.items() if n.startswith(keep)}
    meta = {
        "config": s,
        "origin": "benchmarks/record_v3.py, an independent writing in PyTorch",
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    arrays = {n: stored(n, a) for n, a in arrays.items()}
    file = Path(folder) / f"{name}.npz"
    np.savez_compressed(file, meta_json=np.array(json.dumps(meta)), **arrays)
    print(file.name, file.stat().st_size, "bytes")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in RUNS:
        record(sys.argv[1], name)
