"""The largest and the mean of windows over images and volumes, and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, show
from stepjit_compiler.ops.windows import (
    Slide,
    channel_axis,
    check_explicit,
    inside,
    padded,
    slides,
    spatial_axes,
    taps,
    wide,
)  # fmt: skip
from stepjit_runtime.errors import UNIMPLEMENTED

_SIZES = "ksize: list(int), strides: list(int), "
_2D = "data_format: string in NHWC|NCHW = NHWC"
_3D = "data_format: string in NDHWC|NCDHW = NDHWC"
_PADDING = "padding: string in SAME|VALID"
_EXPLICIT = "padding: string in SAME|VALID|EXPLICIT, explicit_paddings: list(int) = []"


# --- Window sizes and strides, from attrs or from inputs ---


def window_numbers(x: Any, rank: int, given: Sequence[Any] | None = None) -> tuple[Sequence[int], Sequence[int]] | None:
    """(sizes, strides) by axis, from the attrs or from `given` vectors; None when these are unknown."""
    if given is not None and any(each is None for each in given):
        return None
    sizes, strides = given if given is not None else (x.attrs["ksize"], x.attrs["strides"])
    name = x.op if isinstance(x, Inference) else x.name
    for text, numbers in (("ksize", sizes), ("stride", strides)):
        if len(numbers) != rank:
            x.fail(f"{name} requires the {text} attribute to contain {rank} values, but got: {len(numbers)}")
    shown = ",".join(map(str, sizes))
    if min(sizes) <= 0:
        x.fail(f"Sliding window ksize must be positive. The specified or inferred ksize is: {shown}")
    if min(strides) <= 0:
        x.fail(f"Stride must be > 0, but got {min(strides)}")
    check_explicit(x, rank)
    return sizes, strides


def pool_windows(x: Any, shape: Sequence[Any], sizes: Sequence[int], strides: Sequence[int]) -> tuple[Slide, ...]:
    """The windows along the axes that any window or stride is not 1 along."""
    wanted = {axis: sizes[axis] for axis in range(len(shape)) if sizes[axis] != 1 or strides[axis] != 1}
    found = slides(x, shape, wanted, strides)
    for each in found:
        if x.attrs["padding"] == b"EXPLICIT":
            before, after = x.attrs["explicit_paddings"][2 * each.axis : 2 * each.axis + 2]
            if max(before, after) >= each.size:
                x.fail(f"Top padding {max(before, after)} needs to be smaller than the window size {each.size}")
    return found


def _check_axes(call: Call, sizes: Sequence[int], strides: Sequence[int], shape: Sequence[int], across: bool) -> None:
    """Fail for windows over the batch, and over the channels unless `across` them alone."""
    channel = channel_axis(call.attrs, len(sizes))
    if sizes[0] != 1 or strides[0] != 1:
        call.fail("Pooling is not yet supported on the batch dimension.", UNIMPLEMENTED)
    if sizes[channel] == 1 and strides[channel] == 1:
        return
    if not across:
        call.fail(f"{call.name} is not yet supported on the depth dimension.", UNIMPLEMENTED)
    if any(sizes[axis] != 1 for axis in spatial_axes(call.attrs, len(sizes))):
        call.fail("MaxPooling supports exactly one of pooling across depth or pooling across width/height.",
                  UNIMPLEMENTED)  # fmt: skip
    if shape[channel] % sizes[channel]:
        call.fail("Depthwise max pooling requires the depth window to evenly divide the input depth", UNIMPLEMENTED)
    if sizes[channel] != strides[channel]:
        call.fail("Depthwise max pooling requires the depth window to equal the depth stride", UNIMPLEMENTED)


def _windows(
    call: Call, shape: Sequence[int], rank: int, given: Sequence[Any] | None = None, across: bool = False
) -> tuple[Slide, ...]:
    if len(shape) != rank:
        call.fail(f"tensor_in must be {rank}-dimensional: {show(tuple(shape))}")
    found = window_numbers(call, rank, given)
    assert found is not None
    _check_axes(call, *found, shape, across)
    return pool_windows(call, shape, *found)


def _result_shape(shape: Sequence[Any], windows: Sequence[Slide]) -> tuple[Any, ...]:
    counts = {each.axis: each.count for each in windows}
    return tuple(counts.get(axis, extent) for axis, extent in enumerate(shape))


def _given(x: Inference, first: int) -> list[Any]:
    """Sizes and strides that are inputs, as far as they are known as numbers."""
    found: list[Any] = []
    for i in (first, first + 1):
        extents = x.extents(i)
        known = extents is not None and all(isinstance(extent, int) for extent in extents)
        found.append(extents if known else None)
    return found


def _pool_shape(rank: int, by_inputs: bool = False, outputs: int = 1) -> Callable[[Inference], list[ShapeLike]]:
    def infer(x: Inference) -> list[ShapeLike]:
        shape = x.with_rank(0, rank)
        found = window_numbers(x, rank, _given(x, 1) if by_inputs else None)
        if found is None:
            return [(shape[0], None, None, shape[-1] if channel_axis(x.attrs, rank) == rank - 1 else None)]
        return [_result_shape(shape, pool_windows(x, shape, *found))] * outputs

    return infer


# --- MaxPool, MaxPoolV2, MaxPool3D: NaN counts for nothing, and nothing is less than the lowest finite number ---
def _max_pool(rank: int) -> Callable[..., np.ndarray]:
    def reference(call: Call, x: np.ndarray, *given: np.ndarray) -> np.ndarray:
        windows = _windows(call, x.shape, rank, [each.tolist() for each in given] or None, across=rank == 4)
        least = np.iinfo(x.dtype).min if x.dtype.kind in "iu" else call.dtypes[0].min
        source = padded(x, windows, least)
        found = np.full(_result_shape(x.shape, windows), least, x.dtype)
        with np.errstate(all="ignore"):
            for _, cut in taps(windows):
                here = source[cut]
                found = np.where(here > found, here, found)
        return found

    return reference


define("MaxPool", "input: T -> output: T", f"T: type in real = float32, {_SIZES}{_EXPLICIT}, "
       "data_format: string in NHWC|NCHW|NCHW_VECT_C = NHWC", infer=_pool_shape(4), reference=_max_pool(4))  # fmt: skip
define("MaxPoolV2", "input: T, ksize: int32, strides: int32 -> output: T",
       f"T: type in real = float32, {_PADDING}, data_format: string in NHWC|NCHW|NCHW_VECT_C = NHWC",
       infer=_pool_shape(4, by_inputs=True), reference=_max_pool(4))  # fmt: skip
define("MaxPool3D", "input: T -> output: T", f"{_SIZES}{_PADDING}, {_3D}, T: type in float",
       infer=_pool_shape(5), reference=_max_pool(5))  # fmt: skip


# --- Which element of a window is the largest: the first among equals; a NaN that comes first stays ---
def _winners(x: np.ndarray, windows: Sequence[Slide]) -> tuple[np.ndarray, np.ndarray]:
    """(largest, number of its place in the window) of every window."""
    shape = _result_shape(x.shape, windows)
    source, real = padded(x, windows), padded(np.ones(x.shape, bool), windows)
    best, won = np.zeros(shape, x.dtype), np.full(shape, -1)
    with np.errstate(all="ignore"):
        for number, (_, cut) in enumerate(taps(windows)):
            here = source[cut]
            better = real[cut] & ((won < 0) | (here > best))
            best, won = np.where(better, here, best), np.where(better, number, won)
    return best, won


def _check_grads(call: Call, x: np.ndarray, output: np.ndarray, grad: np.ndarray, shapes: Sequence[Any]) -> None:
    for text, have, want in zip(("orig_output", "grad"), (output.shape, grad.shape), shapes, strict=True):
        if have != want:
            call.fail(f"Expected {text} shape to be {show(want)}, but got {show(have)}")


# --- MaxPoolGrad, MaxPoolGradV2 ---
def _grad_shape(rank: int) -> Callable[[Inference], list[ShapeLike]]:
    return lambda x: [x.with_rank(0, rank)]


def _max_pool_grad(call: Call, x: np.ndarray, output: np.ndarray, grad: np.ndarray, *given: np.ndarray) -> np.ndarray:
    windows = _windows(call, x.shape, 4, [each.tolist() for each in given] or None)
    _check_grads(call, x, output, grad, [_result_shape(x.shape, windows)] * 2)
    return _spread(x, windows, _winners(x, windows)[1], grad)


def _spread(x: np.ndarray, windows: Sequence[Slide], won: np.ndarray, grad: np.ndarray) -> np.ndarray:
    """Every window's gradient at its largest element."""
    found = padded(np.zeros(x.shape, wide(grad).dtype), windows)
    for number, (_, cut) in enumerate(taps(windows)):
        found[cut] += np.where(won == number, grad, np.zeros((), grad.dtype))
    return np.array(inside(found, windows), grad.dtype)


