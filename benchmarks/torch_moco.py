"""The official training step in plain PyTorch, one process: the other side of the benchmarks.

Written from the published algorithm (arXiv:1911.05722, Algorithm 1; MoCo v2 differs by its head and
temperature). One process is one BatchNorm group, so the shuffle permutes the batch and no more.
"""

import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from support.torch_twin import BasicBlock, Bottleneck, ResNet

STRUCTURES = {
    "resnet18": (BasicBlock, (2, 2, 2, 2), 1),
    "resnet50": (Bottleneck, (3, 4, 6, 3), 4),
}


def resnet(encoder, fc, *, width, stem):
    """A ResNet that ends in `fc`, in channels_last, with torchvision's weights to begin with."""
    block, blocks, _ = STRUCTURES[encoder]
    net = ResNet(block, blocks, fc, width=width, stem=stem)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net.to(memory_format=torch.channels_last)


class TorchMoCo:
    """Both encoders, the queue [dim, K] and the optimizer; `step` changes them."""

    def __init__(self, encoder, *, stem, width, mlp, dim, queue_size, momentum, temperature, lr,
                 weight_decay, compiled, device="cpu"):  # fmt: skip
        features = width * 8 * STRUCTURES[encoder][2]

        def network():
            last = nn.Linear(features, dim)
            hidden = [nn.Linear(features, features), nn.ReLU(inplace=True)] if mlp else []
            fc = nn.Sequential(*hidden, last) if mlp else last
            return resnet(encoder, fc, width=width, stem=stem).to(device)

        self.query, self.key = network(), network()
        self.key.load_state_dict(self.query.state_dict())
        for parameter in self.key.parameters():
            parameter.requires_grad = False
        self.momentum, self.temperature = momentum, temperature
        self.queue = F.normalize(torch.randn(dim, queue_size), dim=0).to(device)
        self.pointer = 0
        self.optimizer = torch.optim.SGD(
            self.query.parameters(), lr, momentum=0.9, weight_decay=weight_decay
        )
        self.encode_query, self.encode_key = self.query, self.key
        if compiled:
            self.encode_query, self.encode_key = torch.compile(self.query), torch.compile(self.key)

    def step(self, query_images, key_images):
        """One step on two views, float32 [B, 3, H, W] in channels_last; returns the loss."""
        queries = F.normalize(self.encode_query(query_images), dim=1)
        with torch.no_grad():
            for key, query in zip(self.key.parameters(), self.query.parameters(), strict=True):
                key.data = key.data * self.momentum + query.data * (1 - self.momentum)
            order = torch.randperm(len(key_images), device=key_images.device)
            keys = F.normalize(self.encode_key(key_images[order]), dim=1)[torch.argsort(order)]
        positive = torch.einsum("nc,nc->n", queries, keys)[:, None]
        negative = torch.einsum("nc,ck->nk", queries, self.queue.clone())
        logits = torch.cat([positive, negative], dim=1) / self.temperature
        size, count = len(keys), self.queue.shape[1]
        self.queue[:, self.pointer : self.pointer + size] = keys.T
        self.pointer = (self.pointer + size) % count
        loss = F.cross_entropy(logits, torch.zeros(size, dtype=torch.long, device=logits.device))
        top5 = logits.detach().topk(5, dim=1).indices
        (top5 == 0).float().sum(dim=0)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss
