"""How convolutions and their gradients are made of `_Conv`, `_ConvTurned` and `_ConvFilter`: channels last, padding put
around.

A convolution whose windows are single pixels is a matrix product. The gradient for the image is a transposed
convolution of the gradient. Extents of batch and space may be expressions; filters and channels are numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from stepjit_compiler import dims
from stepjit_compiler.lower.conv_forward import turned_edge
from stepjit_compiler.ops.windows import Slide, channel_axis, in_order, windows_of
from stepjit_runtime import dtypes

LARGEST_FILTER = 1 << 24
"""Elements of a filter up to which generated code was tried."""

Widths = Sequence["tuple[Any, Any]"]
"""(before, after) of each dimension of space; none is negative."""


def known(shape: Sequence[Any]) -> bool:
    """Whether all extents are numbers, and none is 0."""
    return all(isinstance(extent, int) and extent > 0 for extent in shape)


def fits(call: Any, image: Sequence[Any], kernel: Sequence[Any], numbers: Sequence[Any]) -> bool:
    """Dtypes that code is made for, channels and filters of known size, nothing that is surely empty."""
    channel = channel_axis(call.attrs, len(image))
    if call.dtypes[0] not in numbers or not known(kernel) or not known((image[channel],)) or 0 in image:
        return False
    plain = all(call.attrs[name][axis] == 1 for name in ("strides", "dilations") for axis in (0, channel))
    if not plain or math.prod(kernel) > LARGEST_FILTER:
        return False
    return all(not isinstance(each.count, int) or each.count > 0 for each in windows_of(call, image, kernel))


def _conv_fits(call: Any, image: Sequence[Any], kernel: Sequence[Any]) -> bool:
    if not fits(call, image, kernel, (dtypes.float32, dtypes.float64, dtypes.int32)):
        return False
    depth, (inner, outer) = image[channel_axis(call.attrs, len(image))], kernel[-2:]
    return bool(depth % inner == 0 and outer % (depth // inner) == 0)


def conv_is_native(call: Any) -> bool:
    """For inputs image and filter."""
    return _conv_fits(call, call.inputs[0].dims, call.inputs[1].dims)


def input_is_native(call: Any) -> bool:
    """For the gradient for the image."""
    return _conv_fits(call, call.types[0].dims, call.inputs[1].dims)


def filter_is_native(call: Any) -> bool:
    """For the gradient for the filter."""
    return _conv_fits(call, call.inputs[0].dims, call.types[0].dims)


# --- Layout and padding, as ops ---


def to_last(x: Any, call: Any, value: Any) -> Any:
    """The channels moved to the end."""
    rank = len(x.type(value).dims)
    if channel_axis(call.attrs, rank) != 1 or rank == 2:
        return value
    return x.op("Transpose", value, x.const([0, *range(2, rank), 1], dtypes.int32))


def from_last(x: Any, call: Any, value: Any) -> Any:
    """The reverse of `to_last`."""
    rank = len(x.type(value).dims)
    if channel_axis(call.attrs, rank) != 1 or rank == 2:
        return value
    return x.op("Transpose", value, x.const([0, rank - 1, *range(1, rank - 1)], dtypes.int32))


def pad(x: Any, value: Any, widths: Widths) -> Any:
    """Zeros around the dimensions of space."""
    flat = [0, 0, *(each for pair in widths for each in pair), 0, 0]
    if not any(each != 0 for each in flat):
        return value
    rows = x.const([len(flat) // 2, 2], dtypes.int32)
    return x.op("Pad", value, x.op("Reshape", x.dims(flat), rows))


def padded(x: Any, image: Any, windows: Sequence[Slide]) -> Any:
    """The image with as much around it as the windows reach beyond it."""
    return pad(x, image, [(each.before, each.after) for each in windows])


def flat(x: Any, value: Any) -> Any:
    """The pixels as rows of a matrix."""
    shape = x.type(value).dims
    return x.op("Reshape", value, x.dims((dims.product(shape[:-1]), shape[-1])))


def _is_product(windows: Sequence[Slide], groups: int) -> bool:
    """Whether windows are single pixels, all of which are taken, of one group of channels."""
    return groups == 1 and all(each.size == each.stride == 1 for each in windows)


def _multiplied(x: Any, value: Any, matrix: Any, depth: int, **flags: bool) -> Any:
    shape = x.type(value).dims
    return x.op("Reshape", x.op("MatMul", flat(x, value), matrix, **flags), x.dims((*shape[:-1], depth)))


def numbers(windows: Sequence[Slide]) -> dict[str, Any]:
    """The attrs strides and dilations."""
    return {"strides": tuple(each.stride for each in windows), "dilations": tuple(each.rate for each in windows)}


# --- The three expansions ---


def expand_conv(x: Any, call: Any, image: Any, kernel: Any) -> Any:
    """Conv2D, Conv3D."""
    windows = in_order(windows_of(call, x.type(image).dims, x.type(kernel).dims))
    return from_last(x, call, convolved(x, to_last(x, call, image), kernel, windows))


def convolved(x: Any, image: Any, kernel: Any, windows: Sequence[Slide]) -> Any:
    """The image, channels last, under the filter; as many groups as the filter's channels leave."""
    shape, sizes = x.type(image).dims, x.type(kernel).dims
    groups, value = shape[-1] // sizes[-2], padded(x, image, windows)
    if _is_product(windows, groups):
        return _multiplied(x, value, x.op("Reshape", kernel, x.dims(sizes[-2:])), sizes[-1])
    result = x.dims((shape[0], *(each.count for each in windows), sizes[-1]))
    return x.op("_Conv", value, kernel, result, groups=groups, **numbers(windows))