define("MaxPoolGrad", "orig_input: T, orig_output: T, grad: T -> output: T",
       f"{_SIZES}{_EXPLICIT}, {_2D}, T: type in real = float32",
       infer=_grad_shape(4), reference=_max_pool_grad)  # fmt: skip
define("MaxPoolGradV2", "orig_input: T, orig_output: T, grad: T, ksize: int32, strides: int32 -> output: T",
       f"{_PADDING}, {_2D}, T: type in real = float32",
       infer=_grad_shape(4), reference=_max_pool_grad)  # fmt: skip


# --- MaxPool3DGrad: every element that equals the largest has the gradient ---
def _max_pool_3d_grad(call: Call, x: np.ndarray, output: np.ndarray, grad: np.ndarray) -> np.ndarray:
    windows = _windows(call, x.shape, 5)
    _check_grads(call, x, output, grad, [_result_shape(x.shape, windows)] * 2)
    source = padded(x, windows, call.dtypes[0].min)
    found = padded(np.zeros(x.shape, wide(grad).dtype), windows)
    for _, cut in taps(windows):
        found[cut] += np.where(source[cut] == output, grad, np.zeros((), grad.dtype))
    return np.array(inside(found, windows), grad.dtype)


define("MaxPool3DGrad", "orig_input: TInput, orig_output: TInput, grad: T -> output: T",
       f"{_SIZES}{_PADDING}, {_3D}, T: type in float = float32, TInput: type in float = float32",
       infer=_grad_shape(5), reference=_max_pool_3d_grad)  # fmt: skip


