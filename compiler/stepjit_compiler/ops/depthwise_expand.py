"""How depthwise convolutions and their gradients are made of `_Depthwise` and `_DepthwiseFilter`.

Where a channel has many filters, or the filter many places, they are convolutions with as many groups as channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from stepjit_compiler import dims
from stepjit_compiler.ops.conv_expand import (
    convolved,
    fits,
    for_filter,
    from_last,
    numbers,
    pad,
    padded,
    to_last,
    transposed,
)
from stepjit_compiler.ops.windows import Slide, channel_axis, in_order, windows_of
from stepjit_runtime import dtypes

MOST_PLACES = 49
"""Places of a filter up to which code is written out for each."""
WIDE = 8
"""So many filters per channel fill vectors by themselves."""


def _depthwise_fits(call: Any, image: Sequence[Any], kernel: Sequence[Any]) -> bool:
    if not fits(call, image, kernel, (dtypes.float32, dtypes.float64)):
        return False
    return bool(image[channel_axis(call.attrs, len(image))] == kernel[-2])


def depthwise_is_native(call: Any) -> bool:
    """For inputs image and filter."""
    return _depthwise_fits(call, call.inputs[0].dims, call.inputs[1].dims)


def depthwise_input_is_native(call: Any) -> bool:
    """For the gradient for the image."""
    return _depthwise_fits(call, call.types[0].dims, call.inputs[1].dims)


def depthwise_filter_is_native(call: Any) -> bool:
    """For the gradient for the filter."""
    return _depthwise_fits(call, call.inputs[0].dims, call.types[0].dims)


def _as_groups(kernel: Sequence[int]) -> bool:
    return math.prod(kernel[:-2]) > MOST_PLACES or kernel[-1] >= WIDE


def _grouped(kernel: Sequence[int]) -> tuple[int, ...]:
    """The shape of the same filter as one of groups."""
    return (*kernel[:-2], 1, kernel[-2] * kernel[-1])


def expand_depthwise(x: Any, call: Any, image: Any, kernel: Any) -> Any:
    """DepthwiseConv2dNative."""
    shape = x.type(kernel).dims
    windows = in_order(windows_of(call, x.type(image).dims, shape))
    value = to_last(x, call, image)
    if _as_groups(shape):
        return from_last(x, call, convolved(x, value, x.op("Reshape", kernel, x.dims(_grouped(shape))), windows))
    return from_last(x, call, _by_columns(x, padded(x, value, windows), kernel, windows))


def _by_columns(x: Any, image: Any, kernel: Any, windows: Sequence[Slide]) -> Any:
    """Every column of the filter by itself, so that neighbours of the image make neighbours of the result."""
    shape = x.type(kernel).dims
    space = (x.type(image).dims[0], *(each.count for each in windows))

    def one(column: Any) -> Any:
        return x.op("_Depthwise", image, column, x.dims((*space, shape[2])), x.dims((0, 0)), **numbers(windows))

    if shape[3] == 1:
        return one(kernel)
    begins = [x.const([0, 0, 0, q], dtypes.int32) for q in range(shape[3])]
    parts = [one(x.op("Slice", kernel, begin, x.dims((*shape[:3], 1)))) for begin in begins]
    return x.op("Reshape", x.op("Pack", *parts, axis=4, N=len(parts)), x.dims((*space, shape[2] * shape[3])))


def expand_depthwise_input(x: Any, call: Any, sizes: Any, kernel: Any, grad: Any) -> Any:
    """DepthwiseConv2dNativeBackpropInput: each channel of the gradient by itself, then those of one channel added."""
    shape = x.type(kernel).dims
    windows = in_order(windows_of(call, call.types[0].dims, shape))
    value = to_last(x, call, grad)
    if _as_groups(shape):
        grouped = x.op("Reshape", kernel, x.dims(_grouped(shape)))
        return from_last(x, call, transposed(x, value, grouped, windows, shape[2]))
    widths = [(each.span - 1, dims.maximum(each.before + each.extent - each.count * each.stride, 0))
              for each in windows]  # fmt: skip
    value = pad(x, _spread(x, value, windows), widths)
    around = x.op("ReverseV2", kernel, x.const([0, 1], dtypes.int32))
    single = x.op("Reshape", around, x.dims((*shape[:2], shape[2] * shape[3], 1)))
    space = (x.type(value).dims[0], *(each.extent for each in windows))
    result = x.op(
        "_Depthwise", value, single, x.dims((*space, shape[2] * shape[3])), x.dims([each.before for each in windows]),
        strides=(1, 1), dilations=tuple(each.rate for each in windows),
    )  # fmt: skip
    if shape[3] != 1:
        result = x.reduce("Sum", x.op("Reshape", result, x.dims((*space, *shape[2:]))), (4,))
    return from_last(x, call, result)


def _spread(x: Any, grad: Any, windows: Sequence[Slide]) -> Any:
    """The gradient with stride - 1 zeros after every element."""
    if all(each.stride == 1 for each in windows):
        return grad
    shape = x.type(grad).dims
    apart: list[Any] = [shape[0]]
    widths, together = [[0, 0]], [shape[0]]
    for each, extent in zip(windows, shape[1:-1], strict=True):
        apart += [extent, 1]
        widths += [[0, 0], [0, each.stride - 1]]
        together.append(extent * each.stride)
    holes = x.op("Pad", x.op("Reshape", grad, x.dims((*apart, shape[-1]))), x.const([*widths, [0, 0]], dtypes.int32))
    return x.op("Reshape", holes, x.dims((*together, shape[-1])))


def expand_depthwise_filter(x: Any, call: Any, image: Any, sizes: Any, grad: Any) -> Any:
    """DepthwiseConv2dNativeBackpropFilter."""
    shape = call.types[0].dims
    windows = in_order(windows_of(call, x.type(image).dims, shape))
    value, slope = to_last(x, call, image), to_last(x, call, grad)
    if _as_groups(shape):
        return x.op("Reshape", for_filter(x, value, slope, windows, _grouped(shape)), x.dims(shape))
    return x.op("_DepthwiseFilter", padded(x, value, windows), slope, filter_shape=tuple(shape), **numbers(windows))
