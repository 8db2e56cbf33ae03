"""PyTorch's names and layouts of our variables, both ways.

Our "conv1/kernel" is torchvision's "conv1.weight"; convolution kernels are OIHW there and HWIO
here, linear weights (out, in) there and (in, out) here.
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
TOKENS = "tokens"  # our layer of a ViT's cls_token and pos_embed, which timm has outside all layers
STATISTICS = ("running_mean", "running_var")
COUNTER = (
    "num_batches_tracked"  # of a BatchNorm layer in PyTorch: training steps, no number of ours
)
_LEAF_ORDER = ("weight", "bias", *STATISTICS, COUNTER)


def torch_name(path: str) -> str:
    """torchvision's name of a variable: "layer1.0.conv1/kernel" -> "layer1.0.conv1.weight"."""
    layer, leaf = path.rsplit("/", 1)
    return leaf if layer == TOKENS else f"{layer}.{LEAVES[leaf]}"


def our_name(name: str, ndim: int) -> str:
    """Our name of torchvision's `name` of an `ndim`-dimensional array: inverts `torch_name`."""
    if "." not in name:
        return f"{TOKENS}/{name}"
    layer, leaf = name.rsplit(".", 1)
    if leaf in STATISTICS:
        return f"{layer}/{'moving_mean' if leaf == 'running_mean' else 'moving_variance'}"
    if leaf == "weight":
        return f"{layer}/{'gamma' if ndim == 1 else 'kernel'}"
    return f"{layer}/{'bias' if _is_linear(layer) else 'beta'}"


def _is_linear(layer: str) -> bool:
    """Whether a layer with a bias is a linear one or a convolution, not a normalization."""
    parts = layer.split(".")
    of_vit = parts[-1] in ("qkv", "proj", "fc1", "fc2") or layer == "patch_embed.proj.12"
    return parts[0] in ("fc", "head") or of_vit


def torch_order(name: str) -> tuple:
    """Sort key: the order in which torchvision registers its modules, and so lists its names.

    Within a block the shortcut comes last; an optimizer numbers the parameters in this order.
    """
    layer, leaf = name.rsplit(".", 1)
    first, *rest = layer.split(".")
    if first.startswith("layer"):
        stage, block, module = int(first.removeprefix("layer")), int(rest[0]), rest[1:]
    else:
        stage, block, module = (9 if first == "fc" else 0), 0, [first, *rest]
    if module[0] == "downsample":
        place = (9, int(module[1]))
    elif module[0] == "fc":
        place = (int(module[1]) if len(module) > 1 else 0, 0)
    else:  # conv1, bn1, conv2, ...
        place = (int(module[0][-1]), int(module[0].startswith("bn")))
    return stage, block, *place, _LEAF_ORDER.index(leaf)


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
