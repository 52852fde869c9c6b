"""Pooling of images, rows and volumes, and grey-scale dilation, with gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.registry import RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.array import expand_dims, squeeze
from stepjit.ops.broadcasting import static_shape
from stepjit.ops.convolution import channel_index, per_dimension, split_padding
from stepjit.ops.reductions import either
from stepjit.ops.space_batches import with_space_to_batch
from stepjit_runtime import dtypes

Grads = Sequence[Any]


def _options(op: Operation, *names: str) -> dict[str, Any]:
    return {key: op.attrs[key] for key in names if key in op.attrs}


def _pool_options(op: Operation) -> dict[str, Any]:
    return _options(op, "ksize", "strides", "padding", "data_format", "explicit_paddings")


def _zeros(x: Tensor) -> Tensor:
    return apply_op("ZerosLike", x=x)


# --- Images ---


def max_pool(
    value: Any, ksize: Any = None, strides: Any = None, padding: Any = None, data_format: str | None = "NHWC",
    name: str | None = None, input: Any = None,
) -> Tensor:  # fmt: skip
    """The largest of every window; `padding` may be pairs (before, after) for each dimension."""
    value = either("input", input, "value", value)
    layout = data_format or "NHWC"
    channel = channel_index(layout, 2)
    kind, explicit = split_padding(padding)
    if 0 in per_dimension(ksize, 2, channel, "ksize"):
        raise ValueError(f"`ksize` cannot be zero. Received: ksize={ksize}")
    with name_scope(name, "MaxPool", [value]) as scope:
        return apply_op(
            "MaxPool", input=value, ksize=per_dimension(ksize, 2, channel, "ksize"),
            strides=per_dimension(strides, 2, channel, "strides"), padding=kind, explicit_paddings=explicit,
            data_format=layout, name=scope,
        )  # fmt: skip


def avg_pool(
    value: Any, ksize: Any = None, strides: Any = None, padding: Any = None, data_format: str | None = "NHWC",
    name: str | None = None, input: Any = None,
) -> Tensor:  # fmt: skip
    """The mean of what of every window lies inside the image."""
    value = either("input", input, "value", value)
    layout = data_format or "NHWC"
    channel = channel_index(layout, 2)
    with name_scope(name, "AvgPool", [value]) as scope:
        return apply_op(
            "AvgPool", value=value, ksize=per_dimension(ksize, 2, channel, "ksize"),
            strides=per_dimension(strides, 2, channel, "strides"), padding=padding, data_format=layout, name=scope,
        )  # fmt: skip


def max_pool2d(
    input: Any, ksize: Any, strides: Any, padding: Any, data_format: str = "NHWC", name: str | None = None
) -> Tensor:
    """`max_pool` of images."""
    return max_pool(input, ksize, strides, padding, data_format, name)


def max_pool_with_argmax(
    input: Any, ksize: Any, strides: Any, padding: str, data_format: str = "NHWC",
    Targmax: Any = None,  # noqa: N803 - the public name
    name: str | None = None, output_dtype: Any = None, include_batch_in_index: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(the largest of every window, its flat index in the image, or in the batch)."""
    if data_format != "NHWC":
        raise ValueError(f"`data_format` values other than 'NHWC' are not supported. Received: {data_format}")
    found = apply_op(
        "MaxPoolWithArgmax", input=input, ksize=per_dimension(ksize, 2, 3, "ksize"),
        strides=per_dimension(strides, 2, 3, "strides"), padding=padding,
        Targmax=either("output_dtype", output_dtype, "Targmax", Targmax) or dtypes.int64,
        include_batch_in_index=include_batch_in_index, name=name,
    )  # fmt: skip
    return found[0], found[1]


@RegisterGradient("MaxPool")
def _max_pool_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("MaxPoolGrad", orig_input=op.inputs[0], orig_output=op.outputs[0], grad=grad, **_pool_options(op))


@RegisterGradient("MaxPoolGrad")
def _max_pool_grad_grad(op: Operation, grad: Tensor) -> Grads:
    x, y = op.inputs[:2]
    options = _options(op, "ksize", "strides", "padding", "data_format")
    return [_zeros(x), _zeros(y), apply_op("MaxPoolGradGrad", orig_input=x, orig_output=y, grad=grad, **options)]


@RegisterGradient("MaxPoolGradGrad")
def _max_pool_grad_grad_grad(op: Operation, grad: Tensor) -> Grads:
    x, y = op.inputs[:2]
    back = apply_op("MaxPoolGrad", orig_input=x, orig_output=y, grad=grad, **_pool_options(op))
    return [_zeros(x), _zeros(y), back]


@RegisterGradient("MaxPoolV2")
def _max_pool_v2_grad(op: Operation, grad: Tensor) -> Grads:
    x, sizes, strides = op.inputs
    options = _options(op, "padding", "data_format")
    y = op.outputs[0]
    back = apply_op("MaxPoolGradV2", orig_input=x, orig_output=y, grad=grad, ksize=sizes, strides=strides, **options)
    return [back, None, None]


