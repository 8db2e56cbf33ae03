"""An encoder in one file: what `moco-tf convert --to moco-tf` writes and every RUN may be.

It is a checkpoint file (safetensors with digests) that also holds the config and its provenance.
Imports no TensorFlow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from moco_tf.config import Config, data_from_here, short_repr
from moco_tf.errors import DamagedError, InputError
from moco_tf.names.data import OBJECT, is_there, lost_object, paths_of
from moco_tf.runs import checkpoint, checkpoint_file
from moco_tf.runs import folder as run_folder
from moco_tf.runs.config_file import read_config

QUERY_ENCODER = "query_encoder/"
KEY_ENCODER = "key_encoder/"
MOMENTUM = "momentum/"
CONVERTED = "converted"  # the recipe of an encoder that came without a config


@dataclass(frozen=True)
class EncoderCheckpoint:
    """A query encoder, or the whole state of a run, and what it takes to rebuild it."""

    state: checkpoint_file.State  # named as in a checkpoint; query_encoder/... at least
    config: Config
    step: int
    provenance: Mapping[str, Any] = field(default_factory=dict)  # source, format, epoch


def load_snapshot(run: Path | str, *, warn: Callable[[str], None]) -> EncoderCheckpoint:
    """Returns what a run folder (its newest whole checkpoint) or a converted file holds.

    Raises:
        InputError: if `run` is neither, or holds no checkpoint.
    """
    return read_file(Path(run)) if Path(run).is_file() else read_run(run, warn=warn)


def peek(run: Path | str) -> Config:
    """Returns the config of `load_snapshot`, and raises what that would, without reading arrays."""
    path = Path(run)
    if path.is_file():
        return _config_in_header(path) or read_file(path).config
    config = read_config(path)
    if checkpoint.newest_step(run_folder.checkpoint_folder(path)) is None:
        raise _no_checkpoint(run)
    return _with_its_data(config)


def _config_in_header(path: Path) -> Config | None:
    """The config in an encoder file; None: there is none, which is told when the file is read."""
    known = checkpoint_file.header(path)
    try:
        return known and _with_its_data(Config.model_validate(known[1]["config"]))
    except (KeyError, ValidationError):
        return None


def _no_checkpoint(run: Path | str) -> InputError:
    return InputError(f"run folder {run} holds no checkpoint yet. Let pre-training save one.")


def read_run(run: Path | str, *, warn: Callable[[str], None]) -> EncoderCheckpoint:
    """Returns the newest whole checkpoint of a run folder.

    Raises:
        InputError: if it is no run folder, or holds no checkpoint.
    """
    config = _with_its_data(read_config(run))
    loaded = checkpoint.load_latest(run_folder.checkpoint_folder(run), warn=warn)
    if loaded is None:
        raise _no_checkpoint(run)
    state, step, extra = loaded
    provenance = {"source": str(run), "format": "run", "epoch": extra.get("epoch", 0)}
    return EncoderCheckpoint(state, config, step, provenance)


def read_file(path: Path) -> EncoderCheckpoint:
    """Returns what a converted file holds.

    Raises:
        InputError: if it is damaged, or something else.
    """
    try:
        state, step, extra = checkpoint_file.read(path)
    except DamagedError as error:
        raise InputError(
            f"{path} is not an encoder file of moco-tf, or damaged ({error}). Make one with: "
            f"moco-tf convert {path} encoder.safetensors --to moco-tf."
        ) from None
    if "config" not in extra:
        raise InputError(f"{path} is one checkpoint of a run. Give the run's folder instead.")
    try:
        config = Config.model_validate_json(json.dumps(extra["config"]))
    except ValidationError as error:
        problem = error.errors()[0]
        raise InputError(
            f"the config in {path} is not one of this version: {problem['loc']}: {problem['msg']}."
        ) from None
    provenance = extra.get("origin", {})
    if not isinstance(provenance, dict) or not isinstance(provenance.get("epoch", 0), int | None):
        raise InputError(
            f"the origin in {path} is not one that moco-tf writes: {short_repr(provenance)}."
        )
    return EncoderCheckpoint(state, _with_its_data(config), step, provenance)


def folder_of(run: str) -> Path | None:
    """Returns the folder of a run, where what can be made again is kept; None for a file."""
    return Path(run) if Path(run).is_dir() else None


def images_of(config: Config, data: Any, run: Path | str = "the run") -> Any:
    """Returns `data`, or if none is given those of the run.

    Raises:
        InputError: if they are not known, or not there.
    """
    if data is not None:
        return data
    if config.recipe == CONVERTED:
        raise InputError(f"{run} does not say which images to use. Give them: --data D.")
    if config.data.startswith(OBJECT):
        raise InputError(f"{run}: {lost_object(config.data)}")
    if not is_there(config.data):
        absolute = all(path.is_absolute() for path in paths_of(config.data))
        here = "" if absolute else f" from {Path.cwd()}"
        moved = config.data_path not in (None, config.data)
        last = f", and not to be found in {config.data_path} any more" if moved else ""
        raise InputError(
            f"{run} was trained on data={config.data!r}, its own path, which leads nowhere{here}"
            f"{last}. Give the images: --data D."
        )
    return config.data


def _with_its_data(config: Config) -> Config:
    return config.model_copy(update={"data": data_from_here(config)})


def to_bytes(snapshot: EncoderCheckpoint) -> bytes:
    """Returns the content of a converted file."""
    extra = {"config": snapshot.config.model_dump(mode="json"), "origin": dict(snapshot.provenance)}
    return checkpoint_file.to_bytes(snapshot.state, step=snapshot.step, extra=extra)
