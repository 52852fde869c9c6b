"""The largest of windows over images and volumes, and its gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from stepjit_compiler.lowering import Composite, Indexed
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, show
from stepjit_compiler.ops.pool_emit import (
    emit_max,
    emit_pick,
    emit_spread,
    emit_ties,
    emit_winner,
    fits,
    winner,
)
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
from stepjit_runtime import dtypes
from stepjit_runtime.errors import UNIMPLEMENTED

SIZES = "ksize: list(int), strides: list(int), "
IMAGES = "data_format: string in NHWC|NCHW = NHWC"
VOLUMES = "data_format: string in NDHWC|NCDHW = NDHWC"
PADDING = "padding: string in SAME|VALID"
EXPLICIT = "padding: string in SAME|VALID|EXPLICIT, explicit_paddings: list(int) = []"


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
    if min(sizes) <= 0:
        if isinstance(x, Inference) and x.building and name != "MaxPoolWithArgmax":
            sizes = [size if size > 0 else None for size in sizes]
        else:
            x.fail(_bad_sizes(name, sizes))
    if min(strides) <= 0:
        x.fail(f"Stride must be > 0, but got {min(strides)}")
    check_explicit(x, rank)
    return sizes, strides


def _bad_sizes(name: str, sizes: Sequence[int]) -> str:
    if (name.startswith("AvgPool") and len(sizes) == 4) or name == "MaxPoolWithArgmax":
        return f"ksize must be a positive int32 value, got:{min(sizes)}"
    if len(sizes) == 5:
        return f"Sliding window ksize field must have non-negative dimensions, got: {min(sizes)}"
    return f"Sliding window ksize must be positive. The specified or inferred ksize is: {','.join(map(str, sizes))}"


def pool_windows(x: Any, shape: Sequence[Any], sizes: Sequence[int], strides: Sequence[int]) -> tuple[Slide, ...]:
    """The windows along the axes that any window or stride is not 1 along."""
    axes: Sequence[int] = range(len(shape))
    if isinstance(x, Inference) and x.building and (len(shape) == 5 or x.op == "AvgPool"):
        axes = spatial_axes(x.attrs, len(shape))  # others are refused when the op runs
    wanted = {axis: sizes[axis] for axis in axes if sizes[axis] != 1 or strides[axis] != 1}
    found = slides(x, shape, wanted, strides)
    for each in found:
        if x.attrs["padding"] == b"EXPLICIT" and not (isinstance(x, Inference) and x.building):
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


def checked_windows(
    call: Call, shape: Sequence[int], rank: int, given: Sequence[Any] | None = None, across: bool = False
) -> tuple[Slide, ...]:
    if len(shape) != rank:
        call.fail(f"tensor_in must be {rank}-dimensional: {show(tuple(shape))}")
    found = window_numbers(call, rank, given)
    assert found is not None
    _check_axes(call, *found, shape, across)
    return pool_windows(call, shape, *found)


def result_shape(shape: Sequence[Any], windows: Sequence[Slide]) -> tuple[Any, ...]:
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


def pool_shape(rank: int, by_inputs: bool = False, outputs: int = 1) -> Callable[[Inference], list[ShapeLike]]:
    def infer(x: Inference) -> list[ShapeLike]:
        shape = x.with_rank(0, rank)
        found = window_numbers(x, rank, _given(x, 1) if by_inputs else None)
        if found is None:
            if x.building:
                return [None]
            return [(shape[0], None, None, shape[-1] if channel_axis(x.attrs, rank) == rank - 1 else None)]
        return [result_shape(shape, pool_windows(x, shape, *found))] * outputs

    return infer


# --- As generated code: windows over space alone, of the op's own attrs ---


def own_windows(call: Any, shape: Sequence[Any]) -> tuple[Slide, ...]:
    return pool_windows(call, shape, call.attrs["ksize"], call.attrs["strides"])


def _written_out(shape_of: Callable[[Any], Sequence[Any]], spread: bool = False) -> Callable[[Any], bool]:
    """Whether windows over an image of shape `shape_of(call)`, or those of a pixel, can be written out."""

    def when(call: Any) -> bool:
        shape = shape_of(call)
        channel = channel_axis(call.attrs, len(shape))
        sizes, strides = call.attrs["ksize"], call.attrs["strides"]
        plain = len(sizes) == len(shape) and all(each[axis] == 1 for each in (sizes, strides) for axis in (0, channel))
        return plain and fits(own_windows(call, shape), spread)

    return when


FORWARD = _written_out(lambda call: call.inputs[0].dims)
BACKWARD = _written_out(lambda call: call.types[0].dims, spread=True)


_SPREAD = _written_out(lambda call: call.inputs[0].dims, spread=True)


def _grads_fit(call: Any) -> bool:
    """Also asks that largest elements and gradients have the shapes that they must have."""
    image = call.inputs[0].dims
    if not (FORWARD(call) and _SPREAD(call)):
        return False
    want = result_shape(image, own_windows(call, image))
    shapes = (want, image) if "GradGrad" in call.name else (want, want)
    return (call.inputs[1].dims, call.inputs[2].dims) == shapes


def _of_attrs(call: Any) -> dict[str, Any]:
    names = ("ksize", "strides", "padding", "data_format", "explicit_paddings")
    return {name: call.attrs[name] for name in names if name in call.attrs}


def _known_numbers(kind: str, first: int) -> Composite:
    """The op with sizes and strides that are inputs, as `kind`, which has them as attrs, where they are known."""

    def when(call: Any) -> bool:
        return all(_plain(call.known(i)) for i in (first, first + 1))

    def expand(x: Any, call: Any, *inputs: Any) -> Any:
        sizes, strides = (tuple(int(each) for each in call.known(i).ravel()) for i in (first, first + 1))
        return x.op(kind, *inputs[:first], ksize=sizes, strides=strides, **_of_attrs(call))

    return Composite(expand, when=when)


def _plain(known: Any) -> bool:
    return known is not None and all(isinstance(each, int) for each in known.ravel())


# --- MaxPool, MaxPoolV2, MaxPool3D: NaN counts for nothing, and nothing is less than the lowest finite number ---
def _max_pool(rank: int) -> Callable[..., np.ndarray]:
    def reference(call: Call, x: np.ndarray, *given: np.ndarray) -> np.ndarray:
        windows = checked_windows(call, x.shape, rank, [each.tolist() for each in given] or None, across=rank == 4)
        least = np.iinfo(x.dtype).min if x.dtype.kind in "iu" else call.dtypes[0].min
        source = padded(x, windows, least)
        found = np.full(result_shape(x.shape, windows), least, x.dtype)
        with np.errstate(all="ignore"):
            for _, cut in taps(windows):
                here = source[cut]
                found = np.where(here > found, here, found)
        return found

    return reference


define("MaxPool", "input: T -> output: T", f"T: type in real = float32, {SIZES}{EXPLICIT}, "
       "data_format: string in NHWC|NCHW|NCHW_VECT_C = NHWC", infer=pool_shape(4), reference=_max_pool(4),
       lower=Indexed(emit_max(own_windows), when=FORWARD, cost=4))  # fmt: skip
define("MaxPoolV2", "input: T, ksize: int32, strides: int32 -> output: T",
       f"T: type in real = float32, {PADDING}, data_format: string in NHWC|NCHW|NCHW_VECT_C = NHWC",
       infer=pool_shape(4, by_inputs=True), reference=_max_pool(4), lower=_known_numbers("MaxPool", 1))  # fmt: skip
define("MaxPool3D", "input: T -> output: T", f"{SIZES}{PADDING}, {VOLUMES}, T: type in float16|bfloat16|float32",
       infer=pool_shape(5), reference=_max_pool(5),
       lower=Indexed(emit_max(own_windows), when=FORWARD, cost=8))  # fmt: skip


# --- Which element of a window is the largest: the first among equals; a NaN that comes first stays ---
def _winners(x: np.ndarray, windows: Sequence[Slide]) -> tuple[np.ndarray, np.ndarray]:
    """(largest, number of its place in the window) of every window."""
    shape = result_shape(x.shape, windows)
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
    windows = checked_windows(call, x.shape, 4, [each.tolist() for each in given] or None)
    _check_grads(call, x, output, grad, [result_shape(x.shape, windows)] * 2)
    return _spread(x, windows, _winners(x, windows)[1], grad)


def _spread(x: np.ndarray, windows: Sequence[Slide], won: np.ndarray, grad: np.ndarray) -> np.ndarray:
    """Every window's gradient at its largest element."""
    found = padded(np.zeros(x.shape, wide(grad).dtype), windows)
    for number, (_, cut) in enumerate(taps(windows)):
        found[cut] += np.where(won == number, grad, np.zeros((), grad.dtype))
    return np.array(inside(found, windows), grad.dtype)


