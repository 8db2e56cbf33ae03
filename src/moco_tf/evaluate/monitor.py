"""What is evaluated while an encoder trains: kNN and, without labels, its features of two views."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import Any

import numpy as np

from moco_tf.config import Config
from moco_tf.data.order import StepOrder
from moco_tf.data.pipeline import views_of
from moco_tf.data.readable import readable_batches
from moco_tf.data.sources import Images
from moco_tf.data.view_making import FunctionViews, HostViews
from moco_tf.evaluate.features import EVAL_BATCH, embedding
from moco_tf.evaluate.knn import knn_top1_features, knn_top1_pixels
from moco_tf.evaluate.label_free import PICTURES, held_out, label_free_signals
from moco_tf.evaluate.split import Split, monitor_split
from moco_tf.runs import variables
from moco_tf.training.pretraining_job import baselines
from moco_tf.training.progress import Progress
from moco_tf.training.reporting import Reporter


def evaluations(config: Config, method: Any, train: Images, test: Images | None, augment):
    """Returns what is evaluated, as functions: {name: value} of the encoder, kNN of the pixels.

    Without labels the first leaves kNN out, and the second is None.
    """
    knn_top1, pixels, signals = build_monitors(config, method)
    split = build_split(config, train, test)
    views = build_views(config, train, test, augment=augment)
    if split is None:
        return partial(signals, views), None
    return lambda: {"knn_top1": knn_top1(split)} | signals(views), partial(pixels, split)


class Untrained:
    """The evaluation of an encoder with the weights that it has now, to be called later.

    Args:
        encoder: its variables by name; when called it gets these weights, then those back that it
            has by then.
        evaluate: the evaluation.
    """

    def __init__(self, encoder: Mapping[str, Any], evaluate: Callable[[], None]):
        self._encoder, self._evaluate = encoder, evaluate
        self._weights = variables.arrays_of(encoder)

    def __call__(self) -> None:
        trained = variables.arrays_of(self._encoder)
        variables.assign(self._encoder, self._weights)
        try:
            self._evaluate()
        finally:
            variables.assign(self._encoder, trained)


def evaluate_untrained(progress: Progress, monitor, pixels, reporter: Reporter) -> None:
    """The baselines: of the encoder before its first step and, with labels, of the pixels."""
    reporter.stage("evaluating the untrained encoder")
    untrained = monitor()
    for name, value in untrained.items():
        setattr(progress, f"{name}_untrained", value)
    if pixels:
        reporter.stage("kNN of the raw pixels")
        progress.knn_top1_pixels = pixels()
    reporter.evaluation(0, untrained, baselines(progress))


def build_split(config: Config, train: Images, test: Images | None) -> Split | None:
    """Returns the images that the kNN monitor searches and classifies; None without labels."""
    return monitor_split(
        train,
        test,
        max_bank=config.knn_max_bank,
        max_queries=config.knn_max_queries,
        seed=config.seed,
    )


def build_views(
    config: Config,
    train: Images,
    test: Images | None,
    pictures: int = PICTURES,
    augment: Callable | None = None,
) -> Callable[[], Iterator[Any]]:
    """Returns a function that gives batches of two views of `held_out` images, always the same.

    They are augmented as the run's are, by draws of their own.

    Args:
        pictures: at most, a random choice by the seed.
        augment: the function that makes the views; none: the config's augmentation does.
    """
    images = held_out(train, test)
    chosen = np.random.default_rng(config.seed).permutation(images.count)[:pictures]
    images = images.subset(np.sort(chosen))
    function = augment and FunctionViews(augment, config.image_size)
    steps = -(-images.count // EVAL_BATCH)  # kNN's: the encoder is traced once for both
    order = StepOrder(config.seed, images.count, EVAL_BATCH, steps, end=steps)
    making = function or HostViews(config.views, config.image_size)
    views = cache(lambda: views_of(images, making, order))  # traced when they are needed
    return lambda: readable_batches(images, order, views())


def build_monitors(
    config: Config, method: Any
) -> tuple[Callable[[Split], float], Callable[[Split], float], Callable[[Any], dict[str, float]]]:
    """Returns kNN top-1 (percent) of the query encoder and of plain pixels, as functions.

    The third gives the label-free signals of the query encoder on what `build_views` returns.
    """
    votes: dict[str, Any] = {
        "image_size": config.image_size,
        "k": config.knn_k,
        "temperature": config.knn_temperature,
    }
    embed = embedding(
        method.query.encoder, features=config.knn_features, normalization=config.normalization
    )
    return (
        lambda split: knn_top1_features(split, embed, **votes),
        lambda split: knn_top1_pixels(split, **votes),
        lambda views: label_free_signals(embed, views()),
    )
