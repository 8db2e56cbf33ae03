"""Whether two encoders give the same features, each computed in its own framework."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf.convert import torch_process
from moco_tf.convert.reading import Source
from moco_tf.runs.encoders import encoder_of
from moco_tf.runs.snapshot import EncoderCheckpoint

IMAGES = 2
SAME_FRAMEWORK, ACROSS_FRAMEWORKS = 1e-6, 1e-4  # tolerances, of the largest feature


def compare(source: Source, target: Source) -> dict[str, Any]:
    """Returns the largest absolute difference of the features on fixed images, and more.

    "arrays_equal" says whether all arrays of the target are those of the source, bit for bit.
    """
    images = fixed_images(source.snapshot.config.image_size)
    ours, first = _features(source, images)
    theirs, second = _features(target, images)
    tolerance = SAME_FRAMEWORK if first == second else ACROSS_FRAMEWORKS
    difference, largest, within = 0.0, 0.0, True
    for name in theirs:
        gap, size = np.abs(ours[name] - theirs[name]).max(), np.abs(ours[name]).max()
        within = within and bool(gap <= tolerance * size)  # not so if either is not a number
        difference, largest = max(difference, float(gap)), max(largest, float(size))
    state, back = source.snapshot.state, target.snapshot.state
    same = all(name in state and np.array_equal(state[name], back[name]) for name in back)
    return {
        "max_abs_difference": difference,
        "largest_feature": largest,
        "tolerance": tolerance,
        "features_compared": sorted(theirs),
        "computed_with": [first, second],
        "arrays": len(back),
        "arrays_equal": same,
        "equal": within and same,
    }


def fixed_images(size: int) -> np.ndarray:
    """Returns standard-normal images, the same ones each time: float32 [2, size, size, 3]."""
    draw = np.random.default_rng(0).standard_normal((IMAGES, size, size, 3))
    return draw.astype(np.float32)


def tensorflow_features(snapshot: EncoderCheckpoint, images: np.ndarray) -> dict[str, np.ndarray]:
    """Returns "pooled" features and, where there is a head, "projection", in inference mode."""
    with tf.device("/CPU:0"):  # a GPU's convolutions may be TF32
        encoder = encoder_of(snapshot, snapshot.provenance.get("source", "the source"))
        models = {"pooled": encoder.backbone, "projection": encoder.model}
        return {
            name: np.asarray(model(images, training=False))
            for name, model in models.items()
            if model is not None
        }


def _features(side: Source, images: np.ndarray) -> tuple[dict[str, np.ndarray], str]:
    resnet = side.snapshot.config.is_resnet  # the only ones that are computed there
    if resnet and side.torch_arrays is not None and torch_process.installed():
        return torch_process.features(side.torch_arrays, images), "PyTorch"
    return tensorflow_features(side.snapshot, images), "TensorFlow"
