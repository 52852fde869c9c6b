"""Tensors of one value, of counted values, and values repeated to a larger shape."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stepjit_compiler import dims
from stepjit_compiler.dims import Dim
from stepjit_compiler.lowering import Indexed
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, extent_text, show, unchanged
from stepjit_compiler.ops.arguments import (
    as_dtype,
    brief,
    extents_array,
    filled,
    follows,
    fresh,
    integer,
    integers,
    number_input,
    safe_shape,
    shape_input,
)  # fmt: skip

# --- BroadcastTo ---


def _broadcast_to_shape(x: Inference) -> list[ShapeLike]:
    shape, target = x.shape(0), shape_input(x, 1)
    if shape is None or target is None:
        return [target]
    if len(shape) > len(target):
        x.fail(f"Rank of input ({len(shape)}) must be no greater than rank of output shape ({len(target)}).")
    lead = len(target) - len(shape)
    message = f"Incompatible shapes: {show(shape)} vs. {show(target)}"
    tail = []
    for mine, wanted in zip(shape, target[lead:], strict=True):
        tail.append(wanted if mine == 1 or mine is None else x.equal(mine, wanted, message))
    return [(*target[:lead], *tail)]


def _broadcast_to(call: Call, x: np.ndarray, shape: np.ndarray) -> np.ndarray:
    target = safe_shape(call, integers(shape))
    if x.ndim > len(target):
        call.fail(f"Rank of input ({x.ndim}) must be no greater than rank of output shape ({len(target)}).")
    if any(a not in (1, b) for a, b in zip(x.shape, target[len(target) - x.ndim :], strict=True)):
        call.fail(f"Incompatible shapes: {brief(x.shape)} vs. {brief(target)}")
    return fresh(np.broadcast_to(x, target))


def _emit_broadcast_to(k: Any, call: Any, output: int, index: Any) -> Any:
    shape = call.inputs[0].dims
    tail = index[len(index) - len(shape) :]
    return k.load(0, tuple(0 if extent == 1 else at for extent, at in zip(shape, tail, strict=True)))


define(
    "BroadcastTo", "input: T, shape: Tidx -> output: T", "T: type, Tidx: type in index = int32",
    infer=_broadcast_to_shape, reference=_broadcast_to, lower=Indexed(_emit_broadcast_to, when=follows(1)),
    symbolic=True,
)  # fmt: skip

# --- BroadcastArgs ---


def _vector_of_longest(x: Inference) -> list[ShapeLike]:
    a, b = (x.with_rank(i, 1)[0] for i in range(2))
    return [(None if a is None or b is None else dims.maximum(a, b),)]


def _aligned(a: np.ndarray, b: np.ndarray) -> list[tuple[Any, Any]]:
    """The extents of two shapes axis by axis, the shorter filled up with 1; TypeError when one is unknown."""
    left, right = list(a.tolist()), list(b.tolist())
    if any(not isinstance(extent, (int, Dim)) for extent in (*left, *right)):
        raise TypeError("unknown extent")
    rank = max(len(left), len(right))
    left, right = [1] * (rank - len(left)) + left, [1] * (rank - len(right)) + right
    return list(zip(left, right, strict=True))


def _broadcast_args(call: Call, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    found = []
    for left, right in _aligned(a, b):
        if isinstance(left, int) and isinstance(right, int) and left != right and 1 not in (left, right):
            call.fail(
                f"Incompatible shapes: {brief(a.tolist())} vs. {brief(b.tolist())}: incompatible dimensions "
                f"{left} and {right}"
            )
        if isinstance(left, Dim) and isinstance(right, Dim) and left is not right:
            raise TypeError("which extent is stretched is not settled")
        found.append(right if left == 1 or (isinstance(left, Dim) and right != 1) else left)
    return extents_array(found, call)


define(
    "BroadcastArgs", "s0: T, s1: T -> r0: T", "T: type in index = int32",
    infer=_vector_of_longest, reference=_broadcast_args, symbolic=True,
)  # fmt: skip

# --- BroadcastGradientArgs ---


def _broadcast_gradient_args(call: Call, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first: list[int] = []
    second: list[int] = []
    for axis, (left, right) in enumerate(_aligned(a, b)):
        if not _decided(left, right):
            raise ValueError("which of the two is stretched is only known when the step runs")
        if isinstance(left, int) and isinstance(right, int) and left != right and 1 not in (left, right):
            call.fail(f"Incompatible shapes: {brief(a.tolist())} vs. {brief(b.tolist())}")
        if left == 1:
            first.append(axis)
        if right == 1:
            second.append(axis)
    return extents_array(first, call), extents_array(second, call, 1)


def _decided(left: Any, right: Any) -> bool:
    """Whether extents alone tell which of two is stretched: a feed's symbol is never 1, other expressions may be."""
    return left is right or left == right or 1 in (left, right) or (dims.never_one(left) and dims.never_one(right))


def _gradient_args_shape(x: Inference) -> list[ShapeLike]:
    a, b = x.extents(0), x.extents(1)
    if a is None or b is None or None in a or None in b:
        return [(None,), (None,)]
    rank = max(len(a), len(b))
    left, right = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    if not all(map(_decided, left, right)):
        return [(None,), (None,)]
    return [(sum(extent == 1 for extent in left),), (sum(extent == 1 for extent in right),)]


define(
    "BroadcastGradientArgs", "s0: T, s1: T -> r0: T, r1: T", "T: type in index = int32",
    infer=_gradient_args_shape, reference=_broadcast_gradient_args, symbolic=True,
)  # fmt: skip

