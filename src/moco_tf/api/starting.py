"""What comes before the work: whether all that was named is there, and the start of TensorFlow."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moco_tf.config import Config
from moco_tf.data.decoder_messages import stderr_held_back
from moco_tf.data.pack.stored import copy_pack
from moco_tf.data.source_kind import check_source
from moco_tf.errors import InputError
from moco_tf.files.store import is_url
from moco_tf.names.data import OBJECT, is_records, lost_object, paths_of
from moco_tf.runs.snapshot import images_of, peek
from moco_tf.training.memory import without_collector

QUIET = "3"  # of TF_CPP_MIN_LOG_LEVEL: no line from C++ but what ends the process


def check_data(data: str | None) -> None:
    """Raises `InputError` if nothing is where `data` points, or no image; imports no TensorFlow."""
    if data is None:
        return
    if data.startswith(OBJECT):
        raise InputError(lost_object(data))
    if is_url(data) and not is_records(data):
        copy_pack(data)
    elif is_records(data) or paths_of(data):
        check_source(data)


def check_page(out: Path, overwrite: bool, suffixes: Sequence[str] = (".html",)) -> None:
    """Raises `InputError` for a page, or a picture of it, that cannot or must not be written."""
    if out.suffix.lower() not in suffixes:
        raise InputError(f"out must end in {' or '.join(suffixes)}; received out={out}.")
    if out.is_dir() or (os.path.lexists(out) and not overwrite):
        raise InputError(f"out: {out} exists. Use another name, or --overwrite to replace a file.")


def start_with_images(run: str, data: Any) -> Config:
    """Imports TensorFlow, if `run` and the images, `data` or its own, are there; its config."""
    config, _ = check_images(run, data)
    start_tensorflow()
    return config


def check_images(run: Path | str, data: Any) -> tuple[Config, Any]:
    """Returns the config of `run` and the images, `data` or its own; raises if they are gone."""
    config = peek(run)
    images = images_of(config, data, run)
    if isinstance(images, str):
        check_data(images)
    return config, images


@without_collector()
def start_tensorflow() -> None:
    """Imports TensorFlow, and changes none of its settings.

    Where TF_CPP_MIN_LOG_LEVEL is `QUIET`, what it says while starting is shown only if it fails.

    Raises:
        InputError: if Keras is set to compute with something else.
    """
    if (os.environ.get("KERAS_BACKEND") or "tensorflow") != "tensorflow":
        raise InputError(
            f"KERAS_BACKEND must be tensorflow; received KERAS_BACKEND="
            f"{os.environ['KERAS_BACKEND']}. Set it before keras is imported."
        )
    if "tensorflow" in sys.modules or os.environ.get("TF_CPP_MIN_LOG_LEVEL") != QUIET:
        import tensorflow as tf

        return
    said = bytearray()
    try:
        with stderr_held_back() as said:  # lines from C++, before its own filter is set up
            import tensorflow as tf

            tf.config.list_physical_devices()
    except Exception:
        os.write(2, said)
        raise
