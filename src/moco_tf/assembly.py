"""From a `Config` to the objects of a run: method, batches, step, schedule, monitors."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from moco_tf.config import Config
from moco_tf.data.pipeline import normalize, two_views
from moco_tf.data.sources import Images
from moco_tf.errors import InputError
from moco_tf.evaluate.features import embedding
from moco_tf.evaluate.knn import knn_top1_features, knn_top1_pixels
from moco_tf.evaluate.split import monitor_split
from moco_tf.methods.moco import MoCo
from moco_tf.methods.shuffle import random_permutation
from moco_tf.models import build_encoder
from moco_tf.schedules import learning_rate


def build_method(config: Config, strategy: tf.distribute.Strategy) -> MoCo:
    """Returns the untrained method that `config` describes, on the devices of `strategy`."""
    if config.head == "none":
        raise InputError(
            "pre-training needs a projection head; received head=none. Use linear or mlp."
        )
    compute_dtype = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}.get(
        config.precision, "float32"
    )
    settings = {
        "image_size": config.image_size,
        "stem": config.stem,
        "width": config.width,
        "head": config.head,
        "dim": config.dim,
        "group_size": config.group_size,
        "group_layout": config.group_layout,
        "running_statistics": config.running_statistics,
        "dtype": config.precision,
        "seed": config.seed,
    }
    with strategy.scope():
        query = build_encoder(config.encoder, **settings)
        key = build_encoder(config.encoder, **settings)
    return MoCo(
        query,
        key,
        strategy=strategy,
        queue_size=config.queue_size,
        dim=config.dim,
        batch_size=config.batch_size,
        group_size=config.group_size,
        group_layout=config.group_layout,
        running_statistics=config.running_statistics,
        key_momentum=config.key_momentum,
        temperature=config.temperature,
        symmetric=config.symmetric,
        sgd_momentum=config.sgd_momentum,
        weight_decay=config.weight_decay,
        seed=config.seed,
        preprocess=lambda images: normalize(images, config.normalization, compute_dtype),
        xla=config.xla,
        loss_scaling=config.precision == "mixed_float16",
        accumulation_steps=config.accumulation_steps,
    )


def build_step(config: Config, method: MoCo) -> Callable:
    """Returns the compiled step: (view 1, view 2, step, learning rate) -> scalars to log."""
    calls = 2 if config.symmetric else 1

    @tf.function
    def train_step(view1, view2, step, rate):
        permutations = random_permutation(config.seed, step, calls, config.batch_size)
        return method.train_step(view1, view2, permutations, rate)[0]

    return train_step


def build_batches(config: Config, train: Images, start_step: int):
    """Returns an iterator over the two views of each batch, from `start_step` on."""
    return iter(
        two_views(
            train,
            batch_size=config.batch_size,
            image_size=config.image_size,
            augmentation=config.augmentation,
            crop_min_area=config.crop_min_area,
            color_strength=config.color_strength,
            seed=config.seed,
            start_step=start_step,
        )
    )


def build_schedule(config: Config, epoch_steps: int) -> Callable[[int], float]:
    """Returns the learning rate as a function of the step."""

    def rate(step: int) -> float:
        return learning_rate(
            step,
            steps_per_epoch=epoch_steps,
            epochs=config.epochs,
            base=config.scaled_learning_rate,
            schedule=config.schedule,
            milestones=config.milestones,
            drop=config.lr_drop,
            unit=config.schedule_unit,
            first_epoch=config.first_epoch,
        )

    return rate


def build_monitors(
    config: Config, method: MoCo, train: Images, test: Images | None
) -> tuple[Callable[[], float], Callable[[], float]] | None:
    """Returns kNN top-1 (percent) of the query encoder and of plain pixels; None without labels."""
    split = monitor_split(
        train,
        test,
        max_bank=config.knn_max_bank,
        max_queries=config.knn_max_queries,
        seed=config.seed,
    )
    if split is None:
        return None
    votes: dict[str, Any] = {
        "image_size": config.image_size,
        "k": config.knn_k,
        "temperature": config.knn_temperature,
    }
    embed = embedding(
        method.query, features=config.knn_features, normalization=config.normalization
    )
    return (
        lambda: knn_top1_features(split, embed, **votes),
        lambda: knn_top1_pixels(split, **votes),
    )
