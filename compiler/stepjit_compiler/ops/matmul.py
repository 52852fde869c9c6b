"""Matrix products, single and batched."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler.lowering import Contraction
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, extent_text, show
from stepjit_runtime import dtypes


def _in_floats(call: Any) -> bool:
    return call.inputs[0].dtype in (dtypes.float32, dtypes.float64)


def _incompatible(a: ShapeLike, b: ShapeLike) -> str:
    return f"Matrix size-incompatible: In[0]: {show(a)}, In[1]: {show(b)}"


def _product_extents(x: Inference, adjoint_a: bool, adjoint_b: bool) -> tuple[Any, Any]:
    """The result's last two extents; the inner ones must agree."""
    a, b = x.shape(0), x.shape(1)
    rows, inner = (None, None) if a is None else a[-2:][::-1] if adjoint_a else a[-2:]
    inner_b, columns = (None, None) if b is None else b[-2:][::-1] if adjoint_b else b[-2:]
    pair = f"{extent_text(inner)} and {extent_text(inner_b)}"
    x.equal(inner, inner_b, f"{_incompatible(a, b)} (Dimensions must be equal, but are {pair})")
    return rows, columns


# --- MatMul ---
def _matmul_shape(x: Inference) -> list[ShapeLike]:
    x.with_rank(0, 2)
    x.with_rank(1, 2)
    return [_product_extents(x, x.attrs["transpose_a"], x.attrs["transpose_b"])]


def _multiply(call: Call, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The product in the dtype itself, or in float32 for half precision."""
    if a.dtype.itemsize == 2 and call.dtypes[0].is_floating:
        a, b = a.astype(np.float32), b.astype(np.float32)
    with np.errstate(all="ignore"):
        return np.asarray(np.matmul(a, b)).astype(call.dtypes[0].np, copy=False)


def _matmul(call: Call, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.ndim != 2 or b.ndim != 2:
        call.fail(f"In[0] and In[1] has different ndims: {show(a.shape)} vs. {show(b.shape)}" if a.ndim != b.ndim
                  else f"In[0] ndims must be 2: {a.ndim}")  # fmt: skip
    left = a.T if call.attrs["transpose_a"] else a
    right = b.T if call.attrs["transpose_b"] else b
    if left.shape[1] != right.shape[0]:
        call.fail(_incompatible(a.shape, b.shape))
    return _multiply(call, left, right)


define("MatMul", "a: T, b: T -> product: T",
       "transpose_a: bool = False, transpose_b: bool = False, "
       "T: type in float|int32|int64|uint8|uint16|uint32|uint64|complex, grad_a: bool = False, grad_b: bool = False",
       infer=_matmul_shape, reference=_matmul,
       lower=Contraction(lambda call: (call.attrs["transpose_a"], call.attrs["transpose_b"]), when=_in_floats)
       )  # fmt: skip


# --- BatchMatMul: equal batches; BatchMatMulV2: batches broadcast ---
def _batch_shape(x: Inference) -> list[ShapeLike]:
    a, b = x.shape(0), x.shape(1)
    for i, shape in enumerate((a, b)):
        if shape is not None and len(shape) < 2:
            x.fail(f"In[{i}] ndims must be >= 2: {len(shape)}. Shape must be at least rank 2 but is rank {len(shape)}")
    if a is None or b is None:
        return [None]
    if x.op == "BatchMatMulV2":
        batch: Any = x.broadcast(a[:-2], b[:-2])
    else:
        if len(a) != len(b):
            x.fail(f"In[0] and In[1] has different ndims: {show(a)} vs. {show(b)}")
        text = f": {show(a)} vs {show(b)} (Dimensions must be equal)"
        where = "In[0].dim({0}) and In[1].dim({0}) must be the same"
        batch = tuple(x.equal(m, n, where.format(k) + text) for k, (m, n) in enumerate(zip(a[:-2], b[:-2])))
    return [(*batch, *_product_extents(x, x.attrs["adj_x"], x.attrs["adj_y"]))]


def _batch_matmul(call: Call, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    for i, array in enumerate((a, b)):
        if array.ndim < 2:
            call.fail(f"In[{i}] ndims must be >= 2: {array.ndim}")
    left = np.conj(a.swapaxes(-1, -2)) if call.attrs["adj_x"] else a
    right = np.conj(b.swapaxes(-1, -2)) if call.attrs["adj_y"] else b
    if call.name == "BatchMatMul" and a.shape[:-2] != b.shape[:-2]:
        call.fail(f"In[0] and In[1] must have the same batch dimensions: {show(a.shape)} vs {show(b.shape)}")
    try:
        np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        call.fail(f"In[0] and In[1] must have compatible batch dimensions: {show(a.shape)} vs. {show(b.shape)}")
    if left.shape[-1] != right.shape[-2]:
        call.fail(_incompatible(a.shape, b.shape))
    return _multiply(call, left, right)


for _name, _narrow in (("BatchMatMul", ""), ("BatchMatMulV2", "|int16|uint8|uint16|uint32|uint64")):
    define(_name, "x: T, y: T -> output: T",
           f"T: type in float|int32|int64{_narrow}|complex, adj_x: bool = False, adj_y: bool = False, "
           "grad_x: bool = False, grad_y: bool = False",
           infer=_batch_shape, reference=_batch_matmul,
           lower=Contraction(lambda call: (call.attrs["adj_x"], call.attrs["adj_y"]), when=_in_floats))  # fmt: skip
