"""Whether an export gives the features of its encoder, each computed in its own way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf.data.pipeline import NORMALIZATIONS
from moco_tf.errors import InputError
from moco_tf.evaluate.features import embedding, extract
from moco_tf.exporting.pictures import Pictures
from moco_tf.exporting.runtimes import Run
from moco_tf.models import Encoder


def wanted_features(
    encoder: Encoder, normalization: str, head: bool, pictures: Pictures
) -> np.ndarray:
    """Returns the encoder's own features, as every evaluation computes them: float32 [n, D]."""
    with tf.device("/CPU:0"):  # a GPU's convolutions may be TF32
        embed = embedding(
            encoder, features="projection" if head else "pooled", normalization=normalization
        )
        return extract(embed, [pictures.prepared], unit=False)


def check_finite(features: np.ndarray, run: Path) -> None:
    """Raises `InputError` if the features of `run` are no numbers."""
    if not np.isfinite(features).all():
        raise InputError(
            f"the features of {run} are not all finite: the encoder has diverged. "
            f"Use an earlier checkpoint."
        )


def found_features(
    run: Run, pictures: Pictures, normalization: str | None, *, any_size: bool
) -> list[np.ndarray]:
    """Returns what the export makes of the images, [n, D] each time.

    First in batches of 1 and n - 1 images, so that the batch dimension is seen to be free; then,
    if it takes `any_size`, of each image as it was before it was resized.

    Args:
        normalization: of the images before the export sees them; none: it takes uint8.
    """
    images = pictures.prepared
    if normalization is not None:
        images = normalized(images, normalization)
    parts = [part for part in (images[:1], images[1:]) if len(part)]
    found = [np.concatenate([run(part) for part in parts])]
    if any_size:
        found.append(np.concatenate([run(image[None]) for image in pictures.raw]))
    return found


def normalized(images: np.ndarray, normalization: str) -> np.ndarray:
    """uint8 [..., 3] to float32, in NumPy, as a user of the export does it."""
    mean, std = (np.array(v, np.float32) for v in NORMALIZATIONS[normalization])
    return (images.astype(np.float32) / np.float32(255) - mean) / std


def compare(wanted: np.ndarray, found: list[np.ndarray], tolerance: float) -> dict[str, Any]:
    """Returns the largest difference of any of `found` from `wanted`, and whether it is allowed.

    Args:
        tolerance: largest difference allowed, of the largest feature.
    """
    difference = float(np.max([np.abs(features - wanted).max() for features in found]))
    largest = float(np.abs(wanted).max())
    error = difference / largest if largest > 0 else difference
    return {
        "largest_error": error if np.isfinite(error) else None,
        "largest_feature": largest,
        "equal": bool(difference <= tolerance * largest),  # not so if it is no number
    }
