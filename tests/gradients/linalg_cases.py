"""Cases of linear algebra: inverses, solutions, decompositions, functions of matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
from differences import Case, by, of
from samples import COMPLEX_SQUARE, SQUARE, normal

import stepjit.compat.v1 as tf

TALL, WIDE, RHS = normal(2, 4, 3), normal(2, 3, 4), normal(2, 3, 2)
BANDS = normal(2, 3, 3) + 4 * np.array([[0.0], [1.0], [0.0]])
DISTINCT = np.diag([1.0, 2.0, 3.5]) + 0.3 * normal(2, 3, 3)


def symmetric(function: Any) -> Any:
    """A function of matrices that reads one triangle, as one of the whole matrix."""
    return lambda x: function(0.5 * (x + tf.linalg.adjoint(x)))


def without_phases(vectors: Any) -> Any:
    """Vectors in columns as what does not depend on their signs."""
    return vectors * tf.conj(vectors)


def _svd(full: bool = False) -> Any:
    def build(x: Any) -> Any:
        s, u, v = tf.raw_ops.Svd(input=x, compute_uv=True, full_matrices=full)
        shared = min(int(u.shape[-1]), int(v.shape[-1]))
        return [s, without_phases(u), without_phases(v), tf.matmul(u[..., :shared], v[..., :shared], adjoint_b=True)]

    return build


def _eig(x: Any) -> Any:
    values, vectors = tf.raw_ops.Eig(input=x, Tout=tf.complex128)
    order = tf.argsort(tf.real(values))
    return [tf.gather(values, order, batch_dims=1), tf.gather(tf.abs(vectors), order, axis=2, batch_dims=1)]


def _eigvals(x: Any) -> Any:
    values = tf.raw_ops.Eig(input=x, compute_v=False, Tout=tf.complex128)[0]
    return tf.gather(values, tf.argsort(tf.real(values)), batch_dims=1)


CASES: list[Case] = [
    of("MatrixInverse", "input", SQUARE),
    of("MatrixInverse", "input", SQUARE, adjoint=True, note="adjoint"),
    of("MatrixInverse", "input", COMPLEX_SQUARE, note="of complex"),
    of("MatrixDeterminant", "input", SQUARE),
    of("MatrixDeterminant", "input", SQUARE, unknown=True, note="of unknown extents"),
    by("LogMatrixDeterminant", lambda x: tf.raw_ops.LogMatrixDeterminant(input=x)[1], SQUARE),
    by("Cholesky", symmetric(lambda x: tf.raw_ops.Cholesky(input=x)), SQUARE @ SQUARE.transpose(0, 2, 1)),
    of("MatrixSolve", "matrix rhs", SQUARE, RHS),
    of("MatrixSolve", "matrix rhs", SQUARE, RHS, adjoint=True, note="adjoint"),
    of("MatrixSolve", "matrix rhs", COMPLEX_SQUARE, RHS + 0j, note="of complex"),
    *[of("MatrixTriangularSolve", "matrix rhs", SQUARE, RHS, lower=lower, adjoint=adjoint, note=f"{lower}, {adjoint}")
      for lower in (True, False) for adjoint in (True, False)],
    of("MatrixTriangularSolve", "matrix rhs", SQUARE[0], RHS, note="one matrix for all"),
    of("MatrixTriangularSolve", "matrix rhs", SQUARE, RHS[0], note="one side for all"),
    *[of("MatrixSolveLs", "matrix rhs", x, np.ones((2, x.shape[1], 2)), l2_regularizer=np.float64(weight), fast=fast,
         note=f"{x.shape}, {fast}") for x in (TALL, WIDE) for fast, weight in ((True, 0.3), (False, 0.0))],
    by("Qr", lambda x: tf.raw_ops.Qr(input=x), SQUARE),
    by("Qr", lambda x: tf.raw_ops.Qr(input=x), TALL, note="of tall"),
    by("Qr", lambda x: tf.raw_ops.Qr(input=x), WIDE, note="of wide"),
    by("SelfAdjointEigV2", symmetric(lambda x: tf.raw_ops.SelfAdjointEigV2(input=x, compute_v=False)[0]), DISTINCT,
       note="values"),
    by("SelfAdjointEigV2", symmetric(
        lambda x: [(d := tf.raw_ops.SelfAdjointEigV2(input=x))[0], without_phases(d[1])]), DISTINCT),
    by("Svd", _svd(), SQUARE),
    by("Svd", _svd(), TALL, note="of tall"),
    by("Svd", _svd(), WIDE, note="of wide"),
    by("Svd", lambda x: tf.raw_ops.Svd(input=x, compute_uv=False)[0], TALL, note="values"),
    by("Svd", _svd(True), SQUARE, note="full"),
    by("Svd", _svd(True), TALL, note="full, of tall"),
    by("Svd", _svd(True), WIDE, note="full, of wide"),
    by("Eig", _eig, DISTINCT),
    by("Eig", _eigvals, DISTINCT, note="values"),
    by("Eig", _eig, DISTINCT + 0.2j * normal(2, 3, 3), note="of complex"),
    by("Lu", lambda x: tf.raw_ops.Lu(input=x)[0], SQUARE),
    of("MatrixExponential", "input", SQUARE * 0.5),
    by("MatrixLogarithm", lambda x: tf.raw_ops.MatrixLogarithm(input=x), COMPLEX_SQUARE),
    of("MatrixSquareRoot", "input", SQUARE),
    of("TridiagonalSolve", "diagonals rhs", BANDS, RHS),
    of("TridiagonalSolve", "diagonals rhs", BANDS + 0.3j * normal(2, 3, 3), RHS + 0j, note="of complex"),
    of("TridiagonalMatMul", "superdiag maindiag subdiag rhs", *[BANDS[:, k : k + 1] for k in range(3)], RHS),
    of("TridiagonalMatMul", "superdiag maindiag subdiag rhs", *[BANDS[:, k : k + 1] * (1 + 0.3j) for k in range(3)],
       RHS * (1 - 0.7j), note="of complex"),
]  # fmt: skip
