"""The PyTorch twin from our first weights, on our views in our order: only its step is its own."""

import itertools

import numpy as np
import same_start
import torch
import twin
from apart import arrays_of


class Loader:
    """As PyTorch's: each time it is iterated, the next epoch's batches, float32 [B, 3, S, S]."""

    def __init__(self, images, setting, seed):
        self._batches = arrays_of("our_arrays", "views", str(images), setting, seed)
        self._steps = len(np.load(images)["x_train"]) // setting["batch_size"]

    def __len__(self):
        return self._steps

    def __iter__(self):
        for made in itertools.islice(self._batches, self._steps):
            yield torch.from_numpy(made["views"]).unbind()


def train(images, setting, seed):
    start = same_start.first_state(setting, seed)
    return twin.train(images, setting, seed, start=start, loader=Loader(images, setting, seed))
