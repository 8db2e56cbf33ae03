"""The features of all images of a data set, and the encoder that made them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from moco_tf.data.decode import UNREADABLE
from moco_tf.evaluate.features import Features, embedding, extract
from moco_tf.evaluate.linear import backbone_digest
from moco_tf.exporting.rows import Rows
from moco_tf.runs.encoders import load_encoder


@dataclass
class Embedder:
    """The encoder of a run, which is restored when it is first needed."""

    run: str
    kind: Features
    say: Callable[[str], None]

    @cached_property
    def _restored(self) -> tuple[Any, str, int]:
        encoder, config, step = load_encoder(self.run, warn=self.say)
        made = embedding(encoder, features=self.kind, normalization=config.normalization)
        model = encoder.backbone if self.kind == "pooled" else encoder.model
        return made, backbone_digest(model), step

    @property
    def function(self) -> Any:
        """uint8 images [b, S, S, 3] to features [b, D]."""
        return self._restored[0]

    @property
    def digest(self) -> str:
        """Of the weights."""
        return self._restored[1]

    @property
    def step(self) -> int:
        """Of the newest whole checkpoint."""
        return self._restored[2]


@dataclass
class Bank:
    """The features of all images of a data set, made when they are first needed, and whose."""

    data: str
    step: int
    rows: Rows
    files: list[str] | None  # of each image, as it can be printed; None: they are no files
    read: Callable[[int], np.ndarray]  # row -> uint8 [h, w, 3]
    load: Callable[[], tuple[np.ndarray, bool]]
    embedder: Embedder
    side: int  # of the encoder's images, pixels

    @cached_property
    def _loaded(self) -> tuple[np.ndarray, bool]:
        return self.load()

    @property
    def features(self) -> np.ndarray:
        """Unit rows, float32 [M, D]."""
        return self._loaded[0]

    @property
    def kept(self) -> bool:
        """Whether the features were there already."""
        return self._loaded[1]

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Unit rows [n, D] of uint8 [n, S, S, 3]."""
        return extract(self.embedder.function, [images])

    def file(self, row: int) -> str | None:
        """The file of an image, as it can be printed; None: it is none."""
        return None if self.files is None else self.files[row]

    def about(self, row: int) -> dict[str, Any]:
        """What a result tells of an image."""
        label = -1 if self.rows.labels is None else int(self.rows.labels[row])
        return {
            "image": self.rows.names[row],
            "file": self.file(row),
            "split": self.rows.splits[row],
            "class": self.rows.classes[label] if label >= 0 else None,
        }

    def pixels(self, row: int) -> np.ndarray:
        """uint8 [h, w, 3]; of an image that can be read no more one gray pixel."""
        try:
            return self.read(row)
        except UNREADABLE:
            return np.full((1, 1, 3), 128, np.uint8)
