"""config.json of a run folder, and the architecture that it names by digest. No TensorFlow."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from moco_tf.config import AnyConfig, Config
from moco_tf.errors import DamagedError, InputError
from moco_tf.files.digests import check_json_digest, read_json
from moco_tf.files.store import copy_advice

CONFIG = "config.json"
ARCHITECTURE = "architecture.json"  # of a backbone that is not one of the ResNets


def as_written(config: AnyConfig) -> dict[str, Any]:
    """The config as config.json holds it: with the architecture's digest, not the whole of it."""
    fields = config.model_dump(mode="json")
    architecture = fields.get("architecture") or ""
    if architecture.startswith("{"):  # no digest yet
        fields["architecture"] = hashlib.sha256(architecture.encode()).hexdigest()
    return fields


def read_config(run_dir: Path | str) -> Config:
    """Returns the config of the pre-training run in `run_dir`; see `read_config_of`."""
    return read_config_of(Config, run_dir)


def read_config_of(kind: type[AnyConfig], run_dir: Path | str) -> AnyConfig:
    """Returns the config of the run in `run_dir`.

    Raises:
        InputError: if there is no such run, or its config.json is not a config.
    """
    path = Path(run_dir) / CONFIG
    try:
        text, _ = check_json_digest(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            copy_advice(run_dir)
            or f"{run_dir} is not a run folder: it has no {CONFIG}. "
            f"Give the --run-dir of a pre-training run."
        ) from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}.") from None
    except DamagedError as error:
        raise InputError(
            f"{path} is not the config of a run: {error}. Restore it, or start again in another "
            f"{kind.folder_flag}; if it was edited by hand, take its last field, sha256, out."
        ) from None
    try:
        return _with_architecture(kind.model_validate_json(text), Path(run_dir))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if field == "run":  # which only what starts from a run has
            raise InputError(_of_other_kind(run_dir, kind)) from None
        reason = first["msg"].removeprefix("Value error, ")
        if "no longer offered" in reason:
            raise InputError(f"{path}: {reason}") from None
        problem = f"{field}: {reason}" if field else reason
        raise InputError(
            f"{path} is not the config of a run ({problem}). "
            f"Restore it, or start again in another {kind.folder_flag}."
        ) from None


def _with_architecture(config: AnyConfig, run_dir: Path) -> AnyConfig:
    """The config with the architecture that its config.json names by digest."""
    if getattr(config, "architecture", None) is None:
        return config
    path = run_dir / ARCHITECTURE
    try:
        tree = read_json(path)
    except (OSError, DamagedError) as error:
        raise InputError(
            f"{path} is not the architecture of the run: {error}. Restore it."
        ) from None
    # As models/architecture.to_text writes it.
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"))
    if hashlib.sha256(text.encode()).hexdigest() != config.architecture:  # type: ignore[attr-defined]
        raise InputError(f"{path} is not the architecture that {CONFIG} names. Restore it.")
    return config.model_copy(update={"architecture": text})


def _of_other_kind(run_dir: Path | str, kind: type[AnyConfig]) -> str:
    if kind is Config:
        return (
            f"{run_dir} holds results of a probe or a fine-tuning, not a pre-training run. Give "
            f"the run, or the file encoder.safetensors of a fine-tuning."
        )
    return f"{run_dir} holds a pre-training run. Use another {kind.folder_flag}."
