"""A plain Keras model as an ONNX graph, one node a layer. Needs the package `onnx`.

Images come in as [b, S, S, 3] and are transposed once; inside the layout is ONNX's, [b, C, H, W].
Zero padding goes into the node that follows it: of the max-pool, too, whose padding of minus
infinity is the same there, because a ReLU leaves nothing below zero. So does a pooling over single
pixels, as the stride of the convolution that follows.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from moco_tf.export.plain import INPUT, OUTPUT, calls

OPSET, IR_VERSION = 17, 8  # of 2022: also runtimes that are some years old read them
BATCH = "batch"  # the name of the dimension that is left open


def onnx_model(model: keras.Model) -> onnx.ModelProto:
    """Returns `model` as ONNX: "images" [batch, S, S, 3] to "features" [batch, D].

    Args:
        model: what `plain_model` returns.
    """
    graph = _Graph()
    values = {id(model.input): graph.images(model)}
    for layer, given, made in calls(model):
        add = _NODES[type(layer)]
        values[id(made)] = add(graph, layer, *(values[id(tensor)] for tensor in given))
    graph.node("Identity", [values[id(model.output)].name], OUTPUT)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(model.input.dtype))
    described = helper.make_graph(
        graph.nodes,
        "encoder",
        [helper.make_tensor_value_info(INPUT, kind, [BATCH, *model.input.shape[1:]])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [BATCH, model.output.shape[1]])],
        graph.arrays,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    made_by = {"producer_name": "moco-tf", "ir_version": IR_VERSION}
    whole = helper.make_model(described, opset_imports=opsets, **made_by)
    onnx.checker.check_model(whole, full_check=True)
    return whole


class _Value:
    """A tensor of the graph, the zeros still to be put around it, the stride still to be taken."""

    def __init__(
        self,
        name: str,
        padding: tuple[int, ...] = (0, 0, 0, 0),
        strides: tuple[int, ...] | None = None,
    ):
        self.name = name
        self.padding = padding  # top, left, bottom, right
        self.strides = strides


class _Graph:
    """Nodes and arrays, in order."""

    def __init__(self):
        self.nodes: list[Any] = []
        self.arrays: list[Any] = []

    def node(self, kind: str, inputs: list[str], output: str, **settings) -> _Value:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **settings))
        return _Value(output)

    def array(self, name: str, values) -> str:
        self.arrays.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def images(self, model: keras.Model) -> _Value:
        name = INPUT
        if model.input.dtype != "float32":
            name = self.node("Cast", [name], "images_float", to=TensorProto.FLOAT).name
        return self.node("Transpose", [name], "images_nchw", perm=[0, 3, 1, 2])


def _rescaling(graph: _Graph, layer, x: _Value) -> _Value:
    scale, offset = (np.reshape(v, (1, -1, 1, 1)) for v in (layer.scale, layer.offset))
    scaled = graph.node("Mul", [x.name, graph.array("scale", scale)], "scaled")
    return graph.node("Add", [scaled.name, graph.array("offset", offset)], layer.name)


def _padding(graph: _Graph, layer, x: _Value) -> _Value:
    (top, bottom), (left, right) = layer.padding
    return _Value(x.name, (top, left, bottom, right))


def _single_pixels(graph: _Graph, layer, x: _Value) -> _Value:
    return _Value(x.name, strides=layer.strides)


def _conv(graph: _Graph, layer, x: _Value) -> _Value:
    kernel = layer.kernel.numpy().transpose(3, 2, 0, 1)  # HWIO -> OIHW
    padding = x.padding
    if layer.padding == "same":  # of a stride of 1
        padding = tuple(side // 2 for side in layer.kernel_size) * 2
    weights = graph.array(f"{layer.name}.weight", kernel)
    strides = x.strides or layer.strides
    sizes = {"kernel_shape": layer.kernel_size, "strides": strides, "pads": padding}
    return graph.node("Conv", [x.name, weights], layer.name, **sizes)


def _batch_norm(graph: _Graph, layer, x: _Value) -> _Value:
    variables = {
        "weight": layer.gamma,
        "bias": layer.beta,
        "running_mean": layer.moving_mean,
        "running_var": layer.moving_variance,
    }
    arrays = [graph.array(f"{layer.name}.{name}", v.numpy()) for name, v in variables.items()]
    return graph.node("BatchNormalization", [x.name, *arrays], layer.name, epsilon=layer.epsilon)


def _max_pool(graph: _Graph, layer, x: _Value) -> _Value:
    sizes = {"kernel_shape": layer.pool_size, "strides": layer.strides, "pads": x.padding}
    return graph.node("MaxPool", [x.name], layer.name, **sizes)


def _average(graph: _Graph, layer, x: _Value) -> _Value:
    pooled = graph.node("GlobalAveragePool", [x.name], f"{layer.name}_1x1")  # [b, C, 1, 1]
    return graph.node("Flatten", [pooled.name], layer.name)


def _dense(graph: _Graph, layer, x: _Value) -> _Value:
    kernel = graph.array(f"{layer.name}.weight", layer.kernel.numpy().T)
    bias = graph.array(f"{layer.name}.bias", layer.bias.numpy())
    return graph.node("Gemm", [x.name, kernel, bias], layer.name, transB=1)


def _relu(graph: _Graph, layer, x: _Value) -> _Value:
    return graph.node("Relu", [x.name], layer.name)


def _add(graph: _Graph, layer, x: _Value, y: _Value) -> _Value:
    return graph.node("Add", [x.name, y.name], layer.name)


_NODES: dict[type, Any] = {
    keras.layers.Rescaling: _rescaling,
    keras.layers.ZeroPadding2D: _padding,
    keras.layers.Conv2D: _conv,
    keras.layers.BatchNormalization: _batch_norm,
    keras.layers.ReLU: _relu,
    keras.layers.MaxPooling2D: _max_pool,
    keras.layers.AveragePooling2D: _single_pixels,
    keras.layers.Add: _add,
    keras.layers.GlobalAveragePooling2D: _average,
    keras.layers.Dense: _dense,
}
