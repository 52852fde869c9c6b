"""Diagonals by number: one diagonal `k` of a matrix, or the band of diagonals `k[0] ... k[1]`, packed in rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from stepjit_compiler import dims
from stepjit_compiler.dims import Dim, Extent
from stepjit_compiler.lowering import Indexed
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, extent_text
from stepjit_compiler.ops.arguments import (
    at_least,
    brief,
    choose,
    compare,
    fresh,
    int_input,
    integer,
    integers,
    ints_input,
    known_ints,
)  # fmt: skip

_ALIGN = "align: string in LEFT_RIGHT|RIGHT_LEFT|LEFT_LEFT|RIGHT_RIGHT = 'RIGHT_LEFT'"


def _limits(x: Any, k: list[int]) -> tuple[int, int]:
    """The lowest and highest diagonal; `x` reports what is no pair."""
    if not 1 <= len(k) <= 2:
        x.fail(f"diag_index must have only one or two elements, received {len(k)} elements.")
    if k[0] > k[-1]:
        x.fail(f"lower_diag_index must not be larger than upper_diag_index: {k[0]} > {k[-1]}")
    return k[0], k[-1]


def _within(x: Any, low: int, high: int, rows: Any, columns: Any) -> None:
    """Reports diagonals that lie outside a matrix of that size."""
    for name, each in (("lower", low), ("upper", high)):
        between = f"between -{extent_text(rows)} and {extent_text(columns)}"
        message = f"{name}_diag_index is out of bound: {each} It must be {between}"
        extent = rows if each < 0 else columns
        if isinstance(extent, int) and each and abs(each) >= extent:
            x.fail(message)
        if isinstance(extent, Dim) and each:
            x.check("ge", extent, abs(each) + 1, message)


def _longest(low: int, high: int, rows: Extent, columns: Extent) -> Extent:
    return dims.minimum(rows + min(high, 0), columns - max(low, 0))


def _rows_of_band(
    call: Call, low: int, high: int, rows: int, columns: int
) -> Iterator[tuple[int, slice, tuple[np.ndarray, np.ndarray]]]:
    """Per diagonal from the highest: its row in the packed form, its stretch of that row, its places in the matrix."""
    above, below = call.attrs["align"].decode().split("_")
    longest = int(_longest(low, high, rows, columns))  # type: ignore[arg-type]
    for number, diagonal in enumerate(range(high, low - 1, -1)):
        length = max(min(rows + min(diagonal, 0), columns - max(diagonal, 0)), 0)
        left = (diagonal >= 0 and above == "LEFT") or (diagonal <= 0 and below == "LEFT")
        start = 0 if left else longest - length
        at = np.arange(length)
        yield number, slice(start, start + length), (at + max(-diagonal, 0), at + max(diagonal, 0))


def _single(call: Any) -> bool:
    k = known_ints(call, _K[call.name])
    return k is not None and len(set(k)) == 1


_K = {"MatrixDiagV3": 1, "MatrixDiagPartV3": 1, "MatrixSetDiagV3": 2}

# --- MatrixDiagPartV3 ---


def _part_shape(x: Inference) -> list[ShapeLike]:
    shape, k = at_least(x, 0, 2), ints_input(x, 1)
    if shape is None or k is None:
        return [None]
    low, high = _limits(x, k)
    rows, columns = shape[-2:]
    _within(x, low, high, rows, columns)
    longest = None if rows is None or columns is None else _longest(low, high, rows, columns)
    return [(*shape[:-2], *((high - low + 1,) if low != high else ()), longest)]


def _part(call: Call, x: np.ndarray, k: np.ndarray, padding: np.ndarray) -> np.ndarray:
    if x.ndim < 2:
        call.fail(f"input must be at least 2-dim, received shape: {brief(x.shape)}")
    low, high = _limits(call, integers(k))
    rows, columns = x.shape[-2:]
    _within(call, low, high, rows, columns)
    found = np.empty((*x.shape[:-2], high - low + 1, int(_longest(low, high, rows, columns))), x.dtype)  # type: ignore[arg-type]
    found[...] = padding
    for row, stretch, places in _rows_of_band(call, low, high, rows, columns):
        at = (Ellipsis, *places)
        found[..., row, stretch] = x[at]
    return fresh(found[..., 0, :]) if low == high else found


def _emit_part(k: Any, call: Any, output: int, index: Any) -> Any:
    (diagonal, *_) = known_ints(call, 1) or (0,)
    return k.load(0, (*index[:-1], index[-1] + max(-diagonal, 0), index[-1] + max(diagonal, 0)))


define(
    "MatrixDiagPartV3", "input: T, k: int32, padding_value: T -> diagonal: T", f"T: type, {_ALIGN}",
    infer=_part_shape, reference=_part, lower=Indexed(_emit_part, when=_single),
)  # fmt: skip

# --- MatrixDiagV3 ---


def _matrix_size(x: Any, low: int, high: int, longest: Any, rows: int, columns: int) -> tuple[Any, Any]:
    """The matrix's extents: as given, or (-1) the smallest that hold the band; square where neither is given."""
    least_rows, least_columns = longest - min(high, 0), longest + max(low, 0)
    if rows == -1 and columns == -1:
        rows = columns = dims.maximum(least_rows, least_columns)  # type: ignore[assignment]
    rows, columns = least_rows if rows == -1 else rows, least_columns if columns == -1 else columns
    if isinstance(longest, int):
        if rows < least_rows:
            x.fail("The number of rows is too small.")
        if columns < least_columns:
            x.fail("The number of columns is too small.")
        if rows != least_rows and columns != least_columns:
            x.fail("The number of rows or columns is not consistent with the specified d_lower, d_upper, and diagonal.")
    return rows, columns


