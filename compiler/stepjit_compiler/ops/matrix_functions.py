"""Analytic functions of square matrices: exponential, logarithm, square root; and systems with three diagonals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, show
from stepjit_compiler.ops.arguments import at_least, merge
from stepjit_compiler.ops.linalg import NOT_INVERTIBLE, TYPES, as_output, like_square, require_square

_PADE_13 = (
    64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0, 129060195264000.0,
    10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0, 40840800.0, 960960.0, 16380.0, 182.0, 1.0,
)  # fmt: skip
"""Numerator of the diagonal Padé approximant of exp of degree 13, lowest power first."""
_PADE_REACH = 5.37
"""Norm up to which it is exact to float64's rounding."""
_LOG_REACH = 0.25
"""Norm of X up to which eight nodes give log(I + X) to float64's rounding."""
_MOST_ROOTS = 100


def _of_each(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[Call, np.ndarray], np.ndarray]:
    """The reference that applies a function of one matrix, in float64 or complex128, to every matrix."""

    def reference(call: Call, x: np.ndarray) -> np.ndarray:
        require_square(call, x)
        wide = x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)
        with np.errstate(all="ignore"):
            found = [function(matrix) for matrix in wide.reshape(-1, *x.shape[-2:])] if x.size else []
        return as_output(call, np.array(found, wide.dtype).reshape(x.shape))

    return reference


# --- MatrixExponential: Padé approximant, scaled and squared ---
def exponential(matrix: np.ndarray) -> np.ndarray:
    norm = np.abs(matrix).sum(axis=0).max()
    if not np.isfinite(norm):
        return np.full_like(matrix, np.nan)
    squarings = max(0, int(np.ceil(np.log2(norm / _PADE_REACH)))) if norm > 0 else 0
    x = matrix / 2.0**squarings
    square = x @ x
    power = np.eye(len(x), dtype=x.dtype)
    even, odd = np.zeros_like(x), np.zeros_like(x)
    for k in range(0, 14, 2):
        even, odd = even + _PADE_13[k] * power, odd + _PADE_13[k + 1] * power
        power = power @ square
    odd = x @ odd
    found = np.linalg.solve(even - odd, even + odd)
    for _ in range(squarings):
        found = found @ found
    return np.asarray(found)


define("MatrixExponential", "input: T -> output: T", TYPES, infer=like_square, reference=_of_each(exponential))


# --- MatrixSquareRoot, MatrixLogarithm: of the triangular Schur form ---
def _triangular_root(t: np.ndarray) -> np.ndarray:
    """The upper triangular r with r r = t whose eigenvalues have no negative real part."""
    root = np.diag(np.sqrt(np.diag(t)))
    for j in range(1, len(t)):
        for i in range(j - 1, -1, -1):
            rest = t[i, j] - root[i, i + 1 : j] @ root[i + 1 : j, j]
            root[i, j] = rest / (root[i, i] + root[j, j]) if rest else 0
    return root