def expand_input(x: Any, call: Any, sizes: Any, kernel: Any, grad: Any) -> Any:
    """Conv2DBackpropInput, Conv3DBackpropInputV2."""
    image = call.types[0].dims
    windows = in_order(windows_of(call, image, x.type(kernel).dims))
    depth = image[channel_axis(call.attrs, len(image))]
    return from_last(x, call, transposed(x, to_last(x, call, grad), kernel, windows, depth))


def transposed(x: Any, grad: Any, kernel: Any, windows: Sequence[Slide], depth: int) -> Any:
    """The gradient, channels last, for the image that has `depth` channels."""
    sizes, batch = x.type(kernel).dims, x.type(grad).dims[0]
    groups = depth // sizes[-2]
    if _is_product(windows, groups) and not any(each.before != 0 or each.after != 0 for each in windows):
        return _multiplied(x, grad, x.op("Reshape", kernel, x.dims(sizes[-2:])), depth, transpose_b=True)
    value = pad(x, grad, [_around(each) for each in windows])
    turned = _turned(x, kernel, groups)
    result = x.dims((batch, *(each.extent for each in windows), depth))
    before = x.dims([each.before for each in windows])
    return x.op("_ConvTurned", value, turned, result, before, groups=groups, **numbers(windows))


def _around(each: Slide) -> tuple[Any, Any]:
    """Zeros that stand for windows before the first and after the last one."""
    last = (each.before + each.extent + (each.stride - 1)) // each.stride
    return turned_edge(each.size, each.rate, each.stride), dims.maximum(last - each.count, 0)


def _turned(x: Any, kernel: Any, groups: int) -> Any:
    """The filter turned round, from the result's channels to the image's."""
    *sizes, inner, outer = x.type(kernel).dims
    space = len(sizes)
    around = x.op("ReverseV2", kernel, x.const(list(range(space)), dtypes.int32))
    if groups == 1:
        return x.op("Transpose", around, x.const([*range(space), space + 1, space], dtypes.int32))
    apart = x.op("Reshape", around, x.dims((*sizes, inner, groups, outer // groups)))
    swapped = x.op("Transpose", apart, x.const([*range(space), space + 2, space + 1, space], dtypes.int32))
    return x.op("Reshape", swapped, x.dims((*sizes, outer // groups, groups * inner)))


def expand_filter(x: Any, call: Any, image: Any, sizes: Any, grad: Any) -> Any:
    """Conv2DBackpropFilter, Conv3DBackpropFilterV2."""
    windows = in_order(windows_of(call, x.type(image).dims, call.types[0].dims))
    return for_filter(x, to_last(x, call, image), to_last(x, call, grad), windows, call.types[0].dims)


def for_filter(x: Any, image: Any, grad: Any, windows: Sequence[Slide], shape: Sequence[int]) -> Any:
    """The gradient for a filter of that shape, from image and gradient with channels last."""
    groups, value = x.type(image).dims[-1] // shape[-2], padded(x, image, windows)
    if groups == 1 and all(each.size == 1 for each in windows) and known([each.count for each in windows]):
        product = x.op("MatMul", flat(x, _taken(x, value, windows)), flat(x, grad), transpose_a=True)
        return x.op("Reshape", product, x.dims(shape))
    return x.op("_ConvFilter", value, grad, filter_shape=tuple(shape), groups=groups, **numbers(windows))


def _taken(x: Any, image: Any, windows: Sequence[Slide]) -> Any:
    """The pixels that windows of single pixels take."""
    if all(each.stride == 1 for each in windows):
        return image
    stops = [0, *((each.count - 1) * each.stride + 1 for each in windows), 0]
    steps = [1, *(each.stride for each in windows), 1]
    begin, end, strides = (x.const(each, dtypes.int32) for each in ([0] * len(stops), stops, steps))
    ends = 1 | 1 << len(stops) - 1
    return x.op("StridedSlice", image, begin, end, strides, begin_mask=ends, end_mask=ends)
