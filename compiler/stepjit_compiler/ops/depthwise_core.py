"""What depthwise convolutions come down to: windows over images with channels last that need no padding.

Channel c of the image and column q of the filter make channel c * columns + q of the result.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from stepjit_compiler.lower.conv import Window
from stepjit_compiler.lowering import Convolution, Indexed
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, show
from stepjit_compiler.ops.windows import taps, unpadded

_ATTRS = "T: type in float32|float64, strides: list(int), dilations: list(int)"


# --- _Depthwise: the first window begins at `start` ---
def _depthwise(
    call: Call, image: np.ndarray, kernel: np.ndarray, shape: np.ndarray, start: np.ndarray
) -> np.ndarray:  # fmt: skip
    windows = unpadded(call.attrs, kernel.shape[:-2], [int(each) for each in shape[1:-1]])
    found = np.zeros((image.shape[0], *(each.count for each in windows), *kernel.shape[-2:]), image.dtype)
    begins = [slice(None), *(slice(int(each), None) for each in start)]
    x = image[tuple(begins)]
    with np.errstate(all="ignore"):
        for place, cut in taps(windows):
            found += x[cut][..., None] * kernel[place]
    return found.reshape(*found.shape[:-2], kernel.shape[-2] * kernel.shape[-1])


def _emit_depthwise(k: Any, call: Any, output: int, index: Any) -> Any:
    kernel, start = call.inputs[1].dims, call.known(3).ravel()
    windows = unpadded(call.attrs, kernel[:-2], call.types[0].dims[1:-1])
    channel, column = index[-1], k.zero()
    if kernel[-1] != 1:
        both = k.same_lanes(k.value(index[-1]), k.extent(kernel[-1]))
        channel, column = k.index(k.b.div(*both)), k.index(k.b.rem(*both))
    total = None
    for place in itertools.product(*(range(each.size) for each in windows)):
        pixel = list(index[:-1])
        for at, first, each in zip(place, start, windows, strict=True):
            pixel[each.axis] = index[each.axis] * each.stride + (first + at * each.rate)
        pair = k.same_lanes(k.load(0, (*pixel, channel)), k.load(1, (*place, channel, column)))
        each_product = k.b.mul(*pair)
        total = each_product if total is None else k.b.add(*k.same_lanes(total, each_product))
    return total


def _told_shape(x: Inference) -> list[ShapeLike]:
    return [x.extents(2)]


define("_Depthwise", "input: T, filter: T, shape: int32, start: int32 -> output: T", _ATTRS,
       infer=_told_shape, reference=_depthwise, lower=Indexed(_emit_depthwise, cost=8))  # fmt: skip


# --- _DepthwiseFilter: the gradient for filters of shape filter_shape ---
def _depthwise_filter(call: Call, image: np.ndarray, grad: np.ndarray) -> np.ndarray:
    shape = call.attrs["filter_shape"]
    windows = unpadded(call.attrs, shape[:-2], grad.shape[1:-1])
    if any(extent < each.reach for extent, each in zip(image.shape[1:-1], windows, strict=True)):
        call.fail(f"Size of out_backprop doesn't match: {show(grad.shape)}")
    found, apart = np.zeros(shape, image.dtype), grad.reshape(*grad.shape[:-1], *shape[-2:])
    with np.errstate(all="ignore"):
        for place, cut in taps(windows):
            found[place] = np.einsum("nhwc,nhwcq->cq", image[cut], apart)
    return found


def _window(call: Any) -> Window:
    image, grad = call.inputs
    shape = call.attrs["filter_shape"]
    return Window(
        image.dtype, image.dims[0], tuple(image.dims[1:-1]), 1, tuple(shape[:-2]), grad.dims[-1],
        tuple(grad.dims[1:-1]), tuple(call.attrs["strides"]), tuple(call.attrs["dilations"]), shape[-2],
    )  # fmt: skip


define("_DepthwiseFilter", "input: T, out_backprop: T -> output: T", f"{_ATTRS}, filter_shape: shape",
       infer=lambda x: [tuple(x.attrs["filter_shape"])], reference=_depthwise_filter,
       lower=Convolution(_window, of_filter=True))  # fmt: skip
