"""tf.linalg."""

# ruff: noqa: F401, I001

from __future__ import annotations

from stepjit.ops.array import matrix_transpose, matrix_transpose as transpose
from stepjit.ops.clip import global_norm
from stepjit.ops.creation import (
    diag as tensor_diag, diag_part as tensor_diag_part, eye, matrix_band_part as band_part, matrix_diag as diag,
    matrix_diag_part as diag_part, matrix_set_diag as set_diag,
)  # fmt: skip
from stepjit.ops.decompositions import (
    cholesky, cholesky_solve, logdet, matrix_determinant as det, matrix_inverse as inv, matrix_solve as solve,
    matrix_solve_ls as lstsq, matrix_triangular_solve as triangular_solve, qr, self_adjoint_eig as eigh,
    self_adjoint_eigvals as eigvalsh, slogdet, svd,
)  # fmt: skip
from stepjit.ops.einsum import einsum
from stepjit.ops.linear import matmul, matvec, norm, tensordot, trace
from stepjit.ops.matrix_functions import (
    adjoint, expm, logm, lu, lu_matrix_inverse, lu_reconstruct, lu_solve, matrix_rank, matrix_square_root as sqrtm,
    normalize, pinv, tridiagonal_matmul, tridiagonal_solve,
)  # fmt: skip
from stepjit.ops.normalization import l2_normalize
from stepjit.ops.special import cross
