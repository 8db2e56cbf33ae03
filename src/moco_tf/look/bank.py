"""The features of all images of a data set, and what is known of each. Imports no TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moco_tf.errors import DivergedError
from moco_tf.evaluate.kept_features import kept_features
from moco_tf.exporting.rows import Rows, one_line

if TYPE_CHECKING:
    from moco_tf.look.embedder import Embedder


@dataclass
class Bank:
    """The features of all images of a data set, made when they are first needed, and whose."""

    data: str
    step: int
    rows: Rows
    files: list[str] | None  # of each image, as it can be printed; None: they are no files
    read: Callable[[int], np.ndarray | None]  # row -> uint8 [h, w, 3]; None: not readable any more
    load: Callable[[], tuple[np.ndarray, bool]]
    start: Callable[[], Embedder]

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

    @cached_property
    def embedder(self) -> Embedder:
        """What embeds pictures that are not in the data."""
        return self.start()

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
        found = self.read(row)
        return np.full((1, 1, 3), 128, np.uint8) if found is None else found


def load_features(
    run: str,
    out: Path,
    key: str,
    compute: Callable[[], list[np.ndarray]],
    say: Callable[[str], None],
    count: int,
) -> tuple[np.ndarray, bool]:
    """Returns the unit rows of all images, and whether they were kept in `out` already.

    Args:
        key: of the features, see `features_key`.
        compute: returns those of the training and of the test images.
        count: images in all, for `say`.

    Raises:
        DivergedError: if they are not finite.
    """
    folder = one_line(str(out))
    if os.access(out if out.exists() else out.parent, os.W_OK):
        train, test, kept = kept_features(out, key, compute, say)
        say(f"features of {count} images {'taken from' if kept else 'written to'} {folder}")
    else:  # a run of somebody else's
        say(f"{folder} cannot be written to: the features are not kept")
        (train, test), kept = compute(), False
    rows = np.concatenate([train, test]) if len(test) else train
    if not np.isfinite(rows).all():
        raise DivergedError(
            f"the features of {run} are not all finite: the encoder has diverged. Use an "
            f"earlier checkpoint."
        )
    return rows, kept
