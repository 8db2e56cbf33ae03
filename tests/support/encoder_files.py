"""Encoder files with random weights, and what an export of them is compared with."""

import re
from pathlib import Path

import numpy as np
import pytest

from moco_tf.commands.export import FORMATS
from moco_tf.config import Config
from moco_tf.data.pipeline import NORMALIZATIONS
from moco_tf.evaluate.features import embedding
from moco_tf.models.array_names import array_names
from moco_tf.runs import snapshot as encoder_file
from moco_tf.runs.encoders import load_encoder, untrained_encoder
from moco_tf.runs.snapshot import EncoderCheckpoint

DOCS = Path(__file__).resolve().parents[2] / "docs" / "export.md"
SNIPPETS = dict(re.findall(r"```python\n# (\w+).*?\n(.*?)```", DOCS.read_text(), re.DOTALL))
PLACES = {name: "encoder" + form.suffix for name, form in FORMATS.items()}
TINY = {
    "encoder": "resnet18", "stem": "small", "image_size": 16, "width": 4, "head": "mlp", "dim": 6,
    "normalization": "cifar10", "data": "shapes", "group_size": 2, "batch_size": 4, "seed": 3,
}  # fmt: skip
DEEP = TINY | {
    "encoder": "resnet50", "stem": "imagenet", "image_size": 40, "head": "linear",
    "normalization": "imagenet",
}  # fmt: skip


def save(path, provenance=None, **settings):
    """A converted file of an encoder whose parameters and statistics are all random."""
    config = Config(**settings)
    encoder, rng, state = untrained_encoder(config), np.random.default_rng(0), {}
    model = encoder.model or encoder.backbone
    for name, variable in zip(array_names(model), model.variables, strict=True):
        value = variable.numpy()
        if variable.name in ("gamma", "beta", "moving_mean", "moving_variance"):
            value = (0.5 + rng.random(value.shape)).astype(np.float32)
        state[f"query_encoder/{name}"] = value
    snapshot = EncoderCheckpoint(state, config, 9, {"source": "a run", "format": "run", "epoch": 2})
    if provenance:
        snapshot = EncoderCheckpoint(state, config, 9, provenance)
    path.write_bytes(encoder_file.to_bytes(snapshot))
    return path


def pixels(side, count=3):
    return np.random.default_rng(1).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def normalized(images, name):
    mean, std = NORMALIZATIONS[name]
    return ((images / 255 - np.array(mean)) / np.array(std)).astype(np.float32)


def features(run, images, head=False):
    """Of the encoder itself, as the evaluations compute them."""
    encoder, config, _ = load_encoder(run, warn=pytest.fail)
    which = "projection" if head else "pooled"
    embed = embedding(encoder, features=which, normalization=config.normalization)
    return embed(images).numpy()


def need(to):
    for package in FORMATS[to].packages:
        pytest.importorskip(package, reason="needs the extra export")
