"""The PyTorch twin, from the first weights that our side draws for the seed."""

import numpy as np
import torch
import twin

from moco_tf.models import build_encoder

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
    encoder = build_encoder(
        "resnet18",
        image_size=32,
        stem="small",
        width=setting["width"],
        head="linear",
        dim=setting["dim"],
        group_size=setting["group_size"],
        group_layout="interleaved",
        running_statistics="mean",
        seed=seed,
    )
    splits = setting["batch_size"] // setting["group_size"]
    network = twin.network(setting["width"], setting["dim"], splits)
    put(encoder.model, network)
    return network.state_dict()


def put(model, network) -> None:
    """Copies parameters and statistics of our Keras model into a network of the twin."""
    state = network.state_dict()  # shares its tensors with the network
    for variable in model.variables:
        layer, _, kind = variable.path.rpartition("/")
        values = variable.numpy()
        if kind == "kernel":
            values = values.transpose(3, 2, 0, 1) if values.ndim == 4 else values.T
        state[f"{layer}.{NAMES[kind]}"].copy_(torch.from_numpy(np.ascontiguousarray(values)))


def pictures(views, preprocess) -> list[torch.Tensor]:
    """Our two views [B, S, S, 3], preprocessed, as the twin takes them: [B, 3, S, S]."""
    arrays = (preprocess(view).numpy().transpose(0, 3, 1, 2) for view in views)
    return [torch.from_numpy(array.copy()) for array in arrays]
