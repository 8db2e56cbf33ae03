"""An independent ResNet in plain PyTorch, with torchvision's names, for the tests of `convert`."""

import torch
from torch import nn


class Bottleneck(nn.Module):
    def __init__(self, channels, planes, stride, inner):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, planes * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        if stride != 1 or channels != planes * 4:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, planes * 4, 1, stride, bias=False), nn.BatchNorm2d(planes * 4)
            )

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class BasicBlock(nn.Module):
    def __init__(self, channels, planes, stride, inner):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, inner, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        if stride != 1 or channels != planes:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, planes, 1, stride, bias=False), nn.BatchNorm2d(planes)
            )

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class ResNet(nn.Module):
    """Stem "imagenet" or "small"; `fc` is any module, or None."""

    def __init__(self, block, blocks, fc, *, width=64, stem="imagenet", inner_factor=1):
        super().__init__()
        large = stem == "imagenet"
        self.conv1 = nn.Conv2d(3, width, 7 if large else 3, 2 if large else 1, 3 if large else 1,
                               bias=False)  # fmt: skip
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        channels = width
        for stage, count in enumerate(blocks):
            planes, layers = width * 2**stage, []
            for index in range(count):
                stride = 2 if stage and not index else 1
                layers.append(block(channels, planes, stride, planes * inner_factor))
                channels = planes * (4 if block is Bottleneck else 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.fc = fc

    def pooled(self, x):
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3))

    def forward(self, x):
        return self.fc(self.pooled(x))


def randomize(model, seed=0):
    """Statistics and scales as after training, so that a mix-up of any two shows."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.weight, 0.5), (module.running_var, 0.5),
                                (module.bias, -0.1), (module.running_mean, -0.1)):  # fmt: skip
                scale = 1 if low > 0 else 0.2
                values = low + scale * torch.rand(tensor.shape, generator=generator)
                tensor.data.copy_(values)
            module.num_batches_tracked.fill_(7)
    return model.eval()


class MoCo(nn.Module):
    """The official module's parameters and buffers, as the names in its checkpoints tell them."""

    def __init__(self, query, key, dim, queue_size):
        super().__init__()
        self.encoder_q, self.encoder_k = query, key
        for parameter in key.parameters():
            parameter.requires_grad = False
        self.register_buffer("queue", nn.functional.normalize(torch.randn(dim, queue_size), dim=0))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))
