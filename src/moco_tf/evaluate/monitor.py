"""The kNN monitor of a training run: the same images each time, the encoder as it is."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from moco_tf.config import Config
from moco_tf.data.pipeline import eval_batches, normalize
from moco_tf.evaluate.features import extract
from moco_tf.evaluate.knn import knn_top1, monitor_split, pixel_features

EVAL_BATCH_SIZE = 256


@dataclass
class KnnMonitor:
    """Bank and query images, and the model that turns them into features."""

    model: Any  # normalised images -> features
    bank: tuple
    queries: tuple
    config: Config

    @classmethod
    def for_config(cls, config: Config, encoder, train, test):
        """Returns the monitor of a run, or None where the images have no labels."""
        split = monitor_split(train, test, seed=config.seed)
        if split is None:
            return None
        model = encoder.model if config.knn_features == "projection" else encoder.backbone
        return cls(model, *split, config)

    def top1(self) -> float:
        """kNN top-1 of the encoder now, in percent."""
        return self._vote(*(self._features(part) for part in (self.bank, self.queries)))

    def pixels_top1(self) -> float:
        """kNN top-1 of raw pixels on the same images, in percent."""
        size = self.config.image_size
        bank, queries = (pixel_features(*part, size) for part in (self.bank, self.queries))
        mean = bank.mean(axis=0)
        return self._vote(*(_unit_rows(part - mean) for part in (bank, queries)))

    def _features(self, part):
        images, indices = part
        batches = eval_batches(
            images,
            indices=indices,
            image_size=self.config.image_size,
            batch_size=EVAL_BATCH_SIZE,
        )
        normalization = self.config.normalization
        dtype = self.model.compute_dtype
        return extract(
            lambda x: self.model(normalize(x, normalization, dtype), training=False), batches
        )

    def _vote(self, bank, queries):
        labels = [images.labels[indices] for images, indices in (self.bank, self.queries)]
        return knn_top1(
            bank,
            labels[0],
            queries,
            labels[1],
            k=self.config.knn_k,
            temperature=self.config.knn_temperature,
        )


def _unit_rows(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
