"""Convolutions of images and volumes, and their gradients: plain (with groups) and depthwise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepjit_compiler.lowering import Composite
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, extent_text, show
from stepjit_compiler.ops.channel_mixing import mix_of, mixed, unmixed
from stepjit_compiler.ops.conv_expand import (
    conv_is_native,
    expand_conv,
    expand_filter,
    expand_input,
    filter_is_native,
    input_is_native,
)
from stepjit_compiler.ops.windows import (
    CONV3D_ATTRS,
    CONV_ATTRS,
    Slide,
    channel_axis,
    channels_back,
    channels_last,
    check_window_attrs,
    in_order,
    inside,
    padded,
    spatial_axes,
    taps,
    wide,
    windows_of,
)  # fmt: skip

# --- What the shapes of image, filter and result say of each other ---


def _result_shape(x: Any, image: Sequence[Any], kernel: Sequence[Any], depth: Any) -> tuple[Any, ...]:
    found = list(image)
    for each in windows_of(x, image, kernel):
        found[each.axis] = each.count
    found[channel_axis(x.attrs, len(image))] = depth
    return tuple(found)


def _check_depths(x: Inference, depth: Any, kernel: Sequence[Any]) -> None:
    for extent in (depth, *kernel):
        x.settle(extent)
    inner, outer = kernel[-2:]
    if inner == 0:
        x.fail("Depth of filter must not be 0: filter depth must be stricly positive, got 0")
    a, b = extent_text(depth), extent_text(inner)
    x.check(
        "divides", depth, inner,
        f"Depth of input ({a}) is not a multiple of input depth of filter ({b}): input depth must be evenly divisible "
        f"by filter depth: {a} vs {b}",
    )  # fmt: skip
    if isinstance(depth, int) and isinstance(inner, int) and isinstance(outer, int):
        groups = depth // inner
        if groups and outer % groups:
            x.fail(
                f"Depth of output ({outer}) is not a multiple of the number of groups ({groups}): output depth must be "
                f"evenly divisible by number of groups: {outer} vs {groups}"
            )


def _checked(call: Call, image: Sequence[int], kernel: Sequence[int], rank: int) -> tuple[Slide, ...]:
    """The windows, along the axes as `channels_last` puts them; fails for operands that can't be convolved."""
    if len(image) != rank:
        call.fail(f"convolution input must be {rank}-dimensional: {show(tuple(image))}")
    if len(kernel) != rank:
        call.fail(f"convolution filter must be {rank}-dimensional: {show(tuple(kernel))}")
    check_window_attrs(call, rank)
    return in_order(windows_of(call, image, kernel))


