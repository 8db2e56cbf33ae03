"""The PyTorch twin, from the first weights that our side draws for the seed."""

import numpy as np
import torch
import twin
from apart import Arrays, arrays_of

NAMES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def train(images, setting, seed):
    return twin.train(images, setting, seed, start=first_state(setting, seed))


def first_state(setting, seed) -> dict:
    """The state dict of a twin with the weights that our side draws."""
    splits = setting["batch_size"] // setting["group_size"]
    network = twin.network(setting["width"], setting["dim"], splits)
    (weights,) = arrays_of("our_arrays", "first_weights", setting, seed)
    put(weights, network)
    return network.state_dict()


def put(arrays: Arrays, network) -> None:
    """Copies our parameters and statistics, by their paths, into a network of the twin."""
    state = network.state_dict()  # shares its tensors with the network
    for path, values in arrays.items():
        layer, _, kind = path.rpartition("/")
        axes = (3, 2, 0, 1) if values.ndim == 4 else range(values.ndim)[::-1]
        theirs = np.ascontiguousarray(values.transpose(axes))
        state[f"{layer}.{NAMES[kind]}"].copy_(torch.from_numpy(theirs))
