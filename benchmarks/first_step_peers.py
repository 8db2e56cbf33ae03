"""Seconds from the command to the end of the first step: ours, the official way, and lightly.

    python benchmarks/first_step_peers.py --data PHOTOS --lightly PYTHON --json

MoCo v2, ResNet-50, 224 px, on a folder of pictures, in fresh processes, in turns. "official" is
torch_moco.py on the batches of pillow_views.py, "lightly" what its documentation puts together for
MoCo v2, on its own transforms and data set. PYTHON is that of an environment with lightly, which
needs no TensorFlow; without it that side is left out. Needs torch.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SIDE, DIM, QUEUE, MOMENTUM, TEMPERATURE = 224, 128, 65536, 0.999, 0.2
SGD = {"lr": 0.03, "momentum": 0.9, "weight_decay": 1e-4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of pictures")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="of the DataLoaders")
    parser.add_argument("--lightly", metavar="PYTHON", help="that has lightly")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", choices=["official", "lightly"], help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.worker:
        (official if options.worker == "official" else lightly)(options)
        print(json.dumps({"wall_s": time.time() - options.started}))
        return
    sides = {"ours": ours, "official": peer}
    if options.lightly:
        sides["lightly"] = peer
    seconds = {name: [] for name in sides}
    for number in range(options.rounds):
        for name in sides if number % 2 == 0 else reversed(sides):
            seconds[name].append(sides[name](name, options))
            print(name, seconds[name][-1], file=sys.stderr)
    result = {
        name: {"median_s": statistics.median(each), "smallest_s": min(each), "largest_s": max(each)}
        for name, each in seconds.items()
    } | {"n": options.rounds}
    print(json.dumps(result, indent=None if options.json else 2))


def ours(_, options) -> float:
    size = str(options.batch_size)
    command = [sys.executable, HERE / "first_step.py", "moco-v2", "--data", options.data]
    command += ["--batch-size", size, "--group-size", size, "--rounds", "1", "--json"]
    return _seconds(command)


def peer(name, options) -> float:
    python = options.lightly if name == "lightly" else sys.executable
    command = [python, __file__, "--data", options.data, "--batch-size", str(options.batch_size)]
    command += ["--workers", str(options.workers), "--worker", name]
    return _seconds([*command, "--started", repr(time.time())])


def _seconds(command) -> float:
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return round(json.loads(said.splitlines()[-1])["wall_s"], 2)


def official(options) -> None:
    import torch
    from pillow_views import batches
    from torch_moco import TorchMoCo

    method = TorchMoCo(
        "resnet50",
        stem="imagenet",
        width=64,
        mlp=True,
        dim=DIM,
        queue_size=QUEUE,
        momentum=MOMENTUM,
        temperature=TEMPERATURE,
        lr=SGD["lr"],
        weight_decay=SGD["weight_decay"],
        compiled=False,
    )
    sizes = {"image_size": SIDE, "workers": options.workers}
    views = next(batches(options.data, batch_size=options.batch_size, **sizes))
    method.step(*(view.to(memory_format=torch.channels_last) for view in views))


def lightly(options) -> None:
    import copy

    import torch
    import torchvision
    from lightly.data import LightlyDataset
    from lightly.loss import NTXentLoss
    from lightly.models.modules import MoCoProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum
    from lightly.transforms import MoCoV2Transform

    class Query(torch.nn.Module):
        def __init__(self):
            super().__init__()
            resnet = torchvision.models.resnet50()
            features = resnet.fc.in_features
            self.backbone = torch.nn.Sequential(*list(resnet.children())[:-1])
            self.head = MoCoProjectionHead(features, features, DIM)

        def forward(self, images):
            return self.head(self.backbone(images).flatten(start_dim=1))

    query = Query()
    key = copy.deepcopy(query)
    deactivate_requires_grad(key)
    criterion = NTXentLoss(TEMPERATURE, memory_bank_size=(QUEUE, DIM))
    optimizer = torch.optim.SGD(query.parameters(), **SGD)
    data = LightlyDataset(options.data, transform=MoCoV2Transform(input_size=SIDE))
    loader = torch.utils.data.DataLoader(
        data,
        batch_size=options.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=options.workers,
    )
    for (view1, view2), *_ in loader:
        update_momentum(query, key, m=MOMENTUM)
        with torch.no_grad():
            keys = key(view2)
        loss = criterion(query(view1), keys)
        loss.backward()
        optimizer.step()
        return


if __name__ == "__main__":
    main()
