"""Inverses, solutions and decompositions of matrices, by numpy's LAPACK; leading dimensions are batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stepjit_compiler import dims
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define

_T = "T: type in float64|float32|float16|complex64|complex128"


def _parts(x: Inference, i: int) -> tuple[tuple[Any, ...], Any, Any] | None:
    """Batch, rows and columns of an input; None where not even its rank is known."""
    shape = x.shape(i)
    if shape is None:
        return None
    if len(shape) < 2:
        x.fail(f"Shape must be at least rank 2 but is rank {len(shape)}: a matrix is needed")
    return tuple(shape[:-2]), shape[-2], shape[-1]


def _square(x: Inference, i: int = 0) -> tuple[tuple[Any, ...], Any] | None:
    parts = _parts(x, i)
    if parts is None:
        return None
    batch, rows, columns = parts
    message = f"Input matrices must be squares, got {rows} != {columns}: Dimensions must be equal"
    return batch, x.equal(rows, columns, message)


def _as_matrix(x: Inference) -> list[ShapeLike]:
    found = _square(x)
    return [None if found is None else (*found[0], found[1], found[1])]


def _as_scalars(count: int) -> Callable[[Inference], list[ShapeLike]]:
    def infer(x: Inference) -> list[ShapeLike]:
        found = _square(x)
        return [None if found is None else found[0]] * count

    return infer


def _solution(x: Inference, square: bool = True) -> list[ShapeLike]:
    matrix, rhs = (_square(x) if square else _parts(x, 0)), _parts(x, 1)
    if matrix is None or rhs is None:
        return [None]
    batch = tuple(x.equal(a, b, "Batch dimensions must be equal") for a, b in zip(matrix[0], rhs[0]))
    message = f"Input matrix and rhs are incompatible: Dimensions must be equal, got {matrix[1]} and {rhs[1]}"
    x.equal(matrix[1], rhs[1], message)
    return [(*batch, matrix[-1], rhs[2])]


def _exact(call: Call, a: np.ndarray) -> np.ndarray:
    """The matrices in a dtype that LAPACK has; square ones only."""
    if a.ndim < 2:
        call.fail(f"Input tensor must have rank >= 2, got {a.ndim}")
    return _wide(a)


def _wide(a: np.ndarray) -> np.ndarray:
    return a.astype(np.float32) if a.dtype == np.float16 else a


def _squares(call: Call, a: np.ndarray) -> np.ndarray:
    found = _exact(call, a)
    if a.shape[-1] != a.shape[-2]:
        call.fail(f"Input matrices must be squares, got {a.shape[-2]} != {a.shape[-1]}")
    return found


def _adjoint(a: np.ndarray) -> np.ndarray:
    return a.conj().swapaxes(-1, -2)


def _narrow(call: Call, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(each, call.dtypes[k].np) for k, each in enumerate(arrays))


# --- MatrixInverse, MatrixDeterminant, LogMatrixDeterminant ---


def _inverse(call: Call, a: np.ndarray) -> tuple[np.ndarray, ...]:
    a = _squares(call, a)
    try:
        return _narrow(call, np.linalg.inv(_adjoint(a) if call.attrs["adjoint"] else a))
    except np.linalg.LinAlgError:
        call.fail("Input is not invertible.")


define("MatrixInverse", "input: T -> output: T", f"adjoint: bool = False, {_T}", infer=_as_matrix, reference=_inverse)
define(
    "MatrixDeterminant", "input: T -> output: T", _T, infer=_as_scalars(1),
    reference=lambda call, a: _narrow(call, np.linalg.det(_squares(call, a))),
)  # fmt: skip
define(
    "LogMatrixDeterminant", "input: T -> sign: T, log_abs_determinant: T", _T, infer=_as_scalars(2),
    reference=lambda call, a: _narrow(call, *np.linalg.slogdet(_squares(call, a))),
)  # fmt: skip

# --- MatrixSolve, MatrixTriangularSolve, MatrixSolveLs ---


def _solved(call: Call, a: np.ndarray, rhs: np.ndarray) -> tuple[np.ndarray, ...]:
    if rhs.ndim < 2 or a.shape[-2] != rhs.shape[-2]:
        call.fail(f"Input matrix and rhs are incompatible: {list(a.shape)} and {list(rhs.shape)}")
    try:
        return _narrow(call, np.linalg.solve(_adjoint(a) if call.attrs["adjoint"] else a, _wide(rhs)))
    except np.linalg.LinAlgError:
        call.fail("Input matrix is not invertible.")


def _triangular(call: Call, a: np.ndarray, rhs: np.ndarray) -> tuple[np.ndarray, ...]:
    a = _squares(call, a)
    return _solved(call, np.tril(a) if call.attrs["lower"] else np.triu(a), rhs)


def _least_squares(call: Call, a: np.ndarray, rhs: np.ndarray, regularizer: np.ndarray) -> tuple[np.ndarray, ...]:
    a, rhs = _exact(call, a), _wide(rhs)
    if rhs.ndim < 2 or a.shape[-2] != rhs.shape[-2]:
        call.fail(f"Input matrix and rhs are incompatible: {list(a.shape)} and {list(rhs.shape)}")
    weight = float(regularizer)
    if weight:
        square = _adjoint(a) @ a + weight * np.eye(a.shape[-1], dtype=a.dtype)
        return _narrow(call, np.linalg.solve(square, _adjoint(a) @ rhs))
    found = np.empty((*a.shape[:-2], a.shape[-1], rhs.shape[-1]), a.dtype)
    for index in np.ndindex(a.shape[:-2]):
        found[index] = np.linalg.lstsq(a[index], rhs[index], rcond=None)[0]
    return _narrow(call, found)


define(
    "MatrixSolve", "matrix: T, rhs: T -> output: T", f"adjoint: bool = False, {_T}", infer=_solution,
    reference=lambda call, a, rhs: _solved(call, _squares(call, a), rhs),
)  # fmt: skip
define(
    "MatrixTriangularSolve", "matrix: T, rhs: T -> output: T", f"lower: bool = True, adjoint: bool = False, {_T}",
    infer=_solution, reference=_triangular,
)  # fmt: skip
define(
    "MatrixSolveLs", "matrix: T, rhs: T, l2_regularizer: float64 -> output: T", f"{_T}, fast: bool = True",
    infer=lambda x: _solution(x, square=False), reference=_least_squares,
)  # fmt: skip

# --- Cholesky ---


def _cholesky(call: Call, a: np.ndarray) -> tuple[np.ndarray, ...]:
    try:
        return _narrow(call, np.linalg.cholesky(_squares(call, a)))
    except np.linalg.LinAlgError:
        call.fail("Cholesky decomposition was not successful. The input might not be valid.")


define("Cholesky", "input: T -> output: T", _T, infer=_as_matrix, reference=_cholesky)

# --- Qr ---


def _smaller(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return None
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    return dims.minimum(a, b)


def _qr_shapes(x: Inference) -> list[ShapeLike]:
    parts = _parts(x, 0)
    if parts is None:
        return [None, None]
    batch, rows, columns = parts
    if x.attrs["full_matrices"]:
        return [(*batch, rows, rows), (*batch, rows, columns)]
    inner = _smaller(rows, columns)
    return [(*batch, rows, inner), (*batch, inner, columns)]


define(
    "Qr", "input: T -> q: T, r: T", f"full_matrices: bool = False, {_T}", infer=_qr_shapes,
    reference=lambda call, a: _narrow(
        call, *np.linalg.qr(_exact(call, a), "complete" if call.attrs["full_matrices"] else "reduced")
    ),
)  # fmt: skip

# --- SelfAdjointEigV2, Svd: values ascending and descending; vectors are empty where nobody asks for them ---


def _eigen_shapes(x: Inference) -> list[ShapeLike]:
    found = _square(x)
    if found is None:
        return [None, None if x.attrs["compute_v"] else (0,)]
    batch, size = found
    return [(*batch, size), (*batch, size, size) if x.attrs["compute_v"] else (0,)]


def _eigen(call: Call, a: np.ndarray) -> tuple[np.ndarray, ...]:
    a = _squares(call, a)
    try:
        if not call.attrs["compute_v"]:
            return _narrow(call, np.linalg.eigvalsh(a), np.empty(0))
        return _narrow(call, *np.linalg.eigh(a))
    except np.linalg.LinAlgError:
        call.fail("Self-adjoint eigen decomposition was not successful. The input might not be valid.")


def _svd_shapes(x: Inference) -> list[ShapeLike]:
    vectors, parts = x.attrs["compute_uv"], _parts(x, 0)
    if parts is None:
        return [None, *([None] * 2 if vectors else [(0,)] * 2)]
    batch, rows, columns = parts
    inner = _smaller(rows, columns)
    if not vectors:
        return [(*batch, inner), (0,), (0,)]
    left, right = (rows, columns) if x.attrs["full_matrices"] else (inner, inner)
    return [(*batch, inner), (*batch, rows, left), (*batch, columns, right)]


def _svd(call: Call, a: np.ndarray) -> tuple[np.ndarray, ...]:
    a = _exact(call, a)
    try:
        if not call.attrs["compute_uv"]:
            return _narrow(call, np.linalg.svd(a, compute_uv=False), np.empty(0), np.empty(0))
        u, s, v = np.linalg.svd(a, full_matrices=call.attrs["full_matrices"])
        return _narrow(call, s, u, _adjoint(v))
    except np.linalg.LinAlgError:
        call.fail("SVD did not converge. The input might not be valid.")


define(
    "SelfAdjointEigV2", "input: T -> e: T, v: T", f"compute_v: bool = True, {_T}", infer=_eigen_shapes, reference=_eigen
)
define(
    "Svd", "input: T -> s: T, u: T, v: T", f"compute_uv: bool = True, full_matrices: bool = False, {_T}",
    infer=_svd_shapes, reference=_svd,
)  # fmt: skip