def _diag_shape(x: Inference) -> list[ShapeLike]:
    diagonal, k = at_least(x, 0, 1), ints_input(x, 1)
    rows, columns = int_input(x, 2), int_input(x, 3)
    if diagonal is None or k is None:
        return [None]
    low, high = _limits(x, k)
    lead = diagonal[:-1] if low == high else diagonal[:-2]
    if low != high:
        x.equal(diagonal[-2], high - low + 1, "The number of diagonals provided in `diagonal` is not consistent with k")
    if rows is None or columns is None or diagonal[-1] is None:
        return [(*lead, None, None)]
    return [(*lead, *_matrix_size(x, low, high, diagonal[-1], rows, columns))]


def _diag(
    call: Call, diagonal: np.ndarray, k: np.ndarray, num_rows: np.ndarray, num_cols: np.ndarray, padding: np.ndarray
) -> np.ndarray:
    low, high = _limits(call, integers(k))
    if diagonal.ndim < (1 if low == high else 2):
        call.fail(f"diagonal must be at least {1 if low == high else 2}-dim, received shape: {brief(diagonal.shape)}")
    if low != high and diagonal.shape[-2] != high - low + 1:
        call.fail("The number of diagonals provided in the input does not match lower_diag_index and upper_diag_index")
    rows, columns = _matrix_size(call, low, high, diagonal.shape[-1], integer(num_rows), integer(num_cols))
    packed = diagonal[..., None, :] if low == high else diagonal
    found = np.empty((*packed.shape[:-2], rows, columns), diagonal.dtype)
    found[...] = padding
    for row, stretch, places in _rows_of_band(call, low, high, rows, columns):
        at = (Ellipsis, *places)
        found[at] = packed[..., row, stretch]
    return found


def _on_diagonal(k: Any, call: Any, diagonal: int, source: int, index: Any, other: Any) -> Any:
    """An element of the packed diagonal where `index` lies on it, else `other`."""
    row, column = index[-2:]
    place = k.clamp(row if diagonal >= 0 else column, call.inputs[source].dims[-1])
    return choose(k, compare(k, "eq", column - row, diagonal), k.load(source, (*index[:-2], place)), other)


def _emit_diag(k: Any, call: Any, output: int, index: Any) -> Any:
    (diagonal, *_) = known_ints(call, 1) or (0,)
    return _on_diagonal(k, call, diagonal, 0, index, k.load(4, ()))


def _diag_is_native(call: Any) -> bool:
    """A diagonal without elements may belong to a matrix that has some, and can't be read for them."""
    if not _single(call):
        return False
    return known_ints(call, 2) == [-1] == known_ints(call, 3) and known_ints(call, 1) in ([0], [0, 0])


define(
    "MatrixDiagV3", "diagonal: T, k: int32, num_rows: int32, num_cols: int32, padding_value: T -> output: T",
    f"T: type, {_ALIGN}", infer=_diag_shape, reference=_diag, lower=Indexed(_emit_diag, when=_diag_is_native),
)  # fmt: skip

# --- MatrixSetDiagV3 ---


def _set_shape(x: Inference) -> list[ShapeLike]:
    shape, diagonal, k = at_least(x, 0, 2), at_least(x, 1, 1), ints_input(x, 2)
    if shape is None or diagonal is None or k is None:
        return [shape]
    low, high = _limits(x, k)
    rows, columns = shape[-2:]
    _within(x, low, high, rows, columns)
    longest = None if rows is None or columns is None else _longest(low, high, rows, columns)
    wanted = (*shape[:-2], *((high - low + 1,) if low != high else ()), longest)
    message = _set_message(shape, diagonal)
    if len(wanted) != len(diagonal):
        x.fail(message)
    for mine, other in zip(diagonal, wanted, strict=True):
        x.equal(mine, other, message)
    return [shape]


def _set_message(shape: Any, diagonal: Any) -> str:
    return (
        "Either first dimensions of diagonal don't match input.shape[:-2], or diagonal.shape[:-1] is not equal to the "
        "longests diagonal in range [lower_diag_index:upper_diag_index].\n"
        f"Input shape: {brief(shape)}\nDiagonal shape: {brief(diagonal)}"
    )


def _set(call: Call, x: np.ndarray, diagonal: np.ndarray, k: np.ndarray) -> np.ndarray:
    if x.ndim < 2:
        call.fail(f"input must be at least 2-dim, received shape: {brief(x.shape)}")
    low, high = _limits(call, integers(k))
    rows, columns = x.shape[-2:]
    _within(call, low, high, rows, columns)
    count = () if low == high else (high - low + 1,)
    if diagonal.shape != (*x.shape[:-2], *count, _longest(low, high, rows, columns)):
        call.fail(_set_message(x.shape, diagonal.shape))
    packed = diagonal[..., None, :] if low == high else diagonal
    found = fresh(x)
    for row, stretch, places in _rows_of_band(call, low, high, rows, columns):
        at = (Ellipsis, *places)
        found[at] = packed[..., row, stretch]
    return found


def _emit_set(k: Any, call: Any, output: int, index: Any) -> Any:
    (diagonal, *_) = known_ints(call, 2) or (0,)
    return _on_diagonal(k, call, diagonal, 1, index, k.load(0, index))


define(
    "MatrixSetDiagV3", "input: T, diagonal: T, k: int32 -> output: T", f"T: type, {_ALIGN}",
    infer=_set_shape, reference=_set, lower=Indexed(_emit_set, when=_single),
)  # fmt: skip