@RegisterGradient("MaxPoolGradV2")
def _max_pool_grad_v2_grad(op: Operation, grad: Tensor) -> Grads:
    x, y, _, sizes, strides = op.inputs
    again = apply_op(
        "MaxPoolGradGradV2", orig_input=x, orig_output=y, grad=grad, ksize=sizes, strides=strides,
        **_options(op, "padding", "data_format"),
    )  # fmt: skip
    return [_zeros(x), _zeros(y), again, None, None]


@RegisterGradient("MaxPoolWithArgmax")
def _max_pool_argmax_grad(op: Operation, grad: Tensor, _: Any) -> Tensor:
    options = _options(op, "ksize", "strides", "padding", "include_batch_in_index")
    return apply_op("MaxPoolGradWithArgmax", input=op.inputs[0], grad=grad, argmax=op.outputs[1], **options)


@RegisterGradient("AvgPool")
def _avg_pool_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("AvgPoolGrad", orig_input_shape=static_shape(op.inputs[0]), grad=grad, **_pool_options(op))


@RegisterGradient("AvgPoolGrad")
def _avg_pool_grad_grad(op: Operation, grad: Tensor) -> Grads:
    return [None, apply_op("AvgPool", value=grad, **_pool_options(op))]


# --- Rows ---


def _pool_rows(
    pool_images: Callable[..., Tensor], kind: str, input: Any, ksize: Any, strides: Any, padding: Any, layout: str,
    name: str | None,
) -> Tensor:  # fmt: skip
    with name_scope(name, kind, [input]) as scope:
        if layout not in ("NWC", "NCW"):
            raise ValueError(f"`data_format` must be 'NWC' or 'NCW'. Received: data_format={layout}")
        channel = 1 if layout == "NCW" else 2
        axis = 2 if channel == 1 else 1
        numbers = [per_dimension(value, 1, channel, text) for value, text in ((ksize, "ksize"), (strides, "strides"))]
        sizes, steps = ([*each[:axis], 1, *each[axis:]] for each in numbers)
        if isinstance(padding, (list, tuple)):
            padding = [*padding[:axis], (0, 0), *padding[axis:]]
        images = "NCHW" if channel == 1 else "NHWC"
        result = pool_images(expand_dims(input, axis), sizes, steps, padding, images)
        return squeeze(result, [axis], name=scope)


def max_pool1d(
    input: Any, ksize: Any, strides: Any, padding: Any, data_format: str = "NWC", name: str | None = None
) -> Tensor:
    """`max_pool` of rows [batch, width, channels]."""
    return _pool_rows(max_pool, "MaxPool1d", input, ksize, strides, padding, data_format, name)


def avg_pool1d(
    input: Any, ksize: Any, strides: Any, padding: Any, data_format: str = "NWC", name: str | None = None
) -> Tensor:
    """`avg_pool` of rows [batch, width, channels]."""
    return _pool_rows(avg_pool, "AvgPool1D", input, ksize, strides, padding, data_format, name)


# --- Volumes ---


def max_pool3d(
    input: Any, ksize: Any, strides: Any, padding: str, data_format: str = "NDHWC", name: str | None = None
) -> Tensor:
    """`max_pool` of volumes [batch, depth, height, width, channels]."""
    layout = data_format or "NDHWC"
    channel = channel_index(layout, 3)
    with name_scope(name, "MaxPool3D", [input]) as scope:
        return apply_op(
            "MaxPool3D", input=input, ksize=per_dimension(ksize, 3, channel, "ksize"),
            strides=per_dimension(strides, 3, channel, "strides"), padding=padding, data_format=layout, name=scope,
        )  # fmt: skip


def avg_pool3d(
    input: Any, ksize: Any, strides: Any, padding: str, data_format: str = "NDHWC", name: str | None = None
) -> Tensor:
    """`avg_pool` of volumes [batch, depth, height, width, channels]."""
    layout = data_format or "NDHWC"
    channel = channel_index(layout, 3)
    with name_scope(name, "AvgPool3D", [input]) as scope:
        return apply_op(
            "AvgPool3D", input=input, ksize=per_dimension(ksize, 3, channel, "ksize"),
            strides=per_dimension(strides, 3, channel, "strides"), padding=padding, data_format=layout, name=scope,
        )  # fmt: skip


@RegisterGradient("MaxPool3D")
def _max_pool_3d_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("MaxPool3DGrad", orig_input=op.inputs[0], orig_output=op.outputs[0], grad=grad, **_pool_options(op))


@RegisterGradient("MaxPool3DGrad")
def _max_pool_3d_grad_grad(op: Operation, grad: Tensor) -> Grads:
    x, y = op.inputs[:2]
    again = apply_op("MaxPool3DGradGrad", orig_input=x, orig_output=y, grad=grad, **_pool_options(op))
    return [_zeros(x), _zeros(y), again]


