"""Dense layers, dropout and flattening."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.shape import TensorShape
from stepjit.framework.tensor import Tensor
from stepjit.initializers import Zeros
from stepjit.layers.base import Layer, smart_cond
from stepjit.ops.activations import bias_add
from stepjit.ops.array import shape as shape_of
from stepjit.ops.array import transpose
from stepjit.ops.linear import tensordot
from stepjit.ops.normalization import dropout as drop

Activation = Callable[[Any], Any] | None


class Dense(Layer):
    """activation(inputs · kernel + bias) over the last dimension."""

    def __init__(
        self, units: int, activation: Activation = None, use_bias: bool = True, kernel_initializer: Any = None,
        bias_initializer: Any = Zeros, kernel_regularizer: Any = None, bias_regularizer: Any = None,
        activity_regularizer: Any = None, kernel_constraint: Any = None, bias_constraint: Any = None,
        trainable: bool = True, name: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(trainable, name, activity_regularizer=activity_regularizer, **kwargs)
        self.units, self.activation, self.use_bias = int(units), activation, use_bias
        self.kernel_initializer, self.bias_initializer = kernel_initializer, bias_initializer
        self.kernel_regularizer, self.bias_regularizer = kernel_regularizer, bias_regularizer
        self.kernel_constraint, self.bias_constraint = kernel_constraint, bias_constraint
        self.kernel: Any = None
        self.bias: Any = None

    def build(self, input_shape: Any) -> None:
        """Make kernel and bias; ValueError when the last extent isn't static."""
        shape = TensorShape(input_shape)
        if not shape.ndims or shape.as_list()[-1] is None:
            raise ValueError("The last dimension of the inputs to a Dense layer should be defined. Found None.")
        self.kernel = self.add_weight(
            "kernel", [shape.as_list()[-1], self.units], None, self.kernel_initializer, self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )  # fmt: skip
        if self.use_bias:
            self.bias = self.add_weight(
                "bias", [self.units], None, self.bias_initializer, self.bias_regularizer,
                constraint=self.bias_constraint,
            )  # fmt: skip
        self.built = True

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The product, the bias and the activation."""
        rank = len(inputs.dims)
        if rank == 2:
            result = apply_op("MatMul", a=inputs, b=self.kernel)
        else:
            result = tensordot(inputs, self.kernel, [[rank - 1], [0]])
        if self.use_bias:
            result = bias_add(result, self.bias)
        return self.activation(result) if self.activation is not None else result

    def compute_output_shape(self, input_shape: Any) -> TensorShape:
        """The input's shape with the last extent replaced."""
        return TensorShape([*TensorShape(input_shape).as_list()[:-1], self.units])


def dense(
    inputs: Any, units: int, activation: Activation = None, use_bias: bool = True, kernel_initializer: Any = None,
    bias_initializer: Any = Zeros, kernel_regularizer: Any = None, bias_regularizer: Any = None,
    activity_regularizer: Any = None, kernel_constraint: Any = None, bias_constraint: Any = None,
    trainable: bool = True, name: str | None = None, reuse: Any = None,
) -> Tensor:  # fmt: skip
    """activation(inputs · kernel + bias) over the last dimension; ValueError when its extent isn't static."""
    layer = Dense(
        units, activation, use_bias, kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer,
        activity_regularizer, kernel_constraint, bias_constraint, trainable, name, _scope=name, _reuse=reuse,
    )  # fmt: skip
    return layer.apply(inputs)


class Dropout(Layer):
    """`tf.nn.dropout` while training (a bool or a bool tensor), else the inputs."""

    def __init__(
        self, rate: Any = 0.5, noise_shape: Any = None, seed: int | None = None, name: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.rate, self.noise_shape, self.seed = rate, noise_shape, seed

    def call(self, inputs: Any, training: Any = False, **kwargs: Any) -> Tensor:
        """Dropped out or as it is."""
        return smart_cond(
            training,
            lambda: drop(inputs, noise_shape=self.noise_shape, seed=self.seed, rate=self.rate),
            lambda: apply_op("Identity", input=inputs),
        )


def dropout(
    inputs: Any, rate: Any = 0.5, noise_shape: Any = None, seed: int | None = None, training: Any = False,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """`tf.nn.dropout` while `training` (a bool or a bool tensor), else the inputs."""
    return Dropout(rate, noise_shape, seed, name).apply(inputs, training=training)


class Flatten(Layer):
    """All dimensions but the first as one, channels last."""

    def __init__(self, data_format: str | None = "channels_last", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = data_format or "channels_last"

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The rows."""
        x = inputs
        if self.data_format == "channels_first" and x.dims is not None and len(x.dims) > 2:
            x = transpose(x, [0, *range(2, len(x.dims)), 1])
        if x.dims is not None and None not in x.dims[1:]:
            return apply_op("Reshape", tensor=x, shape=[-1, math.prod(int(each or 0) for each in x.dims[1:])])
        batch = apply_op("StridedSlice", input=shape_of(x), begin=[0], end=[1], strides=[1], shrink_axis_mask=1)
        return apply_op("Reshape", tensor=x, shape=apply_op("Pack", values=[batch, -1], T="int32"))


def flatten(inputs: Any, name: str | None = None, data_format: str = "channels_last") -> Tensor:
    """All dimensions but the first as one."""
    return Flatten(data_format, name=name).apply(inputs)
