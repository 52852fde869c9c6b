"""Convolutions in TF1's signatures, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.registry import RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.array import expand_dims, reshape, squeeze
from stepjit.ops.array import shape as shape_of
from stepjit.ops.broadcasting import static_shape
from stepjit.ops.reductions import either
from stepjit.ops.space_batches import with_space_to_batch

Grads = Sequence[Any]

# --- Arguments ---


def per_dimension(value: Any, space: int, channel: int, name: str) -> list[int]:
    """One number, one per dimension of space, or one per dimension, as one per dimension; ValueError else."""
    if isinstance(value, (str, bytes)):
        raise TypeError(f"Expected int for argument '{name}' not {value!r}.")
    numbers = [1] if value is None else list(value) if hasattr(value, "__len__") else [value]
    numbers = [int(number) for number in numbers]
    if len(numbers) == space + 2:
        return numbers
    if len(numbers) == 1:
        numbers *= space
    elif len(numbers) != space:
        raise ValueError(
            f"{name} should be of length 1, {space} or {space + 2}. Received: {name}={value} of length {len(numbers)}"
        )
    return [1, 1, *numbers] if channel == 1 else [1, *numbers, 1]


def channel_index(data_format: str | None, space: int) -> int:
    """The dimension of the channels."""
    return 1 if data_format is not None and data_format.startswith("NC") else space + 1


def split_padding(padding: Any, expected: int = 4) -> tuple[Any, list[int]]:
    """(`padding` attr, `explicit_paddings` attr) of a padding that is a name or pairs (before, after)."""
    if padding is None:
        raise TypeError("Expected string for argument 'padding' not None.")
    if not isinstance(padding, (list, tuple)):
        if padding == "EXPLICIT":
            raise ValueError("'EXPLICIT' is not a valid value for `padding`. To pad explicitly, give a list of pairs.")
        return padding, []
    for k, pair in enumerate(padding):
        if not isinstance(pair, (list, tuple)):
            raise ValueError(f"When `padding` is a list, each element of `padding` must be a list/tuple of size 2. "
                             f"Received: padding={padding} with element at index {k} of type {type(pair)}")  # fmt: skip
        if len(pair) != 2:
            raise ValueError(f"When `padding` is a list, each element of `padding` must be a list/tuple of size 2. "
                             f"Received: padding={padding} with element at index {k} of size {len(pair)}")  # fmt: skip
    if len(padding) != expected:
        raise ValueError(f"When padding is a list, it must be of size {expected}. Received: padding={padding} of size "
                         f"{len(padding)}")  # fmt: skip
    return "EXPLICIT", [int(number) for pair in padding for number in pair]


def _flat_batch(op: Any, x: Tensor, space: int) -> Tensor:
    """`op` over x with all its leading dimensions but the last `space` + 1 taken for one batch."""
    if x.dims is None or len(x.dims) <= space + 2:
        return op(x)
    inner = list(x.dims[-space - 1 :])
    whole = shape_of(x)
    tail: Any = inner
    if None in inner:
        tail = apply_op("StridedSlice", input=whole, begin=[-space - 1], end=[0], strides=[1], end_mask=1)
        flat = apply_op("ConcatV2", values=[[-1], tail], axis=0)
    else:
        flat = [-1, *inner]
    result = op(reshape(x, flat))
    lead = apply_op("StridedSlice", input=whole, begin=[0], end=[-space - 1], strides=[1], begin_mask=1)
    rest = apply_op("StridedSlice", input=shape_of(result), begin=[1], end=[0], strides=[1], end_mask=1)
    found = reshape(result, apply_op("ConcatV2", values=[lead, rest], axis=0))
    found.set_shape([*x.dims[: -space - 1], *(result.dims or ())[1:]])
    return found


# --- conv2d and its gradients ---


def conv2d(
    input: Any, filter: Any = None, strides: Any = None, padding: Any = None, use_cudnn_on_gpu: bool = True,
    data_format: str | None = "NHWC", dilations: Any = (1, 1, 1, 1), name: str | None = None, filters: Any = None,
) -> Tensor:  # fmt: skip
    """Images [batch, height, width, channels] under filters [height, width, in, out].

    padding: SAME, VALID, or pairs (before, after) for each dimension. Leading dimensions beyond four count as batch.
    ValueError for shapes that can't be convolved.
    """
    kernel = either("filters", filters, "filter", filter)
    kind, explicit = split_padding(padding)
    layout = data_format or "NHWC"
    channel = channel_index(layout, 2)
    steps, rates = per_dimension(strides, 2, channel, "strides"), per_dimension(dilations, 2, channel, "dilations")

    def apply(x: Any) -> Tensor:
        return apply_op(
            "Conv2D", input=x, filter=kernel, strides=steps, padding=kind, use_cudnn_on_gpu=use_cudnn_on_gpu,
            explicit_paddings=explicit, data_format=layout, dilations=rates, name=name,
        )  # fmt: skip

    return _flat_batch(apply, convert_to_tensor(input, name="input"), 2)


def conv2d_backprop_input(
    input_sizes: Any, filter: Any = None, out_backprop: Any = None, strides: Any = None, padding: Any = None,
    use_cudnn_on_gpu: bool = True, data_format: str = "NHWC", dilations: Any = (1, 1, 1, 1), name: str | None = None,
    filters: Any = None,
) -> Tensor:  # fmt: skip
    """The gradient of `conv2d` for images of shape `input_sizes`."""
    kind, explicit = split_padding(padding)
    return apply_op(
        "Conv2DBackpropInput", input_sizes=input_sizes, filter=either("filters", filters, "filter", filter),
        out_backprop=out_backprop, strides=list(strides), padding=kind, use_cudnn_on_gpu=use_cudnn_on_gpu,
        explicit_paddings=explicit, data_format=data_format, dilations=list(dilations), name=name,
    )  # fmt: skip


def conv2d_backprop_filter(
    input: Any, filter_sizes: Any, out_backprop: Any, strides: Any, padding: Any, use_cudnn_on_gpu: bool = True,
    data_format: str = "NHWC", dilations: Any = (1, 1, 1, 1), name: str | None = None,
) -> Tensor:  # fmt: skip
    """The gradient of `conv2d` for filters of shape `filter_sizes`."""
    kind, explicit = split_padding(padding)
    return apply_op(
        "Conv2DBackpropFilter", input=input, filter_sizes=filter_sizes, out_backprop=out_backprop,
        strides=list(strides), padding=kind, use_cudnn_on_gpu=use_cudnn_on_gpu, explicit_paddings=explicit,
        data_format=data_format, dilations=list(dilations), name=name,
    )  # fmt: skip


def conv2d_transpose(
    value: Any = None, filter: Any = None, output_shape: Any = None, strides: Any = None, padding: Any = "SAME",
    data_format: str | None = "NHWC", name: str | None = None, input: Any = None, filters: Any = None,
    dilations: Any = None,
) -> Tensor:  # fmt: skip
    """The transpose of `conv2d`: filters are [height, width, out, in], results have `output_shape`."""
    value = either("input", input, "value", value)
    kernel = either("filters", filters, "filter", filter)
    layout = data_format or "NHWC"
    channel = channel_index(layout, 2)
    kind, explicit = split_padding(padding)
    with name_scope(name, "conv2d_transpose", [value, kernel, output_shape]) as scope:
        return apply_op(
            "Conv2DBackpropInput", input_sizes=output_shape, filter=kernel, out_backprop=value,
            strides=per_dimension(strides, 2, channel, "strides"), padding=kind, explicit_paddings=explicit,
            data_format=layout, dilations=per_dimension(dilations, 2, channel, "dilations"), name=scope,
        )  # fmt: skip


_CONV = ("strides", "padding", "data_format", "dilations")


def _options(op: Operation, *more: str) -> dict[str, Any]:
    return {key: op.attrs[key] for key in (*_CONV, *more) if key in op.attrs}


def _conv_gradients(forward: str, of_input: str, of_filter: str, *more: str) -> None:
    """Register the gradients of a convolution and of its two gradients, which are made of one another."""

    def back_to_input(op: Operation, sizes: Any, kernel: Any, grad: Any) -> Tensor:
        return apply_op(of_input, input_sizes=sizes, filter=kernel, out_backprop=grad, **_options(op, *more))

    def back_to_filter(op: Operation, x: Any, sizes: Any, grad: Any) -> Tensor:
        return apply_op(of_filter, input=x, filter_sizes=sizes, out_backprop=grad, **_options(op, *more))

    def again(op: Operation, x: Any, kernel: Any) -> Tensor:
        return apply_op(forward, input=x, filter=kernel, **_options(op, *more))

    @RegisterGradient(forward)
    def forward_grad(op: Operation, grad: Tensor) -> Grads:
        x, kernel = op.inputs
        return [
            back_to_input(op, static_shape(x), kernel, grad),
            back_to_filter(op, x, static_shape(kernel), grad),
        ]

    @RegisterGradient(of_input)
    def input_grad(op: Operation, grad: Tensor) -> Grads:
        _, kernel, given = op.inputs
        return [None, back_to_filter(op, grad, static_shape(kernel), given), again(op, grad, kernel)]

    @RegisterGradient(of_filter)
    def filter_grad(op: Operation, grad: Tensor) -> Grads:
        x, _, given = op.inputs
        return [back_to_input(op, static_shape(x), grad, given), None, again(op, x, grad)]


_conv_gradients("Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter", "use_cudnn_on_gpu", "explicit_paddings")
_conv_gradients("Conv3D", "Conv3DBackpropInputV2", "Conv3DBackpropFilterV2")
_conv_gradients(
    "DepthwiseConv2dNative", "DepthwiseConv2dNativeBackpropInput", "DepthwiseConv2dNativeBackpropFilter",
    "explicit_paddings",
)  # fmt: skip


# --- One dimension: images of height 1 ---


def _line_layout(data_format: str | None) -> tuple[str, int]:
    """(layout as images, the dimension to be put in)."""
    if data_format in (None, "NHWC", "NWC"):
        return "NHWC", 1
    if data_format in ("NCHW", "NCW"):
        return "NCHW", 2
    raise ValueError("`data_format` must be 'NWC' or 'NCW'. Received: data_format=" + str(data_format))


def conv1d(
    value: Any = None, filters: Any = None, stride: Any = None, padding: Any = None,
    use_cudnn_on_gpu: bool | None = None, data_format: str | None = None, name: str | None = None, input: Any = None,
    dilations: Any = None,
) -> Tensor:  # fmt: skip
    """Rows [batch, width, channels] under filters [width, in, out]."""
    value = either("input", input, "value", value)
    with name_scope(name, "conv1d", [value, filters]) as scope:
        layout, axis = _line_layout(data_format)
        channel = 1 if layout == "NCHW" else 2
        steps = [1, *per_dimension(stride, 1, channel, "stride")]
        rates = [1, *per_dimension(dilations, 1, channel, "dilations")]
        x = convert_to_tensor(value, name="value")
        if x.dims is not None and len(x.dims) > 3:
            axis += len(x.dims) - 3
        kernel = expand_dims(filters, 0)
        if isinstance(padding, (list, tuple)):
            padding = [*padding[: axis], (0, 0), *padding[axis:]]
        if channel == 1:
            steps, rates = [1, 1, 1, steps[-1]], [1, 1, 1, rates[-1]]
        result = conv2d(expand_dims(x, axis), kernel, steps, padding, True, layout, rates)
        return squeeze(result, [axis], name=scope)


def conv1d_transpose(
    input: Any, filters: Any, output_shape: Any, strides: Any, padding: str = "SAME", data_format: str = "NWC",
    dilations: Any = None, name: str | None = None,
) -> Tensor:  # fmt: skip
    """The transpose of `conv1d`: filters are [width, out, in]."""
    with name_scope(name, "conv1d_transpose", [input, filters, output_shape]) as scope:
        layout, axis = _line_layout(data_format)
        channel = 1 if layout == "NCHW" else 2
        numbers: dict[str, Any] = {}
        for text, value in (("strides", strides), ("dilations", dilations)):
            given = per_dimension(value, 1, channel, text)
            numbers[text] = [*given[:axis], 1, *given[axis:]]
        sizes = output_shape
        if isinstance(sizes, (list, tuple)):
            sizes = [*sizes[:axis], 1, *sizes[axis:]] if len(sizes) == 3 else [1, *sizes]
        else:
            parts = [apply_op("Slice", input=sizes, begin=[0], size=[axis]), [1],
                     apply_op("Slice", input=sizes, begin=[axis], size=[-1])]  # fmt: skip
            sizes = apply_op("ConcatV2", values=parts, axis=0)
        result = apply_op(
            "Conv2DBackpropInput", input_sizes=sizes, filter=expand_dims(filters, 0),
            out_backprop=expand_dims(input, axis), padding=padding, data_format=layout, **numbers,
        )  # fmt: skip
        return squeeze(result, [axis], name=scope)


# --- Three dimensions ---


def conv3d(
    input: Any, filter: Any = None, strides: Any = None, padding: Any = None, data_format: str | None = "NDHWC",
    dilations: Any = (1, 1, 1, 1, 1), name: str | None = None, filters: Any = None,
) -> Tensor:  # fmt: skip
    """Volumes [batch, depth, height, width, channels] under filters [depth, height, width, in, out]."""
    kernel = either("filters", filters, "filter", filter)
    layout = data_format or "NDHWC"
    if not isinstance(strides, (list, tuple)):
        raise TypeError(f"Expected list for 'strides' argument to 'conv3d' Op, not {strides}.")
    if len(strides) != 5:
        raise ValueError(f"Attr 'strides' of 'Conv3D' Op must be a list of length 5. Received: strides={strides}")

    def apply(x: Any) -> Tensor:
        return apply_op(
            "Conv3D", input=x, filter=kernel, strides=list(strides), padding=padding, data_format=layout,
            dilations=list(dilations), name=name,
        )  # fmt: skip

    return _flat_batch(apply, convert_to_tensor(input, name="input"), 3)


def conv3d_transpose(
    value: Any, filter: Any = None, output_shape: Any = None, strides: Any = None, padding: str = "SAME",
    data_format: str | None = "NDHWC", name: str | None = None, input: Any = None, filters: Any = None,
    dilations: Any = None,
) -> Tensor:  # fmt: skip
    """The transpose of `conv3d`: filters are [depth, height, width, out, in], results have `output_shape`."""
    value = either("input", input, "value", value)
    kernel = either("filters", filters, "filter", filter)
    layout = data_format or "NDHWC"
    channel = channel_index(layout, 3)
    with name_scope(name, "conv3d_transpose", [value, kernel, output_shape]) as scope:
        return apply_op(
            "Conv3DBackpropInputV2", input_sizes=output_shape, filter=kernel, out_backprop=value,
            strides=per_dimension(strides, 3, channel, "strides"), padding=padding, data_format=layout,
            dilations=per_dimension(dilations, 3, channel, "dilations"), name=scope,
        )  # fmt: skip


def conv3d_backprop_filter(
    input: Any, filter_sizes: Any, out_backprop: Any, strides: Any, padding: str, data_format: str = "NDHWC",
    dilations: Any = (1, 1, 1, 1, 1), name: str | None = None,
) -> Tensor:  # fmt: skip
    """The gradient of `conv3d` for filters of shape `filter_sizes`."""
    return apply_op(
        "Conv3DBackpropFilterV2", input=input, filter_sizes=filter_sizes, out_backprop=out_backprop,
        strides=list(strides), padding=padding, data_format=data_format, dilations=list(dilations), name=name,
    )  # fmt: skip


def conv_transpose(
    input: Any, filters: Any, output_shape: Any, strides: Any, padding: str = "SAME", data_format: str | None = None,
    dilations: Any = None, name: str | None = None,
) -> Tensor:  # fmt: skip
    """The transpose of a convolution of 1, 2 or 3 dimensions, by the length of `output_shape`."""
    with name_scope(name, "conv_transpose", [input, filters, output_shape]) as scope:
        length = output_shape.dims[0] if isinstance(output_shape, Tensor) and output_shape.dims else None
        space = (len(output_shape) if length is None else int(length)) - 2
        options = {"padding": padding, "dilations": dilations, "name": scope}
        if space == 1:
            return conv1d_transpose(input, filters, output_shape, strides, data_format=data_format or "NWC", **options)
        if space == 2:
            return conv2d_transpose(input, filters, output_shape, strides, data_format=data_format, **options)
        if space == 3:
            return conv3d_transpose(input, filters, output_shape, strides, data_format=data_format, **options)
        raise ValueError(f"`output_shape` must be of length 3, 4 or 5. Received: {output_shape}")


# --- Any number of dimensions, and holes in the filter ---

_LAYOUTS = {1: ("NWC", "NCW"), 2: ("NHWC", "NCHW"), 3: ("NDHWC", "NCDHW")}


def convolution(
    input: Any, filter: Any = None, padding: Any = None, strides: Any = None, dilation_rate: Any = None,
    name: str | None = None, data_format: str | None = None, filters: Any = None, dilations: Any = None,
) -> Tensor:  # fmt: skip
    """A convolution over as many dimensions of space, 1 to 3, as the filters have.

    ValueError when the rank is unknown, or both a stride and a dilation rate are more than 1.
    """
    with name_scope(name, "convolution", [input, filter if filters is None else filters]) as scope:
        x = convert_to_tensor(input, name="input")
        kernel = convert_to_tensor(either("filters", filters, "filter", filter), name="filter")
        rates = either("dilations", dilations, "dilation_rate", dilation_rate)
        if kernel.dims is not None:
            space = len(kernel.dims) - 2
        elif x.dims is not None:
            space = len(x.dims) - 2
        else:
            raise ValueError("When `num_spatial_dims` is not set, the rank of input or filter must be known.")
        if space not in _LAYOUTS:
            raise ValueError(f"`filter` must have 1 to 3 dimensions of space. Received: {kernel.shape}")
        layout = data_format or _LAYOUTS[space][0]
        if layout not in _LAYOUTS[space]:
            raise ValueError(f"`data_format` must be one of {_LAYOUTS[space]}. Received: data_format={layout}")
        channel = channel_index(layout, space)
        steps = per_dimension(strides, space, channel, "strides")
        spread = per_dimension(rates, space, channel, "dilations")
        for text, numbers in (("strides", steps), ("dilation_rate", spread)):
            if min(numbers) < 1:
                raise ValueError(f"all values of `{text}` must be positive. Received: {text}={numbers}")
        if max(steps) > 1 and max(spread) > 1:
            raise ValueError("`strides > 1` not supported in conjunction with `dilation_rate > 1`. Received: "
                             f"strides={steps} and dilation_rate={spread}")  # fmt: skip
        if padding not in ("SAME", "VALID") and max(spread) > 1:
            raise ValueError(f"`padding` must be one of 'SAME' or 'VALID'. Received: padding={padding}")
        if space == 1:
            return conv1d(x, kernel, steps, padding, data_format=layout, dilations=spread, name=scope)
        apply = conv2d if space == 2 else conv3d
        return apply(x, kernel, steps, padding, data_format=layout, dilations=spread, name=scope)


def atrous_conv2d(value: Any, filters: Any, rate: int, padding: Any, name: str | None = None) -> Tensor:
    """`conv2d` with the filter's elements `rate` pixels apart."""
    return convolution(value, filters, padding, dilation_rate=[rate, rate], name=name)


