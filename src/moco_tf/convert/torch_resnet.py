"""The forward pass of a ResNet in PyTorch, straight from a state dict: a check's other side.

It shares nothing with our encoders, so that a wrong conversion cannot agree with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def torch_features(
    state_dict: Mapping[str, np.ndarray], images: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns "pooled" features and, where there is a head, "projection", in inference mode.

    Args:
        state_dict: by torchvision's names.
        images: float32 [N, H, W, 3], normalised.
    """
    import torch
    import torch.nn.functional as F

    weights: Any = {name: torch.tensor(array) for name, array in state_dict.items()}

    def conv(x, name, stride=1):
        kernel = weights[f"{name}.weight"]
        return F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)

    def bn(x, name):
        mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        return F.batch_norm(x, mean, variance, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def block(x, name, stride):
        last = 3 if f"{name}.conv3.weight" in weights else 2
        strided = last - 1  # the 3x3 convolution: the second of three, the first of two
        y = x
        for i in range(1, last + 1):
            y = bn(conv(y, f"{name}.conv{i}", stride if i == strided else 1), f"{name}.bn{i}")
            y = F.relu(y) if i < last else y
        if f"{name}.downsample.0.weight" in weights:
            x = bn(conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
        return F.relu(x + y)

    def linear(x, name):
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    with torch.no_grad():
        x = torch.tensor(images.transpose(0, 3, 1, 2).copy())
        imagenet = weights["conv1.weight"].shape[-1] == 7
        x = F.relu(bn(conv(x, "conv1", 2 if imagenet else 1), "bn1"))
        x = F.max_pool2d(x, 3, 2, 1) if imagenet else x
        for stage in range(1, 5):
            index = 0
            while f"layer{stage}.{index}.conv1.weight" in weights:
                stride = 2 if stage > 1 and index == 0 else 1
                x = block(x, f"layer{stage}.{index}", stride)
                index += 1
        pooled = x.mean((2, 3))
        found = {"pooled": pooled.numpy()}
        if "fc.weight" in weights:
            found["projection"] = linear(pooled, "fc").numpy()
        elif "fc.0.weight" in weights:
            found["projection"] = linear(F.relu(linear(pooled, "fc.0")), "fc.2").numpy()
    return found
