"""What numpy leaves out of LAPACK, from the library that `blas` loads."""

from __future__ import annotations

import ctypes

import numpy as np

from stepjit_runtime import blas

_COLUMN_MAJOR = 102


def schur(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The complex Schur form: upper triangular t and unitary z with matrix = z t z^H; LinAlgError without one."""
    size = matrix.shape[0]
    t = np.array(matrix, np.complex128, order="F")
    z = np.empty((size, size), np.complex128, order="F")
    eigenvalues = np.empty(size, np.complex128)
    chosen, extent = ctypes.c_int64(), ctypes.c_int64(size)
    find = blas.library().scipy_LAPACKE_zgees64_
    find.restype = ctypes.c_int64
    status = find(
        ctypes.c_int(_COLUMN_MAJOR), ctypes.c_char(b"V"), ctypes.c_char(b"N"), None, extent,
        ctypes.c_void_p(t.ctypes.data), extent, ctypes.byref(chosen), ctypes.c_void_p(eigenvalues.ctypes.data),
        ctypes.c_void_p(z.ctypes.data), extent,
    )  # fmt: skip
    if status:
        raise np.linalg.LinAlgError(f"no Schur form was found ({status})")
    return t, z
