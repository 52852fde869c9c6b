"""FakeQuant*: numbers rounded as their quantisation to a few bits would round them, and the gradients of that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, unchanged
from stepjit_compiler.ops.arguments import brief

Range = tuple[np.ndarray, np.ndarray, np.ndarray]


def _nudged(call: Call, low: np.ndarray, high: np.ndarray) -> Range:
    """The ends of the range moved so that zero is one of the steps, and the step, as float32."""
    bits = call.attrs["num_bits"]
    if not 2 <= bits <= 16:
        call.fail("num_bits must be between 2 and 16, inclusive")
    first, last = np.float32(1 if call.attrs["narrow_range"] else 0), np.float32(2**bits - 1)
    step = ((high - low) / (last - first)).astype(np.float32)
    zero = first - low / step
    # Halves go away from zero, as C's round does; zero points aren't negative here.
    at = np.where(zero < first, first, np.where(zero > last, last, np.floor(zero + np.float32(0.5))))
    at = at.astype(np.float32)
    return (first - at) * step, (last - at) * step, step


def _rounded(x: np.ndarray, low: np.ndarray, high: np.ndarray, step: np.ndarray) -> np.ndarray:
    per = (np.float32(1) / step).astype(np.float32)
    zero = np.floor(-low * per + np.float32(0.5))
    shifted = np.clip(x, low, high) - low
    return (np.floor(shifted * per - zero + np.float32(0.5)) * step).astype(np.float32)


def _checked_args(call: Call) -> Range:
    low, high = call.attrs["min"], call.attrs["max"]
    if low >= high:
        call.fail(f"min has to be smaller than max, was: {low:g} >= {high:g}")
    return _nudged(call, np.float32(low), np.float32(high))


def _args(call: Call, inputs: np.ndarray) -> np.ndarray:
    return _rounded(inputs, *_checked_args(call))


def _args_gradient(call: Call, gradients: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    if gradients.shape != inputs.shape:
        call.fail("gradient and input must be the same size")
    low, high, _ = _checked_args(call)
    return np.where((inputs >= low) & (inputs <= high), gradients, np.float32(0))


_BITS = "num_bits: int = 8, narrow_range: bool = False"
_ENDS = "min: float = -6, max: float = 6"

define("FakeQuantWithMinMaxArgs", "inputs: float32 -> outputs: float32", f"{_ENDS}, {_BITS}", infer=unchanged,
       reference=_args)  # fmt: skip
define("FakeQuantWithMinMaxArgsGradient", "gradients: float32, inputs: float32 -> backprops: float32",
       f"{_ENDS}, {_BITS}", infer=unchanged, reference=_args_gradient)  # fmt: skip


def _ends(call: Call, depth: Sequence[int], low: np.ndarray, high: np.ndarray) -> Range | None:
    """The nudged range of tensors that hold its ends; None where both are zero."""
    for name, end in (("min", low), ("max", high)):
        if end.shape != tuple(depth):
            call.fail(f"`{name}` must have shape {brief(tuple(depth))} but has {brief(end.shape)}")
    if not depth and not low and not high:
        return None
    return _nudged(call, low, high)


def _depth(inputs: np.ndarray, per_channel: bool) -> tuple[int, ...]:
    return inputs.shape[-1:] if per_channel else ()


def _vars(per_channel: bool) -> Callable[..., np.ndarray]:
    def reference(call: Call, inputs: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        ends = _ends(call, _depth(inputs, per_channel), low, high)
        return np.zeros_like(inputs) if ends is None else _rounded(inputs, *ends)

    return reference


def _vars_gradient(per_channel: bool) -> Callable[..., Any]:
    def reference(call: Call, grads: np.ndarray, inputs: np.ndarray, low: np.ndarray, high: np.ndarray) -> Any:
        if grads.shape != inputs.shape:
            call.fail("gradient and input must be the same size")
        ends = _ends(call, _depth(inputs, per_channel), low, high)
        zero = np.float32(0)
        if ends is None:
            return np.array(grads), np.zeros_like(low), np.zeros_like(high)
        inside = (inputs >= ends[0]) & (inputs <= ends[1])
        axes = tuple(range(inputs.ndim - 1)) if per_channel else None
        below = np.where(inputs < ends[0], grads, zero).sum(axes, dtype=np.float32)
        above = np.where(inputs > ends[1], grads, zero).sum(axes, dtype=np.float32)
        return np.where(inside, grads, zero), np.asarray(below), np.asarray(above)

    return reference


def _gradient_shapes(x: Inference) -> list[ShapeLike]:
    return [x.shape(1), x.shape(2), x.shape(3)]


for _name, _each in (("Vars", False), ("VarsPerChannel", True)):
    define(f"FakeQuantWithMinMax{_name}", "inputs: float32, min: float32, max: float32 -> outputs: float32", _BITS,
           infer=unchanged, reference=_vars(_each))  # fmt: skip
    define(
        f"FakeQuantWithMinMax{_name}Gradient",
        "gradients: float32, inputs: float32, min: float32, max: float32 "
        "-> backprops_wrt_input: float32, backprop_wrt_min: float32, backprop_wrt_max: float32",
        _BITS, infer=_gradient_shapes, reference=_vars_gradient(_each),
    )  # fmt: skip
