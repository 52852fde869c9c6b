"""Inverses, determinants, linear systems and Cholesky factors of the matrices in the last two dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stepjit_compiler.dims import Extent
from stepjit_compiler.lowering import Matrices
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, extent_text, show
from stepjit_compiler.ops.arguments import at_least, merge

TYPES = "T: type in float64|float32|float16|complex"
NOT_INVERTIBLE = "Input is not invertible."
NOT_SOLVABLE = "Input matrix is not invertible."
NOT_POSITIVE = "Cholesky decomposition was not successful. The input might not be valid."
NOT_SQUARE = "Input matrix must be square."
LARGEST = 64
"""Matrices of up to so many rows are worked on by generated code; LAPACK takes the larger."""

# --- What the families of linear algebra share ---


def square(x: Inference, i: int = 0) -> tuple[tuple[Extent | None, ...], Extent | None] | None:
    """The batch and the size of the square matrices in input i; None when its rank is unknown."""
    shape = at_least(x, i, 2)
    if shape is None:
        return None
    rows, columns = shape[-2:]
    pair = f"{extent_text(rows)} and {extent_text(columns)}"
    return shape[:-2], x.equal(rows, columns, f"Dimensions must be equal, but are {pair}. {NOT_SQUARE}")


def like_square(x: Inference) -> list[ShapeLike]:
    """The output is as the input, square matrices."""
    found = square(x)
    return [None if found is None else (*found[0], found[1], found[1])]


def require_square(call: Call, *arrays: np.ndarray, message: str = NOT_SQUARE) -> None:
    for array in arrays:
        if array.ndim < 2:
            call.fail(f"Input tensor 0 must have rank >= 2, got {array.ndim}")
    if arrays[0].shape[-1] != arrays[0].shape[-2]:
        call.fail(message)


def working(array: np.ndarray) -> np.ndarray:
    """The matrices in a dtype that LAPACK has."""
    return array.astype(np.float32) if array.dtype == np.float16 else array


def adjoint(array: np.ndarray) -> np.ndarray:
    return np.conj(array.swapaxes(-1, -2))


def as_output(call: Call, array: Any, output: int = 0) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(array).astype(call.dtypes[output].np, copy=False)).reshape(np.shape(array))


def _quietly(function: Callable[..., Any], *args: Any) -> Any:
    with np.errstate(all="ignore"):
        return function(*args)


def _small(call: Any) -> bool:
    """Whether native code takes the matrices: of static size and few rows, with a static number of right sides."""
    sizes = [*call.inputs[0].dims[-2:], *(call.inputs[1].dims[-1:] if len(call.inputs) > 1 else ())]
    return all(isinstance(size, int) and 1 <= size <= LARGEST for size in sizes)


# --- MatrixInverse ---
def _inverse(call: Call, x: np.ndarray) -> np.ndarray:
    require_square(call, x)
    if np.isnan(x).any():
        call.fail(NOT_INVERTIBLE)
    matrices = adjoint(x) if call.attrs["adjoint"] else x
    try:
        return as_output(call, _quietly(np.linalg.inv, working(matrices)))
    except np.linalg.LinAlgError:
        call.fail(NOT_INVERTIBLE)


for _name in ("MatrixInverse", "BatchMatrixInverse"):
    define(_name, "input: T -> output: T", f"adjoint: bool = False, {TYPES}", infer=like_square, reference=_inverse,
           lower=Matrices("inverse", _small, NOT_INVERTIBLE))  # fmt: skip


# --- MatrixDeterminant, LogMatrixDeterminant ---
def _batch_only(x: Inference) -> list[ShapeLike]:
    found = square(x)
    return [None if found is None else found[0]]


def _determinant(call: Call, x: np.ndarray) -> np.ndarray:
    require_square(call, x)
    return as_output(call, _quietly(np.linalg.det, working(x)))


def _log_determinant(call: Call, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    require_square(call, x)
    sign, logarithm = _quietly(np.linalg.slogdet, working(x))
    return as_output(call, sign), as_output(call, logarithm, 1)


for _name in ("MatrixDeterminant", "BatchMatrixDeterminant"):
    define(_name, "input: T -> output: T", TYPES, infer=_batch_only, reference=_determinant,
           lower=Matrices("determinant", _small))  # fmt: skip
define("LogMatrixDeterminant", "input: T -> sign: T, log_abs_determinant: T", TYPES,
       infer=lambda x: _batch_only(x) * 2, reference=_log_determinant)  # fmt: skip


# --- MatrixSolve ---
def _system(x: Inference) -> list[ShapeLike]:
    """Square matrices and right sides of as many rows, in the same batch."""
    matrix, rhs = square(x), at_least(x, 1, 2)
    if matrix is None or rhs is None:
        return [None]
    (batch, size), message = matrix, f"{show(x.shape(0))} vs. {show(rhs)}"
    lead = merge(x, batch, rhs[:-2], f"All input tensors must have the same outer dimensions: {message}")
    assert lead is not None
    return [(*lead, _rows(x, size, rhs), rhs[-1])]


def _rows(x: Inference, size: Extent | None, rhs: tuple[Extent | None, ...]) -> Extent | None:
    pair = f"{extent_text(size)} and {extent_text(rhs[-2])}"
    return x.equal(size, rhs[-2], f"Dimensions must be equal, but are {pair}. Input matrix and rhs are incompatible.")


def _solve(call: Call, matrix: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    if matrix.ndim != rhs.ndim:
        call.fail("All input tensors must have the same rank.")
    require_square(call, matrix, rhs, message="First input (lhs) must be a square matrix.")
    if matrix.shape[:-2] != rhs.shape[:-2]:
        call.fail("All input tensors must have the same outer dimensions.")
    if matrix.shape[-1] != rhs.shape[-2]:
        call.fail("Input matrix and rhs are incompatible.")
    if not matrix.size or not rhs.size:
        return np.zeros(rhs.shape, rhs.dtype)
    if np.isnan(matrix).any():
        call.fail(NOT_SOLVABLE)
    matrix = adjoint(matrix) if call.attrs["adjoint"] else matrix
    try:
        return as_output(call, _quietly(np.linalg.solve, working(matrix), working(rhs)))
    except np.linalg.LinAlgError:
        call.fail(NOT_SOLVABLE)


for _name in ("MatrixSolve", "BatchMatrixSolve"):
    define(_name, "matrix: T, rhs: T -> output: T", f"adjoint: bool = False, {TYPES}", infer=_system, reference=_solve,
           lower=Matrices("solve", _small, NOT_SOLVABLE))  # fmt: skip


# --- MatrixTriangularSolve: batches broadcast ---
def _triangular_shape(x: Inference) -> list[ShapeLike]:
    matrix, rhs = square(x), at_least(x, 1, 2)
    if matrix is None or rhs is None:
        return [None]
    lead = x.broadcast(matrix[0], rhs[:-2])
    assert lead is not None
    return [(*lead, _rows(x, matrix[1], rhs), rhs[-1])]


def substitute(matrix: np.ndarray, rhs: np.ndarray, lower: bool) -> np.ndarray:
    """The solution of triangular systems, row by row; what divides by 0 becomes inf or NaN."""
    size = matrix.shape[-1]
    batch = np.broadcast_shapes(matrix.shape[:-2], rhs.shape[:-2])
    found = np.empty((*batch, *rhs.shape[-2:]), np.result_type(matrix, rhs))
    with np.errstate(all="ignore"):
        for i in range(size) if lower else range(size - 1, -1, -1):
            done = slice(0, i) if lower else slice(i + 1, size)
            known = matrix[..., i : i + 1, done] @ found[..., done, :]
            found[..., i, :] = (rhs[..., i, :] - known[..., 0, :]) / matrix[..., i, i, None]
    return found


def _triangular_solve(call: Call, matrix: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    for i, array in enumerate((matrix, rhs)):
        if array.ndim < 2:
            call.fail(f"In[{i}] ndims must be >= 2: {array.ndim}")
    rows, columns = matrix.shape[-2:]
    if rows != columns:
        call.fail(f"In[0] matrices in the last dimensions must be square ({columns} =/= {rows})")
    if rows != rhs.shape[-2]:
        call.fail(f"In[0] mismatch In[1] shape: {rows} vs. {rhs.shape[-2]}: {show(matrix.shape)} {show(rhs.shape)}")
    try:
        np.broadcast_shapes(matrix.shape[:-2], rhs.shape[:-2])
    except ValueError:
        call.fail(f"In[0] and In[1] must have compatible batch dimensions: {show(matrix.shape)} vs. {show(rhs.shape)}")
    lower = bool(call.attrs["lower"])
    dtype = matrix.dtype if matrix.dtype.itemsize > 2 else np.dtype(np.float32)
    matrix, rhs = matrix.astype(dtype, copy=False), rhs.astype(dtype, copy=False)
    if call.attrs["adjoint"]:
        matrix, lower = adjoint(matrix), not lower
    return as_output(call, substitute(matrix, rhs, lower))


for _name in ("MatrixTriangularSolve", "BatchMatrixTriangularSolve"):
    define(_name, "matrix: T, rhs: T -> output: T",
           "lower: bool = True, adjoint: bool = False, T: type in bfloat16|float64|float32|float16|complex",
           infer=_triangular_shape, reference=_triangular_solve, lower=Matrices("triangular", _small))  # fmt: skip


# --- Cholesky, CholeskyGrad: of the lower triangles ---
def _cholesky(call: Call, x: np.ndarray) -> np.ndarray:
    require_square(call, x)
    if np.isnan(np.tril(x)).any():
        call.fail(NOT_POSITIVE)
    try:
        return as_output(call, _quietly(np.linalg.cholesky, working(x)))
    except np.linalg.LinAlgError:
        call.fail(NOT_POSITIVE)


for _name in ("Cholesky", "BatchCholesky"):
    define(_name, "input: T -> output: T", TYPES, infer=like_square, reference=_cholesky,
           lower=Matrices("cholesky", _small, NOT_POSITIVE))  # fmt: skip


def _cholesky_grad(call: Call, factor: np.ndarray, grad: np.ndarray) -> np.ndarray:
    require_square(call, factor, grad)
    if factor.shape != grad.shape:
        call.fail(f"l and grad must have the same shape: {show(factor.shape)} vs. {show(grad.shape)}")
    low, given = np.tril(working(factor)), np.tril(working(grad))
    middle = np.tril(adjoint(low) @ given)
    np.einsum("...ii->...i", middle)[...] *= 0.5
    left = substitute(adjoint(low), middle, lower=False)
    both = adjoint(substitute(adjoint(low), adjoint(left), lower=False))
    return as_output(call, (both + adjoint(both)) / 2)


def _cholesky_grad_shape(x: Inference) -> list[ShapeLike]:
    return [merge(x, like_square(x)[0], x.shape(1), "l and grad must have the same shape")]


for _name in ("CholeskyGrad", "BatchCholeskyGrad"):
    define(_name, "l: T, grad: T -> output: T", "T: type in float16|float32|float64",
           infer=_cholesky_grad_shape, reference=_cholesky_grad)  # fmt: skip


# --- MatrixSolveLs ---
def _least_squares_shape(x: Inference) -> list[ShapeLike]:
    matrix, rhs = at_least(x, 0, 2), at_least(x, 1, 2)
    if x.rank(2):
        x.fail(f"Shape must be rank 0 but is rank {x.rank(2)}: l2_regularizer must be scalar")
    if matrix is None or rhs is None:
        return [None]
    lead = merge(x, matrix[:-2], rhs[:-2], "All input tensors must have the same outer dimensions.")
    assert lead is not None
    _rows(x, matrix[-2], rhs)
    return [(*lead, matrix[-1], rhs[-1])]


def _least_squares(call: Call, matrix: np.ndarray, rhs: np.ndarray, regularizer: np.ndarray) -> np.ndarray:
    if matrix.ndim != rhs.ndim or matrix.ndim < 2:
        call.fail("All input tensors must have the same rank.")
    if matrix.shape[:-2] != rhs.shape[:-2]:
        call.fail("All input tensors must have the same outer dimensions.")
    rows, columns = matrix.shape[-2:]
    if rows != rhs.shape[-2]:
        call.fail("Input matrix and rhs are incompatible.")
    if regularizer.ndim:
        call.fail(f"l2_regularizer must be scalar, got shape {show(regularizer.shape)}")
    if regularizer < 0:
        call.fail("l2_regularizer must be >= 0.")
    if not matrix.size or not rhs.size:
        return np.zeros((*matrix.shape[:-2], columns, rhs.shape[-1]), rhs.dtype)
    a, b = working(matrix), working(rhs)
    if not call.attrs["fast"]:  # the shortest solution; without the regulariser, as in TF
        return as_output(call, np.linalg.pinv(a) @ b)
    tall = rows >= columns
    normal = adjoint(a) @ a if tall else a @ adjoint(a)
    normal = normal + float(regularizer) * np.eye(min(rows, columns), dtype=a.dtype)
    try:
        factor = np.linalg.cholesky(normal)
    except np.linalg.LinAlgError:
        call.fail("Input matrix was rank deficient or ill-conditioned. Try setting fast=False or provide a larger "
                  "l2_regularizer > 0.")  # fmt: skip
    half = substitute(factor, adjoint(a) @ b if tall else b, lower=True)
    whole = substitute(adjoint(factor), half, lower=False)
    return as_output(call, whole if tall else adjoint(a) @ whole)


for _name in ("MatrixSolveLs", "BatchMatrixSolveLs"):
    define(_name, "matrix: T, rhs: T, l2_regularizer: float64 -> output: T", f"{TYPES}, fast: bool = True",
           infer=_least_squares_shape, reference=_least_squares)  # fmt: skip
