"""Some pictures of a run, and their features by the trained and the untrained encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf.config import Config
from moco_tf.data.listing import spread
from moco_tf.data.pipeline import eval_batches
from moco_tf.data.sources import Images
from moco_tf.errors import DivergedError, InputError
from moco_tf.evaluate.features import embedding, extract, unit_rows
from moco_tf.evaluate.knn import PIXEL_SIZE
from moco_tf.evaluate.split import monitor_split
from moco_tf.runs.encoders import assign, check_size, untrained_encoder
from moco_tf.runs.snapshot import load_snapshot

MOST, FEWEST, USUAL = 5000, 256, 1000  # pictures; the last where the run's speed is not known
SECONDS = 4  # of a report, for its features
STEP_COST = 4  # features of an image that cost as much as training on it
MOST_BYTES = 2**30  # of the pictures, held in memory
BATCH = 64
QUERIES = 12  # whose neighbours are shown


@dataclass(frozen=True)
class Sample:
    """The bank that is searched, then the queries, M pictures in all; no picture is in both."""

    crops: np.ndarray  # uint8 [M, S, S, 3], as for every evaluation
    names: list[str]
    labels: np.ndarray | None  # int64 [M]
    class_names: tuple[str, ...]  # perhaps none
    bank: int  # pictures that are the bank
    share: float  # of the bank in all the training pictures that an evaluation searches

    @cached_property
    def shown_queries(self) -> np.ndarray:
        """Places of some queries, evenly spread over their classes."""
        places = np.arange(self.bank, len(self.names))
        if self.labels is not None:
            places = places[np.argsort(self.labels[places], kind="stable")]
        return places[spread(len(places), QUERIES)]

    def batches(self, places: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """The pictures, or those at some places, uint8 [b, S, S, 3] after one another."""
        places = np.arange(len(self.crops)) if places is None else places
        for start in range(0, len(places), BATCH):
            yield self.crops[places[start : start + BATCH]]

    def class_of(self, index: int) -> str | None:
        """The name of a picture's class, or its number; None where it is not known."""
        if self.labels is None or self.labels[index] < 0:
            return None
        label = int(self.labels[index])
        return self.class_names[label] if label < len(self.class_names) else str(label)


def count_for(config: Config, images_per_second: float | None) -> int:
    """Returns how many pictures a report looks at: as many as take some seconds.

    Args:
        images_per_second: of the training.
    """
    # Two encoders look at each picture.
    count = USUAL
    if images_per_second:
        count = int(images_per_second * STEP_COST * SECONDS / 2) // 100 * 100
    held = MOST_BYTES // (3 * config.image_size**2)
    return max(min(count, MOST, held), min(FEWEST, held), 2)


def choose(config: Config, train: Images, test: Images | None, count: int) -> Sample:
    """Returns at most `count` pictures, a random choice by the seed.

    A quarter are the queries: test pictures if there are some, as in the run's evaluations.

    Raises:
        InputError: if a picture cannot be read, or there are fewer than two.
    """
    limits = {"max_bank": max(count * 3 // 4, 1), "max_queries": max(count // 4, 1)}
    split = monitor_split(train, test, seed=config.seed, **limits)
    if split is not None:
        bank, queries, others = split.bank_indices, split.query_indices, split.queries
        share = len(bank) / max(min(config.knn_max_bank, train.count), 1)
    else:
        share, others = 1.0, test if test is not None and test.count else train
        random = np.random.default_rng(config.seed)
        bank = random.permutation(train.count)[:count]
        if others is train:
            queries, bank = np.split(bank, [max(len(bank) // 4, 1)])
        else:
            bank = bank[: limits["max_bank"]]
            queries = random.permutation(others.count)[: limits["max_queries"]]
        bank, queries = np.sort(bank), np.sort(queries)
    if not len(bank):
        raise InputError("there are fewer than two pictures.")
    parts = ((train, bank), (others, queries))
    crops = [
        np.asarray(batch)
        for images, indices in parts
        for batch in eval_batches(
            images, indices=indices, image_size=config.image_size, batch_size=BATCH
        )
    ]
    labels = [images.labels[indices] for images, indices in parts if images.labels is not None]
    return Sample(
        np.concatenate(crops),
        [_name(images, index) for images, indices in parts for index in indices],
        np.concatenate(labels) if len(labels) == len(parts) else None,
        max((images.class_names for images, _ in parts), key=len),
        len(bank),
        share,
    )


def _name(images: Images, index: int) -> str:
    return images.paths[index] if images.paths is not None else images.name_of(int(index))


def features_of(
    run: Path, config: Config, sample: Sample, warn: Callable[[str], None]
) -> dict[str, np.ndarray]:
    """Returns unit features, float32 [M, D], by "trained", "untrained" and "pixels".

    The untrained encoder's are zero for the queries that are not shown, which need none.

    Raises:
        InputError: if the run holds no checkpoint, or not one of this encoder.
        DivergedError: if the features are not finite.
    """
    snapshot = load_snapshot(run, warn=warn)
    check_size(snapshot, run)
    encoder = untrained_encoder(snapshot.config)
    model = encoder.backbone if encoder.model is None else encoder.model
    embed = embedding(
        encoder, features=config.knn_features, normalization=snapshot.config.normalization
    )

    needed = np.concatenate([np.arange(sample.bank), sample.shown_queries])
    few = extract(embed, sample.batches(needed))
    assign(model, snapshot.state, run)  # the same graph: it is compiled once
    trained = extract(embed, sample.batches())
    untrained = np.zeros_like(trained)
    untrained[needed] = few
    found = {"trained": trained, "untrained": untrained, "pixels": _pixels(sample)}
    if not all(np.isfinite(rows).all() for rows in found.values()):
        raise DivergedError("the features are not all finite: the encoder has diverged.")
    return found


def _pixels(sample: Sample) -> np.ndarray:
    """Unit rows of the pictures, at most 32 pixels a side, less the mean of the bank."""
    side, crops = min(sample.crops.shape[1], PIXEL_SIZE), sample.crops
    small: Any = [
        tf.image.resize(batch, [side, side], method="area").numpy() for batch in sample.batches()
    ]
    rows = np.concatenate(small).reshape(len(crops), -1).astype(np.float32)
    rows -= rows[: sample.bank].mean(axis=0, dtype=np.float64).astype(np.float32)
    return unit_rows(rows)
