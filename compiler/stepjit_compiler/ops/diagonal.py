"""Diagonals and bands of matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler import dims
from stepjit_compiler.lowering import Indexed
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, extent_text
from stepjit_compiler.ops.arguments import at_least, brief, choose, compare, every, filled, fresh, int_input, integer

# --- MatrixDiag ---


def _matrix_diag_shape(x: Inference) -> list[ShapeLike]:
    shape = at_least(x, 0, 1)
    return [None if shape is None else (*shape, shape[-1])]


def _matrix_diag(call: Call, diagonal: np.ndarray) -> np.ndarray:
    if diagonal.ndim < 1:
        call.fail("diagonal must be at least 1-dim, received shape: []")
    n = diagonal.shape[-1]
    found = filled((*diagonal.shape, n), diagonal.dtype)
    found[..., np.arange(n), np.arange(n)] = diagonal
    return found


def _emit_matrix_diag(k: Any, call: Any, output: int, index: Any) -> Any:
    on = compare(k, "eq", index[-2], index[-1])
    return choose(k, on, k.load(0, index[:-1]), k.const(0, call.dtypes[0]))


define(
    "MatrixDiag", "diagonal: T -> output: T", "T: type",
    infer=_matrix_diag_shape, reference=_matrix_diag, lower=Indexed(_emit_matrix_diag),
)  # fmt: skip

# --- MatrixDiagPart ---


def _matrix_diag_part_shape(x: Inference) -> list[ShapeLike]:
    shape = at_least(x, 0, 2)
    if shape is None:
        return [None]
    rows, columns = shape[-2:]
    return [(*shape[:-2], None if rows is None or columns is None else dims.minimum(rows, columns))]


def _matrix_diag_part(call: Call, x: np.ndarray) -> np.ndarray:
    if x.ndim < 2:
        call.fail(f"input must be at least 2-dim, received shape: {brief(x.shape)}")
    return fresh(np.diagonal(x, axis1=-2, axis2=-1))


define(
    "MatrixDiagPart", "input: T -> diagonal: T", "T: type",
    infer=_matrix_diag_part_shape, reference=_matrix_diag_part,
    lower=Indexed(lambda k, call, output, index: k.load(0, (*index, index[-1]))),
)  # fmt: skip

# --- MatrixSetDiag ---


def _set_diag_message(shape: Any, diagonal: Any) -> str:
    return (
        "Either first dimensions of diagonal don't match input.shape[:-2], or diagonal.shape[:-1] is not equal to the "
        f"longests diagonal. must have diagonal.shape == input.shape[:-2] + min(input.shape[-2:]), but received input "
        f"shape: {brief(shape)} and diagonal shape: {brief(diagonal)}"
    )


def _matrix_set_diag_shape(x: Inference) -> list[ShapeLike]:
    shape, diagonal = at_least(x, 0, 2), at_least(x, 1, 1)
    if shape is None or diagonal is None:
        return [shape]
    message = _set_diag_message(shape, diagonal)
    if len(diagonal) != len(shape) - 1:
        x.fail(message)
    rows, columns = shape[-2:]
    shorter = None if rows is None or columns is None else dims.minimum(rows, columns)
    for mine, wanted in zip(diagonal, (*shape[:-2], shorter), strict=True):
        x.equal(mine, wanted, message)
    return [shape]


def _matrix_set_diag(call: Call, x: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
    if x.ndim < 2:
        call.fail(f"input must be at least 2-dim, received shape: {brief(x.shape)}")
    n = min(x.shape[-2:])
    if diagonal.shape != (*x.shape[:-2], n):
        call.fail(_set_diag_message(x.shape, diagonal.shape))
    found = fresh(x)
    found[..., np.arange(n), np.arange(n)] = diagonal
    return found


def _emit_matrix_set_diag(k: Any, call: Any, output: int, index: Any) -> Any:
    length = call.inputs[1].dims[-1]
    on = compare(k, "eq", index[-2], index[-1])
    # Rows past the end of the diagonal are off it, whatever is read for them; it is only empty where the matrix is.
    place = index[-2] if length == call.inputs[0].dims[-2] else k.clamp(index[-2], length)
    return choose(k, on, k.load(1, (*index[:-2], place)), k.load(0, index))


define(
    "MatrixSetDiag", "input: T, diagonal: T -> output: T", "T: type",
    infer=_matrix_set_diag_shape, reference=_matrix_set_diag, lower=Indexed(_emit_matrix_set_diag),
)  # fmt: skip

# --- MatrixBandPart ---


def _band_limits(x: Any, limits: Any, rows: Any, columns: Any) -> None:
    """Reports limits that reach past the matrix."""
    for name, limit, what, extent in (
        ("num_lower", limits[0], "rows", rows), ("num_upper", limits[1], "columns", columns),
    ):  # fmt: skip
        if isinstance(limit, int) and isinstance(extent, int) and limit > extent:
            x.fail(f"{name} must be negative or less or equal to number of {what} ({extent}) got: {extent_text(limit)}")


def _matrix_band_part_shape(x: Inference) -> list[ShapeLike]:
    shape = at_least(x, 0, 2)
    for i in (1, 2):
        x.with_rank(i, 0)
    if shape is not None:
        limits = [int_input(x, i) for i in (1, 2)]
        _band_limits(x, limits, *shape[-2:])
        for limit, extent in zip(limits, shape[-2:], strict=True):
            if limit is not None and limit >= 0:
                text = f"must be negative or less or equal to number of rows, got: {extent_text(limit)}"
                x.check("ge", extent, limit, text)
    return [shape]


def _matrix_band_part(call: Call, x: np.ndarray, num_lower: np.ndarray, num_upper: np.ndarray) -> np.ndarray:
    if x.ndim < 2:
        call.fail(f"input must be at least 2-dim, received shape: {brief(x.shape)}")
    lower, upper = integer(num_lower), integer(num_upper)
    rows, columns = x.shape[-2:]
    _band_limits(call, (lower, upper), rows, columns)
    row, column = np.ogrid[:rows, :columns]
    inside = ((lower < 0) | (row - column <= lower)) & ((upper < 0) | (column - row <= upper))
    return np.where(inside, x, filled((), x.dtype))


def _emit_matrix_band_part(k: Any, call: Any, output: int, index: Any) -> Any:
    row, column = index[-2:]
    lower, upper = (int(call.known(i).ravel()[0]) for i in (1, 2))
    conditions = []
    if lower >= 0:
        conditions.append(compare(k, "le", row - column, lower))
    if upper >= 0:
        conditions.append(compare(k, "le", column - row, upper))
    return choose(k, every(k, conditions), k.load(0, index), k.const(0, call.dtypes[0]))


def _limits_known(call: Any) -> bool:
    return all(call.known(i) is not None and isinstance(call.known(i).ravel()[0], int) for i in (1, 2))


define(
    "MatrixBandPart", "input: T, num_lower: Tindex, num_upper: Tindex -> band: T",
    "T: type, Tindex: type in index = int64",
    infer=_matrix_band_part_shape, reference=_matrix_band_part,
    lower=Indexed(_emit_matrix_band_part, when=_limits_known),
)  # fmt: skip

# --- Diag ---

_DIAG_TYPES = "T: type in float|int32|int64|complex"


def _diag_shape(x: Inference) -> list[ShapeLike]:
    shape = at_least(x, 0, 1)
    return [None if shape is None else (*shape, *shape)]


def _diag(call: Call, x: np.ndarray) -> np.ndarray:
    if x.ndim == 0:
        call.fail("Input must be at least rank 1, got 0")
    return np.diag(x.ravel()).reshape((*x.shape, *x.shape))


def _emit_diag(k: Any, call: Any, output: int, index: Any) -> Any:
    half = len(index) // 2
    on = every(k, [compare(k, "eq", a, b) for a, b in zip(index[:half], index[half:], strict=True)])
    return choose(k, on, k.load(0, index[:half]), k.const(0, call.dtypes[0]))


define(
    "Diag", "diagonal: T -> output: T", _DIAG_TYPES, infer=_diag_shape, reference=_diag, lower=Indexed(_emit_diag)
)

# --- DiagPart ---


def _diag_part_shape(x: Inference) -> list[ShapeLike]:
    shape = x.shape(0)
    if shape is None:
        return [None]
    half = len(shape) // 2
    if not shape or len(shape) % 2:
        x.fail(f"Input must have even and non-zero rank, input rank is {len(shape)}")
    found = []
    for axis in range(half):
        message = f"Invalid shape {brief(shape)}: dimensions {axis} and {axis + half} do not match."
        found.append(x.equal(shape[axis], shape[axis + half], message))
    return [tuple(found)]


def _diag_part(call: Call, x: np.ndarray) -> np.ndarray:
    half = x.ndim // 2
    if x.ndim == 0 or x.ndim % 2:
        call.fail(f"The rank of the tensor should be even and positive, got shape {brief(x.shape)}")
    for axis in range(half):
        if x.shape[axis] != x.shape[axis + half]:
            call.fail(f"Invalid shape {brief(x.shape)}: dimensions {axis} and {axis + half} do not match.")
    n = int(np.prod(x.shape[:half]))
    return fresh(np.diagonal(x.reshape(n, n))).reshape(x.shape[:half])


define(
    "DiagPart", "input: T -> diagonal: T", _DIAG_TYPES,
    infer=_diag_part_shape, reference=_diag_part,
    lower=Indexed(lambda k, call, output, index: k.load(0, (*index, *index))),
)  # fmt: skip
