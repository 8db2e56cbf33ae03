"""MoCo v3 in PyTorch, written from the papers: networks, loss, LARS; AdamW is PyTorch's own.

None of the official code is here. Names are those of its state dicts. Sources: arXiv:2104.02057,
arXiv:1708.03888 (LARS), arXiv:1512.03385 (ResNet), arXiv:2010.11929 (ViT).
"""

import copy
import itertools
import math

import torch
from torch import nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    def __init__(self, channels, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride > 1 or channels != planes:
            conv = nn.Conv2d(channels, planes, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(planes))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, layers, width):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.stages, channels = len(layers), width
        for stage, blocks in enumerate(layers):
            made = []
            for block in range(blocks):
                planes, stride = width * 2**stage, 2 if stage and not block else 1
                made.append(BasicBlock(channels, planes, stride))
                channels = planes
            self.add_module(f"layer{stage + 1}", nn.Sequential(*made))
        self.features, self.fc = channels, nn.Identity()

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(x.mean(dim=(2, 3)))


class Attention(nn.Module):
    fused = False  # PyTorch's own kernel; the recorded steps are without

    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.qkv, self.proj = (
            heads,
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )

    def forward(self, x):
        batch, tokens, width = x.shape
        split = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = (q @ k.transpose(-1, -2) / math.sqrt(width // self.heads)).softmax(dim=-1) @ v
        return self.proj(y.transpose(1, 2).reshape(batch, tokens, width))


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, 1e-6), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width, 1e-6), Mlp(width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, width, patch):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class ViT(nn.Module):
    def __init__(self, width, depth, heads, patch, size):
        super().__init__()
        self.features, self.patch_embed = width, PatchEmbed(width, patch)
        self.cls_token = nn.Parameter(0.5 * torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(positions(size // patch, width), requires_grad=False)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width, 1e-6), nn.Identity()

    def forward(self, x):
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


def positions(side, width):
    """Sines and cosines of row and column, in float32; the class token's row is zero."""
    quarter = width // 4
    frequencies = 1.0 / 10000.0 ** (torch.arange(quarter).float() / quarter)
    angles = torch.arange(side).float()[:, None] * frequencies
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)  # [side, width / 2]
    rows, columns = axis.repeat_interleave(side, 0), axis.repeat(side, 1)
    table = torch.cat([rows, columns], dim=1)
    return torch.cat([torch.zeros(1, width), table])[None]


def perceptron(widths, last_norm):
    """Linear layers without bias; BatchNorm and ReLU between, BatchNorm without affine last."""
    layers = []
    for number, (into, out) in enumerate(itertools.pairwise(widths)):
        last = number == len(widths) - 2
        layers.append(nn.Linear(into, out, bias=False))
        if not last:
            layers += [nn.BatchNorm1d(out), nn.ReLU()]
        elif last_norm:
            layers.append(nn.BatchNorm1d(out, affine=False))
    return nn.Sequential(*layers)


class MoCoV3(nn.Module):
    """The networks: `base_encoder`, which ends in the projector, its copy, and the predictor."""

    def __init__(self, base_encoder, predictor):
        super().__init__()
        self.base_encoder, self.predictor = base_encoder, predictor
        self.momentum_encoder = copy.deepcopy(base_encoder).requires_grad_(False)

    def spread(self, generator):
        """Moves biases, scales and shifts off their first values, the same in both branches."""
        with torch.no_grad():
            for _name, p in [
                *self.base_encoder.named_parameters(),
                *self.predictor.named_parameters(),
            ]:
                if p.dim() == 1:
                    p.add_(0.2 * torch.randn(p.shape, generator=generator))
            self.momentum_encoder.load_state_dict(self.base_encoder.state_dict())


def moco_v3(s):
    """The networks of settings: a ViT, or a ResNet of basic blocks."""
    vit, hidden = s["kind"] == "vit", s["mlp_dim"]
    if vit:
        base = ViT(s["width"], s["depth"], s["heads"], s["patch"], s["size"])
        base.head = perceptron([base.features, hidden, hidden, s["dim"]], True)
        base.patch_embed.proj.requires_grad_(not s["stop_grad_conv1"])
    else:
        base = ResNet(s["layers"], s["width"])
        base.fc = perceptron([base.features, hidden, s["dim"]], True)
    return MoCoV3(base, perceptron([s["dim"], hidden, s["dim"]], vit))


def contrast(q, k, temperature):
    q, k = F.normalize(q, dim=1), F.normalize(k, dim=1)
    labels = torch.arange(len(q))
    return F.cross_entropy(q @ k.T / temperature, labels) * 2 * temperature


class Lars:
    """Layer-wise rates for what has more than one dimension; momentum after them."""

    def __init__(self, parameters, momentum, weight_decay):
        self.parameters, self.momentum, self.weight_decay = parameters, momentum, weight_decay
        self.mu = [torch.zeros_like(p) for p in parameters]

    def step(self, rate):
        for p, mu in zip(self.parameters, self.mu, strict=True):
            d = p.grad
            if p.dim() > 1:
                d = d + self.weight_decay * p
                of_p, of_d = p.norm(), d.norm()
                d = d * (0.001 * of_p / of_d if of_p > 0 and of_d > 0 else 1.0)
            mu.mul_(self.momentum).add_(d)
            p.sub_(rate * mu)

    def slots(self):
        return {"mu": self.mu}


class AdamW:
    def __init__(self, parameters, weight_decay):
        self.inner = torch.optim.AdamW(parameters, lr=0.0, weight_decay=weight_decay)

    def step(self, rate):
        self.inner.param_groups[0]["lr"] = rate
        self.inner.step()

    def slots(self):
        state = [self.inner.state[p] for p in self.inner.param_groups[0]["params"]]
        return {slot: [one[slot] for one in state] for slot in ("exp_avg", "exp_avg_sq")}


class Training:
    """A model (encoders and predictor, as `MoCoV3` has them) and its optimizer; calls train it.

    Args:
        compiled: both encoders go through torch.compile.
    """

    def __init__(self, model, optimizer, temperature, compiled=False):
        self.model, self.optimizer, self.temperature = model, optimizer, temperature
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.query = nn.Sequential(model.base_encoder, model.predictor)
        self.key = model.momentum_encoder
        if compiled:
            self.query, self.key = torch.compile(self.query), torch.compile(self.key)

    def step(self, x1, x2, rate, momentum):
        """One step on two views, float32 [B, 3, S, S]; returns the loss."""
        q1, q2 = self.query(x1), self.query(x2)
        with torch.no_grad():
            sides = self.model.base_encoder.parameters(), self.model.momentum_encoder.parameters()
            for q, k in zip(*sides, strict=True):
                k.mul_(momentum).add_(q, alpha=1 - momentum)
            k1, k2 = self.key(x1), self.key(x2)
        loss = contrast(q1, k2, self.temperature) + contrast(q2, k1, self.temperature)
        for p in self.parameters:
            p.grad = None
        loss.backward()
        with torch.no_grad():
            self.optimizer.step(rate)
        return loss.detach()