def atrous_conv2d_transpose(
    value: Any, filters: Any, output_shape: Any, rate: int, padding: Any, name: str | None = None
) -> Tensor:
    """The transpose of `atrous_conv2d`; ValueError unless rate is positive and the padding SAME or VALID."""
    if rate < 1:
        raise ValueError(f"`rate` cannot be less than one. Received: rate={rate}")
    if padding not in ("SAME", "VALID"):
        raise ValueError(f"`padding` must be either 'VALID' or 'SAME'. Received: padding={padding}")
    with name_scope(name, "atrous_conv2d_transpose", [value, filters, output_shape]) as scope:
        return conv2d_transpose(value, filters, output_shape, 1, padding, name=scope, dilations=rate)


# --- Depthwise and separable ---


def depthwise_conv2d_native(
    input: Any, filter: Any, strides: Any, padding: Any, data_format: str = "NHWC", dilations: Any = (1, 1, 1, 1),
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """Every channel of images under its own filters [height, width, in, multiplier]."""
    kind, explicit = split_padding(padding)
    return apply_op(
        "DepthwiseConv2dNative", input=input, filter=filter, strides=list(strides), padding=kind,
        explicit_paddings=explicit, data_format=data_format, dilations=list(dilations), name=name,
    )  # fmt: skip


def depthwise_conv2d_backprop_input(
    input_sizes: Any, filter: Any, out_backprop: Any, strides: Any, padding: Any, data_format: str = "NHWC",
    dilations: Any = (1, 1, 1, 1), name: str | None = None,
) -> Tensor:  # fmt: skip
    """The gradient of `depthwise_conv2d_native` for images of shape `input_sizes`."""
    kind, explicit = split_padding(padding)
    return apply_op(
        "DepthwiseConv2dNativeBackpropInput", input_sizes=input_sizes, filter=filter, out_backprop=out_backprop,
        strides=list(strides), padding=kind, explicit_paddings=explicit, data_format=data_format,
        dilations=list(dilations), name=name,
    )  # fmt: skip


def depthwise_conv2d_backprop_filter(
    input: Any, filter_sizes: Any, out_backprop: Any, strides: Any, padding: Any, data_format: str = "NHWC",
    dilations: Any = (1, 1, 1, 1), name: str | None = None,
) -> Tensor:  # fmt: skip
    """The gradient of `depthwise_conv2d_native` for filters of shape `filter_sizes`."""
    kind, explicit = split_padding(padding)
    return apply_op(
        "DepthwiseConv2dNativeBackpropFilter", input=input, filter_sizes=filter_sizes, out_backprop=out_backprop,
        strides=list(strides), padding=kind, explicit_paddings=explicit, data_format=data_format,
        dilations=list(dilations), name=name,
    )  # fmt: skip


def depthwise_conv2d(
    input: Any, filter: Any, strides: Any, padding: Any, rate: Any = None, name: str | None = None,
    data_format: str | None = None, dilations: Any = None,
) -> Tensor:  # fmt: skip
    """`depthwise_conv2d_native` with filters whose elements are `rate` pixels apart."""
    rates = either("dilations", dilations, "rate", rate)
    layout = data_format or "NHWC"
    with name_scope(name, "depthwise", [input, filter]) as scope:
        x, kernel = convert_to_tensor(input, name="tensor_in"), convert_to_tensor(filter, name="filter_in")
        return _depthwise(x, kernel, strides, padding, layout, rates, scope)


def _depthwise(
    x: Tensor, kernel: Tensor, strides: Any, padding: Any, layout: str, rates: Any, name: str | None
) -> Tensor:  # fmt: skip
    """With both strides and rates, the strides count within the blocks that the rates cut the image into."""
    spread = per_dimension(rates, 2, channel_index(layout, 2), "dilations")
    if min(spread) < 1:
        raise ValueError(f"`dilation_rate` must be positive. Received: dilation_rate={rates}")
    if max(spread) == 1 or max(strides) == 1:
        return depthwise_conv2d_native(x, kernel, strides, padding, layout, spread, name)

    def apply(value: Tensor, _: int, how: str) -> Tensor:
        return depthwise_conv2d_native(value, kernel, strides, how, layout, name=name)

    space = spread[2:] if layout.startswith("NC") else spread[1:3]
    return with_space_to_batch(x, space, padding, apply, shape_of(kernel), data_format=layout)


def separable_conv2d(
    input: Any, depthwise_filter: Any, pointwise_filter: Any, strides: Any, padding: Any, rate: Any = None,
    name: str | None = None, data_format: str | None = None, dilations: Any = None,
) -> Tensor:  # fmt: skip
    """`depthwise_conv2d`, and then filters [1, 1, in * multiplier, out] that mix the channels."""
    rates = either("dilations", dilations, "rate", rate)
    layout = data_format or "NHWC"
    with name_scope(name, "separable_conv2d", [input, depthwise_filter, pointwise_filter]) as scope:
        x = convert_to_tensor(input, name="tensor_in")
        first = convert_to_tensor(depthwise_filter, name="depthwise_filter")
        second = convert_to_tensor(pointwise_filter, name="pointwise_filter")
        second.shape.assert_has_rank(4)
        second.shape[:2].assert_is_compatible_with([1, 1])
        between = _depthwise(x, first, strides, padding, layout, rates, "depthwise")
        return conv2d(between, second, [1, 1, 1, 1], "VALID", data_format=layout, name=scope)
