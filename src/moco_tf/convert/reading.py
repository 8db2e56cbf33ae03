"""From a SOURCE of any kind to a snapshot: arrays named as in our checkpoints, and a config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from moco_tf.config import Config, make_config
from moco_tf.convert import architecture, official
from moco_tf.convert.contents import Arrays, Parts, take_apart
from moco_tf.convert.source import kind_of, read_content
from moco_tf.convert.state_dict import counted_steps, without_head
from moco_tf.errors import InputError
from moco_tf.models import telling_shapes
from moco_tf.models.torch_names import to_torch, torch_name
from moco_tf.recipes import RECIPES
from moco_tf.runs.encoders import TELLING, untrained_encoder
from moco_tf.runs.snapshot import CONVERTED, EncoderCheckpoint, read_file, read_run


@dataclass(frozen=True)
class Source:
    """What was read."""

    snapshot: EncoderCheckpoint
    kind: str  # "run", "moco-tf", "official" or "torchvision"
    torch_arrays: Arrays | None = None  # the query encoder by torchvision's names, if it had them
    notes: tuple[str, ...] = ()


def read_source(
    path: Path,
    *,
    image_size: int | None = None,
    normalization: str | None = None,
    with_head: bool = False,
    key: str | None = None,
    warn: Callable[[str], None],
) -> Source:
    """Returns what a run folder, a converted file or a file with PyTorch's names holds.

    Args:
        image_size, normalization: of the images the encoder is for; none: the run's own, or the
            official ones for its stem (224 and imagenet, 32 and cifar10).
        with_head: take a plain `fc` as the projection head, not as a classifier to leave out.
        key: what the encoder lies under in a file with PyTorch's names that holds several.
        warn: called with a line for each damaged checkpoint.

    Raises:
        InputError: for anything wrong with the file.
    """
    kind = kind_of(path)
    if key is not None and kind in ("run", "moco-tf"):
        raise InputError(f"key={key} chooses in a file with PyTorch's names; {path} is not one.")
    if kind in ("run", "moco-tf"):
        snapshot = read_run(path, warn=warn) if kind == "run" else read_file(path)
        given = {"image_size": image_size, "normalization": normalization}
        changes = {name: value for name, value in given.items() if value is not None}
        config = make_config(snapshot.config, changes)
        return Source(replace(snapshot, config=config), kind)
    content = read_content(path, kind)
    parts = take_apart(content, str(path), key)
    parts = parts if with_head else _without_classifier(parts)
    return from_parts(parts, content, str(path), image_size=image_size, normalization=normalization)


def from_parts(
    parts: Parts,
    rest: Mapping[str, Any],
    name: str,
    *,
    image_size: int | None = None,
    normalization: str | None = None,
) -> Source:
    """Returns a snapshot of the encoders and the queue of a state dict.

    Args:
        rest: what else the file holds: epoch, optimizer.
        name: what an error calls the file.
    """
    found = architecture.infer(parts.query, name)
    config = _config(found, parts, image_size, normalization)
    _check_size(config, parts, name)
    encoder = untrained_encoder(config)
    shapes = torch_shapes(encoder.backbone if encoder.model is None else encoder.model)
    state = official.whole_state(
        parts,
        rest.get("optimizer") if parts.official else None,
        shapes,
        found.dim,
        name,
    )
    kind = "official" if parts.official else "torchvision"
    provenance = {"source": name, "format": kind}
    if isinstance(rest.get("epoch"), int):
        provenance["epoch"] = rest["epoch"]
    snapshot = EncoderCheckpoint(state, config, counted_steps(parts.query), provenance)
    return Source(snapshot, kind, parts.query, parts.notes)


def _check_size(config: Config, parts: Parts, name: str) -> None:
    """Raises `InputError` if the encoder that a few shapes told is larger than the file."""
    fields = config.model_dump(include=TELLING)
    for layer, ours in telling_shapes(config.encoder, **fields).items():
        shape = to_torch(np.broadcast_to(np.False_, ours)).shape
        key, array = f"{layer}.weight", parts.query.get(f"{layer}.weight")
        if array is None or array.shape != shape:
            found = "is missing" if array is None else f"has shape {array.shape}"
            raise InputError(f"{name}, query encoder: {key} {found}, expected {shape}.")


def torch_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Returns the arrays of a Keras model by torchvision's names, with their shapes in PyTorch."""
    return {
        torch_name(variable.path): to_torch(np.empty(variable.shape, np.bool_)).shape
        for variable in model.variables
    }


def _without_classifier(parts: Parts) -> Parts:
    """A single linear `fc` beside plain names is a classifier; ours has a prefix or two layers."""
    kernel = parts.query.get("fc.weight")
    if parts.official or kernel is None or kernel.ndim != 2:
        return parts
    classes, features = kernel.shape
    note = (
        f"fc ({features} -> {classes}) was taken as a classifier and left out; "
        f"--with-head keeps it as the projection head"
    )
    return replace(parts, query=without_head(parts.query), notes=(*parts.notes, note))


def _config(
    found: architecture.Architecture,
    parts: Parts,
    image_size: int | None,
    normalization: str | None,
) -> Config:
    """Of a pre-training that could have given the encoder, with what is known of this one."""
    own: dict[str, Any]
    if found.patch_size is not None:
        base, own = (
            "moco-v3-vit-s",
            {"patch_size": found.patch_size, "freeze_patch_projection": False},
        )
    else:
        whole = "moco-v3-r50-100ep" if parts.v3 else "moco-v1"
        base = "cifar10-demo" if found.stem == "small" else whole
        own = {"width": found.width, "stem": found.stem}
    changes: dict[str, Any] = own | {
        "encoder": found.encoder,
        "head": found.head,
        "dim": found.dim,
        "image_size": image_size or found.image_size,
        "normalization": normalization,
    }
    if "queue" in parts.queue:
        changes["queue_size"] = max(1, *parts.queue["queue"].shape)
    given = {name: value for name, value in changes.items() if value is not None}
    return make_config(RECIPES[base].config, given).model_copy(update={"recipe": CONVERTED})
