"""Convolutions that keep the channels apart, and their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjit_compiler.lowering import Composite
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, extent_text, show
from stepjit_compiler.ops.conv import check_result
from stepjit_compiler.ops.depthwise_expand import (
    depthwise_filter_is_native,
    depthwise_input_is_native,
    depthwise_is_native,
    expand_depthwise,
    expand_depthwise_filter,
    expand_depthwise_input,
)
from stepjit_compiler.ops.windows import (
    CONV_ATTRS,
    Slide,
    channel_axis,
    channels_back,
    channels_last,
    check_window_attrs,
    in_order,
    inside,
    padded,
    taps,
    wide,
    windows_of,
)  # fmt: skip

# Channel c of the image and column q of the filter make channel c * multiplier + q of the result.

_ATTRS = "T: type in float, " + CONV_ATTRS.replace("use_cudnn_on_gpu: bool = True, ", "")


def _result(x: Any, image: Sequence[Any], kernel: Sequence[Any]) -> list[Any]:
    found = list(image)
    for each in windows_of(x, image, kernel):
        found[each.axis] = each.count
    found[channel_axis(x.attrs, 4)] = None if None in kernel[2:] else kernel[2] * kernel[3]
    return found


def _same_depth(x: Inference, image: Sequence[Any], kernel: Sequence[Any]) -> None:
    a, b = extent_text(image[channel_axis(x.attrs, 4)]), extent_text(kernel[2])
    x.equal(image[channel_axis(x.attrs, 4)], kernel[2],
            f"input and filter must have the same depth: {a} vs {b} (Dimensions must be equal, but are {a} and {b})"
            )  # fmt: skip


def _checked(call: Call, image: Sequence[int], kernel: Sequence[int]) -> tuple[Slide, ...]:
    if len(image) != 4:
        call.fail(f"input must be 4-dimensional{show(tuple(image))}")
    if len(kernel) != 4:
        call.fail(f"filter must be 4-dimensional: {show(tuple(kernel))}")
    check_window_attrs(call, 4)
    depth = image[channel_axis(call.attrs, 4)]
    if depth != kernel[2]:
        call.fail(f"input and filter must have the same depth: {depth} vs {kernel[2]}")
    return in_order(windows_of(call, image, kernel))


def _channels_apart(grad: np.ndarray, kernel: Sequence[int]) -> np.ndarray:
    """[..., channel, column of the filter]."""
    return grad.reshape(*grad.shape[:-1], kernel[2], kernel[3])


# --- DepthwiseConv2dNative ---
def _depthwise_shape(x: Inference) -> list[ShapeLike]:
    check_window_attrs(x, 4)
    image, kernel = x.with_rank(0, 4), x.with_rank(1, 4)
    _same_depth(x, image, kernel)
    return [tuple(_result(x, image, kernel))]


def _depthwise(call: Call, image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    windows = _checked(call, image.shape, kernel.shape)
    x, kernel = padded(wide(channels_last(image, call.attrs)), windows), wide(kernel)
    found = np.zeros((x.shape[0], *(each.count for each in windows), *kernel.shape[2:]), x.dtype)
    with np.errstate(all="ignore"):
        for place, cut in taps(windows):
            found += x[cut][..., None] * kernel[place]
        flat = found.reshape(*found.shape[:-2], kernel.shape[2] * kernel.shape[3])
        return channels_back(flat.astype(call.dtypes[0].np, copy=False), call.attrs)


define("DepthwiseConv2dNative", "input: T, filter: T -> output: T", _ATTRS,
       infer=_depthwise_shape, reference=_depthwise,
       lower=Composite(expand_depthwise, when=depthwise_is_native))  # fmt: skip


# --- DepthwiseConv2dNativeBackpropInput ---
def _depthwise_input_shape(x: Inference) -> list[ShapeLike]:
    check_window_attrs(x, 4)
    x.with_rank(0, 1)
    sizes = x.extents(0)
    kernel, grad = x.with_rank(1, 4), x.with_rank(2, 4)
    if sizes is None:
        return [(None,) * 4]
    if len(sizes) != 4:
        x.fail(f"Shape must be rank 4 but is rank {len(sizes)}: input_sizes must have 4 values")
    _same_depth(x, sizes, kernel)
    _check_grad(x, sizes, kernel, grad)
    return [tuple(sizes)]


def _check_grad(x: Inference, image: Sequence[Any], kernel: Sequence[Any], grad: Sequence[Any]) -> None:
    for axis, (a, b) in enumerate(zip(grad, _result(x, image, kernel), strict=True)):
        x.equal(a, b, f"{x.op}: Size of out_backprop doesn't match computed: actual = {extent_text(a)}, computed = "
                f"{extent_text(b)} spatial_dim: {axis}")  # fmt: skip


def _depthwise_input(call: Call, sizes: np.ndarray, kernel: np.ndarray, grad: np.ndarray) -> np.ndarray:
    shape = tuple(int(each) for each in sizes.ravel())
    windows = _checked(call, shape, kernel.shape)
    check_result(call, shape, kernel.shape, grad.shape, windows, kernel.shape[2] * kernel.shape[3])
    kernel = wide(kernel)
    g = _channels_apart(wide(channels_last(grad, call.attrs)), kernel.shape)
    found = padded(np.zeros((shape[0], *(each.extent for each in windows), kernel.shape[2]), g.dtype), windows)
    with np.errstate(all="ignore"):
        for place, cut in taps(windows):
            found[cut] += (g * kernel[place]).sum(-1)
        return channels_back(np.array(inside(found, windows), call.dtypes[0].np), call.attrs)


define("DepthwiseConv2dNativeBackpropInput", "input_sizes: int32, filter: T, out_backprop: T -> output: T", _ATTRS,
       infer=_depthwise_input_shape, reference=_depthwise_input,
       lower=Composite(expand_depthwise_input, when=depthwise_input_is_native))  # fmt: skip


# --- DepthwiseConv2dNativeBackpropFilter ---
def _depthwise_filter_shape(x: Inference) -> list[ShapeLike]:
    check_window_attrs(x, 4)
    image, grad = x.with_rank(0, 4), x.with_rank(2, 4)
    x.with_rank(1, 1)
    kernel = x.extents(1)
    if kernel is None:
        return [(None,) * 4]
    if len(kernel) != 4:
        x.fail(f"Shape must be rank 4 but is rank {len(kernel)}: filter_sizes must have 4 values")
    _same_depth(x, image, kernel)
    _check_grad(x, image, kernel, grad)
    return [tuple(kernel)]


def _depthwise_filter(call: Call, image: np.ndarray, sizes: np.ndarray, grad: np.ndarray) -> np.ndarray:
    kernel = tuple(int(each) for each in sizes.ravel())
    windows = _checked(call, image.shape, kernel)
    check_result(call, image.shape, kernel, grad.shape, windows, kernel[2] * kernel[3])
    x = padded(wide(channels_last(image, call.attrs)), windows)
    g = _channels_apart(wide(channels_last(grad, call.attrs)), kernel)
    found = np.zeros(kernel, x.dtype)
    with np.errstate(all="ignore"):
        for place, cut in taps(windows):
            found[place] = (x[cut][..., None] * g).sum((0, 1, 2))
        return found.astype(call.dtypes[0].np, copy=False)


define("DepthwiseConv2dNativeBackpropFilter", "input: T, filter_sizes: int32, out_backprop: T -> output: T", _ATTRS,
       infer=_depthwise_filter_shape, reference=_depthwise_filter,
       lower=Composite(expand_depthwise_filter, when=depthwise_filter_is_native))  # fmt: skip
