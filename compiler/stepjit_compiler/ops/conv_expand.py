"""How convolutions and their gradients are made of `_Conv` and `_ConvFilter`: channels last, padding put around.

A convolution whose windows are single pixels is a matrix product. The gradient for the image is a convolution of the
gradient, spread out by the strides, with the filter turned round.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from stepjit_compiler import dims
from stepjit_compiler.ops.windows import Slide, channel_axis, in_order, windows_of
from stepjit_runtime import dtypes

LARGEST_FILTER = 1 << 24
"""Elements of a filter up to which generated code was tried."""


def _known(shape: Sequence[Any]) -> bool:
    return all(isinstance(extent, int) and extent > 0 for extent in shape)


def _fits(call: Any, image: Sequence[Any], kernel: Sequence[Any]) -> bool:
    """Floats, sizes that are numbers but for the batch, one group, and nothing empty."""
    depth = image[channel_axis(call.attrs, len(image))]
    numbers = call.dtypes[0] in (dtypes.float32, dtypes.float64)
    if not (numbers and _known(image[1:]) and _known(kernel) and depth == kernel[-2] and image[0] != 0):
        return False
    channel = channel_axis(call.attrs, len(image))
    plain = all(call.attrs[name][axis] == 1 for name in ("strides", "dilations") for axis in (0, channel))
    counts = [each.count for each in windows_of(call, image, kernel)]
    return plain and _known(counts) and math.prod(kernel) <= LARGEST_FILTER


def conv_is_native(call: Any) -> bool:
    """For inputs image and filter."""
    return _fits(call, call.inputs[0].dims, call.inputs[1].dims)


def input_is_native(call: Any) -> bool:
    """For the gradient for the image: it also has no more padding than the filter turned round can take."""
    image, kernel = call.types[0].dims, call.inputs[1].dims
    if not _fits(call, image, kernel):
        return False
    return all(each.before <= each.span - 1 for each in windows_of(call, image, kernel))


def filter_is_native(call: Any) -> bool:
    """For the gradient for the filter."""
    return _fits(call, call.inputs[0].dims, call.types[0].dims)


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


def pad(x: Any, value: Any, widths: Sequence[tuple[int, int]]) -> Any:
    """Zeros around the dimensions of space; negative widths take elements away."""
    shape = x.type(value).dims
    cut = [(min(before, 0), min(after, 0)) for before, after in widths]
    if any(map(any, cut)):
        begin = [0, *(-before for before, _ in cut), 0]
        size = [shape[0], *(e + b + a for e, (b, a) in zip(shape[1:-1], cut, strict=True)), shape[-1]]
        value = x.op("Slice", value, x.const(begin, dtypes.int32), x.dims(size))
    wide = [(0, 0), *((max(before, 0), max(after, 0)) for before, after in widths), (0, 0)]
    return x.op("Pad", value, x.const(wide, dtypes.int32)) if any(map(any, wide)) else value


def padded(x: Any, image: Any, windows: Sequence[Slide]) -> Any:
    """The image with as much around it as the windows reach beyond it."""
    return pad(x, image, [(each.before, each.after) for each in windows])


def _core(x: Any, image: Any, kernel: Any, strides: Sequence[int], rates: Sequence[int]) -> Any:
    sizes, shape = x.type(kernel).dims, x.type(image).dims
    if all(each == 1 for each in (*sizes[:-2], *strides)):
        flat = x.op("Reshape", image, x.dims((dims.product(shape[:-1]), shape[-1])))
        matrix = x.op("Reshape", kernel, x.dims(sizes[-2:]))
        return x.op("Reshape", x.op("MatMul", flat, matrix), x.dims((*shape[:-1], sizes[-1])))
    return x.op("_Conv", image, kernel, strides=tuple(strides), dilations=tuple(rates))


def _numbers(windows: Sequence[Slide]) -> tuple[list[int], list[int]]:
    return [each.stride for each in windows], [each.rate for each in windows]


# --- The three expansions ---


def expand_conv(x: Any, call: Any, image: Any, kernel: Any) -> Any:
    """Conv2D, Conv3D."""
    windows = in_order(windows_of(call, x.type(image).dims, x.type(kernel).dims))
    value = padded(x, to_last(x, call, image), windows)
    return from_last(x, call, _core(x, value, kernel, *_numbers(windows)))


def expand_input(x: Any, call: Any, sizes: Any, kernel: Any, grad: Any) -> Any:
    """Conv2DBackpropInput, Conv3DBackpropInputV2."""
    windows = in_order(windows_of(call, call.types[0].dims, x.type(kernel).dims))
    value = turned_padding(x, spread(x, to_last(x, call, grad), windows), windows)
    rank = len(windows) + 2
    around = x.op("ReverseV2", kernel, x.const(list(range(rank - 2)), dtypes.int32))
    turned = x.op("Transpose", around, x.const([*range(rank - 2), rank - 1, rank - 2], dtypes.int32))
    result = _core(x, value, turned, [1] * len(windows), [each.rate for each in windows])
    return from_last(x, call, result)


def turned_padding(x: Any, value: Any, windows: Sequence[Slide]) -> Any:
    """The spread gradient with what the filter, turned round, needs around it to make every pixel of the image."""
    widths = []
    for each, extent in zip(windows, x.type(value).dims[1:-1], strict=True):
        before = each.span - 1 - each.before
        widths.append((before, each.extent + each.span - 1 - before - extent))
    return pad(x, value, widths)


def spread(x: Any, grad: Any, windows: Sequence[Slide]) -> Any:
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


def expand_filter(x: Any, call: Any, image: Any, sizes: Any, grad: Any) -> Any:
    """Conv2DBackpropFilter, Conv3DBackpropFilterV2."""
    shape = call.types[0].dims
    windows = in_order(windows_of(call, x.type(image).dims, shape))
    value, slope = padded(x, to_last(x, call, image), windows), to_last(x, call, grad)
    strides, rates = _numbers(windows)
    if all(each == 1 for each in (*shape[:-2], *strides)):
        rows, columns = (
            x.op("Reshape", each, x.dims((dims.product(x.type(each).dims[:-1]), x.type(each).dims[-1])))
            for each in (value, slope)
        )
        return x.op("Reshape", x.op("MatMul", rows, columns, transpose_a=True), x.dims(shape))
    return x.op("_ConvFilter", value, slope, strides=tuple(strides), dilations=tuple(rates), filter_shape=shape)


# --- Depthwise: every channel by itself ---

MOST_PLACES = 49
"""Places of a depthwise filter up to which code is written out for each."""


def _depthwise_fits(call: Any, image: Sequence[Any], kernel: Sequence[Any]) -> bool:
    if len(kernel) != 4 or not _known(kernel) or math.prod(kernel[:2]) > MOST_PLACES:
        return False
    # Its result has other channels, but is otherwise a convolution's.
    return _fits(call, image, kernel)


def depthwise_is_native(call: Any) -> bool:
    """For inputs image and filter."""
    return _depthwise_fits(call, call.inputs[0].dims, call.inputs[1].dims)


def depthwise_input_is_native(call: Any) -> bool:
    """For the gradient for the image."""
    kernel = call.inputs[1].dims
    image = call.types[0].dims
    return _depthwise_fits(call, image, kernel) and all(
        each.before <= each.span - 1 for each in windows_of(call, image, kernel)
    )


def depthwise_filter_is_native(call: Any) -> bool:
    """For the gradient for the filter."""
    return _depthwise_fits(call, call.inputs[0].dims, call.types[0].dims)


def expand_depthwise(x: Any, call: Any, image: Any, kernel: Any) -> Any:
    """DepthwiseConv2dNative."""
    windows = in_order(windows_of(call, x.type(image).dims, x.type(kernel).dims))
    strides, rates = _numbers(windows)
    value = padded(x, to_last(x, call, image), windows)
    return from_last(x, call, x.op("_Depthwise", value, kernel, strides=tuple(strides), dilations=tuple(rates)))


def expand_depthwise_input(x: Any, call: Any, sizes: Any, kernel: Any, grad: Any) -> Any:
    """DepthwiseConv2dNativeBackpropInput: each channel of the gradient by itself, then those of one channel added."""
    shape = x.type(kernel).dims
    windows = in_order(windows_of(call, call.types[0].dims, shape))
    value = turned_padding(x, spread(x, to_last(x, call, grad), windows), windows)
    around = x.op("ReverseV2", kernel, x.const([0, 1], dtypes.int32))
    single = x.op("Reshape", around, x.dims((*shape[:2], shape[2] * shape[3], 1)))
    result = x.op("_Depthwise", value, single, strides=(1, 1), dilations=tuple(each.rate for each in windows))
    if shape[3] != 1:
        apart = x.op("Reshape", result, x.dims((*x.type(result).dims[:3], *shape[2:])))
        result = x.reduce("Sum", apart, (4,))
    return from_last(x, call, result)


def expand_depthwise_filter(x: Any, call: Any, image: Any, sizes: Any, grad: Any) -> Any:
    """DepthwiseConv2dNativeBackpropFilter: for each place a sum of products."""
    shape = call.types[0].dims
    windows = in_order(windows_of(call, x.type(image).dims, shape))
    value, slope = padded(x, to_last(x, call, image), windows), to_last(x, call, grad)
    batch = x.type(value).dims[0]
    counts = [each.count for each in windows]
    slope = x.op("Reshape", slope, x.dims((batch, *counts, *shape[2:])))
    sums = []
    for place in itertools.product(range(shape[0]), range(shape[1])):
        first = [at * each.rate for at, each in zip(place, windows, strict=True)]
        last = [a + (each.count - 1) * each.stride + 1 for a, each in zip(first, windows, strict=True)]
        cut = x.op(
            "StridedSlice", value, x.const([0, *first, 0], dtypes.int32), x.const([0, *last, 0], dtypes.int32),
            x.const([1, *(each.stride for each in windows), 1], dtypes.int32), begin_mask=9, end_mask=9,
        )  # fmt: skip
        column = x.op("Reshape", cut, x.dims((batch, *counts, shape[2], 1)))
        sums.append(x.reduce("Sum", x.op("Mul", slope, column), (0, 1, 2)))
    return x.op("Reshape", x.op("Pack", *sums, axis=0, N=len(sums)), x.dims(shape))
