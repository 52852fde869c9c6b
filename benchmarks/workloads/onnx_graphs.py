"""ONNX models of the workloads' networks, made of the same weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

OPSET, IR_VERSION = 17, 8
"""Old enough for every runtime of the last years."""


class Model:
    """A chain of ONNX nodes from the input `x` on, which has any number of rows; `add` appends one and follows it."""

    def __init__(self, shape: Sequence[int]) -> None:
        self._shape = tuple(shape)
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self.value = "x"

    def constant(self, array: np.ndarray) -> str:
        """The name of a weight."""
        from onnx import numpy_helper

        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, op: str, *weights: np.ndarray, **attrs: Any) -> Model:
        """Apply an op to the value so far and weights."""
        from onnx import helper

        names, result = [self.constant(each) for each in weights], f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, [self.value, *names], [result], **attrs))
        self.value = result
        return self

    def proto(self, columns: int) -> bytes:
        """The model, serialised; its result has so many columns."""
        from onnx import TensorProto, checker, helper

        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *self._shape])
        y = helper.make_tensor_value_info(self.value, TensorProto.FLOAT, ["n", columns])
        graph = helper.make_graph(self._nodes, "network", [x], [y], self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        checker.check_model(model)
        return bytes(model.SerializeToString())


def perceptron(params: Sequence[np.ndarray], hidden: str, last: str | None = None) -> bytes:
    """w1, b1, w2, b2 ...: products with biases, with `hidden` between them and `last` at the end."""
    model = Model(params[0].shape[:1])
    for i in range(0, len(params), 2):
        model.add("Gemm", params[i], params[i + 1])
        step = hidden if i + 2 < len(params) else last
        if step:
            model.add(step)
    return model.proto(params[-1].shape[0])


def lenet(params: Sequence[np.ndarray], side: int) -> bytes:
    """Filters, biases and matrices of a LeNet over square grey images with channels last.

    ONNX has channels first: filters and the rows of the first matrix are put in that order here, once.
    """
    model = Model((side, side, 1)).add("Reshape", np.array([-1, 1, side, side]))
    for kernel, bias in (params[:2], params[2:4]):
        model.add("Conv", kernel.transpose(3, 2, 0, 1), bias, pads=[2, 2, 2, 2]).add("Relu")
        model.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    depth, rest = params[2].shape[-1], side // 4
    rows = params[4].reshape(rest, rest, depth, -1).transpose(2, 0, 1, 3).reshape(params[4].shape)
    model.add("Reshape", np.array([-1, rows.shape[0]]))
    model.add("Gemm", rows, params[5]).add("Relu").add("Gemm", params[6], params[7])
    return model.proto(params[7].shape[0])