# --- MaxPoolGradGrad, MaxPoolGradGradV2, MaxPool3DGradGrad: of each window the gradient at its largest element ---
def _output_shape(rank: int) -> Callable[[Inference], list[ShapeLike]]:
    return lambda x: [x.with_rank(1, rank)]


def _max_pool_grad_grad(rank: int) -> Callable[..., np.ndarray]:
    def reference(
        call: Call, x: np.ndarray, output: np.ndarray, grad: np.ndarray, *given: np.ndarray
    ) -> np.ndarray:  # fmt: skip
        windows = _windows(call, x.shape, rank, [each.tolist() for each in given] or None)
        _check_grads(call, x, output, grad, [_result_shape(x.shape, windows), x.shape])
        return _picked(windows, _winners(x, windows)[1], grad)

    return reference


def _picked(windows: Sequence[Slide], won: np.ndarray, grad: np.ndarray) -> np.ndarray:
    source, found = padded(grad, windows), np.zeros(won.shape, grad.dtype)
    for number, (_, cut) in enumerate(taps(windows)):
        found = np.where(won == number, source[cut], found)
    return found


define("MaxPoolGradGrad", "orig_input: T, orig_output: T, grad: T -> output: T",
       f"{_SIZES}{_PADDING}, {_2D}, T: type in real",
       infer=_output_shape(4), reference=_max_pool_grad_grad(4))  # fmt: skip
