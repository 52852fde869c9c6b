"""Grey-scale dilation and its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, extent_text, show
from stepjit_compiler.ops.windows import Slide, inside, padded, slides, taps
from stepjit_runtime.errors import UNIMPLEMENTED

_ATTRS = "T: type in real, strides: list(int), rates: list(int), padding: string in SAME|VALID"


def _windows(x: Any, image: Sequence[Any], kernel: Sequence[Any]) -> tuple[Slide, ...]:
    for name, kind in (("strides", "Stride"), ("rates", "Rate")):
        numbers = x.attrs[name]
        if len(numbers) != 4:
            x.fail(f"Dilation2D requires the {name} attribute to contain 4 values, but got: {len(numbers)}")
        if not isinstance(x, Inference) and (numbers[0] != 1 or numbers[3] != 1):
            x.fail(f"{kind} is only supported across spatial dimensions.", UNIMPLEMENTED)
        if min(numbers) <= 0:
            x.fail(f"{kind} must be > 0, but got {min(numbers)}")
    return slides(x, image, {1: kernel[0], 2: kernel[1]}, x.attrs["strides"])


def _result(image: Sequence[Any], windows: Sequence[Slide]) -> tuple[Any, ...]:
    return image[0], windows[0].count, windows[1].count, image[3]


def _dilation_shape(x: Inference) -> list[ShapeLike]:
    image, kernel = x.with_rank(0, 4), x.with_rank(1, 3)
    if None in (*image[1:3], *kernel[:2]):
        return [(image[0], None, None, kernel[2])]
    windows = _windows(x, image, kernel)
    a, b = extent_text(image[3]), extent_text(kernel[2])
    depth = x.equal(image[3], kernel[2], f"input and filter must have the same depth: {a} vs {b}: Dimensions must be "
                                         f"equal, but are {a} and {b}")  # fmt: skip
    return [_result((*image[:3], depth), windows)]


def _checked(call: Call, image: np.ndarray, kernel: np.ndarray) -> tuple[Slide, ...]:
    if image.ndim != 4:
        call.fail(f"input must be 4-dimensional: {show(image.shape)}")
    if kernel.ndim != 3:
        call.fail(f"filter must be 3-dimensional: {show(kernel.shape)}")
    if image.shape[3] != kernel.shape[2]:
        call.fail(f"input and filter must have the same depth: {image.shape[3]} vs {kernel.shape[2]}")
    return _windows(call, image.shape, kernel.shape)


def _largest(image: np.ndarray, kernel: np.ndarray, windows: Sequence[Slide]) -> tuple[np.ndarray, np.ndarray]:
    """(the largest sum of pixel and filter, the number of its place) for every window; places off the image are out."""
    shape = _result(image.shape, windows)
    source, real = padded(image, windows), padded(np.ones((1, *image.shape[1:3], 1), bool), windows)
    best, won = np.zeros(shape, image.dtype), np.full(shape, -1)
    for number, (place, cut) in enumerate(taps(windows)):
        here = source[cut] + kernel[place]
        better = real[cut] & ((won < 0) | (here > best))
        best, won = np.where(better, here, best), np.where(better, number, won)
    return best, won


def _dilation(call: Call, image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return _largest(image, kernel, _checked(call, image, kernel))[0]


define("Dilation2D", "input: T, filter: T -> output: T", _ATTRS, infer=_dilation_shape, reference=_dilation)


def _winners(call: Call, image: np.ndarray, kernel: np.ndarray, grad: np.ndarray) -> tuple[Any, Any]:
    windows = _checked(call, image, kernel)
    want = _result(image.shape, windows)
    if grad.shape != want:
        call.fail(f"out_backprop has incompatible size: expected {show(want)}, but got {show(grad.shape)}")
    with np.errstate(all="ignore"):
        return windows, _largest(image, kernel, windows)[1]


def _dilation_input(call: Call, image: np.ndarray, kernel: np.ndarray, grad: np.ndarray) -> np.ndarray:
    windows, won = _winners(call, image, kernel, grad)
    found = padded(np.zeros_like(image), windows)
    for number, (_, cut) in enumerate(taps(windows)):
        found[cut] += np.where(won == number, grad, np.zeros((), grad.dtype))
    return np.ascontiguousarray(inside(found, windows))


def _dilation_filter(call: Call, image: np.ndarray, kernel: np.ndarray, grad: np.ndarray) -> np.ndarray:
    windows, won = _winners(call, image, kernel, grad)
    found = np.zeros_like(kernel)
    for number, (place, _) in enumerate(taps(windows)):
        found[place] = np.where(won == number, grad, np.zeros((), grad.dtype)).sum((0, 1, 2))
    return found


define("Dilation2DBackpropInput", "input: T, filter: T, out_backprop: T -> in_backprop: T", _ATTRS,
       infer=lambda x: [x.shape(0)], reference=_dilation_input)  # fmt: skip
define("Dilation2DBackpropFilter", "input: T, filter: T, out_backprop: T -> filter_backprop: T", _ATTRS,
       infer=lambda x: [x.shape(1)], reference=_dilation_filter)  # fmt: skip
