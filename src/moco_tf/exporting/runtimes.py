"""An export loaded again as a stranger would: by its own runtime, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Run = Callable[[np.ndarray], np.ndarray]  # images [b, H, W, 3] to features [b, D]


def load(path: Path, *, to: str) -> Run:
    """Returns the function in the export at `path`, which has the format `to`."""
    return _LOADERS[to](path)


def _load_keras(path: Path) -> Run:
    with tf.device("/CPU:0"):
        model: Any = keras.saving.load_model(path)

    def run(images: np.ndarray) -> np.ndarray:
        with tf.device("/CPU:0"):
            return np.asarray(model(images, training=False))

    return run


def _load_saved_model(path: Path) -> Run:
    with tf.device("/CPU:0"):
        loaded = tf.saved_model.load(str(path))

    def run(images: np.ndarray) -> np.ndarray:
        with tf.device("/CPU:0"):
            return np.asarray(loaded.serve(images))

    return run


def _load_onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: session.run(["features"], {"images": images})[0]


def _load_litert(path: Path) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    inputs, outputs = (
        d[0]["index"] for d in (interpreter.get_input_details(), interpreter.get_output_details())
    )

    def run(images: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(inputs, images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(inputs, images)
        interpreter.invoke()
        return interpreter.get_tensor(outputs)

    return run


_LOADERS: dict[str, Callable[[Path], Run]] = {
    "keras": _load_keras,
    "savedmodel": _load_saved_model,
    "onnx": _load_onnx,
    "litert": _load_litert,
}