define("MaxPoolGradGradV2", "orig_input: T, orig_output: T, grad: T, ksize: int32, strides: int32 -> output: T",
       f"{_PADDING}, {_2D}, T: type in real",
       infer=_output_shape(4), reference=_max_pool_grad_grad(4))  # fmt: skip
define("MaxPool3DGradGrad", "orig_input: T, orig_output: T, grad: T -> output: T",
       f"{_SIZES}{_PADDING}, {_3D}, T: type in real",
       infer=_output_shape(5), reference=_max_pool_grad_grad(5))  # fmt: skip


# --- MaxPoolWithArgmax and its gradients: argmax counts elements within the image, or within the batch ---
_ARGMAX = f"{_SIZES}Targmax: type in index = int64, {_PADDING}, include_batch_in_index: bool = False, T: type in real"


def _places(call: Call, x: np.ndarray, windows: Sequence[Slide], won: np.ndarray) -> np.ndarray:
    """The flat index of the winner of every window."""
    at = list(np.indices(won.shape))
    numbers: Mapping[int, np.ndarray] = dict(
        zip((each.axis for each in windows), np.unravel_index(np.maximum(won, 0), [each.size for each in windows]))
    ) if windows else {}  # fmt: skip
    for each in windows:
        at[each.axis] = at[each.axis] * each.stride - each.before + numbers[each.axis] * each.rate
    if not call.attrs["include_batch_in_index"]:
        at[0] = np.zeros_like(at[0])
    return np.ravel_multi_index(tuple(at), x.shape) if won.size else np.zeros(won.shape, np.int64)


