"""A plain Keras model written in each of the formats."""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf

from moco_tf.data.pipeline import centre_crop
from moco_tf.errors import InputError
from moco_tf.export.plain import INPUT
from moco_tf.export.targets import FORMATS


def takes_any_size(to: str, preprocessing: bool) -> bool:
    """Returns whether an export also resizes and crops: a SavedModel alone can do as we do."""
    return to == "savedmodel" and preprocessing


def write(model: keras.Model, path: Path, *, to: str) -> None:
    """Writes `model`, as `plain_model` returns it, to `path` in the format `to`.

    Raises:
        InputError: if it is too large for one file of that format.
    """
    size, limit = 4 * model.count_params(), FORMATS[to].file_limit
    if limit is not None and size > limit:
        raise InputError(
            f"the encoder has {size / 2**30:.2f} GiB, and a file of --format {to} holds no more "
            f"than 2. Use --format keras or savedmodel."
        )
    _WRITERS[to](model, path)


def _write_keras(model: keras.Model, path: Path) -> None:
    model.save(path)


def _write_saved_model(model: keras.Model, path: Path) -> None:
    """A function `serve`, which is the signature serving_default too: uint8 of any size there."""
    side, preprocessing = model.input.shape[1], model.input.dtype == "uint8"
    cropped = tf.TensorSpec([side, side, 3], tf.uint8)

    def serve(images):
        if preprocessing:
            images = tf.map_fn(
                lambda image: centre_crop(image, side), images, fn_output_signature=cropped
            )
        return model(images, training=False)

    shape = [None, None, None, 3] if preprocessing else model.input.shape
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", serve, [tf.TensorSpec(shape, model.input.dtype, name=INPUT)])
    archive.write_out(str(path), verbose=False)


def _write_onnx(model: keras.Model, path: Path) -> None:
    from moco_tf.export.onnx_graph import onnx_model

    path.write_bytes(onnx_model(model).SerializeToString())


def _write_litert(model: keras.Model, path: Path) -> None:
    model.export(path, format="litert", verbose=False)


_WRITERS = {
    "keras": _write_keras,
    "savedmodel": _write_saved_model,
    "onnx": _write_onnx,
    "litert": _write_litert,
}
