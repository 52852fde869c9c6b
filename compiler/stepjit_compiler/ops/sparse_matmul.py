"""Products of sparse matrices with dense ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepjit_compiler.lowering import Check, Composite, Indexed, Scatter
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, extent_text, unchanged
from stepjit_compiler.ops.arguments import brief
from stepjit_compiler.ops.sparse import extents_of
from stepjit_runtime import dtypes

# --- SparseTensorDenseMatMul ---


def _product_shape(x: Inference) -> list[ShapeLike]:
    count, two = x.with_rank(0, 2)
    (values,), (length,), b = x.with_rank(1, 1), x.with_rank(2, 1), x.with_rank(3, 2)
    x.equal(count, values, "Number of rows of a_indices does not match number of entries in a_values")
    x.equal(two, 2, "Tensor 'a_indices' must have 2 columns")
    x.equal(length, 2, "Tensor 'a_shape' must have 2 elements")
    a = x.extents(2) or (None, None)
    rows, inner = a[::-1] if x.attrs["adjoint_a"] else a
    theirs, columns = b[::-1] if x.attrs["adjoint_b"] else b
    x.equal(inner, theirs, _mismatch(x.extents(2) or (None, None), b, inner, theirs))
    return [(rows, columns)]


def _mismatch(a: Sequence[Any], b: Sequence[Any], inner: Any, theirs: Any) -> str:
    return (
        f"Cannot multiply A and B because inner dimension does not match: {extent_text(inner)} vs. "
        f"{extent_text(theirs)}.  Did you forget a transpose?  Dimensions of A: {brief(a)}.  "
        f"Dimensions of B: {brief(b)}"
    )


def _check_product(call: Call, indices: np.ndarray, values: np.ndarray, shape: np.ndarray, b: np.ndarray) -> None:
    if b.ndim != 2:
        call.fail("Tensor 'b' is not a matrix")
    if shape.ndim != 1 or len(shape) != 2:
        call.fail("Tensor 'a_shape' must have 2 elements")
    if indices.ndim != 2 or values.ndim != 1 or indices.shape[1] != 2:
        call.fail(f"Tensor 'a_indices' is not a matrix of 2 columns: {brief(indices.shape)}")
    if len(indices) != len(values):
        call.fail("Number of rows of a_indices does not match number of entries in a_values")
    inner, theirs = shape[0 if call.attrs["adjoint_a"] else 1], b.shape[1 if call.attrs["adjoint_b"] else 0]
    if inner != theirs:
        call.fail(_mismatch(shape.tolist(), b.shape, inner, theirs))
    extents_of(call, shape)


def _check_cells(call: Call, indices: np.ndarray, shape: np.ndarray) -> None:
    outside = (indices < 0) | (indices >= shape)
    if outside.any():
        row, column = np.argwhere(outside)[0]
        letter = "mk"[column ^ int(call.attrs["adjoint_a"])]
        call.fail(_outside(letter, column).format(at=row, value=indices[row, column], bound=shape[column]))


def summed_rows(rows: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    """`found[p]` is the sum of the rows whose place is p."""
    found = np.zeros((count, *rows.shape[1:]), rows.dtype)
    if len(rows):
        order = np.argsort(places, kind="stable")
        sorted_places = places[order]
        starts = np.flatnonzero(np.concatenate([[True], sorted_places[1:] != sorted_places[:-1]]))
        found[sorted_places[starts]] = np.add.reduceat(rows[order], starts, axis=0)
    return found


def _product(call: Call, indices: np.ndarray, values: np.ndarray, shape: np.ndarray, b: np.ndarray) -> np.ndarray:
    _check_product(call, indices, values, shape, b)
    _check_cells(call, indices, shape)
    row, inner = indices.T[::-1] if call.attrs["adjoint_a"] else indices.T
    if call.attrs["adjoint_a"]:
        values = np.conj(values)
    if call.attrs["adjoint_b"]:
        b = np.conj(b.T)
    count = int(shape[1 if call.attrs["adjoint_a"] else 0])
    return summed_rows(values[:, None] * b[inner], row, count)


def _product_dims(call: Call, shape: np.ndarray, b_shape: np.ndarray) -> np.ndarray:
    rows, inner = shape.tolist()[::-1] if call.attrs["adjoint_a"] else shape.tolist()
    theirs, columns = b_shape.tolist()[::-1] if call.attrs["adjoint_b"] else b_shape.tolist()
    if inner != theirs:
        call.fail(_mismatch(shape.tolist(), b_shape.tolist(), inner, theirs))
    return np.array([*extents_of(call, np.array([rows])), columns], np.int64)


def _emit_row(k: Any, call: Any, output: int, index: Any) -> Any:
    return k.load(0, (k.index(k.load(1, (index[0],))), index[1]))


def _expand_product(x: Any, call: Any, indices: Any, values: Any, shape: Any, b: Any) -> Any:
    """Rows of b at the inner indices, scaled, are added up at the outer ones."""
    dtype, adjoint_a, adjoint_b = call.dtypes[0], call.attrs["adjoint_a"], call.attrs["adjoint_b"]
    row, inner = (1, 0) if adjoint_a else (0, 1)
    if call.known(2) is None:
        b_shape = x.op("Shape", b, out_type=dtypes.int64)
        whole = x.op("_ProductDims", shape, b_shape, adjoint_a=adjoint_a, adjoint_b=adjoint_b)
    else:
        whole = x.dims(call.types[0].dims)
    zeros = x.op("Fill", whole, x.const(0, dtype))
    columns = [
        x.op("StridedSlice", indices, x.const([0, k], dtypes.int32), x.const([0, k + 1], dtypes.int32),
             x.const([1, 1], dtypes.int32), begin_mask=1, end_mask=1, ellipsis_mask=0, new_axis_mask=0,
             shrink_axis_mask=2)
        for k in (row, inner)
    ]  # fmt: skip
    if adjoint_b:
        b = x.op("Transpose", b, x.const([1, 0], dtypes.int32))
    taken = x.op("_InnerRows", b, columns[1], column=inner)
    scaled = x.op("Mul", x.op("ExpandDims", values, x.const(1, dtypes.int32)), taken)
    return x.op(f"_AddToRows{row}", zeros, columns[0], scaled)


def _native_product(call: Any) -> bool:
    return call.dtypes[0].kind in "fiu"


def _add_to_rows(column: int) -> Callable[..., np.ndarray]:
    def reference(call: Call, total: np.ndarray, rows: np.ndarray, data: np.ndarray) -> np.ndarray:
        _check_column(call, rows, len(total), "m", column)
        return np.asarray(total + summed_rows(data, rows, len(total)))

    return reference


def _inner_rows(call: Call, b: np.ndarray, indices: np.ndarray) -> np.ndarray:
    _check_column(call, indices, len(b), "k", call.attrs["column"])
    return np.asarray(b[indices])


def _check_column(call: Call, places: np.ndarray, bound: int, letter: str, column: int) -> None:
    bad = np.flatnonzero((places < 0) | (places >= bound))
    if len(bad):
        call.fail(_outside(letter, column).format(at=bad[0], value=places[bad[0]], bound=bound))


def _outside(letter: str, column: int) -> str:
    """The text for an index outside of its extent; rows of the product are called m, the inner dimension k."""
    return f"{letter} ({{value}}) from index[{{at}},{column}] out of bounds (>={{bound}})"


# What a product is made of where it is compiled.
define(
    "_ProductDims", "a_shape: int64, b_shape: int64 -> dims: int64", "adjoint_a: bool, adjoint_b: bool",
    infer=lambda x: [(2,)], reference=_product_dims,
)  # fmt: skip
define(
    "_InnerRows", "b: T, indices: Tindices -> rows: T", "column: int, T: type, Tindices: type in index",
    infer=lambda x: [(*x.with_rank(1, 1), x.with_rank(0, 2)[1])], reference=_inner_rows,
    lower=Indexed(
        _emit_row, checks=lambda call: [Check(1, call.inputs[0].dims[0], _outside("k", call.attrs["column"]))]
    ),
)  # fmt: skip
for _column in (0, 1):
    define(
        f"_AddToRows{_column}", "total: T, rows: Tindices, data: T -> output: T",
        "T: type, Tindices: type in index", infer=unchanged, reference=_add_to_rows(_column),
        lower=Scatter(lambda b, call, old, new: b.add(old, new), message=_outside("m", _column)),
    )  # fmt: skip

define(
    "SparseTensorDenseMatMul", "a_indices: Tindices, a_values: T, a_shape: int64, b: T -> product: T",
    "T: type, Tindices: type in index = int64, adjoint_a: bool = False, adjoint_b: bool = False",
    infer=_product_shape, reference=_product, lower=Composite(_expand_product, when=_native_product),
)  # fmt: skip

# --- SparseMatMul: a product of dense matrices with many zeros ---


def _mostly_zero_shape(x: Inference) -> list[ShapeLike]:
    a, b = x.with_rank(0, 2), x.with_rank(1, 2)
    if x.attrs["transpose_a"]:
        a = a[::-1]
    if x.attrs["transpose_b"]:
        b = b[::-1]
    x.equal(a[1], b[0], f"Matrix size incompatible: a: {brief(a)}, b: {brief(b)}")
    return [(a[0], b[1])]


def _mostly_zero(call: Call, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.ndim != 2 or b.ndim != 2:
        call.fail(f"a and b must be matrices, got shapes {brief(a.shape)} and {brief(b.shape)}")
    a = (a.T if call.attrs["transpose_a"] else a).astype(np.float32)
    b = (b.T if call.attrs["transpose_b"] else b).astype(np.float32)
    if a.shape[1] != b.shape[0]:
        call.fail(f"Matrix size incompatible: a: {brief(a.shape)}, b: {brief(b.shape)}")
    return np.asarray(a @ b)


def _expand_mostly_zero(x: Any, call: Any, a: Any, b: Any) -> Any:
    return x.op("MatMul", a, b, transpose_a=call.attrs["transpose_a"], transpose_b=call.attrs["transpose_b"])


define(
    "SparseMatMul", "a: Ta, b: Tb -> product: float32",
    "transpose_a: bool = False, transpose_b: bool = False, a_is_sparse: bool = False, b_is_sparse: bool = False, "
    "Ta: type in float32|bfloat16 = float32, Tb: type in float32|bfloat16 = float32",
    infer=_mostly_zero_shape, reference=_mostly_zero, lower=Composite(_expand_mostly_zero),
)  # fmt: skip