def _max_pool_with_argmax(call: Call, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    windows = _windows(call, x.shape, 4)
    best, won = _winners(x, windows)
    return best, _places(call, x, windows, won).astype(call.dtypes[1].np)


define("MaxPoolWithArgmax", "input: T -> output: T, argmax: Targmax", _ARGMAX,
       infer=_pool_shape(4, outputs=2), reference=_max_pool_with_argmax)  # fmt: skip


def _flat_places(call: Call, x: np.ndarray, argmax: np.ndarray) -> np.ndarray:
    """Indices into all of x, of which those out of range fail."""
    per_image = max(int(np.prod(x.shape[1:])), 1)
    found = argmax.astype(np.int64)
    if not call.attrs["include_batch_in_index"]:
        found = found + np.arange(argmax.shape[0]).reshape(-1, *[1] * (argmax.ndim - 1)) * per_image
    bad = (found < 0) | (found >= x.size)
    if bad.any():
        call.fail(f"Invalid input grad_argmax: index {int(argmax[bad][0])} is out of range of the input")
    return found


def _max_pool_grad_with_argmax(call: Call, x: np.ndarray, grad: np.ndarray, argmax: np.ndarray) -> np.ndarray:
    want = _result_shape(x.shape, _windows(call, x.shape, 4))
    for text, have in (("grad", grad.shape), ("argmax", argmax.shape)):
        if have != want:
            call.fail(f"Expected {text} shape to be {show(want)}, but got {show(have)}")
    found = np.zeros(x.size, grad.dtype)
    np.add.at(found, _flat_places(call, x, argmax).ravel(), grad.ravel())
    return found.reshape(x.shape)


define("MaxPoolGradWithArgmax", "input: T, grad: T, argmax: Targmax -> output: T",
       _ARGMAX.replace("Targmax: type in index = int64, ", "").replace("T: type", "Targmax: type in index, T: type"),
       infer=_grad_shape(4), reference=_max_pool_grad_with_argmax)  # fmt: skip


def _max_pool_grad_grad_with_argmax(call: Call, x: np.ndarray, grad: np.ndarray, argmax: np.ndarray) -> np.ndarray:
    want = _result_shape(x.shape, _windows(call, x.shape, 4))
    for text, have, shape in (("grad", grad.shape, x.shape), ("argmax", argmax.shape, want)):
        if have != shape:
            call.fail(f"Expected {text} shape to be {show(shape)}, but got {show(have)}")
    return grad.ravel()[_flat_places(call, x, argmax)]


define("MaxPoolGradGradWithArgmax", "input: T, grad: T, argmax: Targmax -> output: T",
       _ARGMAX.replace("Targmax: type in index = int64, ", "").replace("T: type", "Targmax: type in index, T: type"),
       infer=lambda x: [x.with_rank(2, 4)], reference=_max_pool_grad_grad_with_argmax)  # fmt: skip


# --- AvgPool, AvgPool3D: the mean of what of a window lies inside the image ---
def _present(shape: Sequence[int], windows: Sequence[Slide], dtype: Any) -> np.ndarray:
    """How many elements of each window are no padding, to be broadcast against the result."""
    small = [extent if axis in {each.axis for each in windows} else 1 for axis, extent in enumerate(shape)]
    ones = padded(np.ones(small, dtype), windows)
    found = np.zeros(_result_shape(small, windows), dtype)
    for _, cut in taps(windows):
        found += ones[cut]
    return found


def _avg_pool(rank: int) -> Callable[..., np.ndarray]:
    def reference(call: Call, x: np.ndarray) -> np.ndarray:
        windows = _windows(call, x.shape, rank)
        source = padded(wide(x), windows)
        found = np.zeros(_result_shape(x.shape, windows), source.dtype)
        with np.errstate(all="ignore"):
            for _, cut in taps(windows):
                found += source[cut]
            return (found / _present(x.shape, windows, found.dtype)).astype(x.dtype, copy=False)

    return reference


define("AvgPool", "value: T -> output: T", f"{_SIZES}{_PADDING}, {_2D}, T: type in float",
       infer=_pool_shape(4), reference=_avg_pool(4))  # fmt: skip
define("AvgPool3D", "input: T -> output: T", f"{_SIZES}{_PADDING}, {_3D}, T: type in float",
       infer=_pool_shape(5), reference=_avg_pool(5))  # fmt: skip


# --- AvgPoolGrad, AvgPool3DGrad ---
def _avg_grad_shape(rank: int) -> Callable[[Inference], list[ShapeLike]]:
    def infer(x: Inference) -> list[ShapeLike]:
        x.with_rank(0, 1)
        sizes = x.extents(0)
        if sizes is not None and len(sizes) != rank:
            x.fail(f"Shape must be rank {rank} but is rank {len(sizes)} for '{x.op}'")
        return [tuple(sizes) if sizes is not None else (None,) * rank]

    return infer


def _avg_pool_grad(rank: int) -> Callable[..., np.ndarray]:
    def reference(call: Call, sizes: np.ndarray, grad: np.ndarray) -> np.ndarray:
        shape = tuple(int(each) for each in sizes.ravel())
        windows = _windows(call, shape, rank)
        want = _result_shape(shape, windows)
        if grad.shape != want:
            call.fail(f"Expected grad shape to be {show(want)}, but got {show(grad.shape)}")
        g = wide(grad)
        found = padded(np.zeros(shape, g.dtype), windows)
        with np.errstate(all="ignore"):
            g = g / _present(shape, windows, g.dtype)
            for _, cut in taps(windows):
                found[cut] += g
        return np.array(inside(found, windows), grad.dtype)

    return reference


define("AvgPoolGrad", "orig_input_shape: int32, grad: T -> output: T", f"{_SIZES}{_PADDING}, {_2D}, T: type in float",
       infer=_avg_grad_shape(4), reference=_avg_pool_grad(4))  # fmt: skip
define("AvgPool3DGrad", "orig_input_shape: int32, grad: T -> output: T",
       f"{_SIZES}{_PADDING}, {_3D}, T: type in float",
       infer=_avg_grad_shape(5), reference=_avg_pool_grad(5))  # fmt: skip