# _PoolWinner and _PoolSpread: the number of each window's largest element, and each pixel's share by those numbers.
_WINDOWS = (f"{SIZES}{EXPLICIT}, data_format: string in NHWC|NCHW|NDHWC|NCDHW = NHWC, ")


def _winner(call: Call, x: np.ndarray) -> np.ndarray:
    return _winners(x, own_windows(call, x.shape))[1].astype(np.int32)


define("_PoolWinner", "input: T -> place: int32", f"{_WINDOWS}T: type in real",
       infer=lambda x: [result_shape(x.shape(0) or (), own_windows(x, x.shape(0) or ()))], reference=_winner,
       lower=Indexed(emit_winner(own_windows), cost=4))  # fmt: skip
define("_PoolSpread", "place: int32, grad: T, input: T -> output: T", f"{_WINDOWS}T: type in real",
       infer=lambda x: [x.shape(2)],
       reference=lambda call, won, grad, x: _spread(x, own_windows(call, x.shape), won, grad),
       lower=Indexed(emit_spread(own_windows), cost=4))  # fmt: skip
define("_PoolPick", "place: int32, grad: T -> output: T", f"{_WINDOWS}T: type in real",
       infer=lambda x: [x.shape(0)],
       reference=lambda call, won, grad: _picked(own_windows(call, grad.shape), won, grad),
       lower=Indexed(emit_pick(own_windows), cost=4))  # fmt: skip


