"""What a run's `encoder` names, where it is no ResNet: its architecture and its first weights."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import keras

from moco_tf.config import Config
from moco_tf.errors import InputError
from moco_tf.models.applications import application
from moco_tf.models.architecture import keras_reason
from moco_tf.models.backbone import architecture_of, arrays_of, preprocesses
from moco_tf.names.encoder import GIVEN, KERAS
from moco_tf.runs.config_file import read_config
from moco_tf.runs.initial_weights import InitialWeights
from moco_tf.runs.snapshot import QUERY_ENCODER

PIXELS = "pixels"  # the normalization of a backbone with preprocessing of its own


def find_backbone(
    config: Config, model: Any = None, run_dir: Path | None = None
) -> tuple[Config, InitialWeights | None]:
    """Returns the config with the backbone's architecture, and the weights that it comes with.

    A run that has saved a checkpoint has its architecture there, and needs nothing else. Random
    weights are none: the run draws its own, by its seed.

    Args:
        model: a `keras.Model`, where `with_objects` made the config.
        run_dir: folder of a run with a checkpoint, if there is one.

    Raises:
        InputError: if there is no such model, or it cannot be a backbone.
    """
    if config.is_ours:
        return config, None
    if run_dir:
        there = read_config(run_dir)
        if model is None and there.encoder == config.encoder:
            kept = ("architecture", "normalization")
            return config.model_copy(update={name: getattr(there, name) for name in kept}), None
    if model is None:
        model = _named(config)
    architecture = architecture_of(model, config.image_size)
    config = config.model_copy(update={"architecture": architecture})
    if preprocesses(model) or config.encoder.startswith(KERAS):
        config = config.model_copy(update={"normalization": PIXELS})
    if config.encoder.startswith(KERAS) and not config.pretrained:
        return config, None
    if run_dir:  # its checkpoint has them
        return config, None
    arrays = {QUERY_ENCODER + name: array for name, array in arrays_of(model).items()}
    line = f"weights of {config.encoder} as they are; the head is new"
    return config, InitialWeights(arrays, None, line)


def backbone_lines(config: Config) -> list[str]:
    """Returns a line on the pixels that a backbone gets; none for one of ours."""
    if config.is_ours:
        return []
    own = "its own preprocessing takes pixels from 0 to 255"
    taken = f"it takes pixels with normalization {config.normalization}"
    pixels = own if config.normalization == PIXELS else taken
    frozen = _frozen(config)
    also = f"; {frozen} of its layers are frozen (trainable=False) and stay as they are"
    return [
        f"backbone {config.encoder}: {pixels}; width and stem are of the ResNets and do not "
        f"apply{also if frozen else ''}"
    ]


def _frozen(config: Config) -> int:
    return (config.architecture or "").count('"trainable":false')


def _named(config: Config) -> keras.Model:
    """The model that `config.encoder` names.

    Raises:
        InputError: if it cannot be read.
    """
    if config.encoder == GIVEN:
        raise InputError(
            f"encoder={GIVEN} is a keras.Model given in Python: moco_tf.pretrain(..., "
            f"backbone=model). Give it, or name a {KERAS}NAME or a .keras file."
        )
    if config.encoder.startswith(KERAS):
        return application(
            config.encoder.removeprefix(KERAS),
            image_size=config.image_size,
            pretrained=config.pretrained,
        )
    path = Path(os.path.expanduser(config.encoder))
    if not path.is_file():
        raise InputError(f"there is no file encoder={config.encoder}.")
    try:
        if not zipfile.is_zipfile(path):  # of which Keras says that it is not there
            raise ValueError("it is cut off, or another file. Write it with model.save(...).")
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # what Keras raises depends on what is wrong with it
        raise InputError(
            f"encoder={config.encoder} is not a Keras model that can be read: {keras_reason(error)}"
        ) from None
