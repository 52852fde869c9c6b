"""What convolutions come down to: windows over images with channels last that need no padding.

strides and dilations have one number for each dimension of space.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjit_compiler.lower.conv import Window
from stepjit_compiler.lowering import Convolution, Indexed
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, show
from stepjit_compiler.ops.windows import Slide, taps

_ATTRS = "T: type in float32|float64, strides: list(int), dilations: list(int)"


def _slides(attrs: Any, space: Sequence[Any], sizes: Sequence[Any]) -> tuple[Slide, ...]:
    found = []
    for k, (extent, size) in enumerate(zip(space, sizes, strict=True)):
        stride, rate = attrs["strides"][k], attrs["dilations"][k]
        count = (extent - ((size - 1) * rate + 1)) // stride + 1
        found.append(Slide(k + 1, extent, size, stride, rate, count, 0))
    return tuple(found)


def _window(call: Any, image: Any, kernel: Any) -> Window:
    """The geometry for code, from the shapes of image and filter."""
    space, sizes = image.dims[1:-1], kernel[:-2]
    counts = tuple(each.count for each in _slides(call.attrs, space, sizes))
    return Window(
        image.dtype, image.dims[0], tuple(space), image.dims[-1], tuple(sizes), kernel[-1], counts,
        tuple(call.attrs["strides"]), tuple(call.attrs["dilations"]),
    )  # fmt: skip


# --- _Conv ---
def _conv_shape(x: Inference) -> list[ShapeLike]:
    image, kernel = x.shape(0), x.shape(1)
    assert image is not None and kernel is not None
    counts = [each.count for each in _slides(x.attrs, image[1:-1], kernel[:-2])]
    return [(image[0], *counts, kernel[-1])]


def _conv(call: Call, image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    windows = _slides(call.attrs, image.shape[1:-1], kernel.shape[:-2])
    found = np.zeros((image.shape[0], *(each.count for each in windows), kernel.shape[-1]), image.dtype)
    with np.errstate(all="ignore"):
        for place, cut in taps(windows):
            found += image[cut] @ kernel[place]
    return found


define("_Conv", "input: T, filter: T -> output: T", _ATTRS, infer=_conv_shape, reference=_conv,
       lower=Convolution(lambda call: _window(call, call.inputs[0], call.inputs[1].dims)))  # fmt: skip


# --- _ConvFilter: the gradient for filters of shape filter_shape ---
def _filter_shape(x: Inference) -> list[ShapeLike]:
    return [tuple(x.attrs["filter_shape"])]


def _conv_filter(call: Call, image: np.ndarray, grad: np.ndarray) -> np.ndarray:
    shape = call.attrs["filter_shape"]
    windows = _slides(call.attrs, image.shape[1:-1], shape[:-2])
    if grad.shape[1:-1] != tuple(each.count for each in windows):
        call.fail(f"Size of out_backprop doesn't match: {show(grad.shape)}")
    found = np.zeros(shape, image.dtype)
    with np.errstate(all="ignore"):
        for place, cut in taps(windows):
            found[place] = image[cut].reshape(-1, shape[-2]).T @ grad.reshape(-1, shape[-1])
    return found


define("_ConvFilter", "input: T, out_backprop: T -> output: T", f"{_ATTRS}, filter_shape: shape",
       infer=_filter_shape, reference=_conv_filter,
       lower=Convolution(lambda call: _window(call, call.inputs[0], call.attrs["filter_shape"]), of_filter=True),
       )  # fmt: skip


# --- _Depthwise: channel c of the image and column q of the filter make channel c * columns + q of the result ---
def _depthwise_shape(x: Inference) -> list[ShapeLike]:
    image: Any = x.shape(0)
    kernel: Any = x.shape(1)
    counts = [each.count for each in _slides(x.attrs, image[1:-1], kernel[:-2])]
    return [(image[0], *counts, kernel[-2] * kernel[-1])]


def _depthwise(call: Call, image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    windows = _slides(call.attrs, image.shape[1:-1], kernel.shape[:-2])
    found = np.zeros((image.shape[0], *(each.count for each in windows), *kernel.shape[-2:]), image.dtype)
    with np.errstate(all="ignore"):
        for place, cut in taps(windows):
            found += image[cut][..., None] * kernel[place]
    return found.reshape(*found.shape[:-2], -1)


def _emit_depthwise(k: Any, call: Any, output: int, index: Any) -> Any:
    kernel = call.inputs[1].dims
    windows = _slides(call.attrs, call.inputs[0].dims[1:-1], kernel[:-2])
    channel, column = index[-1], k.zero()
    if kernel[-1] != 1:
        both = k.same_lanes(k.value(index[-1]), k.extent(kernel[-1]))
        channel, column = k.index(k.b.div(*both)), k.index(k.b.rem(*both))
    total = None
    for place in itertools.product(*(range(each.size) for each in windows)):
        pixel = list(index[:-1])
        for at, each in zip(place, windows, strict=True):
            pixel[each.axis] = index[each.axis] * each.stride + at * each.rate
        pair = k.same_lanes(k.load(0, (*pixel, channel)), k.load(1, (*place, channel, column)))
        each_product = k.b.mul(*pair)
        total = each_product if total is None else k.b.add(*k.same_lanes(total, each_product))
    return total


define("_Depthwise", "input: T, filter: T -> output: T", _ATTRS, infer=_depthwise_shape, reference=_depthwise,
       lower=Indexed(_emit_depthwise, cost=8))  # fmt: skip