# --- Fill ---


def _fill(call: Call, shape: np.ndarray, value: np.ndarray) -> np.ndarray:
    extents = safe_shape(call, integers(shape))
    found = np.empty(extents, value.dtype)
    found[...] = value
    return found


def _fill_shape(x: Inference) -> list[ShapeLike]:
    x.with_rank(1, 0)
    return [shape_input(x, 0)]


define(
    "Fill", "dims: index_type, value: T -> output: T", "T: type, index_type: type in index = int32",
    infer=_fill_shape, reference=_fill,
    lower=Indexed(lambda k, call, output, index: k.load(1, ()), when=follows(0)), symbolic=True,
)  # fmt: skip

# --- ZerosLike ---


def _constant(number: int) -> Indexed:
    return Indexed(lambda k, call, output, index: k.const(number, call.dtypes[0]))


define(
    "ZerosLike", "x: T -> y: T", "T: type",
    infer=unchanged, reference=lambda call, x: filled(x.shape, call.dtypes[0].np), lower=_constant(0),
)  # fmt: skip

# --- OnesLike ---
define(
    "OnesLike", "x: T -> y: T", "T: type in number|bool",
    infer=unchanged, reference=lambda call, x: np.ones(x.shape, call.dtypes[0].np), lower=_constant(1),
)  # fmt: skip

# --- Range ---


def _range_shape(x: Inference) -> list[ShapeLike]:
    for i in range(3):
        x.with_rank(i, 0)
    values = [x.value(i) for i in range(3)]
    if all(value is not None for value in values):
        return [(_range_length(x, *(value[()] for value in values)),)]  # type: ignore[index]
    start, limit, delta = (number_input(x, i) if x.dtypes[i].is_integer else None for i in range(3))
    if start is None or limit is None or not isinstance(delta, int):
        return [(None,)]
    if delta == 0:
        x.fail("Requires delta != 0: 0")
    span = limit - start if delta > 0 else start - limit
    x.check("ge", span, 0, _range_order(start, limit, delta))
    return [(dims.maximum(0, (span + (abs(delta) - 1)) // abs(delta)),)]


def _range_order(start: Any, limit: Any, delta: Any) -> str:
    sign, relation = ("<", ">=") if delta < 0 else (">", "<=")
    return f"Requires start {relation} limit when delta {sign} 0: {extent_text(start)}/{extent_text(limit)}"


def _range_length(x: Any, start: Any, limit: Any, delta: Any) -> int:
    """How many values `start, start + delta, ...` there are; `x` reports what is wrong."""
    if delta == 0:
        x.fail("Requires delta != 0: 0")
    if (start > limit) if delta > 0 else (start < limit):
        x.fail(_range_order(start, limit, delta))
    if isinstance(start, (int, np.integer)):
        return -((int(start) - int(limit)) // int(delta))
    with np.errstate(all="ignore"):
        steps = float(np.ceil(np.abs((limit - start) / delta)))
    if not math.isfinite(steps):
        x.fail(f"Requires ((limit - start) / delta) <= {2**63 - 1}")
    return int(steps)


def _range(call: Call, start: np.ndarray, limit: np.ndarray, delta: np.ndarray) -> np.ndarray:
    dtype = call.dtypes[0].np
    if dtype.kind in "iu":
        first, step = integer(start), integer(delta)
        count = _range_length(call, first, integer(limit), step)
        with np.errstate(all="ignore"):
            return (first + step * np.arange(count)).astype(dtype)
    count = _range_length(call, start[()], limit[()], delta[()])
    return (start + delta * np.arange(count).astype(dtype)).astype(dtype)


def _emit_range(k: Any, call: Any, output: int, index: Any) -> Any:
    dtype = call.dtypes[0]
    at = as_dtype(k, k.value(index[0]), dtype)
    at, start, delta = k.same_lanes(at, k.load(0, ()), k.load(2, ()))
    return k.b.add(start, k.b.mul(at, delta))


define(
    "Range", "start: Tidx, limit: Tidx, delta: Tidx -> output: Tidx",
    "Tidx: type in float|int8|int16|int32|int64|uint16|uint32|uint64 = int32",
    infer=_range_shape, reference=_range, symbolic=True,
    # Elements of floating-point ranges are rounded twice, which a fused multiply-add would not do.
    lower=Indexed(_emit_range, when=lambda call: call.dtypes[0].is_integer and follows(0, 1, 2)(call)),
)  # fmt: skip

# --- LinSpace ---


def _linspace_shape(x: Inference) -> list[ShapeLike]:
    for i in range(3):
        x.with_rank(i, 0)
    count = number_input(x, 2)
    if isinstance(count, int) and count <= 0:
        x.fail(f"Requires num > 0: {count}")
    return [(count,)]


def _linspace(call: Call, start: np.ndarray, stop: np.ndarray, num: np.ndarray) -> np.ndarray:
    count, dtype = integer(num), call.dtypes[0].np
    if count <= 0:
        call.fail(f"Requires num > 0: {count}")
    if count == 1:
        return np.array([start[()]], dtype)
    with np.errstate(all="ignore"):
        step = ((stop - start) / np.asarray(count - 1).astype(dtype)).astype(dtype)
        found = (start + step * np.arange(count).astype(dtype)).astype(dtype)
    found[-1] = stop[()]
    return found


define(
    "LinSpace", "start: T, stop: T, num: Tidx -> output: T", "T: type in float, Tidx: type in index = int32",
    infer=_linspace_shape, reference=_linspace,
)  # fmt: skip
