"""Inverses, solutions and decompositions of matrices in TF1's signatures, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.registry import RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.array import expand_dims, matrix_transpose
from stepjit.ops.complex import real
from stepjit.ops.creation import matrix_band_part, matrix_diag, matrix_diag_part, matrix_set_diag, zeros_like
from stepjit.ops.elementwise import log
from stepjit.ops.linear import matmul
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
    matrix: Any, rhs: Any, l2_regularizer: float = 0.0, fast: bool = True, name: str | None = None
) -> Tensor:
    """`x` for which `|matrix @ x - rhs|^2 + l2_regularizer |x|^2` is least; of several the shortest."""
    weight = convert_to_tensor(np.float64(l2_regularizer))
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
    return matrix_band_part(matrix, -1, 0) if lower else matrix_band_part(matrix, 0, -1), rhs


# --- decompositions ---


def cholesky(input: Any, name: str | None = None) -> Tensor:
    """The lower triangular `l` with `l @ adjoint(l)` the positive definite matrices; only lower triangles are read."""
    return apply_op("Cholesky", input=input, name=name)


@RegisterGradient("Cholesky")
def _cholesky_grad(op: Operation, grad: Tensor) -> Tensor:
    factor = op.outputs[0]
    inner = matmul(factor, grad, adjoint_a=True)
    inner = matrix_band_part(matrix_set_diag(inner, 0.5 * matrix_diag_part(inner)), -1, 0)
    inverse = matrix_triangular_solve(factor, _identity_like(factor))
    whole = matmul(matmul(inverse, inner, adjoint_a=True), inverse)
    return 0.5 * (whole + _adjoint(whole))


def _identity_like(x: Tensor) -> Tensor:
    empty = zeros_like(x)
    return matrix_set_diag(empty, matrix_diag_part(empty) + constant(1, x.dtype.base_dtype))


def qr(input: Any, full_matrices: bool = False, name: str | None = None) -> Qr:
    """Orthonormal `q` and upper triangular `r` with `q @ r` the matrices [..., m, n]."""
    return Qr(*apply_op("Qr", input=input, full_matrices=full_matrices, name=name))


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
        apart = apply_op("DivNoNan", x=constant(1, gaps.dtype.base_dtype), y=gaps)
        inner = inner + apart * matmul(vectors, grad_vectors, adjoint_a=True)
    whole = matmul(vectors, matmul(inner, vectors, adjoint_b=True))
    # Only lower triangles are read.
    lower = matrix_band_part(whole + _adjoint(whole), -1, 0)
    return matrix_set_diag(lower, 0.5 * matrix_diag_part(lower))


def svd(tensor: Any, full_matrices: bool = False, compute_uv: bool = True, name: str | None = None) -> Any:
    """Singular values [..., p], descending, and the vectors `u` and `v`, in columns, unless `compute_uv` is False."""
    found: Sequence[Tensor] = apply_op(
        "Svd", input=tensor, compute_uv=compute_uv, full_matrices=full_matrices, name=name
    )
    values = real(found[0])
    return (values, found[1], found[2]) if compute_uv else values
