"""Decompositions of matrices: QR, singular values, eigenvalues, LU."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler import dims
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define
from stepjit_compiler.ops.arguments import at_least
from stepjit_compiler.ops.linalg import NOT_INVERTIBLE, TYPES, adjoint, as_output, require_square, square, working


def _require_matrix(call: Call, x: np.ndarray) -> None:
    if x.ndim < 2:
        call.fail(f"Input tensor 0 must have rank >= 2, got {x.ndim}")


def _smaller(rows: Any, columns: Any) -> Any:
    return None if rows is None or columns is None else dims.minimum(rows, columns)


# --- Qr ---
def _qr_shape(x: Inference) -> list[ShapeLike]:
    shape = at_least(x, 0, 2)
    if shape is None:
        return [None, None]
    (*batch, rows, columns) = shape
    inner = rows if x.attrs["full_matrices"] else _smaller(rows, columns)
    return [(*batch, rows, inner), (*batch, inner, columns)]


def _qr(call: Call, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    _require_matrix(call, x)
    full = bool(call.attrs["full_matrices"])
    (*batch, rows, columns) = x.shape
    inner = rows if full else min(rows, columns)
    if not x.size:
        q = np.broadcast_to(np.eye(rows, inner), (*batch, rows, inner))
        return as_output(call, q), as_output(call, np.zeros((*batch, inner, columns)), 1)
    q, r = np.linalg.qr(working(x), mode="complete" if full else "reduced")
    return as_output(call, q), as_output(call, r, 1)


define("Qr", "input: T -> q: T, r: T", f"full_matrices: bool = False, {TYPES}", infer=_qr_shape, reference=_qr)


# --- Svd: singular values from the largest; u and v are empty unless asked for ---
def _svd_shape(x: Inference) -> list[ShapeLike]:
    shape = at_least(x, 0, 2)
    wanted, full = x.attrs["compute_uv"], x.attrs["full_matrices"]
    if shape is None:
        return [None, None if wanted else (0,), None if wanted else (0,)]
    (*batch, rows, columns) = shape
    inner = _smaller(rows, columns)
    values = (*batch, inner)
    if not wanted:
        return [values, (0,), (0,)]
    return [values, (*batch, rows, rows if full else inner), (*batch, columns, columns if full else inner)]


def _svd(call: Call, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    _require_matrix(call, x)
    full, matrices = bool(call.attrs["full_matrices"]), working(x)
    try:
        if not call.attrs["compute_uv"]:
            nothing = np.zeros(0, x.dtype)
            return as_output(call, np.linalg.svd(matrices, compute_uv=False)), nothing, nothing.copy()
        u, s, vh = np.linalg.svd(matrices, full_matrices=full)
    except np.linalg.LinAlgError:
        return _not_found(call, x, full)
    return as_output(call, s), as_output(call, u, 1), as_output(call, adjoint(vh), 2)


def _not_found(call: Call, x: np.ndarray, full: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """NaN for matrices without singular values, as those that hold NaN."""
    (*batch, rows, columns) = x.shape
    inner = min(rows, columns)
    shapes = [(*batch, inner), (0,), (0,)]
    if call.attrs["compute_uv"]:
        shapes[1:] = [(*batch, rows, rows if full else inner), (*batch, columns, columns if full else inner)]
    s, u, v = (np.full(shape, np.nan, x.dtype) for shape in shapes)
    return s, u, v


for _name in ("Svd", "BatchSvd"):
    define(_name, "input: T -> s: T, u: T, v: T",
           f"compute_uv: bool = True, full_matrices: bool = False, {TYPES}",
           infer=_svd_shape, reference=_svd)  # fmt: skip


# --- SelfAdjointEigV2: of the lower triangles; eigenvalues from the smallest ---
def _eig_shape(x: Inference) -> list[ShapeLike]:
    found, wanted = square(x), x.attrs["compute_v"]
    if found is None:
        return [None, None if wanted else (0,)]
    batch, size = found
    return [(*batch, size), (*batch, size, size) if wanted else (0,)]


def _self_adjoint_eig(call: Call, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    require_square(call, x)
    wanted, matrices = bool(call.attrs["compute_v"]), working(x)
    try:
        if not wanted:
            return as_output(call, np.linalg.eigvalsh(matrices)), np.zeros(0, call.dtypes[1].np)
        values, vectors = np.linalg.eigh(matrices)
    except np.linalg.LinAlgError:
        call.fail("Self-adjoint eigen decomposition was not successful. The input might not be valid.")
    return as_output(call, values), as_output(call, vectors, 1)


for _name in ("SelfAdjointEigV2", "BatchSelfAdjointEigV2"):
    define(_name, "input: T -> e: T, v: T", f"compute_v: bool = True, {TYPES}", infer=_eig_shape,
           reference=_self_adjoint_eig)  # fmt: skip


# --- Eig ---
def _eig(call: Call, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    require_square(call, x)
    try:
        if not call.attrs["compute_v"]:
            return as_output(call, np.linalg.eigvals(x)), np.zeros(0, call.dtypes[1].np)
        values, vectors = np.linalg.eig(x)
    except np.linalg.LinAlgError:
        call.fail("Eigen decomposition was not successful. The input might not be valid.")
    return as_output(call, values), as_output(call, vectors, 1)


define("Eig", "input: T -> e: Tout, v: Tout",
       "compute_v: bool = True, T: type in float32|float64|complex, Tout: type in complex",
       infer=_eig_shape, reference=_eig)  # fmt: skip


# --- Lu: the unit lower and the upper factor in one matrix, and which row each came from ---
def _lu_shape(x: Inference) -> list[ShapeLike]:
    found = square(x)
    if found is None:
        return [None, None]
    batch, size = found
    return [(*batch, size, size), (*batch, size)]


def _lu(call: Call, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    require_square(call, x)
    size = x.shape[-1]
    flat = working(x).reshape(-1, size, size).copy() if x.size else np.zeros((0, size, size), x.dtype)
    rows = np.broadcast_to(np.arange(size), (len(flat), size)).copy()
    each = np.arange(len(flat))
    for k in range(size):
        pivot = k + np.argmax(np.abs(flat[:, k:, k]), axis=1)
        for held in (flat, rows):
            upper = held[each, k].copy()
            held[each, k] = held[each, pivot]
            held[each, pivot] = upper
        if not (np.abs(flat[:, k, k]) > 0).all():
            call.fail(NOT_INVERTIBLE)
        flat[:, k + 1 :, k] /= flat[:, k, None, k]
        flat[:, k + 1 :, k + 1 :] -= flat[:, k + 1 :, k, None] * flat[:, k, None, k + 1 :]
    return as_output(call, flat.reshape(x.shape)), as_output(call, rows.reshape(x.shape[:-1]), 1)


define("Lu", "input: T -> lu: T, p: output_idx_type", f"{TYPES}, output_idx_type: type in int32|int64 = int32",
       infer=_lu_shape, reference=_lu)  # fmt: skip
