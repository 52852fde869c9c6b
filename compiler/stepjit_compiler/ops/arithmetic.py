"""Sums, differences, products, extremes and signs."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler import dims
from stepjit_compiler.dims import Dim
from stepjit_compiler.lowering import Elementwise
from stepjit_compiler.opdef import Call, Inference, ShapeLike, broadcasting, define, show, ufunc, unchanged

_larger = np.frompyfunc(dims.maximum, 2, 1)
_smaller = np.frompyfunc(dims.minimum, 2, 1)

# --- Add ---
define("Add", "x: T, y: T -> z: T", "T: type in float|uint8|int8|int16|int32|int64|complex|string",
       infer=broadcasting, reference=ufunc(np.add), symbolic=True,
       lower=Elementwise(lambda b, call, x, y: b.add(x, y)))  # fmt: skip

# --- AddV2 ---
define("AddV2", "x: T, y: T -> z: T", "T: type in number",
       infer=broadcasting, reference=ufunc(np.add), commutative=True, symbolic=True,
       lower=Elementwise(lambda b, call, x, y: b.add(x, y)))  # fmt: skip


# --- AddN ---
def _same_shapes(x: Inference) -> list[ShapeLike]:
    merged = x.shape(0)
    for i in range(1, x.count()):
        other = x.shape(i)
        if merged is None or other is None:
            merged = other if merged is None else merged
            continue
        text = (f"Inputs to operation {x.op} of type {x.op} must have the same size and shape.  "
                f"Input 0: {show(merged)} != input {i}: {show(other)} (in both shapes must be equal)")  # fmt: skip
        if len(merged) != len(other):
            x.fail(text)
        merged = tuple(x.equal(a, b, text) for a, b in zip(merged, other))
    return [merged]


def _add_all(call: Call, *arrays: np.ndarray) -> np.ndarray:
    total = np.array(arrays[0])
    with np.errstate(all="ignore"):
        for i, array in enumerate(arrays):
            if array.shape != total.shape:
                call.fail(f"Inputs to operation {call.name} of type {call.name} must have the same size and shape.  "
                          f"Input 0: {show(total.shape)} != input {i}: {show(array.shape)}")  # fmt: skip
            total = total + array if i else total
    return np.asarray(total)


def _emit_sum(b: Any, call: Any, first: Any, *others: Any) -> Any:
    for other in others:
        first = b.add(first, other)
    return first


define("AddN", "inputs: N*T -> sum: T", "N: int, T: type in number",
       infer=_same_shapes, reference=_add_all, lower=Elementwise(_emit_sum))  # fmt: skip

# --- Sub ---
define("Sub", "x: T, y: T -> z: T", "T: type in number",
       infer=broadcasting, reference=ufunc(np.subtract), symbolic=True,
       lower=Elementwise(lambda b, call, x, y: b.sub(x, y)))  # fmt: skip

# --- Mul ---
define("Mul", "x: T, y: T -> z: T", "T: type in number",
       infer=broadcasting, reference=ufunc(np.multiply), commutative=True, symbolic=True,
       lower=Elementwise(lambda b, call, x, y: b.mul(x, y)))  # fmt: skip


# --- MulNoNan: 0 wherever y is 0 ---
def _mul_no_nan(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where(y == 0, np.zeros((), y.dtype), x * y)


define("MulNoNan", "x: T, y: T -> z: T", "T: type in float|complex",
       infer=broadcasting, reference=ufunc(_mul_no_nan),
       lower=Elementwise(lambda b, call, x, y: b.select(b.compare("eq", y, b.like(0, y)), b.like(0, y), b.mul(x, y)))
       )  # fmt: skip


# --- SquaredDifference ---
def _squared_difference(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    difference = x - y
    return np.conj(difference) * difference if difference.dtype.kind == "c" else difference * difference


def _emit_squared_difference(b: Any, call: Any, x: Any, y: Any) -> Any:
    difference = b.sub(x, y)
    return b.mul(difference, difference)


define("SquaredDifference", "x: T, y: T -> z: T", "T: type in float|int32|int64|complex",
       infer=broadcasting, reference=ufunc(_squared_difference), commutative=True,
       lower=Elementwise(_emit_squared_difference))  # fmt: skip


# --- Maximum: NaN when either is ---
def _extreme(function: Any, of_extents: Any) -> Any:
    return ufunc(lambda x, y: (of_extents if object in (x.dtype, y.dtype) else function)(x, y))


define("Maximum", "x: T, y: T -> z: T", "T: type in real",
       infer=broadcasting, reference=_extreme(np.maximum, _larger), symbolic=True,
       lower=Elementwise(lambda b, call, x, y: b.maximum(x, y)))  # fmt: skip

# --- Minimum ---
define("Minimum", "x: T, y: T -> z: T", "T: type in real",
       infer=broadcasting, reference=_extreme(np.minimum, _smaller), symbolic=True,
       lower=Elementwise(lambda b, call, x, y: b.minimum(x, y)))  # fmt: skip

_SIGNED = "T: type in float|int8|int16|int32|int64|complex"

# --- Neg ---
define("Neg", "x: T -> y: T", _SIGNED, infer=unchanged, reference=ufunc(np.negative), symbolic=True,
       lower=Elementwise(lambda b, call, x: b.neg(x)))  # fmt: skip


# --- Abs: the smallest integer stays itself ---
def _abs(x: np.ndarray) -> np.ndarray:
    if x.dtype == object and any(isinstance(each, Dim) for each in x.ravel()):
        raise TypeError("the sign of an extent is not known here")
    return np.abs(x)


define("Abs", "x: T -> y: T", "T: type in float|int8|int16|int32|int64",
       infer=unchanged, reference=ufunc(_abs), symbolic=True,
       lower=Elementwise(lambda b, call, x: b.abs(x)))  # fmt: skip


# --- Sign: NaN for NaN, x / |x| for complex x ---
def _sign(x: np.ndarray) -> np.ndarray:
    if x.dtype.kind != "c":
        return np.sign(x)
    size = np.abs(x)
    return np.where(size == 0, 0, x / np.where(size == 0, 1, size))


def _emit_sign(b: Any, call: Any, x: Any) -> Any:
    zero, one = b.like(0, x), b.like(1, x)
    negative = b.select(b.compare("lt", x, zero), b.like(-1, x), zero)
    sign = b.select(b.compare("gt", x, zero), one, negative)
    return b.select(b.is_nan(x), x, sign) if x.dtype.is_floating else sign


define("Sign", "x: T -> y: T", _SIGNED, infer=unchanged, reference=ufunc(_sign),
       lower=Elementwise(_emit_sign, cost=3))  # fmt: skip

# --- Square ---
define("Square", "x: T -> y: T", "T: type in number", infer=unchanged, reference=ufunc(np.square), symbolic=True,
       lower=Elementwise(lambda b, call, x: b.mul(x, x)))  # fmt: skip