@RegisterGradient("MaxPool3DGradGrad")
def _max_pool_3d_grad_grad_grad(op: Operation, grad: Tensor) -> Grads:
    x, y = op.inputs[:2]
    back = apply_op("MaxPool3DGrad", orig_input=x, orig_output=y, grad=grad, **_pool_options(op))
    return [_zeros(x), _zeros(y), back]


@RegisterGradient("AvgPool3D")
def _avg_pool_3d_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("AvgPool3DGrad", orig_input_shape=static_shape(op.inputs[0]), grad=grad, **_pool_options(op))


@RegisterGradient("AvgPool3DGrad")
def _avg_pool_3d_grad_grad(op: Operation, grad: Tensor) -> Grads:
    return [None, apply_op("AvgPool3D", input=grad, **_pool_options(op))]


# --- Any number of dimensions, and holes in the windows ---

_LAYOUTS = {1: ("NWC", "NCW"), 2: ("NHWC", "NCHW"), 3: ("NDHWC", "NCDHW")}
_POOLS: dict[tuple[str, int], Callable[..., Tensor]] = {
    ("MAX", 1): max_pool1d, ("MAX", 2): max_pool, ("MAX", 3): max_pool3d,
    ("AVG", 1): avg_pool1d, ("AVG", 2): avg_pool, ("AVG", 3): avg_pool3d,
}  # fmt: skip


def pool(
    input: Any, window_shape: Sequence[int], pooling_type: str, padding: str, dilation_rate: Any = None,
    strides: Any = None, name: str | None = None, data_format: str | None = None, dilations: Any = None,
) -> Tensor:  # fmt: skip
    """MAX or AVG pooling over as many dimensions as `window_shape` has, 1 to 3.

    ValueError for another type, and when both a stride and a dilation rate are more than 1.
    """
    given = either("dilations", dilations, "dilation_rate", dilation_rate)
    with name_scope(name, f"{pooling_type.lower()}_pool", [input]) as scope:
        x, space = convert_to_tensor(input, name="input"), len(window_shape)
        if space not in _LAYOUTS:
            raise ValueError(f"`len(window_shape)` must be 1, 2, or 3. Received: window_shape={window_shape}")
        x.shape.assert_has_rank(space + 2)
        layout = data_format or _LAYOUTS[space][0]
        rates = [1] * space if given is None else [int(rate) for rate in given]
        steps = [1] * space if strides is None else [int(step) for step in strides]
        for text, numbers in (("strides", steps), ("dilation_rate", rates)):
            if min(numbers) < 1:
                raise ValueError(f"all values of `{text}` must be positive. Received: {text}={numbers}")
        if any(step > size for step, size in zip(steps, window_shape, strict=False)):
            raise ValueError("`strides` > `window_shape` not supported due to inconsistency between CPU and GPU "
                             f"implementations. Received: strides={steps} and window_shape={window_shape}")  # fmt: skip
        if max(rates) > 1 and max(steps) > 1:
            raise ValueError("`strides > 1` not supported in conjunction with `dilation_rate > 1`. Received: "
                             f"strides={steps} and dilation_rate={rates}")  # fmt: skip
        if max(rates) > 1 and padding == "SAME":
            raise ValueError("pooling with 'SAME' padding is not implemented for `dilation_rate` > 1. Received: "
                             f"dilation_rate={rates}")  # fmt: skip
        if (pooling_type, space) not in _POOLS:
            raise ValueError(f"{space}-D {pooling_type} pooling is not supported.")

        def apply(value: Tensor, _: int, how: str) -> Tensor:
            return _POOLS[pooling_type, space](value, list(window_shape), steps, how, layout, name=scope)

        return with_space_to_batch(x, rates, padding, apply, list(window_shape), data_format=layout)


# --- Grey-scale dilation and erosion ---


def dilation2d(
    input: Any, filter: Any = None, strides: Any = None, rates: Any = None, padding: Any = None,
    name: str | None = None, filters: Any = None, dilations: Any = None,
) -> Tensor:  # fmt: skip
    """The largest sum of pixel and filter [height, width, channels] of every window."""
    return apply_op(
        "Dilation2D", input=input, filter=either("filters", filters, "filter", filter), strides=list(strides),
        rates=list(either("dilations", dilations, "rates", rates)), padding=padding, name=name,
    )  # fmt: skip


def erosion2d(value: Any, kernel: Any, strides: Any, rates: Any, padding: str, name: str | None = None) -> Tensor:
    """The least difference of pixel and kernel of every window."""
    with name_scope(name, "erosion2d", [value, kernel]) as scope:
        turned = apply_op("ReverseV2", tensor=kernel, axis=[0, 1])
        least = dilation2d(apply_op("Neg", x=value), turned, strides, rates, padding)
        return apply_op("Neg", x=least, name=scope)


@RegisterGradient("Dilation2D")
def _dilation_grad(op: Operation, grad: Tensor) -> Grads:
    options = _options(op, "strides", "rates", "padding")
    given: dict[str, Any] = {"input": op.inputs[0], "filter": op.inputs[1], "out_backprop": grad}
    return [apply_op(f"Dilation2DBackprop{which}", **given, **options) for which in ("Input", "Filter")]
