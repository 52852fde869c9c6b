"""What convolutions come down to: windows over images with channels last that need no padding.

strides and dilations have one number for each dimension of space. Where a result's shape is an input, it is known to
the compiler: extents of space may be expressions that only the op at hand can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjit_compiler.lower.conv import Window
from stepjit_compiler.lower.conv_forward import turned_edge
from stepjit_compiler.lowering import Convolution
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, show
from stepjit_compiler.ops.channel_mixing import mix_of, mixed
from stepjit_compiler.ops.windows import taps, unpadded

_ATTRS = "T: type in float32|float64|int32, strides: list(int), dilations: list(int), groups: int = 1"


def _window(call: Any, kernel: Sequence[int], counts: Sequence[Any], **more: Any) -> Window:
    """The geometry for code, from the image's type and the filter's shape."""
    image, groups = call.inputs[0], call.attrs["groups"]
    return Window(
        image.dtype, image.dims[0], tuple(image.dims[1:-1]), image.dims[-1] // groups, tuple(kernel[:-2]), kernel[-1],
        tuple(counts), tuple(call.attrs["strides"]), tuple(call.attrs["dilations"]), groups, **more,
    )  # fmt: skip


def _told_shape(x: Inference) -> list[ShapeLike]:
    return [x.extents(2)]


# --- _Conv ---
def _conv(call: Call, image: np.ndarray, kernel: np.ndarray, shape: np.ndarray) -> np.ndarray:
    found = np.zeros(shape, image.dtype)
    with np.errstate(all="ignore"):
        for place, cut in taps(unpadded(call.attrs, kernel.shape[:-2], found.shape[1:-1])):
            found += mixed(image[cut], kernel[place], call.attrs["groups"])
    return found


define("_Conv", "input: T, filter: T, shape: int32 -> output: T", _ATTRS, infer=_told_shape, reference=_conv,
       lower=Convolution(lambda call: _window(call, call.inputs[1].dims, call.types[0].dims[1:-1])))  # fmt: skip


# --- _ConvTurned: what every element of the image gives to the windows of a larger result ---
# Window w of the result begins at w * stride - before; the image has `turned_edge` zeros in front of each axis, and the
# filter is turned round.
def _conv_turned(
    call: Call, image: np.ndarray, kernel: np.ndarray, shape: np.ndarray, before: np.ndarray
) -> np.ndarray:  # fmt: skip
    windows = unpadded(call.attrs, kernel.shape[:-2], image.shape[1:-1])
    whole = np.zeros((image.shape[0], *(each.reach + each.stride for each in windows), kernel.shape[-1]), image.dtype)
    with np.errstate(all="ignore"):
        for place, cut in taps(windows):
            turned = tuple(each.size - 1 - at for each, at in zip(windows, place, strict=True))
            whole[cut] += mixed(image, kernel[turned], call.attrs["groups"])
    starts = [int(b) + turned_edge(each.size, each.rate, each.stride) * each.stride
              for b, each in zip(before, windows, strict=True)]  # fmt: skip
    inside = [slice(None)]
    inside += [slice(start, start + int(extent)) for start, extent in zip(starts, shape[1:-1], strict=True)]
    return np.ascontiguousarray(whole[tuple(inside)])


def _turned_window(call: Any) -> Window:
    before = tuple(call.known(3).ravel())
    return _window(call, call.inputs[1].dims, call.types[0].dims[1:-1], turned=True, before=before)


define("_ConvTurned", "input: T, filter: T, shape: int32, before: int32 -> output: T", _ATTRS,
       infer=_told_shape, reference=_conv_turned, lower=Convolution(_turned_window))  # fmt: skip


# --- _ConvFilter: the gradient for filters of shape filter_shape ---
def _filter_shape(x: Inference) -> list[ShapeLike]:
    return [tuple(x.attrs["filter_shape"])]


def _conv_filter(call: Call, image: np.ndarray, grad: np.ndarray) -> np.ndarray:
    shape = call.attrs["filter_shape"]
    windows = unpadded(call.attrs, shape[:-2], grad.shape[1:-1])
    if any(extent < each.reach for extent, each in zip(image.shape[1:-1], windows, strict=True)):
        call.fail(f"Size of out_backprop doesn't match: {show(grad.shape)}")
    found = np.zeros(shape, image.dtype)
    with np.errstate(all="ignore"):
        for place, cut in taps(windows):
            found[place] = mix_of(image[cut], grad, call.attrs["groups"])
    return found


define("_ConvFilter", "input: T, out_backprop: T -> output: T", f"{_ATTRS}, filter_shape: shape",
       infer=_filter_shape, reference=_conv_filter,
       lower=Convolution(lambda call: _window(call, call.attrs["filter_shape"], call.inputs[1].dims[1:-1]),
                         of_filter=True))  # fmt: skip
