"""Features of pictures by the encoder of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf.data.decode import UNREADABLE, decode
from moco_tf.data.failures import reason
from moco_tf.data.pipeline import centre_crop
from moco_tf.evaluate.features import Features, embedding, extract
from moco_tf.evaluate.linear import backbone_digest
from moco_tf.runs.encoders import load_encoder


@dataclass
class Embedder:
    """The encoder of a run, which is restored when it is first needed."""

    run: str
    kind: Features
    side: int  # of the encoder's images, pixels
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

    def features(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Unit rows [n, D] of pictures, uint8 [h, w, 3] each."""
        crops = [centre_crop(tf.constant(pixels), self.side).numpy() for pixels in pictures]
        return extract(self.function, [np.stack(crops)])

    @staticmethod
    def read(path: str) -> np.ndarray:
        """uint8 [h, w, 3] of a file; raises `ValueError` if it is no picture."""
        try:
            return decode(tf.constant(Path(path).read_bytes())).numpy()
        except UNREADABLE as error:
            why = reason(error) if isinstance(error, tf.errors.OpError) else str(error)
            raise ValueError(why) from None
