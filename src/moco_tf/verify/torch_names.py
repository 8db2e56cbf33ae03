"""PyTorch's names and layouts of our variables, and its kernels in ours.

Recorded arrays are called "conv1.weight" where our variables are called "conv1/kernel"; convolution
kernels are OIHW there and HWIO here, linear weights (out, in) there and (in, out) here.
"""

import numpy as np

LEAVES = {
    "kernel": "weight",
    "gamma": "weight",
    "bias": "bias",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def torch_name(path: str) -> str:
    """torchvision's name of a variable: "layer1.0.conv1/kernel" -> "layer1.0.conv1.weight"."""
    layer, leaf = path.rsplit("/", 1)
    return f"{layer}.{LEAVES[leaf]}"


def demo_name(name: str, stages: int) -> str:
    """The demo's name of torchvision's `name`: it lists its modules as net.0, net.1, ...

    After the stem (net.0 to net.2: convolution, BatchNorm, ReLU) come the stages, pooling,
    flattening and the linear layer.
    """
    first, rest = name.split(".", 1)
    if first.startswith("layer"):
        number = int(first.removeprefix("layer")) + 2
    else:
        number = {"conv1": 0, "bn1": 1, "fc": stages + 5}[first]
    return f"net.{number}.{rest}"


def to_torch(array: np.ndarray) -> np.ndarray:
    """Our layout -> PyTorch's."""
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    return array.T if array.ndim == 2 else array


def from_torch(array: np.ndarray) -> np.ndarray:
    """PyTorch's layout -> ours."""
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    return array.T if array.ndim == 2 else array