def _groups(call: Call, depth: int, kernel: Sequence[int]) -> int:
    inner, outer = kernel[-2:]
    if inner <= 0:
        call.fail(f"filter depth must be stricly positive, got {inner}")
    if depth % inner:
        call.fail(f"input depth must be evenly divisible by filter depth: {depth} vs {inner}")
    groups = max(depth // inner, 1)
    if outer % groups:
        call.fail(f"output depth must be evenly divisible by number of groups: {outer} vs {groups}")
    return groups


def check_result(
    call: Call, image: Sequence[int], kernel: Sequence[int], grad: Sequence[int], windows: Sequence[Slide], depth: int
) -> None:
    """Fail when `grad` is not the shape of the result of convolving such an image with such a filter."""
    rank = len(image)
    channel = channel_axis(call.attrs, rank)
    if len(grad) != rank:
        call.fail(f"{call.name}: out_backprop must be {rank}-dimensional")
    if image[0] != grad[0]:
        call.fail(
            f"{call.name}: input and out_backprop must have the same batch size. Input batch: {image[0]}, outbackprop "
            f"batch: {grad[0]}, batch_dim: 0"
        )
    if grad[channel] != depth:
        call.fail(f"{call.name}: filter and out_backprop must have the same out_depth")
    for each, axis in zip(windows, spatial_axes(call.attrs, rank), strict=True):
        if grad[axis] != each.count:
            call.fail(
                f"{call.name}: Size of out_backprop doesn't match computed: actual = {grad[axis]}, computed = "
                f"{each.count} spatial_dim: {axis} input: {each.extent} filter: {each.size} output: {grad[axis]} "
                f"stride: {each.stride} dilation: {each.rate}"
            )


# --- Conv2D, Conv3D ---
def _conv_shape(rank: int) -> Callable[[Inference], list[ShapeLike]]:
    def infer(x: Inference) -> list[ShapeLike]:
        check_window_attrs(x, rank)
        image, kernel = x.with_rank(0, rank), x.with_rank(1, rank)
        _check_depths(x, image[channel_axis(x.attrs, rank)], kernel)
        return [_result_shape(x, image, kernel, kernel[-1])]

    return infer


def _conv(rank: int) -> Callable[..., np.ndarray]:
    def reference(call: Call, image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        windows = _checked(call, image.shape, kernel.shape, rank)
        x = channels_last(image, call.attrs)
        groups = _groups(call, x.shape[-1], kernel.shape)
        shape = (x.shape[0], *(each.count for each in windows), kernel.shape[-1])
        if math.prod(shape) and not kernel.size:
            call.fail("filter must not have zero elements (i.e. all dimensions must be non-zero)")
        x, kernel = padded(wide(x), windows), wide(kernel)
        found = np.zeros(shape, x.dtype)
        with np.errstate(all="ignore"):
            for place, cut in taps(windows):
                found += mixed(x[cut], kernel[place], groups)
            return channels_back(found.astype(call.dtypes[0].np, copy=False), call.attrs)

    return reference


define("Conv2D", "input: T, filter: T -> output: T", f"T: type in float|int32, {CONV_ATTRS}",
       infer=_conv_shape(4), reference=_conv(4), lower=Composite(expand_conv, when=conv_is_native))  # fmt: skip
define("Conv3D", "input: T, filter: T -> output: T", f"T: type in float, {CONV3D_ATTRS}",
       infer=_conv_shape(5), reference=_conv(5), lower=Composite(expand_conv, when=conv_is_native))  # fmt: skip


# --- Conv2DBackpropInput, Conv3DBackpropInputV2 ---
def _image_shape(x: Inference, rank: int, depth: Any, batch: Any) -> tuple[Any, ...]:
    """The image's shape as input 0 spells it out: whole, or only the extents of space."""
    length = x.with_rank(0, 1)[0]
    if isinstance(length, int) and length not in (rank, rank - 2):
        x.fail(f"{x.op} requires input_sizes to contain {rank} values or {rank - 2} values, but got: {length}")
    sizes = x.extents(0)
    if sizes is None:
        return (None,) * rank
    if len(sizes) == rank:
        return tuple(sizes)
    found = [batch] * rank
    found[channel_axis(x.attrs, rank)] = depth
    for axis, extent in zip(spatial_axes(x.attrs, rank), sizes, strict=True):
        found[axis] = extent
    return tuple(found)


def _same(x: Inference, a: Any, b: Any, text: str) -> Any:
    return x.equal(a, b, f"{x.op}: {text}: Dimensions must be equal, but are {extent_text(a)} and {extent_text(b)}")


def _backprop_shapes(x: Inference, rank: int, image: Sequence[Any], kernel: Sequence[Any], grad: Sequence[Any]) -> None:
    """Check the three of a gradient against each other; while the graph is built, only the depth of plain images."""
    depth = grad[channel_axis(x.attrs, rank)]
    if x.building:
        if rank == 4:
            _same(x, depth, kernel[-1], "filter and out_backprop must have the same out_depth")
        return
    check_window_attrs(x, rank)
    _check_depths(x, image[channel_axis(x.attrs, rank)], kernel)
    _check_grad(x, image, kernel, kernel[-1], grad)


def _check_grad(x: Inference, image: Sequence[Any], kernel: Sequence[Any], depth: Any, grad: Sequence[Any]) -> None:
    """Ask for a gradient of the shape that the convolution's result has."""
    channel = channel_axis(x.attrs, len(image))
    _same(x, image[0], grad[0], "input and out_backprop must have the same batch size")
    _same(x, grad[channel], depth, "filter and out_backprop must have the same out_depth")
    for each in windows_of(x, image, kernel):
        a, b = extent_text(grad[each.axis]), extent_text(each.count)
        text = f"{x.op}: Size of out_backprop doesn't match computed: actual = {a}, computed = {b}"
        x.equal(grad[each.axis], each.count, f"{text} spatial_dim: {each.axis}")


def _conv_input_shape(rank: int) -> Callable[[Inference], list[ShapeLike]]:
    def infer(x: Inference) -> list[ShapeLike]:
        kernel, grad = x.with_rank(1, rank), x.with_rank(2, rank)
        image = _image_shape(x, rank, kernel[-2], grad[0])
        _backprop_shapes(x, rank, image, kernel, grad)
        if x.building and rank == 4:
            # The gradient's batch counts, known or not.
            if image[0] is not None and image[0] >= 0:
                _same(x, image[0], grad[0], "input and out_backprop must have the same batch size")
            return [(grad[0], *image[1:])]
        return [image]

    return infer


def _sizes(call: Call, sizes: np.ndarray, batch: int, depth: int, rank: int) -> tuple[int, ...]:
    """The image's shape, from the whole of it or from the extents of space."""
    numbers = [int(each) for each in sizes.ravel()]
    if len(numbers) == rank:
        return tuple(numbers)
    if len(numbers) != rank - 2:
        call.fail(f"{call.name} requires input_sizes to contain {rank} values or {rank - 2} values, but got: "
                  f"{len(numbers)}")  # fmt: skip
    found = [batch, *numbers, depth]
    return (batch, depth, *numbers) if channel_axis(call.attrs, rank) == 1 else tuple(found)


def _conv_input(rank: int) -> Callable[..., np.ndarray]:
    def reference(call: Call, sizes: np.ndarray, kernel: np.ndarray, grad: np.ndarray) -> np.ndarray:
        shape = _sizes(call, sizes, grad.shape[0], kernel.shape[-2], rank)
        windows = _checked(call, shape, kernel.shape, rank)
        check_result(call, shape, kernel.shape, grad.shape, windows, kernel.shape[-1])
        depth = shape[channel_axis(call.attrs, rank)]
        groups = _groups(call, depth, kernel.shape)
        g, kernel = wide(channels_last(grad, call.attrs)), wide(kernel)
        found = padded(np.zeros((shape[0], *(each.extent for each in windows), depth), g.dtype), windows)
        with np.errstate(all="ignore"):
            for place, cut in taps(windows):
                found[cut] += unmixed(g, kernel[place], groups)
            image = np.ascontiguousarray(inside(found, windows)).astype(call.dtypes[0].np, copy=False)
        return channels_back(image, call.attrs)

    return reference


define("Conv2DBackpropInput", "input_sizes: int32, filter: T, out_backprop: T -> output: T",
       f"T: type in float|int32, {CONV_ATTRS}", infer=_conv_input_shape(4), reference=_conv_input(4),
       lower=Composite(expand_input, when=input_is_native))  # fmt: skip
define("Conv3DBackpropInputV2", "input_sizes: Tshape, filter: T, out_backprop: T -> output: T",
       f"T: type in float, {CONV3D_ATTRS}, Tshape: type in index = int32",
       infer=_conv_input_shape(5), reference=_conv_input(5),
       lower=Composite(expand_input, when=input_is_native))  # fmt: skip


# --- Conv2DBackpropFilter, Conv3DBackpropFilterV2 ---
def _filter_shape(x: Inference, rank: int) -> tuple[Any, ...]:
    length = x.with_rank(1, 1)[0]
    if isinstance(length, int) and length != rank:
        x.fail(f"Shape must be rank {rank} but is rank {length} for '{x.op}'")
    return x.extents(1) or (None,) * rank


def _conv_filter_shape(rank: int) -> Callable[[Inference], list[ShapeLike]]:
    def infer(x: Inference) -> list[ShapeLike]:
        image, grad, kernel = x.with_rank(0, rank), x.with_rank(2, rank), _filter_shape(x, rank)
        _backprop_shapes(x, rank, image, kernel, grad)
        return [kernel]

    return infer


def _conv_filter(rank: int) -> Callable[..., np.ndarray]:
    def reference(call: Call, image: np.ndarray, sizes: np.ndarray, grad: np.ndarray) -> np.ndarray:
        shape = tuple(int(each) for each in sizes.ravel())
        windows = _checked(call, image.shape, shape, rank)
        check_result(call, image.shape, shape, grad.shape, windows, shape[-1])
        groups = _groups(call, image.shape[channel_axis(call.attrs, rank)], shape)
        x = padded(wide(channels_last(image, call.attrs)), windows)
        g = wide(channels_last(grad, call.attrs))
        found = np.zeros(shape, x.dtype)
        with np.errstate(all="ignore"):
            for place, cut in taps(windows):
                found[place] = mix_of(x[cut], g, groups)
            return found.astype(call.dtypes[0].np, copy=False)

    return reference


define("Conv2DBackpropFilter", "input: T, filter_sizes: int32, out_backprop: T -> output: T",
       f"T: type in float, {CONV_ATTRS}", infer=_conv_filter_shape(4), reference=_conv_filter(4),
       lower=Composite(expand_filter, when=filter_is_native))  # fmt: skip
define("Conv3DBackpropFilterV2", "input: T, filter_sizes: int32, out_backprop: T -> output: T",
       f"T: type in float, {CONV3D_ATTRS}", infer=_conv_filter_shape(5), reference=_conv_filter(5),
       lower=Composite(expand_filter, when=filter_is_native))  # fmt: skip
