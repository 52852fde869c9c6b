"""Reductions over axes, the places of extremes, and running sums and products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepjit_compiler.lowering import Composite, Reduction
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, reduced_shape, show
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType

_add: Any = np.add.reduce
_multiply: Any = np.multiply.reduce
_OVER = "keep_dims: bool = False, T: type in {}, Tidx: type in index = int32"
_OVER_BOOL = "keep_dims: bool = False, Tidx: type in index = int32"
_REAL = _OVER.format("real|qint8|quint8|qint32|qint16|quint16")
_NUMBER = _OVER.format("number")


# --- What reductions share ---
def _shape(x: Inference) -> list[ShapeLike]:
    shape, axes, rank = x.shape(0), x.extents(1), x.rank(1)
    if rank is not None and rank > 1:
        x.fail(f"Shape must be at most rank 1 but is rank {rank} for '{x.op}'")
    if shape is None:
        return [None]
    known = None if axes is None or any(not isinstance(axis, int) for axis in axes) else axes
    for axis in known or ():
        if isinstance(axis, int) and not -len(shape) <= axis < len(shape):
            x.fail(f"Invalid reduction dimension {axis} for input with {len(shape)} dimensions.")
    return [reduced_shape(x, known, x.attrs["keep_dims"])]  # type: ignore[arg-type]


def _axes(call: Call, x: np.ndarray, indices: np.ndarray) -> tuple[int, ...]:
    """The axes counted from the front; a scalar input has none to reduce."""
    if indices.ndim > 1:
        call.fail(f"Shape must be at most rank 1 but is rank {indices.ndim} for '{call.name}'")
    found: list[int] = []
    for axis in map(int, indices.ravel()):
        if not -x.ndim <= axis < x.ndim:
            call.fail(f"Invalid reduction dimension ({axis} for input with {x.ndim} dimension(s)")
        axis %= x.ndim
        if axis in found:
            call.fail(f"Invalid reduction arguments: Axes contains duplicate dimension: {axis}")
        found.append(axis)
    return tuple(found)


def known_axes(call: Any) -> bool:
    """Whether the compiler knows which axes input 1 names, each once."""
    known = call.known(1)
    if known is None or not all(isinstance(axis, int) for axis in known.ravel()):
        return False
    rank = len(call.inputs[0].dims)
    return len({axis % rank for axis in known.ravel()} if rank else ()) == known.size


def _reducing(function: Callable[..., Any], copies: bool = True) -> Callable[..., Any]:
    """The reference that is `function(x, axes, keep_dims)`; half precision is summed in float32.

    Where each result is of one element and the op `copies`, it is that element: even -0.0, which 0 + -0.0 is not.
    """

    def reference(call: Call, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
        if x.dtype == object:
            return np.asarray(function(x, _axes(call, x, indices.astype(np.int64)), bool(call.attrs["keep_dims"])))
        axes = _axes(call, x, indices)
        if copies and all(x.shape[axis] == 1 for axis in axes):
            return x.copy() if call.attrs["keep_dims"] else x.reshape(np.delete(x.shape, axes)).copy()
        wide = x.astype(np.float32) if x.dtype.itemsize == 2 and call.dtypes[0].is_floating else x
        with np.errstate(all="ignore"):
            out = function(wide, axes, bool(call.attrs["keep_dims"]))
        return np.asarray(out).astype(call.dtypes[0].np, copy=False)

    return reference


def _lowest(dtype: DType) -> Any:
    return False if dtype.is_bool else -np.inf if dtype.is_floating else dtype.min


def _highest(dtype: DType) -> Any:
    return True if dtype.is_bool else np.inf if dtype.is_floating else dtype.max


def _limit(dtype: np.dtype, limit: Callable[[DType], Any]) -> Any:
    return np.asarray(limit(dtypes.as_dtype(dtype))).astype(dtype)


def _joining(identity: Any, combine: Callable[..., Any]) -> Reduction:
    start = identity if callable(identity) else lambda dtype: identity
    return Reduction(identity=lambda dtype: (start(dtype),), when=known_axes,
                     combine=lambda b, call, a, c: (combine(b, a[0], c[0]),))  # fmt: skip


# --- Sum ---
define("Sum", "input: T, reduction_indices: Tidx -> output: T", _NUMBER, infer=_shape, symbolic=True,
       reference=_reducing(lambda x, axes, keep: _add(
           x, axes, keepdims=keep, **({} if x.dtype == object else {"dtype": x.dtype}))),
       lower=_joining(0, lambda b, a, c: b.add(a, c)))  # fmt: skip

# --- Prod ---
define("Prod", "input: T, reduction_indices: Tidx -> output: T", _NUMBER, infer=_shape, symbolic=True,
       reference=_reducing(lambda x, axes, keep: _multiply(
           x, axes, keepdims=keep, **({} if x.dtype == object else {"dtype": x.dtype}))),
       lower=_joining(1, lambda b, a, c: b.mul(a, c)))  # fmt: skip

# --- Max: of nothing, the least there is; NaN when any is ---
define("Max", "input: T, reduction_indices: Tidx -> output: T", _REAL, infer=_shape,
       reference=_reducing(lambda x, axes, keep: np.max(x, axes, keepdims=keep, initial=_limit(x.dtype, _lowest))),
       lower=_joining(_lowest, lambda b, a, c: b.maximum(a, c)))  # fmt: skip

# --- Min ---
define("Min", "input: T, reduction_indices: Tidx -> output: T", _REAL, infer=_shape,
       reference=_reducing(lambda x, axes, keep: np.min(x, axes, keepdims=keep, initial=_limit(x.dtype, _highest))),
       lower=_joining(_highest, lambda b, a, c: b.minimum(a, c)))  # fmt: skip


# --- Mean: of integers cut towards zero, summed in 64 bits; of no integers 0 ---
def _mean(x: np.ndarray, axes: tuple[int, ...], keep: bool) -> np.ndarray:
    count = int(np.prod([x.shape[axis] for axis in axes], dtype=np.int64))
    if x.dtype.kind not in "iu":
        total = np.asarray(_add(x, axes, dtype=x.dtype, keepdims=keep))
        # Divided in the dtype itself, so that 0 / 0 is the NaN of an empty mean.
        return total / np.asarray(count, x.real.dtype)
    wide = np.uint64 if x.dtype == np.uint64 else np.int64
    total = np.asarray(_add(x, axes, dtype=wide, keepdims=keep))
    divisor = np.asarray(max(count, 1), wide)
    floor = total // divisor
    return floor + ((total < 0) & (total % divisor != 0)).astype(wide)


def _mean_item(b: Any, call: Any, x: Any, position: Any) -> tuple[Any, ...]:
    if x.dtype.is_floating:
        return (x,)
    return (b.convert(x, dtypes.uint64 if x.dtype is dtypes.uint64 else dtypes.int64),)


def _mean_result(b: Any, call: Any, acc: Any, count: Any) -> Any:
    total = acc[0]
    if total.dtype.is_floating:
        return b.div(total, b.splat(b.convert(count, total.dtype), total.lanes))
    divisor = b.convert(b.maximum(count, b.int64(1)), total.dtype)
    return b.convert(b.div(total, b.splat(divisor, total.lanes)), call.dtypes[0])


define("Mean", "input: T, reduction_indices: Tidx -> output: T", _NUMBER, infer=_shape, reference=_reducing(_mean),
       lower=Reduction(identity=lambda dtype: (0,), item=_mean_item, result=_mean_result, when=known_axes,
                       combine=lambda b, call, a, c: (b.add(a[0], c[0]),)))  # fmt: skip


# --- EuclideanNorm: the root of the sum of squares ---
def _norm(x: np.ndarray, axes: tuple[int, ...], keep: bool) -> np.ndarray:
    squares = np.asarray(_add((x * np.conj(x)).real, axes, dtype=x.real.dtype, keepdims=keep))
    return np.sqrt(squares)


def _expand_norm(x: Any, call: Any, value: Any, axes: Any) -> Any:
    return x.op("Sqrt", x.op("Sum", x.op("Square", value), axes, keep_dims=call.attrs["keep_dims"]))


define("EuclideanNorm", "input: T, reduction_indices: Tidx -> output: T", _NUMBER, infer=_shape,
       reference=_reducing(_norm, copies=False),
       lower=Composite(_expand_norm, when=lambda call: call.inputs[0].dtype in (dtypes.float32, dtypes.float64))
       )  # fmt: skip

# --- Any, All ---
define("Any", "input: bool, reduction_indices: Tidx -> output: bool", _OVER_BOOL, infer=_shape,
       reference=_reducing(lambda x, axes, keep: np.any(x, axes, keepdims=keep)),
       lower=_joining(False, lambda b, a, c: b.or_(a, c)))  # fmt: skip
define("All", "input: bool, reduction_indices: Tidx -> output: bool", _OVER_BOOL, infer=_shape,
       reference=_reducing(lambda x, axes, keep: np.all(x, axes, keepdims=keep)),
       lower=_joining(True, lambda b, a, c: b.and_(a, c)))  # fmt: skip


# --- ArgMax, ArgMin: the first of equals; NaNs are passed over, and all NaN gives 0 ---
def _arg_shape(x: Inference) -> list[ShapeLike]:
    shape, axes = x.shape(0), x.extents(1)
    if x.rank(1):
        x.fail(f"Shape must be rank 0 but is rank {x.rank(1)} for '{x.op}'")
    if shape is None:
        return [None]
    axis = axes[0] if axes else None
    if not isinstance(axis, int):
        return [(None,) * (len(shape) - 1)]
    if not -len(shape) <= axis < len(shape):
        x.fail(f"Expected dimension in the range [{-len(shape)}, {len(shape)}), but got {axis}")
    axis %= len(shape)
    x.check("ge", shape[axis], 1, f"Reduction axis {axis} is empty in shape {show(shape)}")
    return [shape[:axis] + shape[axis + 1 :]]


def _arg(function: Any, limit: Callable[[DType], Any]) -> Callable[..., Any]:
    def reference(call: Call, x: np.ndarray, dimension: np.ndarray) -> np.ndarray:
        axis = int(dimension)
        if not -x.ndim <= axis < x.ndim:
            call.fail(f"Expected dimension in the range [{-x.ndim}, {x.ndim}), but got {axis}")
        axis %= x.ndim
        if not x.shape[axis]:
            call.fail(f"Reduction axis {axis} is empty in shape {show(x.shape)}")
        if call.dtypes[0].is_integer and x.dtype.kind not in "iub":
            nan = np.isnan(x)
            worst = _limit(x.dtype, limit)
            found = function(np.where(nan, worst, x), axis)
            # A NaN that only beats what is the worst anyway does not win: then it is the first place.
            won = np.take_along_axis(nan, np.expand_dims(found, axis), axis).squeeze(axis)
            return np.asarray(np.where(won, 0, found)).astype(call.dtypes[0].np)
        return np.asarray(function(x, axis)).astype(call.dtypes[0].np)

    return reference


def _arg_axes(call: Any) -> Sequence[int] | None:
    known = call.known(1)
    if known is None or not isinstance(known.item(), int):
        return None
    return (known.item() % len(call.inputs[0].dims),)


def _arg_lower(better: str, limit: Callable[[DType], Any]) -> Reduction:
    def combine(b: Any, call: Any, acc: Any, item: Any) -> tuple[Any, ...]:
        earlier = b.and_(b.compare("eq", item[0], acc[0]), b.compare("lt", item[1], acc[1]))
        wins = b.or_(b.compare(better, item[0], acc[0]), earlier)
        return b.select(wins, item[0], acc[0]), b.select(wins, item[1], acc[1])

    return Reduction(
        identity=lambda dtype: (limit(dtype), 0), combine=combine, axes=_arg_axes,
        item=lambda b, call, x, position: (x, b.splat(position, x.lanes)),
        result=lambda b, call, acc, count: b.convert(acc[1], call.dtypes[0]),
        when=lambda call: _arg_axes(call) is not None,
    )  # fmt: skip


_PLACED = "real|qint8|quint8|qint32|qint16|quint16|bool"
define("ArgMax", "input: T, dimension: Tidx -> output: output_type",
       f"T: type in {_PLACED}, Tidx: type in int16|int32|int64 = int32, "
       "output_type: type in int16|uint16|int32|int64 = int64",
       infer=_arg_shape, reference=_arg(np.argmax, _lowest), lower=_arg_lower("gt", _lowest))  # fmt: skip
define("ArgMin", "input: T, dimension: Tidx -> output: output_type",
       f"T: type in {_PLACED}, Tidx: type in index = int32, output_type: type in int32|int64 = int64",
       infer=_arg_shape, reference=_arg(np.argmin, _highest), lower=_arg_lower("lt", _highest))  # fmt: skip
