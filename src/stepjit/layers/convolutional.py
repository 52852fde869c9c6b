"""Convolution layers: plain, transposed, separable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.shape import TensorShape
from stepjit.framework.tensor import Tensor
from stepjit.initializers import Zeros
from stepjit.layers.base import Layer, numbers
from stepjit.layers.pooling import checked_format, checked_padding
from stepjit.ops import convolution as ops
from stepjit.ops.activations import bias_add
from stepjit.ops.array import expand_dims, squeeze
from stepjit.ops.array import shape as shape_of

Activation = Callable[[Any], Any] | None

_FORMATS = {1: ("NWC", "NCW"), 2: ("NHWC", "NCHW"), 3: ("NDHWC", "NCDHW")}


class _Conv(Layer):
    """activation(filters over the inputs + bias) in `space` dimensions."""

    space = 2

    def __init__(
        self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid",
        data_format: str = "channels_last", dilation_rate: Any = 1, activation: Activation = None,
        use_bias: bool = True, kernel_initializer: Any = None, bias_initializer: Any = Zeros,
        kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
        kernel_constraint: Any = None, bias_constraint: Any = None, trainable: bool = True, name: str | None = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(trainable, name, activity_regularizer=activity_regularizer, **kwargs)
        self.filters, self.activation, self.use_bias = int(filters), activation, use_bias
        self.kernel_size = numbers(kernel_size, self.space, "kernel_size")
        self.strides = numbers(strides, self.space, "strides")
        self.dilation_rate = numbers(dilation_rate, self.space, "dilation_rate")
        self.padding, self.data_format = checked_padding(padding), checked_format(data_format)
        self.kernel_initializer, self.bias_initializer = kernel_initializer, bias_initializer
        self.kernel_regularizer, self.bias_regularizer = kernel_regularizer, bias_regularizer
        self.kernel_constraint, self.bias_constraint = kernel_constraint, bias_constraint
        self.kernel: Any = None
        self.bias: Any = None

    @property
    def _first(self) -> bool:
        return self.data_format == "channels_first"

    def _layout(self, space: int | None = None) -> str:
        return _FORMATS[self.space if space is None else space][self._first]

    def _depth(self, input_shape: Any) -> int:
        shape = TensorShape(input_shape)
        self._check_rank(shape, self.space + 2)
        return self._static(shape, 1 if self._first else -1)

    def build(self, input_shape: Any) -> None:
        """Make kernel and bias; ValueError when the number of channels isn't static."""
        self._make_kernel([*self.kernel_size, self._depth(input_shape), self.filters])

    def _make_kernel(self, shape: Sequence[int]) -> None:
        self.kernel = self.add_weight(
            "kernel", list(shape), None, self.kernel_initializer, self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )  # fmt: skip
        self._make_bias()

    def _make_bias(self) -> None:
        if self.use_bias:
            self.bias = self.add_weight(
                "bias", [self.filters], None, self.bias_initializer, self.bias_regularizer,
                constraint=self.bias_constraint,
            )  # fmt: skip
        self.built = True

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The convolution, the bias and the activation."""
        forms: dict[int, Callable[..., Tensor]] = {1: ops.conv1d, 2: ops.conv2d, 3: ops.conv3d}
        apply, layout = forms[self.space], self._layout()
        channel = ops.channel_index(layout, self.space)
        strides, rates = (
            ops.per_dimension(each, self.space, channel, text)
            for text, each in (("strides", self.strides), ("dilation_rate", self.dilation_rate))
        )
        return self._finish(
            apply(inputs, self.kernel, strides, self.padding.upper(), data_format=layout, dilations=rates)
        )

    def _finish(self, result: Tensor) -> Tensor:
        if self.use_bias:
            result = bias_add(result, self.bias, data_format="NCHW" if self._first else "NHWC")
        return self.activation(result) if self.activation is not None else result


class Conv1D(_Conv):
    """Filters over rows [batch, width, channels]."""

    space = 1


class Conv2D(_Conv):
    """Filters over images [batch, height, width, channels]."""


class Conv3D(_Conv):
    """Filters over volumes [batch, depth, height, width, channels]."""

    space = 3


class Conv2DTranspose(_Conv):
    """The transpose of `Conv2D`; the kernel is [height, width, filters, channels]."""

    def __init__(
        self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid",
        data_format: str = "channels_last", activation: Activation = None, use_bias: bool = True, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            filters, kernel_size, strides, padding, data_format, 1, activation, use_bias, **kwargs
        )

    def build(self, input_shape: Any) -> None:
        """Make kernel and bias; ValueError when the number of channels isn't static."""
        self._make_kernel([*self.kernel_size, self.filters, self._depth(input_shape)])

    def _extents(self, given: Sequence[Any]) -> list[Any]:
        """The extents of space in the result of those of the input."""
        found: list[Any] = []
        for extent, size, step in zip(given, self.kernel_size, self.strides, strict=True):
            wider = max(size - step, 0) if self.padding == "valid" else 0
            found.append(None if extent is None else extent * step + wider)
        return found

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The transposed convolution, the bias and the activation."""
        space = slice(2, None) if self._first else slice(1, -1)
        whole: Any = shape_of(inputs)
        known = list(inputs.dims)

        def extent(axis: int) -> Any:
            if known[axis] is not None:
                return known[axis]
            return apply_op("StridedSlice", input=whole, begin=[axis], end=[axis + 1], strides=[1], shrink_axis_mask=1)

        sizes = self._extents([extent(axis) for axis in range(len(known))[space]])
        sizes = [self.filters, *sizes] if self._first else [*sizes, self.filters]
        batch = extent(0)
        shape: Any = [batch, *sizes]
        if any(isinstance(each, Tensor) for each in shape):
            shape = apply_op("Pack", values=shape, T="int32")
        apply = ops.conv2d_transpose if self.space == 2 else ops.conv3d_transpose
        result = apply(
            inputs, self.kernel, shape, list(self.strides), self.padding.upper(), data_format=self._layout()
        )  # fmt: skip
        static = self._extents(known[space])
        result.set_shape([known[0], self.filters, *static] if self._first else [known[0], *static, self.filters])
        return self._finish(result)


class Conv3DTranspose(Conv2DTranspose):
    """The transpose of `Conv3D`; the kernel is [depth, height, width, filters, channels]."""

    space = 3


class SeparableConv2D(_Conv):
    """Filters for every channel, and then filters [1, 1] that mix the channels."""

    def __init__(
        self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid",
        data_format: str = "channels_last", dilation_rate: Any = 1, depth_multiplier: int = 1,
        activation: Activation = None, use_bias: bool = True, depthwise_initializer: Any = None,
        pointwise_initializer: Any = None, bias_initializer: Any = Zeros, depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
        depthwise_constraint: Any = None, pointwise_constraint: Any = None, bias_constraint: Any = None,
        trainable: bool = True, name: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            filters, kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, None,
            bias_initializer, None, bias_regularizer, activity_regularizer, None, bias_constraint, trainable, name,
            **kwargs,
        )  # fmt: skip
        self.depth_multiplier = int(depth_multiplier)
        self._parts = {
            "depthwise_kernel": (depthwise_initializer, depthwise_regularizer, depthwise_constraint),
            "pointwise_kernel": (pointwise_initializer, pointwise_regularizer, pointwise_constraint),
        }
        self.depthwise_kernel: Any = None
        self.pointwise_kernel: Any = None

    def build(self, input_shape: Any) -> None:
        """Make both kernels and the bias; ValueError when the number of channels isn't static."""
        depth = self._depth(input_shape)
        self.depthwise_kernel = self._part("depthwise_kernel", [*self.kernel_size, depth, self.depth_multiplier])
        mixed = [*[1] * self.space, depth * self.depth_multiplier, self.filters]
        self.pointwise_kernel = self._part("pointwise_kernel", mixed)
        self._make_bias()

    def _part(self, name: str, shape: list[int]) -> Any:
        initializer, regularizer, constraint = self._parts[name]
        return self.add_weight(name, shape, None, initializer, regularizer, constraint=constraint)

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The two convolutions, the bias and the activation."""
        steps = list(self.strides) * (2 // self.space)
        steps = [1, 1, *steps] if self._first else [1, *steps, 1]
        rates = [1] * (2 - self.space) + list(self.dilation_rate)
        first, second, x = self.depthwise_kernel, self.pointwise_kernel, inputs
        axis = 2 if self._first else 1
        if self.space == 1:
            first, second, x = expand_dims(first, 0), expand_dims(second, 0), expand_dims(x, axis)
        result = ops.separable_conv2d(
            x, first, second, steps, self.padding.upper(), rate=rates, data_format=self._layout(2)
        )
        return self._finish(squeeze(result, [axis]) if self.space == 1 else result)


class SeparableConv1D(SeparableConv2D):
    """`SeparableConv2D` for rows [batch, width, channels]."""

    space = 1


# --- On inputs at once ---

def conv1d(
    inputs: Any, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid",
    data_format: str = "channels_last", dilation_rate: Any = 1, activation: Activation = None,
    use_bias: bool = True, kernel_initializer: Any = None, bias_initializer: Any = Zeros,
    kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
    kernel_constraint: Any = None, bias_constraint: Any = None, trainable: bool = True, name: str | None = None,
    reuse: Any = None,
) -> Tensor:  # fmt: skip
    """A `Conv1D` layer on inputs."""
    layer = Conv1D(
        filters, kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, kernel_initializer,
        bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint,
        bias_constraint, trainable, name, _reuse=reuse, _scope=name,
    )  # fmt: skip
    return layer.apply(inputs)


def conv2d(
    inputs: Any, filters: int, kernel_size: Any, strides: Any = (1, 1), padding: str = "valid",
    data_format: str = "channels_last", dilation_rate: Any = (1, 1), activation: Activation = None,
    use_bias: bool = True, kernel_initializer: Any = None, bias_initializer: Any = Zeros,
    kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
    kernel_constraint: Any = None, bias_constraint: Any = None, trainable: bool = True, name: str | None = None,
    reuse: Any = None,
) -> Tensor:  # fmt: skip
    """A `Conv2D` layer on inputs."""
    layer = Conv2D(
        filters, kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, kernel_initializer,
        bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint,
        bias_constraint, trainable, name, _reuse=reuse, _scope=name,
    )  # fmt: skip
    return layer.apply(inputs)


def conv3d(
    inputs: Any, filters: int, kernel_size: Any, strides: Any = (1, 1, 1), padding: str = "valid",
    data_format: str = "channels_last", dilation_rate: Any = (1, 1, 1), activation: Activation = None,
    use_bias: bool = True, kernel_initializer: Any = None, bias_initializer: Any = Zeros,
    kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
    kernel_constraint: Any = None, bias_constraint: Any = None, trainable: bool = True, name: str | None = None,
    reuse: Any = None,
) -> Tensor:  # fmt: skip
    """A `Conv3D` layer on inputs."""
    layer = Conv3D(
        filters, kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, kernel_initializer,
        bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint,
        bias_constraint, trainable, name, _reuse=reuse, _scope=name,
    )  # fmt: skip
    return layer.apply(inputs)


def conv2d_transpose(
    inputs: Any, filters: int, kernel_size: Any, strides: Any = (1, 1), padding: str = "valid",
    data_format: str = "channels_last", activation: Activation = None, use_bias: bool = True,
    kernel_initializer: Any = None, bias_initializer: Any = Zeros, kernel_regularizer: Any = None,
    bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None,
    bias_constraint: Any = None, trainable: bool = True, name: str | None = None, reuse: Any = None,
) -> Tensor:  # fmt: skip
    """A `Conv2DTranspose` layer on inputs."""
    layer = Conv2DTranspose(
        filters, kernel_size, strides, padding, data_format, activation, use_bias,
        kernel_initializer=kernel_initializer, bias_initializer=bias_initializer,
        kernel_regularizer=kernel_regularizer, bias_regularizer=bias_regularizer,
        activity_regularizer=activity_regularizer, kernel_constraint=kernel_constraint,
        bias_constraint=bias_constraint, trainable=trainable, name=name, _reuse=reuse, _scope=name,
    )  # fmt: skip
    return layer.apply(inputs)


def conv3d_transpose(
    inputs: Any, filters: int, kernel_size: Any, strides: Any = (1, 1, 1), padding: str = "valid",
    data_format: str = "channels_last", activation: Activation = None, use_bias: bool = True,
    kernel_initializer: Any = None, bias_initializer: Any = Zeros, kernel_regularizer: Any = None,
    bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None,
    bias_constraint: Any = None, trainable: bool = True, name: str | None = None, reuse: Any = None,
) -> Tensor:  # fmt: skip
    """A `Conv3DTranspose` layer on inputs."""
    layer = Conv3DTranspose(
        filters, kernel_size, strides, padding, data_format, activation, use_bias,
        kernel_initializer=kernel_initializer, bias_initializer=bias_initializer,
        kernel_regularizer=kernel_regularizer, bias_regularizer=bias_regularizer,
        activity_regularizer=activity_regularizer, kernel_constraint=kernel_constraint,
        bias_constraint=bias_constraint, trainable=trainable, name=name, _reuse=reuse, _scope=name,
    )  # fmt: skip
    return layer.apply(inputs)


def separable_conv1d(
    inputs: Any, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid",
    data_format: str = "channels_last", dilation_rate: Any = 1, depth_multiplier: int = 1,
    activation: Activation = None, use_bias: bool = True, depthwise_initializer: Any = None,
    pointwise_initializer: Any = None, bias_initializer: Any = Zeros, depthwise_regularizer: Any = None,
    pointwise_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
    depthwise_constraint: Any = None, pointwise_constraint: Any = None, bias_constraint: Any = None,
    trainable: bool = True, name: str | None = None, reuse: Any = None,
) -> Tensor:  # fmt: skip
    """A `SeparableConv1D` layer on inputs."""
    layer = SeparableConv1D(
        filters, kernel_size, strides, padding, data_format, dilation_rate, depth_multiplier, activation, use_bias,
        depthwise_initializer, pointwise_initializer, bias_initializer, depthwise_regularizer, pointwise_regularizer,
        bias_regularizer, activity_regularizer, depthwise_constraint, pointwise_constraint, bias_constraint, trainable,
        name, _reuse=reuse, _scope=name,
    )  # fmt: skip
    return layer.apply(inputs)


def separable_conv2d(
    inputs: Any, filters: int, kernel_size: Any, strides: Any = (1, 1), padding: str = "valid",
    data_format: str = "channels_last", dilation_rate: Any = (1, 1), depth_multiplier: int = 1,
    activation: Activation = None, use_bias: bool = True, depthwise_initializer: Any = None,
    pointwise_initializer: Any = None, bias_initializer: Any = Zeros, depthwise_regularizer: Any = None,
    pointwise_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
    depthwise_constraint: Any = None, pointwise_constraint: Any = None, bias_constraint: Any = None,
    trainable: bool = True, name: str | None = None, reuse: Any = None,
) -> Tensor:  # fmt: skip
    """A `SeparableConv2D` layer on inputs."""
    layer = SeparableConv2D(
        filters, kernel_size, strides, padding, data_format, dilation_rate, depth_multiplier, activation, use_bias,
        depthwise_initializer, pointwise_initializer, bias_initializer, depthwise_regularizer, pointwise_regularizer,
        bias_regularizer, activity_regularizer, depthwise_constraint, pointwise_constraint, bias_constraint, trainable,
        name, _reuse=reuse, _scope=name,
    )  # fmt: skip
    return layer.apply(inputs)
