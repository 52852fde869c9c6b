"""Inverses, solutions and decompositions of matrices in TF1's signatures, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.registry import RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.array import concat, expand_dims, matrix_transpose
from stepjit.ops.array import shape as shape_of
from stepjit.ops.cast import cast
from stepjit.ops.complex import conj, real
from stepjit.ops.creation import matrix_band_part, matrix_diag, matrix_diag_part, matrix_set_diag
from stepjit.ops.elementwise import log
from stepjit.ops.linear import matmul, unbroadcast_batches
from stepjit.ops.reductions import reduce_sum


class Qr(NamedTuple):
    """An orthonormal and an upper triangular factor."""

    q: Tensor
    r: Tensor


class LogMatrixDeterminant(NamedTuple):
    """A determinant as sign and logarithm."""

    sign: Tensor
    log_abs_determinant: Tensor


def _adjoint(x: Tensor) -> Tensor:
    return matrix_transpose(x, conjugate=True)


# --- inverses and determinants ---


def matrix_inverse(input: Any, adjoint: bool = False, name: str | None = None) -> Tensor:
    """The inverses of matrices [..., n, n], or of their adjoints; InvalidArgumentError when there is none."""
    return apply_op("MatrixInverse", input=input, adjoint=adjoint, name=name)


def matrix_determinant(input: Any, name: str | None = None) -> Tensor:
    """The determinants of matrices [..., n, n]."""
    return apply_op("MatrixDeterminant", input=input, name=name)


def slogdet(input: Any, name: str | None = None) -> LogMatrixDeterminant:
    """Sign and logarithm of the absolute value of the determinants of matrices [..., n, n]."""
    return LogMatrixDeterminant(*apply_op("LogMatrixDeterminant", input=input, name=name))


def logdet(matrix: Any, name: str | None = None) -> Tensor:
    """The logarithm of the determinants of positive definite matrices [..., n, n]."""
    with name_scope(name, "logdet", [matrix]):
        return 2.0 * reduce_sum(log(real(matrix_diag_part(cholesky(matrix)))), -1)


@RegisterGradient("MatrixInverse")
def _inverse_grad(op: Operation, grad: Tensor) -> Tensor:
    inverse = op.outputs[0]
    if op.attrs["adjoint"]:
        return -matmul(inverse, matmul(grad, inverse, adjoint_a=True), adjoint_b=False)
    return -matmul(inverse, matmul(grad, inverse, adjoint_b=True), adjoint_a=True)


@RegisterGradient("MatrixDeterminant")
def _determinant_grad(op: Operation, grad: Tensor) -> Tensor:
    scale = grad * op.outputs[0]
    return expand_dims(expand_dims(scale, -1), -1) * matrix_inverse(op.inputs[0], adjoint=True)


@RegisterGradient("LogMatrixDeterminant")
def _log_determinant_grad(op: Operation, _: Any, grad: Tensor) -> Tensor:
    return expand_dims(expand_dims(grad, -1), -1) * matrix_inverse(op.inputs[0], adjoint=True)


# --- solutions ---


def matrix_solve(matrix: Any, rhs: Any, adjoint: bool = False, name: str | None = None) -> Tensor:
    """`x` of `matrix @ x = rhs` [..., n, k]; InvalidArgumentError when the matrix is not invertible."""
    return apply_op("MatrixSolve", matrix=matrix, rhs=rhs, adjoint=adjoint, name=name)


def matrix_triangular_solve(
    matrix: Any, rhs: Any, lower: bool = True, adjoint: bool = False, name: str | None = None
) -> Tensor:
    """As `matrix_solve`, of the lower or the upper triangle of the matrix."""
    return apply_op("MatrixTriangularSolve", matrix=matrix, rhs=rhs, lower=lower, adjoint=adjoint, name=name)


def matrix_solve_ls(
    matrix: Any, rhs: Any, l2_regularizer: Any = 0.0, fast: bool = True, name: str | None = None
) -> Tensor:
    """`x` for which `|matrix @ x - rhs|^2 + l2_regularizer |x|^2` is least.

    `fast` solves the normal equations, and fails with InvalidArgumentError for matrices without full rank; otherwise
    the shortest of several solutions is found, and the regulariser is ignored.
    """
    weight = convert_to_tensor(l2_regularizer, dtype="float64")
    return apply_op("MatrixSolveLs", matrix=matrix, rhs=rhs, l2_regularizer=weight, fast=fast, name=name)


def cholesky_solve(chol: Any, rhs: Any, name: str | None = None) -> Tensor:
    """`x` of `A @ x = rhs`, where `chol` is the Cholesky factor of A."""
    with name_scope(name, "cholesky_solve", [chol, rhs]):
        return matrix_triangular_solve(chol, matrix_triangular_solve(chol, rhs), adjoint=True)


@RegisterGradient("MatrixSolve")
def _solve_grad(op: Operation, grad: Tensor) -> tuple[Tensor, Tensor]:
    adjoint, x = op.attrs["adjoint"], op.outputs[0]
    rhs = matrix_solve(op.inputs[0], grad, adjoint=not adjoint)
    return -(matmul(x, rhs, adjoint_b=True) if adjoint else matmul(rhs, x, adjoint_b=True)), rhs


@RegisterGradient("MatrixTriangularSolve")
def _triangular_solve_grad(op: Operation, grad: Tensor) -> tuple[Tensor, Tensor]:
    lower, adjoint, x = op.attrs["lower"], op.attrs["adjoint"], op.outputs[0]
    rhs = matrix_triangular_solve(op.inputs[0], grad, lower=lower, adjoint=not adjoint)
    matrix = -(matmul(x, rhs, adjoint_b=True) if adjoint else matmul(rhs, x, adjoint_b=True))
    matrix = matrix_band_part(matrix, -1, 0) if lower else matrix_band_part(matrix, 0, -1)
    parts = unbroadcast_batches(op.inputs[0], op.inputs[1], matrix, rhs)
    return parts[0], parts[1]


@RegisterGradient("MatrixSolveLs")
def _least_squares_grad(op: Operation, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    a, b, weight = op.inputs
    x = op.outputs[0]
    rows, columns = (None, None) if a.dims is None else a.dims[-2:]
    if rows is None or columns is None:
        raise ValueError("the gradient of least squares needs the static sizes of the matrices")
    tall = rows >= columns
    normal = matmul(a, a, adjoint_a=True) if tall else matmul(a, a, adjoint_b=True)
    if op.attrs["fast"]:
        diagonal = matrix_diag_part(normal)
        normal = matrix_set_diag(normal, diagonal + cast(weight, diagonal.dtype.base_dtype))
    factor = cholesky(normal)
    if tall:
        z = cholesky_solve(factor, grad)
        both = matmul(x, z, adjoint_b=True)
        return matmul(b, z, adjoint_b=True) - matmul(a, both + _adjoint(both)), matmul(a, z), None
    w, y = cholesky_solve(factor, b), cholesky_solve(factor, matmul(a, grad))
    back = grad - matmul(a, y, adjoint_a=True)
    return matmul(w, back, adjoint_b=True) - matmul(y, x, adjoint_b=True), y, None


# --- decompositions ---


def cholesky(input: Any, name: str | None = None) -> Tensor:
    """The lower triangular `l` with `l @ adjoint(l)` the positive definite matrices; only lower triangles are read."""
    return apply_op("Cholesky", input=input, name=name)


@RegisterGradient("Cholesky")
def _cholesky_grad(op: Operation, grad: Tensor) -> Tensor:
    factor = op.outputs[0]
    inner = matmul(factor, grad, adjoint_a=True)
    inner = matrix_band_part(matrix_set_diag(inner, 0.5 * matrix_diag_part(inner)), -1, 0)
    left = matrix_triangular_solve(factor, inner, adjoint=True)
    whole = _adjoint(matrix_triangular_solve(factor, _adjoint(left), adjoint=True))
    return 0.5 * (whole + _adjoint(whole))


def qr(input: Any, full_matrices: bool = False, name: str | None = None) -> Qr:
    """Orthonormal `q` and upper triangular `r` with `q @ r` the matrices [..., m, n]."""
    return Qr(*apply_op("Qr", input=input, full_matrices=full_matrices, name=name))


@RegisterGradient("Qr")
def _qr_grad(op: Operation, dq: Tensor, dr: Tensor) -> Tensor:
    (q, r), dims = op.outputs, op.inputs[0].dims
    rows, columns = (None, None) if dims is None else dims[-2:]
    if rows is None or columns is None:
        raise ValueError("the gradient of QR needs the static sizes of the matrices")
    if rows > columns and op.attrs["full_matrices"]:
        raise ValueError("the gradient of QR with full matrices needs at least as many columns as rows")
    if rows >= columns:
        return _tall_qr_grad(q, r, dq, dr)
    # The first columns decide q; the others are q @ their part of r.
    rest = [part[..., rows:] for part in (op.inputs[0], dr)]
    first = _tall_qr_grad(q, r[..., :rows], dq + matmul(rest[0], rest[1], adjoint_b=True), dr[..., :rows])
    return concat([first, matmul(q, rest[1])], -1)


def _tall_qr_grad(q: Tensor, r: Tensor, dq: Tensor, dr: Tensor) -> Tensor:
    """A + A^H vanishes for dq = q A, and dr is upper triangular: that decides both from the change of q r."""
    inner, outer = matmul(q, dq, adjoint_a=True), matmul(r, dr, adjoint_b=True)
    lower = matrix_band_part(inner - _adjoint(inner) + outer - _adjoint(outer), -1, 0)
    found = matmul(q, dr + _over(lower, r)) + _over(dq - matmul(q, inner), r)
    if q.dtype.base_dtype.kind == "c":  # the diagonal of r stays real
        phases = matrix_diag_part(outer - _adjoint(inner))
        turned = matrix_diag((conj(phases) - phases) * constant(0.5, phases.dtype.base_dtype))
        found = found + _over(matmul(q, turned), r)
    return found


def _over(x: Tensor, r: Tensor) -> Tensor:
    """x @ r^-H, for an upper triangular r."""
    return _adjoint(matrix_triangular_solve(r, _adjoint(x), lower=False))


def self_adjoint_eig(tensor: Any, name: str | None = None) -> tuple[Tensor, Tensor]:
    """Eigenvalues [..., n], ascending, and eigenvectors, in columns, of self-adjoint matrices [..., n, n]."""
    values, vectors = apply_op("SelfAdjointEigV2", input=tensor, compute_v=True, name=name)
    return values, vectors


def self_adjoint_eigvals(tensor: Any, name: str | None = None) -> Tensor:
    """Eigenvalues [..., n], ascending, of self-adjoint matrices [..., n, n]."""
    return apply_op("SelfAdjointEigV2", input=tensor, compute_v=False, name=name)[0]


@RegisterGradient("SelfAdjointEigV2")
def _eigen_grad(op: Operation, grad_values: Tensor, grad_vectors: Tensor | None) -> Tensor:
    values, vectors = op.outputs
    if not op.attrs["compute_v"]:
        values, vectors = self_adjoint_eig(op.inputs[0])
        grad_vectors = None
    inner = matrix_diag(grad_values)
    if grad_vectors is not None:
        gaps = expand_dims(values, -2) - expand_dims(values, -1)
        inner = inner + _reciprocal(gaps) * matmul(vectors, grad_vectors, adjoint_a=True)
    whole = matmul(vectors, matmul(inner, vectors, adjoint_b=True))
    # Only lower triangles are read.
    lower = matrix_band_part(whole + _adjoint(whole), -1, 0)
    return matrix_set_diag(lower, 0.5 * matrix_diag_part(lower))


@RegisterGradient("Eig")
def _general_eigen_grad(op: Operation, grad_values: Tensor, grad_vectors: Tensor) -> Tensor:
    x, values = op.inputs[0], op.outputs[0]
    inner = matrix_diag(grad_values)
    if op.attrs["compute_v"]:
        adjoint = _adjoint(op.outputs[1])
        gaps = conj(expand_dims(values, -2) - expand_dims(values, -1))
        turned = matmul(adjoint, grad_vectors)
        # The vectors keep length 1.
        growth = matrix_diag(cast(real(matrix_diag_part(turned)), turned.dtype))
        inner = inner + _reciprocal(gaps) * (turned - matmul(matmul(adjoint, op.outputs[1]), growth))
    else:
        adjoint = _adjoint(apply_op("Eig", input=x, Tout=values.dtype)[1])
    return cast(matrix_solve(adjoint, matmul(inner, adjoint)), x.dtype.base_dtype)


def svd(tensor: Any, full_matrices: bool = False, compute_uv: bool = True, name: str | None = None) -> Any:
    """Singular values [..., p], descending, and the vectors `u` and `v`, in columns, unless `compute_uv` is False."""
    found: Sequence[Tensor] = apply_op(
        "Svd", input=tensor, compute_uv=compute_uv, full_matrices=full_matrices, name=name
    )
    values = real(found[0])
    return (values, found[1], found[2]) if compute_uv else values


@RegisterGradient("Svd")
def _svd_grad(op: Operation, ds: Tensor, du: Tensor, dv: Tensor) -> Tensor:
    x, (s, u, v) = op.inputs[0], op.outputs
    if not op.attrs["compute_uv"]:
        _, u, v = svd(x)
        return matmul(_columns(u, ds), v, adjoint_b=True)
    rows, columns = (None, None) if x.dims is None else x.dims[-2:]
    used = [each.op.type != "ZerosLike" for each in (du, dv)]
    if op.attrs["full_matrices"] and (rows is None or rows != columns):
        if any(used) and (rows is None or columns is None or abs(rows - columns) > 1):
            raise ValueError(
                "the gradient of singular vectors needs full_matrices=False, or as many rows as columns but one"
            )
        count = shape_of(s)[-1]
        (u, du), (v, dv) = _spanning(u, du, count), _spanning(v, dv, count)
    inner = matrix_diag(ds)
    squares = s * s
    apart = _reciprocal(expand_dims(squares, -2) - expand_dims(squares, -1))
    if used[0]:
        turned = matmul(u, du, adjoint_a=True)
        inner = inner + _columns(apart * (turned - _adjoint(turned)), s)
        if x.dtype.base_dtype.kind == "c":
            phases = matrix_diag_part(turned)
            inner = inner + matrix_diag((phases - conj(phases)) * _reciprocal(s + s))
    if used[1]:
        turned_v = matmul(v, dv, adjoint_a=True)
        inner = inner + expand_dims(s, -1) * (apart * (turned_v - _adjoint(turned_v)))
    found = matmul(matmul(u, inner), v, adjoint_b=True)
    # What leaves the space that the vectors span.
    if used[0]:
        found = found + matmul(_columns(du - matmul(u, turned), _reciprocal(s)), v, adjoint_b=True)
    if used[1]:
        found = found + matmul(u, _columns(dv - matmul(v, turned_v), _reciprocal(s)), adjoint_b=True)
    return found


def _spanning(vectors: Tensor, grad: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """The first vectors and their gradient; what is left over is one more at most, and turns with them."""
    first, last = vectors[..., :count], vectors[..., count:]
    return first, grad[..., :count] - matmul(last, matmul(grad[..., count:], first, adjoint_a=True))


def _columns(x: Tensor, factors: Tensor) -> Tensor:
    """The columns of x, each times its factor."""
    return x * expand_dims(factors, -2)


def _reciprocal(x: Tensor) -> Tensor:
    """1 / x, and 0 for 0."""
    return apply_op("DivNoNan", x=constant(1, x.dtype.base_dtype), y=x)
