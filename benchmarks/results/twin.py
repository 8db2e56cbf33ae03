"""The official CIFAR-10 demo in plain PyTorch: network, step, loop and kNN of its own.

Written from the published algorithm (arXiv:1911.05722) and what the demo does; shares nothing with
the package but the images. Runs on a GPU where PyTorch sees one.
"""

import math
import os
import random
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from twin_views import DEMO, TwoViews, normalized

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from support.torch_twin import BasicBlock, ResNet

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class SplitBatchNorm(nn.BatchNorm2d):
    """Image n is normalised with the images m = n (mod splits); the mean statistics are kept."""

    splits = 1

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        count, channels, height, width = x.shape
        folded = x.reshape(count // self.splits, self.splits * channels, height, width)
        means, variances = (r.repeat(self.splits) for r in (self.running_mean, self.running_var))
        scale, shift = (p.repeat(self.splits) for p in (self.weight, self.bias))
        y = F.batch_norm(folded, means, variances, scale, shift, True, self.momentum, self.eps)
        self.running_mean.copy_(means.view(self.splits, channels).mean(0))
        self.running_var.copy_(variances.view(self.splits, channels).mean(0))
        return y.reshape(x.shape)


def network(width: int, dim: int, splits: int) -> nn.Module:
    net = ResNet(BasicBlock, (2, 2, 2, 2), nn.Linear(8 * width, dim), width=width, stem="small")
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d) and name != "conv1":  # the demo replaced it afterwards
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(module, nn.BatchNorm2d):
            module.__class__, module.splits = SplitBatchNorm, splits
    return net.to(DEVICE)


class Twin:
    """Both encoders, the queue [dim, K] and the optimizer; `step` changes them."""

    def __init__(self, s: dict, start: dict | None = None):
        if s["queue_size"] % s["batch_size"]:
            raise SystemExit("the twin's queue takes whole batches, as the official one does.")
        splits = s["batch_size"] // s["group_size"]
        self.query, self.key = (network(s["width"], s["dim"], splits) for _ in range(2))
        if start:
            self.query.load_state_dict(start)
        for key, query in self._pairs():
            key.data.copy_(query.data)
            key.requires_grad = False
        self.momentum, self.temperature = s["key_momentum"], s["temperature"]
        self.queue = F.normalize(torch.randn(s["dim"], s["queue_size"]), dim=0).to(DEVICE)
        self.pointer = 0
        self.base, self.epochs = s["learning_rate"] * s["batch_size"] / 256, s["epochs"]
        self.optimizer = torch.optim.SGD(
            self.query.parameters(),
            lr=self.base,
            momentum=0.9,
            weight_decay=s["weight_decay"],
        )

    def _pairs(self):
        return zip(self.key.parameters(), self.query.parameters(), strict=True)

    def schedule(self, epoch: float) -> None:
        """Sets the rate of a step after `epoch` epochs. The demo counts whole ones, from one."""
        turn = math.pi * (int(epoch) + 1) / self.epochs
        self.optimizer.param_groups[0]["lr"] = self.base * 0.5 * (1 + math.cos(turn))

    def step(self, query_images, key_images) -> torch.Tensor:
        """One step on two views, float32 [B, 3, S, S]; returns the loss."""
        with torch.no_grad():
            for key, query in self._pairs():
                key.mul_(self.momentum).add_(query, alpha=1 - self.momentum)
            order = torch.randperm(len(key_images), device=DEVICE)
            keys = F.normalize(self.key(key_images[order]), dim=1)[order.argsort()]
        queries = F.normalize(self.query(query_images), dim=1)
        positive = (queries * keys).sum(dim=1, keepdim=True)
        logits = torch.cat([positive, queries @ self.queue.clone()], dim=1) / self.temperature
        target = torch.zeros(len(logits), dtype=torch.long, device=DEVICE)
        loss = F.cross_entropy(logits, target)
        self.queue[:, self.pointer : self.pointer + len(keys)] = keys.T
        self.pointer = (self.pointer + len(keys)) % self.queue.shape[1]
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()


def train(
    images: Path, s: dict, seed: int, start=None, loader=None, *, make=Twin, kinds=(DEMO, DEMO)
) -> dict:
    """Returns kNN top-1 (percent) before and after each epoch, and the mean loss of each.

    Where `s` says "knn_every": 0, kNN after the last epoch only.

    Args:
        start: state dict of the first weights; none: drawn as the demo draws them.
        loader: gives an epoch's batches of two views; none: views of its own, of `kinds`.
        make: what is trained: has `query`, `key`, `schedule` and `step`.
    """
    torch.manual_seed(seed), random.seed(seed)
    workers = 0 if os.environ.get("OMP_NUM_THREADS") == "1" else os.cpu_count()
    arrays = np.load(images)
    twin = make(s, start)
    loader = loader or torch.utils.data.DataLoader(
        TwoViews(arrays["x_train"], s["crop_min_area"], kinds),
        batch_size=s["batch_size"],
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    curve, losses, untrained = [], [], knn_top1(twin.query, arrays, s)
    for epoch in range(1, s["epochs"] + 1):
        twin.query.train(), twin.key.train()
        each = []
        for index, views in enumerate(loader):
            twin.schedule(epoch - 1 + index / len(loader))
            each.append(twin.step(*(view.to(DEVICE) for view in views)))
        losses.append(float(torch.stack(each).mean()))
        if s.get("knn_every", 1) or epoch == s["epochs"]:
            curve.append(knn_top1(twin.query, arrays, s))
        print(f"epoch {epoch} loss {losses[-1]:.3f} kNN {curve[-1:]}", file=sys.stderr)
    return {
        "curve": curve,
        "losses": losses,
        "untrained": untrained,
        "steps": s["epochs"] * len(loader),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }


@torch.no_grad()
def knn_top1(net: nn.Module, arrays, s: dict) -> float:
    """Percent of the test images whose class has most votes of their k nearest training images."""
    net.eval()
    bank, queries = (_features(net, arrays[name]) for name in ("x_train", "x_test"))
    labels = torch.from_numpy(arrays["y_train"]).to(DEVICE)
    wanted = torch.from_numpy(arrays["y_test"]).to(DEVICE)
    right = 0
    for part, truth in zip(queries.split(500), wanted.split(500), strict=True):
        similarity, nearest = (part @ bank.T).topk(min(s["knn_k"], len(bank)), dim=1)
        votes = torch.zeros(len(part), int(labels.max()) + 1, device=DEVICE)
        votes.scatter_add_(1, labels[nearest], (similarity / 0.1).exp())
        right += int((votes.argmax(dim=1) == truth).sum())
    return 100 * right / len(wanted)


def _features(net: nn.Module, pixels: np.ndarray) -> torch.Tensor:
    chunks = [pixels[start : start + 500] for start in range(0, len(pixels), 500)]
    batches = (torch.stack([normalized(image) for image in chunk]) for chunk in chunks)
    return torch.cat([F.normalize(net(batch.to(DEVICE)), dim=1) for batch in batches])