def _expand_max_pool_grad(x: Any, call: Any, image: Any, output: Any, grad: Any) -> Any:
    attrs = _of_attrs(call)
    return x.op("_PoolSpread", x.op("_PoolWinner", image, **attrs), grad, image, **attrs)


def _expand_max_pool_grad_grad(x: Any, call: Any, image: Any, output: Any, grad: Any) -> Any:
    attrs = _of_attrs(call)
    return x.op("_PoolPick", x.op("_PoolWinner", image, **attrs), grad, **attrs)


define("MaxPoolGrad", "orig_input: T, orig_output: T, grad: T -> output: T",
       f"{SIZES}{EXPLICIT}, {IMAGES}, T: type in real = float32",
       infer=_grad_shape(4), reference=_max_pool_grad,
       lower=Composite(_expand_max_pool_grad, when=_grads_fit))  # fmt: skip
define("MaxPoolGradV2", "orig_input: T, orig_output: T, grad: T, ksize: int32, strides: int32 -> output: T",
       f"{PADDING}, {IMAGES}, T: type in real = float32",
       infer=_grad_shape(4), reference=_max_pool_grad, lower=_known_numbers("MaxPoolGrad", 3))  # fmt: skip


# --- MaxPool3DGrad: every element that equals the largest has the gradient ---
def _max_pool_3d_grad(call: Call, x: np.ndarray, output: np.ndarray, grad: np.ndarray) -> np.ndarray:
    windows = checked_windows(call, x.shape, 5)
    _check_grads(call, x, output, grad, [result_shape(x.shape, windows)] * 2)
    source = padded(x, windows, call.dtypes[0].min)
    found = padded(np.zeros(x.shape, wide(grad).dtype), windows)
    for _, cut in taps(windows):
        found[cut] += np.where(source[cut] == output, grad, np.zeros((), grad.dtype))
    return np.array(inside(found, windows), grad.dtype)


define("MaxPool3DGrad", "orig_input: TInput, orig_output: TInput, grad: T -> output: T",
       f"{SIZES}{PADDING}, {VOLUMES}, T: type in float16|bfloat16|float32 = float32, "
       "TInput: type in float16|bfloat16|float32 = float32",
       infer=_grad_shape(5), reference=_max_pool_3d_grad,
       lower=Indexed(emit_ties(own_windows), when=_grads_fit, cost=8))  # fmt: skip


# --- MaxPoolGradGrad, MaxPoolGradGradV2, MaxPool3DGradGrad: of each window the gradient at its largest element ---
def _output_shape(rank: int) -> Callable[[Inference], list[ShapeLike]]:
    return lambda x: [x.with_rank(1, rank)]


def _max_pool_grad_grad(rank: int) -> Callable[..., np.ndarray]:
    def reference(
        call: Call, x: np.ndarray, output: np.ndarray, grad: np.ndarray, *given: np.ndarray
    ) -> np.ndarray:  # fmt: skip
        windows = checked_windows(call, x.shape, rank, [each.tolist() for each in given] or None)
        _check_grads(call, x, output, grad, [result_shape(x.shape, windows), x.shape])
        return _picked(windows, _winners(x, windows)[1], grad)

    return reference


