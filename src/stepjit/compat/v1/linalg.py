"""tf.linalg."""

# ruff: noqa: F401, I001

from __future__ import annotations

from stepjit.ops.array import matrix_transpose
from stepjit.ops.creation import (
    diag as tensor_diag, diag_part as tensor_diag_part, eye, matrix_band_part as band_part, matrix_diag as diag,
    matrix_diag_part as diag_part, matrix_set_diag as set_diag,
)  # fmt: skip
from stepjit.ops.einsum import einsum
from stepjit.ops.linear import matmul, matvec, norm, tensordot, trace
from stepjit.ops.normalization import l2_normalize
from stepjit.ops.special import cross
