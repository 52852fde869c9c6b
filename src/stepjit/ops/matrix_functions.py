"""Functions of matrices built on decompositions: LU, exponential, logarithm, root, pseudo-inverse, tridiagonals."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.registry import RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.array import concat, expand_dims, matrix_transpose, split, squeeze, stack
from stepjit.ops.array import shape as shape_of
from stepjit.ops.cast import cast
from stepjit.ops.complex import conj
from stepjit.ops.creation import eye, matrix_band_part, matrix_diag_part, matrix_set_diag, ones_like, zeros_like
from stepjit.ops.decompositions import matrix_triangular_solve, svd
from stepjit.ops.indexing import one_hot
from stepjit.ops.linear import matmul, norm
from stepjit.ops.reductions import reduce_max, reduce_sum


class Lu(NamedTuple):
    """Both factors in one matrix, and for each row the number of the row that it came from."""

    lu: Tensor
    p: Tensor


def adjoint(matrix: Any, name: str | None = None) -> Tensor:
    """The last two dimensions swapped, and complex numbers conjugated."""
    with name_scope(name, "adjoint", [matrix]):
        return matrix_transpose(convert_to_tensor(matrix, name="matrix"), conjugate=True)


def normalize(tensor: Any, ord: Any = "euclidean", axis: Any = None, name: str | None = None) -> tuple[Tensor, Tensor]:
    """The tensor divided by its norm, as `norm` takes it, and that norm."""
    with name_scope(name, "normalize", [tensor]):
        x = convert_to_tensor(tensor)
        length = norm(x, ord, axis, keepdims=True)
        return x / length, length


# --- analytic functions ---


def expm(input: Any, name: str | None = None) -> Tensor:
    """The exponentials of matrices [..., n, n]."""
    return apply_op("MatrixExponential", input=input, name=name)


def logm(input: Any, name: str | None = None) -> Tensor:
    """The principal logarithms of complex matrices [..., n, n]."""
    return apply_op("MatrixLogarithm", input=input, name=name)


def matrix_square_root(input: Any, name: str | None = None) -> Tensor:
    """The principal square roots of matrices [..., n, n]; NaN for a real matrix that has no real one."""
    return apply_op("MatrixSquareRoot", input=input, name=name)


@RegisterGradient("MatrixExponential")
@RegisterGradient("MatrixLogarithm")
@RegisterGradient("MatrixSquareRoot")
def _analytic_grad(op: Operation, grad: Tensor) -> Tensor:
    """f([[B, G], [0, B]]) holds the derivative of f at B in the direction G in its upper right corner."""
    back = adjoint(op.inputs[0])
    whole = concat([concat([back, grad], -1), concat([zeros_like(back), back], -1)], -2)
    found = apply_op(op.type, input=whole)
    return split(split(found, 2, -2)[0], 2, -1)[1]


# --- LU ---


def lu(input: Any, output_idx_type: Any = "int32", name: str | None = None) -> Lu:
    """Unit lower and upper triangular factors of matrices [..., n, n] whose rows are permuted.

    InvalidArgumentError for a matrix that is not invertible.
    """
    return Lu(*apply_op("Lu", input=input, output_idx_type=output_idx_type, name=name))


def _factors(lower_upper: Tensor) -> tuple[Tensor, Tensor]:
    strict = lower_upper - matrix_band_part(lower_upper, 0, -1)
    return matrix_set_diag(strict, ones_like(matrix_diag_part(strict))), matrix_band_part(lower_upper, 0, -1)


def _permutation(perm: Tensor, like: Tensor) -> Tensor:
    """The matrices that permute rows so."""
    return one_hot(perm, shape_of(like)[-1], dtype=like.dtype.base_dtype)


@RegisterGradient("Lu")
def _lu_grad(op: Operation, grad: Tensor, _: Any) -> Tensor:
    lower, upper = _factors(op.outputs[0])
    upper_grad = matrix_band_part(grad, 0, -1)
    below = matmul(lower, grad - upper_grad, adjoint_a=True)
    inner = below - matrix_band_part(below, 0, -1) + matrix_band_part(matmul(upper_grad, upper, adjoint_b=True), 0, -1)
    left = matrix_triangular_solve(lower, inner, adjoint=True)
    permuted = adjoint(matrix_triangular_solve(upper, adjoint(left), lower=False))
    return matmul(_permutation(op.outputs[1], lower), permuted, transpose_a=True)


def lu_solve(lower_upper: Any, perm: Any, rhs: Any, validate_args: bool = False, name: str | None = None) -> Tensor:
    """`x` of `A @ x = rhs` [..., n, k], where `lu` of A gave the first two arguments."""
    with name_scope(name, "lu_solve", [lower_upper, perm, rhs]):
        packed = convert_to_tensor(lower_upper, name="lower_upper")
        b = convert_to_tensor(rhs, dtype=packed.dtype.base_dtype, name="rhs")
        lower, upper = _factors(packed)
        permuted = matmul(_permutation(convert_to_tensor(perm, name="perm"), packed), b)
        return matrix_triangular_solve(upper, matrix_triangular_solve(lower, permuted), lower=False)


def lu_matrix_inverse(lower_upper: Any, perm: Any, validate_args: bool = False, name: str | None = None) -> Tensor:
    """The inverse of the matrix of which `lu` gave the arguments."""
    with name_scope(name, "lu_matrix_inverse", [lower_upper, perm]):
        packed = convert_to_tensor(lower_upper, name="lower_upper")
        return lu_solve(packed, perm, eye(shape_of(packed)[-1], dtype=packed.dtype.base_dtype))


def lu_reconstruct(lower_upper: Any, perm: Any, validate_args: bool = False, name: str | None = None) -> Tensor:
    """The matrix of which `lu` gave the arguments."""
    with name_scope(name, "lu_reconstruct", [lower_upper, perm]):
        packed = convert_to_tensor(lower_upper, name="lower_upper")
        lower, upper = _factors(packed)
        turned = _permutation(convert_to_tensor(perm, name="perm"), packed)
        return matmul(turned, matmul(lower, upper), transpose_a=True)


# --- by singular values ---


def _cutoff(x: Tensor, scale: float) -> Tensor:
    """`scale` times the rounding error of the larger extent."""
    larger = reduce_max(shape_of(x)[-2:])
    epsilon = float(np.finfo(x.dtype.base_dtype.np).eps)
    return cast(larger, x.dtype.real_dtype) * constant(scale * epsilon, x.dtype.real_dtype)


def pinv(a: Any, rcond: Any = None, validate_args: bool = False, name: str | None = None) -> Tensor:
    """The pseudo-inverses of matrices [..., m, n]; singular values up to `rcond` of the largest count as 0."""
    with name_scope(name or "pinv", "pinv", [a]):
        x = convert_to_tensor(a, name="a")
        s, u, v = svd(x)
        relative = _cutoff(x, 10.0) if rcond is None else convert_to_tensor(rcond, dtype=s.dtype.base_dtype)
        limit = expand_dims(relative * reduce_max(s, -1), -1)
        kept = apply_op("SelectV2", condition=s > limit, t=s, e=constant(np.inf, s.dtype.base_dtype))
        scaled = v / cast(expand_dims(kept, -2), v.dtype.base_dtype)
        return matmul(scaled, u, adjoint_b=True)


def matrix_rank(a: Any, tol: Any = None, validate_args: bool = False, name: str | None = None) -> Tensor:
    """How many singular values of matrices [..., m, n] lie above `tol`, int32."""
    with name_scope(name or "matrix_rank", "matrix_rank", [a]):
        x = convert_to_tensor(a, name="a")
        s = svd(x, compute_uv=False)
        limit = _cutoff(x, 1.0) * reduce_max(s, -1, keepdims=True) if tol is None else tol
        return reduce_sum(cast(s > limit, "int32"), -1)


# --- three diagonals ---


def _diagonals(diagonals: Any, form: str) -> list[Tensor]:
    """Upper, main and lower diagonal, each as long as the main one."""
    if form == "compact":
        packed = convert_to_tensor(diagonals, name="diagonals")
        return [packed[..., k, :] for k in range(3)]
    if form == "sequence":
        upper, main, lower = (convert_to_tensor(each) for each in diagonals)
        return [_filled(upper, main, 1), main, _filled(lower, main, 0)]
    if form == "matrix":
        matrix = convert_to_tensor(diagonals, name="diagonals")
        inner = [matrix_diag_part(matrix, k=k) for k in (1, -1)]
        main = matrix_diag_part(matrix)
        return [_filled(inner[0], main, 1), main, _filled(inner[1], main, 0)]
    raise ValueError(f"Unrecognized diagonals_format: {form}")


def _filled(part: Tensor, main: Tensor, at_end: int) -> Tensor:
    """An outer diagonal with a 0 for the place that it lacks."""
    if part.dims is None or main.dims is None:
        raise ValueError("Diagonals need static ranks")
    if part.dims[-1] is not None and part.dims[-1] == main.dims[-1]:
        return part
    return _padded(part, main, -1, at_end)


def _padded(part: Tensor, like: Tensor, axis: int, at_end: int) -> Tensor:
    """`part` with one 0 more at the start or the end of axis -1 or -2, along which `like` has an element."""
    edge = zeros_like(like[..., :1] if axis == -1 else like[..., :1, :])
    return concat([part, edge] if at_end else [edge, part], axis)


def tridiagonal_solve(
    diagonals: Any, rhs: Any, diagonals_format: str = "compact", transpose_rhs: bool = False,
    conjugate_rhs: bool = False, name: str | None = None, partial_pivoting: bool = True, perturb_singular: bool = False,
) -> Tensor:  # fmt: skip
    """`x` of `A @ x = rhs` for matrices A of three diagonals; a right-hand side may be a vector [..., n].

    diagonals_format: "compact" ([..., 3, n], from the upper diagonal), "sequence" of three, or "matrix".
    """
    with name_scope(name or "tridiagonal_solve", "tridiagonal_solve", [rhs]):
        packed = stack(_diagonals(diagonals, diagonals_format), axis=-2)
        b = convert_to_tensor(rhs, dtype=packed.dtype.base_dtype, name="rhs")
        b = conj(b) if conjugate_rhs else b
        if packed.dims is None or b.dims is None:
            raise ValueError("Diagonals and right-hand side need static ranks")
        is_vector = len(b.dims) == len(packed.dims) - 1
        b = expand_dims(b, -1) if is_vector else matrix_transpose(b) if transpose_rhs else b
        x = apply_op("TridiagonalSolve", diagonals=packed, rhs=b, partial_pivoting=partial_pivoting,
                     perturb_singular=perturb_singular)  # fmt: skip
        return squeeze(x, -1) if is_vector else matrix_transpose(x) if transpose_rhs else x


@RegisterGradient("TridiagonalSolve")
def _tridiagonal_solve_grad(op: Operation, grad: Tensor) -> tuple[Tensor, Tensor]:
    upper, main, lower = (conj(op.inputs[0][..., k, :]) for k in range(3))
    # Of the adjoint matrix the diagonals have changed sides.
    turned = stack([_padded(lower[..., 1:], main, -1, 1), main, _padded(upper[..., :-1], main, -1, 0)], axis=-2)
    rhs = apply_op("TridiagonalSolve", diagonals=turned, rhs=grad, partial_pivoting=op.attrs["partial_pivoting"],
                   perturb_singular=op.attrs["perturb_singular"])  # fmt: skip
    x = conj(op.outputs[0])
    beside = [_padded(x[..., 1:, :], x, -2, 1), x, _padded(x[..., :-1, :], x, -2, 0)]
    return -stack([reduce_sum(rhs * each, -1) for each in beside], axis=-2), rhs


def tridiagonal_matmul(diagonals: Any, rhs: Any, diagonals_format: str = "compact", name: str | None = None) -> Tensor:
    """The products of matrices of three diagonals (as in `tridiagonal_solve`) with matrices [..., n, k]."""
    with name_scope(name or "tridiagonal_matmul", "tridiagonal_matmul", [rhs]):
        upper, main, lower = (expand_dims(each, -1) for each in _diagonals(diagonals, diagonals_format))
        x = convert_to_tensor(rhs, dtype=main.dtype.base_dtype, name="rhs")
        return main * x + upper * _padded(x[..., 1:, :], x, -2, 1) + lower * _padded(x[..., :-1, :], x, -2, 0)


@RegisterGradient("TridiagonalMatMul")
def _tridiagonal_matmul_grad(op: Operation, grad: Tensor) -> list[Tensor]:
    upper, main, lower, x = (conj(each) for each in op.inputs)
    # Of the adjoint matrix the diagonals have changed sides.
    raised, lowered = _padded(lower[..., 1:], lower, -1, 1), _padded(upper[..., :-1], upper, -1, 0)
    back = apply_op("TridiagonalMatMul", superdiag=raised, maindiag=main, subdiag=lowered, rhs=grad)
    beside = [_padded(x[..., 1:, :], x, -2, 1), x, _padded(x[..., :-1, :], x, -2, 0)]
    return [*[expand_dims(reduce_sum(grad * each, -1), -2) for each in beside], back]
