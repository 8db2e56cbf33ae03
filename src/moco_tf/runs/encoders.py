"""Encoders of a config: untrained, or restored from a run, a checkpoint or a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from moco_tf.config import Config
from moco_tf.config.method import V3
from moco_tf.errors import InputError
from moco_tf.models import Encoder, build_encoder, telling_shapes
from moco_tf.models.array_names import named_arrays
from moco_tf.models.backbone import keras_encoder
from moco_tf.models.heads import with_heads
from moco_tf.models.resnet import zero_last_scales
from moco_tf.runs.snapshot import QUERY_ENCODER, EncoderCheckpoint, load_snapshot

GROUPS = ("group_size", "group_layout", "running_statistics")  # settings of `GroupBatchNorm`
DROPPING = ("drop_path", "batch_size")  # of a ViT that is trained with labels
TELLING = {"stem", "width", "patch_size", "vit_width", "vit_depth", "head", "dim", "mlp_dim"}


def load_encoder(run: Path | str, *, warn: Callable[[str], None]) -> tuple[Encoder, Config, int]:
    """Returns (query encoder, config, step) of a run folder or of a file made by `convert`.

    Of a run folder it is the newest whole checkpoint. Evaluation is in float32 whatever the
    precision of the run. A converted backbone without a head has no `model`.

    Raises:
        InputError: if it is neither, holds no checkpoint, or one of another encoder.
    """
    snapshot = load_snapshot(run, warn=warn)
    return encoder_of(snapshot, run), snapshot.config, snapshot.step


def encoder_of(snapshot: EncoderCheckpoint, name: Path | str) -> Encoder:
    """Returns the query encoder of `snapshot`, in float32; `name` is what an error calls it.

    Raises:
        InputError: if its arrays are not those of the encoder in its config.
    """
    check_size(snapshot, name)
    encoder = untrained_encoder(snapshot.config)
    assign(encoder.backbone if encoder.model is None else encoder.model, snapshot.state, name)
    return encoder


def untrained_encoder(config: Config, *, predictor: bool = True, **changes: Any) -> Encoder:
    """Returns the encoder that `config` describes, in float32; `changes` are of its settings.

    Args:
        predictor: the query network of MoCo v3, not its momentum encoder.
    """
    fields = config.model_dump() | {"dtype": "float32"} | changes
    v3_heads, groups = fields["head"] == "v3", {name: fields[name] for name in GROUPS}
    settings = {name: fields[name] for name in ("image_size", "head", "dim", "seed", "dtype")}
    settings |= groups | ({"head": "none"} if v3_heads else {})
    if config.is_resnet:
        settings |= {name: fields[name] for name in ("stem", "width")}
        encoder = build_encoder(config.encoder, **settings)
    elif config.is_vit:
        settings |= {name: fields[name] for name in ("patch_size", "freeze_patch_projection")}
        settings |= {"width": config.vit_width, "depth": config.vit_depth}
        settings |= {name: changes[name] for name in DROPPING if name in changes}
        encoder = build_encoder(config.encoder, **settings)
    elif config.architecture is None:
        raise InputError(f"encoder={config.encoder}: its architecture is not known here.")
    else:
        encoder = keras_encoder(config.architecture, **settings)
    if config.method == V3 and config.is_resnet:
        zero_last_scales(encoder.backbone)
    if not v3_heads:
        return encoder
    return with_heads(
        encoder,
        "vit" if config.is_vit else "resnet",
        dim=fields["dim"],
        hidden=fields["mlp_dim"],
        predictor=predictor,
        groups=groups,
        dtype=fields["dtype"],
        seed=fields["seed"],
    )


def assign(model: Any, state: Mapping[str, np.ndarray], run: Path | str) -> None:
    """Gives `model` the query encoder's arrays in `state`; `run` is what an error calls them.

    Raises:
        InputError: if they are not those of this model.
    """
    for name, variable in named_arrays(model):
        _check_shape(state, QUERY_ENCODER + name, tuple(variable.shape), run)
        variable.assign(state[QUERY_ENCODER + name])


def check_size(snapshot: EncoderCheckpoint, run: Path | str) -> None:
    """Raises `InputError` if the config is of an encoder far larger than the arrays."""
    if not snapshot.config.is_ours:
        return
    fields = snapshot.config.model_dump(include=TELLING)
    for layer, shape in telling_shapes(snapshot.config.encoder, **fields).items():
        _check_shape(snapshot.state, f"{QUERY_ENCODER}{layer}/kernel", shape, run)


def _check_shape(
    state: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...], run: Path | str
) -> None:
    if name not in state or state[name].shape != shape or state[name].dtype.kind != "f":
        found = f"{state[name].dtype} {state[name].shape}" if name in state else "absent"
        raise InputError(
            f"the checkpoint in {run} is not of the encoder in its config: {name} is {found}, "
            f"wanted shape {shape}. Restore the run's own config.json."
        )
