"""tf.layers: dense layers, dropout and flattening."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Tensor
from stepjit.initializers import Zeros
from stepjit.ops.activations import bias_add
from stepjit.ops.array import shape as shape_of
from stepjit.ops.comparison import where
from stepjit.ops.linear import tensordot
from stepjit.ops.normalization import dropout as drop
from stepjit.variable_scope import get_variable, variable_scope


def dense(
    inputs: Any,
    units: int,
    activation: Callable[[Tensor], Tensor] | None = None,
    use_bias: bool = True,
    kernel_initializer: Any = None,
    bias_initializer: Any = Zeros,
    kernel_regularizer: Any = None,
    bias_regularizer: Any = None,
    activity_regularizer: Any = None,
    kernel_constraint: Any = None,
    bias_constraint: Any = None,
    trainable: bool = True,
    name: str | None = None,
    reuse: Any = None,
) -> Tensor:
    """activation(inputs · kernel + bias) over the last dimension; ValueError when its extent isn't static."""
    x = convert_to_tensor(inputs)
    if x.dims is None or not x.dims or x.dims[-1] is None:
        raise ValueError("The last dimension of the inputs to a Dense layer should be defined. Found None.")
    with variable_scope(name, default_name="dense", reuse=reuse):
        number = x.dtype.base_dtype
        kernel = get_variable(
            "kernel", [x.dims[-1], int(units)], number, kernel_initializer, kernel_regularizer, trainable=trainable,
            constraint=kernel_constraint,
        )  # fmt: skip
        bias = None
        if use_bias:
            start = bias_initializer() if isinstance(bias_initializer, type) else bias_initializer
            bias = get_variable(
                "bias", [int(units)], number, start, bias_regularizer, trainable=trainable, constraint=bias_constraint
            )
        if len(x.dims) == 2:
            result = apply_op("MatMul", a=x, b=kernel)
        else:
            result = tensordot(x, kernel, [[len(x.dims) - 1], [0]])
        if bias is not None:
            result = bias_add(result, bias)
        if activation is not None:
            result = activation(result)
        if activity_regularizer is not None:
            from stepjit.framework.collections import add_to_collection
            from stepjit.framework.graph_keys import GraphKeys

            add_to_collection(GraphKeys.REGULARIZATION_LOSSES, activity_regularizer(result))
        return result


def flatten(inputs: Any, name: str | None = None, data_format: str = "channels_last") -> Tensor:
    """All dimensions but the first as one."""
    with name_scope(name, "flatten", [inputs]):
        x = convert_to_tensor(inputs)
        if x.dims is not None and None not in x.dims[1:]:
            return apply_op("Reshape", tensor=x, shape=[-1, math.prod(int(each or 0) for each in x.dims[1:])])
        batch = apply_op("StridedSlice", input=shape_of(x), begin=[0], end=[1], strides=[1], shrink_axis_mask=1)
        return apply_op("Reshape", tensor=x, shape=apply_op("Pack", values=[batch, -1], T="int32"))


def dropout(
    inputs: Any, rate: Any = 0.5, noise_shape: Any = None, seed: int | None = None, training: Any = False,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """`tf.nn.dropout` while `training` (a bool or a bool tensor), else the inputs."""
    with name_scope(name, "dropout", [inputs]):
        x = convert_to_tensor(inputs)
        if isinstance(training, Tensor):
            return where(training, drop(x, noise_shape=noise_shape, seed=seed, rate=rate), x)
        return drop(x, noise_shape=noise_shape, seed=seed, rate=rate) if training else apply_op("Identity", input=x)


__all__ = ["dense", "dropout", "flatten"]