def _schur(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from stepjit_runtime import lapack  # loads BLAS

    return lapack.schur(matrix)


def square_root(matrix: np.ndarray) -> np.ndarray:
    """The principal root; NaN for a real matrix whose root is not real."""
    if not np.isfinite(matrix).all():
        return np.full_like(matrix, np.nan)
    t, z = _schur(matrix)
    root = z @ _triangular_root(t) @ z.conj().T
    if matrix.dtype.kind == "c":
        return np.asarray(root)
    is_real = np.abs(root.imag).max() <= 1e-8 * max(np.abs(root).max(), 1e-300)
    return np.asarray(root.real) if is_real else np.full_like(matrix, np.nan)


def logarithm(matrix: np.ndarray) -> np.ndarray:
    """The principal logarithm, through square roots of the Schur form until it is near the identity."""
    if not np.isfinite(matrix).all():
        return np.full_like(matrix, np.nan)
    t, z = _schur(matrix)
    one, roots = np.eye(len(t)), 0
    while np.abs(t - one).sum(axis=0).max() > _LOG_REACH and roots < _MOST_ROOTS:
        t, roots = _triangular_root(t), roots + 1
    x = t - one
    total = np.zeros_like(x)
    # log(I + X) is the integral of X (I + sX)^-1 over s in [0, 1].
    for node, weight in zip(*np.polynomial.legendre.leggauss(8), strict=True):
        total = total + weight / 2 * np.linalg.solve(one + (node + 1) / 2 * x, x)
    return np.asarray(z @ (total * 2.0**roots) @ z.conj().T)


define("MatrixSquareRoot", "input: T -> output: T", TYPES, infer=like_square, reference=_of_each(square_root))
define("MatrixLogarithm", "input: T -> output: T", "T: type in complex", infer=like_square,
       reference=_of_each(logarithm))  # fmt: skip

# --- TridiagonalSolve, TridiagonalMatMul ---
_TRIDIAGONAL_TYPES = "T: type in float64|float32|complex"


def _tridiagonal_shape(x: Inference) -> list[ShapeLike]:
    diagonals, rhs = at_least(x, 0, 2), at_least(x, 1, 2)
    if diagonals is None or rhs is None:
        return [rhs]
    x.equal(diagonals[-2], 3, f"Expected diagonals[-2] to be 3, got shape {show(diagonals)}")
    message = f"The diagonals {show(diagonals)} and the right-hand side {show(rhs)} are of different sizes"
    merge(x, diagonals[:-2], rhs[:-2], message)
    x.equal(diagonals[-1], rhs[-2], message)
    return [rhs]


def _tridiagonal_solve(call: Call, diagonals: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    if diagonals.ndim != rhs.ndim or rhs.ndim < 2:
        call.fail("All input tensors must have the same rank.")
    if diagonals.shape[-2] != 3:
        call.fail("Expected diagonals to have three rows.")
    if diagonals.shape[:-2] != rhs.shape[:-2] or diagonals.shape[-1] != rhs.shape[-2]:
        call.fail("All input tensors must have the same outer dimensions.")
    if not rhs.size:
        return np.zeros(rhs.shape, rhs.dtype)
    size = rhs.shape[-2]
    over = call.attrs["perturb_singular"]
    matrices = np.zeros((*rhs.shape[:-2], size, size), rhs.dtype)
    at = np.arange(size)
    matrices[..., at, at] = diagonals[..., 1, :]
    matrices[..., at[:-1], at[1:]] = diagonals[..., 0, :-1]
    matrices[..., at[1:], at[:-1]] = diagonals[..., 2, 1:]
    try:
        return as_output(call, np.linalg.solve(matrices, rhs))
    except np.linalg.LinAlgError:
        if not over:
            return np.full(rhs.shape, np.nan, rhs.dtype)
    call.fail(NOT_INVERTIBLE)


define("TridiagonalSolve", "diagonals: T, rhs: T -> output: T",
       f"partial_pivoting: bool = True, perturb_singular: bool = False, {_TRIDIAGONAL_TYPES}",
       infer=_tridiagonal_shape, reference=_tridiagonal_solve)  # fmt: skip


def _tridiagonal_product(
    call: Call, superdiag: np.ndarray, maindiag: np.ndarray, subdiag: np.ndarray, rhs: np.ndarray
) -> np.ndarray:
    wanted = (*rhs.shape[:-2], 1, rhs.shape[-2]) if rhs.ndim > 1 else None
    for name, each in (("superdiag", superdiag), ("maindiag", maindiag), ("subdiag", subdiag)):
        if each.shape != wanted:
            call.fail(f"{name} has shape {show(each.shape)}, and rhs of shape {show(rhs.shape)} asks for another")
    upper, main, lower = (each[..., 0, :, None] for each in (superdiag, maindiag, subdiag))
    found: Any = main * rhs
    found[..., :-1, :] += upper[..., :-1, :] * rhs[..., 1:, :]
    found[..., 1:, :] += lower[..., 1:, :] * rhs[..., :-1, :]
    return as_output(call, found)


define("TridiagonalMatMul", "superdiag: T, maindiag: T, subdiag: T, rhs: T -> output: T", _TRIDIAGONAL_TYPES,
       infer=lambda x: [x.shape(3)], reference=_tridiagonal_product)  # fmt: skip
