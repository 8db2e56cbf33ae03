"""The PyTorch twin from our first weights, on our views in our order: only its step is its own."""

import itertools

import same_start
import tensorflow as tf
import twin

from moco_tf import assembly
from moco_tf.config import make_config
from moco_tf.data.pipeline import steps_per_epoch
from moco_tf.recipes import RECIPES


class Loader:
    """As PyTorch's: each time it is iterated, the next epoch's batches, float32 [B, 3, S, S]."""

    def __init__(self, config):
        images, _ = assembly.build_images(config, cache=None)
        method = assembly.build_method(config, assembly.build_strategy(config), images)
        self._prepare = tf.function(method.preprocess)
        self._batches = assembly.build_batches(config, images, 0)
        self._steps = steps_per_epoch(images.count, config.batch_size)

    def __len__(self):
        return self._steps

    def __iter__(self):
        for views in itertools.islice(self._batches, self._steps):
            yield same_start.pictures(views, self._prepare)


def train(images, setting, seed):
    config = make_config(
        RECIPES["cifar10-demo"].config, setting | {"data": str(images), "seed": seed}
    )
    start = same_start.first_state(setting, seed)
    return twin.train(images, setting, seed, start=start, loader=Loader(config))