def _picked(windows: Sequence[Slide], won: np.ndarray, grad: np.ndarray) -> np.ndarray:
    source, found = padded(grad, windows), np.zeros(won.shape, grad.dtype)
    for number, (_, cut) in enumerate(taps(windows)):
        found = np.where(won == number, source[cut], found)
    return found


define("MaxPoolGradGrad", "orig_input: T, orig_output: T, grad: T -> output: T",
       f"{SIZES}{PADDING}, {IMAGES}, T: type in real",
       infer=_output_shape(4), reference=_max_pool_grad_grad(4),
       lower=Composite(_expand_max_pool_grad_grad, when=_grads_fit))  # fmt: skip
define("MaxPoolGradGradV2", "orig_input: T, orig_output: T, grad: T, ksize: int32, strides: int32 -> output: T",
       f"{PADDING}, {IMAGES}, T: type in real",
       infer=_output_shape(4), reference=_max_pool_grad_grad(4),
       lower=_known_numbers("MaxPoolGradGrad", 3))  # fmt: skip
define("MaxPool3DGradGrad", "orig_input: T, orig_output: T, grad: T -> output: T",
       f"{SIZES}{PADDING}, {VOLUMES}, T: type in real",
       infer=_output_shape(5), reference=_max_pool_grad_grad(5),
       lower=Composite(_expand_max_pool_grad_grad, when=_grads_fit))  # fmt: skip


# --- MaxPoolWithArgmax and its gradients: argmax counts elements within the image, or within the batch ---
_ARGMAX = f"{SIZES}Targmax: type in index = int64, {PADDING}, include_batch_in_index: bool = False, T: type in real"


def _places(call: Call, x: np.ndarray, windows: Sequence[Slide], won: np.ndarray) -> np.ndarray:
    """The flat index of the winner of every window."""
    at: list[Any] = list(np.indices(won.shape))
    numbers: Mapping[int, np.ndarray] = dict(
        zip((each.axis for each in windows), np.unravel_index(np.maximum(won, 0), [each.size for each in windows]))
    ) if windows else {}  # fmt: skip
    for each in windows:
        at[each.axis] = at[each.axis] * each.stride - each.before + numbers[each.axis] * each.rate
    if not call.attrs["include_batch_in_index"]:
        at[0] = np.zeros_like(at[0])
    return np.asarray(np.ravel_multi_index(tuple(at), x.shape)) if won.size else np.zeros(won.shape, np.int64)


def _max_pool_with_argmax(call: Call, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    windows = checked_windows(call, x.shape, 4)
    best, won = _winners(x, windows)
    return best, _places(call, x, windows, won).astype(call.dtypes[1].np)


def _emit_with_argmax(k: Any, call: Any, output: int, index: Any) -> Any:
    shape = call.inputs[0].dims
    windows = own_windows(call, shape)
    best, won = winner(k, windows, index)
    if not output:
        return best
    # The winner's number has a digit for every axis that windows run along.
    at = list(index) if call.attrs["include_batch_in_index"] else [k.zero(), *index[1:]]
    rest = k.b.convert(won, dtypes.int64)
    for each in reversed(windows):
        digit = k.b.rem(rest, k.b.like(each.size, rest))
        rest = k.b.div(rest, k.b.like(each.size, rest))
        at[each.axis] = index[each.axis] * each.stride + (-each.before) + k.index(digit)
    return k.b.convert(k.value(k.linear(call.inputs[0], at)), call.dtypes[1])


define("MaxPoolWithArgmax", "input: T -> output: T, argmax: Targmax", _ARGMAX,
       infer=pool_shape(4, outputs=2), reference=_max_pool_with_argmax,
       lower=Indexed(_emit_with_argmax, when=FORWARD, cost=8))  # fmt: skip


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
    want = result_shape(x.shape, checked_windows(call, x.shape, 4))
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
    want = result_shape(x.shape, checked_windows(call, x.shape, 4))
    for text, have, shape in (("grad", grad.shape, x.shape), ("argmax", argmax.shape, want)):
        if have != shape:
            call.fail(f"Expected {text} shape to be {show(shape)}, but got {show(have)}")
    return grad.ravel()[_flat_places(call, x, argmax)]


define("MaxPoolGradGradWithArgmax", "input: T, grad: T, argmax: Targmax -> output: T",
       _ARGMAX.replace("Targmax: type in index = int64, ", "").replace("T: type", "Targmax: type in index, T: type"),
       infer=lambda x: [x.with_rank(2, 4)], reference=_max_pool_grad_grad_with_argmax)  # fmt: skip
