"""First weights, views and whole trainings of our side as arrays, for a twin in another process."""

import itertools

import numpy as np
import tensorflow as tf

from moco_tf import building as assembly
from moco_tf.config import make_config
from moco_tf.data.pipeline import steps_per_epoch
from moco_tf.methods.shuffle import random_permutation
from moco_tf.models import build_encoder
from moco_tf.recipes import RECIPES


def first_weights(setting: dict, seed: int):
    """Yields once: what the encoder of that seed starts with, by the paths of its variables."""
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
    yield _arrays(encoder.model)


def views(images: str, setting: dict, seed: int):
    """Yields each batch's two views, [B, 3, S, S], without end."""
    config, train = _config(images, setting | {"seed": seed})
    method = assembly.build_method(config, assembly.build_strategy(config), train)
    preprocess = tf.function(method.envelope.preprocess)
    for pair in assembly.build_batches(config, train, 0):
        yield _pictures(pair, preprocess)


def training(images: str, setting: dict, steps: int):
    """Yields query encoder and queue at the start, each step, and both encoders at the end.

    A step is its "views", "order" of the shuffle, "lr" and, once done, "loss".
    """
    config, train = _config(images, setting)
    method = assembly.build_method(config, assembly.build_strategy(config), train)
    step = assembly.build_step(config, method)
    rate = assembly.build_schedule(config, steps_per_epoch(train.count, config.batch_size))
    batches = assembly.build_batches(config, train, 0)
    preprocess = tf.function(method.envelope.preprocess)
    yield _arrays(method.query.model) | {"queue": method.queue.numpy()}
    for number, pair in enumerate(itertools.islice(batches, steps)):
        order = random_permutation(config.seed, np.int64(number), 1, config.batch_size)[0].numpy()
        made = _pictures(pair, preprocess) | {"order": order.astype(np.int64), "lr": rate(number)}
        yield made | {"loss": float(step(*pair, number, rate(number))["loss"])}
    yield (
        {f"query:{n}": a for n, a in _arrays(method.query.model).items()}
        | {f"key:{n}": a for n, a in _arrays(method.key.model).items()}
        | {"queue": method.queue.numpy()}
    )


def _config(images, fields):
    config = make_config(RECIPES["cifar10-demo"].config, fields | {"data": images})
    return config, assembly.build_images(config)[0]


def _arrays(model) -> dict[str, np.ndarray]:
    return {variable.path: variable.numpy() for variable in model.variables}


def _pictures(pair, preprocess) -> dict[str, np.ndarray]:
    one, other = (preprocess(view).numpy().transpose(0, 3, 1, 2) for view in pair)
    return {"views": np.stack([one, other])}
