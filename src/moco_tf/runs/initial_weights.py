"""The weights that a run begins with: of another run, an encoder file, or a Keras model.

Imports no TensorFlow.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moco_tf.config import Config
from moco_tf.errors import InputError
from moco_tf.runs.checkpoint_file import State, digest
from moco_tf.runs.snapshot import KEY_ENCODER, QUERY_ENCODER, EncoderCheckpoint, load_snapshot, peek

# The fields that decide the arrays of a backbone.
_BACKBONE = ("encoder", "width", "stem", "patch_size", "vit_width", "vit_depth")


@dataclass(frozen=True)
class InitialWeights:
    """What `Config.init` names, or what a backbone comes with."""

    arrays: State  # query_encoder/...: the backbone, and the head where it fits
    sha256: str | None  # of all arrays of the query encoder in `Config.init`; none: a backbone's
    line: str  # says what is taken and what is not

    def assign(self, variables: Mapping[str, Any]) -> None:
        """Gives both encoders these weights; `variables` are all of a run, named as in `arrays`.

        Raises:
            InputError: if an array is absent or has another shape.
        """
        for name, variable in variables.items():
            encoder, _, layer = name.partition("/")
            source = QUERY_ENCODER + layer
            if f"{encoder}/" not in (QUERY_ENCODER, KEY_ENCODER) or self._is_new(source):
                continue
            array = self.arrays.get(source)
            if array is None or array.shape != tuple(variable.shape):
                found = "absent" if array is None else f"of shape {array.shape}"
                raise InputError(
                    f"init: the arrays are not those of the encoder in their config: {source} is "
                    f"{found}, expected {tuple(variable.shape)}. Use other weights."
                )
            variable.assign(array.astype(variable.dtype.as_numpy_dtype))

    def _is_new(self, name: str) -> bool:
        # Of Dropout: the run's own. A layer that has several of them numbers them. Positions are
        # not trained, and depend on the size of the images.
        own = name.rpartition("/")[2].startswith(("seed_generator_state", "pos_embed"))
        return own or (_of_head(name) and not any(map(_of_head, self.arrays)))


def check_initial_weights(config: Config, run_dir: Path) -> None:
    """Raises what `read_initial_weights` does where that can be told without reading arrays."""
    path = _path(config)
    if path.is_dir() and run_dir.is_dir() and path.samefile(run_dir):
        raise InputError(
            f"init={path} is the run's own folder. Raise --epochs to train it longer, or use "
            f"another --run-dir."
        )
    there, now = peek(path), config
    if not (there.is_ours or now.is_ours):
        _check_architecture(path, there, now)
        return
    different = [name for name in _BACKBONE if getattr(there, name) != getattr(now, name)]
    if different:
        listed = ", ".join(
            f"{name} ({getattr(there, name)} there, {getattr(now, name)} now)" for name in different
        )
        flags = " ".join(f"--{name.replace('_', '-')} {getattr(there, name)}" for name in different)
        raise InputError(f"init={path} holds another encoder: {listed}. Use {flags}.")


def _check_architecture(path: Path, there: Config, now: Config) -> None:
    """Raises `InputError` for another backbone, as far as the one of now is known yet."""
    if now.architecture not in (None, there.architecture):
        raise InputError(
            f"init={path} holds another backbone, {there.encoder}, than encoder={now.encoder}. Use "
            f"the model that it was trained with."
        )


def read_initial_weights(
    config: Config, run_dir: Path, *, warn: Callable[[str], None]
) -> InitialWeights:
    """Returns the weights that `config.init` names, which need no TensorFlow to be looked at.

    Args:
        run_dir: folder of the run that begins.

    Raises:
        InputError: if they are the run's own, unreadable, not finite, of another encoder than the
            config's, or not those that `config.init_sha256` was recorded of.
    """
    check_initial_weights(config, run_dir)
    path = _path(config)
    snapshot = load_snapshot(path, warn=warn)
    arrays = {n: array for n, array in snapshot.state.items() if n.startswith(QUERY_ENCODER)}
    found = digest(arrays)
    if config.init_sha256 not in (None, found):
        raise InputError(
            f"init={path} holds other weights than the run began with: their SHA-256 is {found}, "
            f"recorded is {config.init_sha256}. Restore them, or use another --run-dir."
        )
    broken = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if broken:
        raise InputError(f"init={path} has numbers that are not finite in {broken[0]}.")
    why_not = _why_new_head(snapshot, config)
    if why_not:
        arrays = {name: array for name, array in arrays.items() if not _of_head(name)}
    head = f"backbone; the head is new ({why_not})" if why_not else "backbone and head"
    pixels = ""
    if snapshot.config.normalization != config.normalization:
        pixels = f"; they were trained with normalization {snapshot.config.normalization}"
    line = f"weights of {path}, step {snapshot.step}: {head}; queue and optimizer are new{pixels}"
    return InitialWeights(arrays, found, line)


def _path(config: Config) -> Path:
    return Path(os.path.expanduser(config.init or ""))


def _why_new_head(snapshot: EncoderCheckpoint, now: Config) -> str:
    """Why the head in `snapshot` cannot go on as the projection head; empty if it can."""
    there = snapshot.config
    if there.head == "none":
        return "there is none there"
    if snapshot.provenance.get("format") == "finetune":
        return "there it is a classifier"
    if (there.head, there.dim) != (now.head, now.dim) or _other_width(there, now):
        return f"{there.head} to {there.dim} there, {now.head} to {now.dim} now"
    return ""


def _other_width(there: Config, now: Config) -> bool:
    return now.head == "v3" and there.mlp_dim != now.mlp_dim


def _of_head(name: str) -> bool:
    names = ("fc", "head", "predictor")
    return name.startswith(tuple(f"{QUERY_ENCODER}{n}{end}" for n in names for end in "/."))
