"""MoCo v3 in plain PyTorch, in the twin's loop and with its kNN: network, views and step its own.

Written from arXiv:2104.02057; heads, loss and LARS are those of benchmarks/torch_moco_v3.py.
"""

import math
import sys
from pathlib import Path

import torch
import twin
from torch import nn
from twin_views import V3

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from torch_moco_v3 import Lars, MoCoV3, Training, perceptron


def train(images, setting, seed):
    return twin.train(images, setting, seed, make=TwinV3, kinds=V3)


class Pooled(nn.Module):
    """What a ResNet gives its projector."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net.pooled(x)


class TwinV3:
    """Both encoders, the predictor and the optimizer; kNN compares the features of `query`."""

    def __init__(self, s: dict, start=None):
        del start  # draws its own
        base = twin.network(s["width"], s["dim"], splits=1)
        base.fc = perceptron([8 * s["width"], s["mlp_dim"], s["dim"]], last_norm=True)
        for name, module in base.named_modules():
            if name.endswith(".bn2"):
                nn.init.zeros_(module.weight)
        predictor = perceptron([s["dim"], s["mlp_dim"], s["dim"]], last_norm=False)
        model = MoCoV3(base, predictor).to(twin.DEVICE)
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = Lars(parameters, 0.9, s["weight_decay"])
        self.s, self.training = s, Training(model, optimizer, s["temperature"])
        self.query, self.key = Pooled(model.base_encoder), model.momentum_encoder

    def schedule(self, epoch: float) -> None:
        """Sets rate and momentum of a step after `epoch` epochs."""
        s, warmup, epochs = self.s, self.s["warmup_epochs"], self.s["epochs"]
        cosine = 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup)))
        share = epoch / warmup if epoch < warmup else cosine
        self.rate = share * s["learning_rate"] * s["batch_size"] / 256
        self.momentum = 1 - (1 - s["key_momentum"]) * 0.5 * (1 + math.cos(math.pi * epoch / epochs))

    def step(self, view1, view2) -> torch.Tensor:
        """One step on two views, float32 [B, 3, S, S]; returns the loss."""
        return self.training.step(view1, view2, self.rate, self.momentum)
