"""A plain Keras model written in each of the formats."""

from __future__ import annotations

import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from moco_tf.data.pipeline import centre_crop
from moco_tf.errors import InputError
from moco_tf.exporting.plain import INPUT, OUTPUT
from moco_tf.exporting.targets import FORMATS
from moco_tf.models.array_names import within

OPSET = 17  # of ONNX, of 2022: runtimes that are some years old read it as well
BATCH = "batch"  # the name of the dimension that is left open


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
    """By Keras and tf2onnx: "images" [batch, S, S, 3] to "features" [batch, D]."""
    import onnx

    for layer in within(model):
        if isinstance(layer, keras.layers.Normalization):  # else its tensors are inputs of the file
            layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)
    given = keras.InputSpec(shape=model.input.shape, dtype=model.input.dtype, name=INPUT)
    _know_erfc()
    eager = tf.config.functions_run_eagerly()
    # Keras leaves grouped convolutions to a function for XLA, which would stay one in the graph.
    tf.config.run_functions_eagerly(True)
    try:
        with warnings.catch_warnings(action="ignore"):  # of Keras, for NumPy 2 in tf2onnx
            model.export(
                path, format="onnx", input_signature=[given], opset_version=OPSET, verbose=False
            )
    finally:
        tf.config.run_functions_eagerly(eager)
    whole = onnx.load(path)
    (output,) = whole.graph.output
    for node in whole.graph.node:
        node.output[:] = [OUTPUT if name == output.name else name for name in node.output]
    output.name = OUTPUT
    for value in (*whole.graph.input, output):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    onnx.checker.check_model(whole, full_check=True)
    path.write_bytes(whole.SerializeToString())


def _know_erfc() -> None:
    """Teaches tf2onnx that Erfc, which TensorFlow's GELU is made of, is 1 - Erf."""
    from tf2onnx import utils
    from tf2onnx.handler import tf_op

    @tf_op("Erfc")
    class Erfc:
        @classmethod
        def version_9(cls, graph, node, **_) -> None:
            kinds, shapes = node.output_dtypes, node.output_shapes
            one = np.ones((), utils.map_onnx_to_numpy_type(kinds[0]))
            inputs = [
                graph.make_const(utils.make_name("one"), one).output[0],
                graph.make_node("Erf", node.input).output[0],
            ]
            graph.remove_node(node.name)
            graph.make_node("Sub", inputs, outputs=node.output, shapes=shapes, dtypes=kinds)


def _write_litert(model: keras.Model, path: Path) -> None:
    model.export(path, format="litert", verbose=False)


_WRITERS = {
    "keras": _write_keras,
    "savedmodel": _write_saved_model,
    "onnx": _write_onnx,
    "litert": _write_litert,
}
