"""Arithmetic with sparse tensors: sums, elementwise with dense ones, reductions, softmax, maxima."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define
from stepjit_compiler.ops.arguments import brief, ints_input, merge
from stepjit_compiler.ops.sparse import (
    check_bounds,
    check_parts,
    extents_of,
    flat_places,
    row_order,
    same_as_before,
    sparse_input,
    sparse_shapes,
)  # fmt: skip
from stepjit_runtime.errors import INTERNAL

_NUMBER = "T: type in number"
_REAL = "T: type in real"

# --- SparseAdd, SparseAddGrad, SparseSparseMaximum, SparseSparseMinimum ---


def _two_shapes(x: Inference) -> list[ShapeLike]:
    rank = x.equal(sparse_input(x, 0)[1], sparse_input(x, 3)[1], "Operands' ranks do not match")
    return sparse_shapes(None, rank)


def _check_two(call: Call, a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> None:
    if a[0].ndim != 2 or b[0].ndim != 2:
        call.fail(f"Input indices should be matrices but received shapes: {brief(a[0].shape)} and {brief(b[0].shape)}")
    check_parts(call, a[0], a[1], a[2], names="a_")
    check_parts(call, b[0], b[1], b[2], names="b_")
    if len(a[2]) != len(b[2]):
        call.fail(f"Operands do not have the same ranks; got shapes: {brief(a[2].tolist())} and {brief(b[2].tolist())}")
    for k, (mine, theirs) in enumerate(zip(a[2].tolist(), b[2].tolist(), strict=True)):
        if mine != theirs:
            call.fail(f"Operands' shapes do not match: got {mine} and {theirs} for dimension {k}")


def _merged(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows of both in order; by row its place in a and in b, -1 where that lacks it."""
    rows = np.concatenate([a, b])
    order = row_order(rows)
    rows = rows[order]
    pairs = np.flatnonzero(same_as_before(rows) & (order[:-1] < len(a)) & (order[1:] >= len(a)))
    in_a = np.where(order < len(a), order, -1)
    in_b = np.where(order >= len(a), order - len(a), -1)
    in_b[pairs] = in_b[pairs + 1]
    kept = np.ones(len(rows), bool)
    kept[pairs + 1] = False
    return rows[kept], in_a[kept], in_b[kept]


def _taken(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The values at the places, zeros at -1."""
    if not len(values):
        return np.zeros(len(places), values.dtype)
    return np.where(places >= 0, values[places], np.zeros((), values.dtype))


def _add(call: Call, *arrays: np.ndarray) -> Any:
    a, b, thresh = arrays[:3], arrays[3:6], arrays[6]
    if a[0].ndim == 2 and b[0].ndim == 2 and (len(a[0]) != len(a[1]) or len(b[0]) != len(b[1])):
        call.fail(
            f"Expected {len(a[0])} and {len(b[0])} non-empty input values, got {len(a[1])} and {len(b[1])}"
        )
    _check_two(call, a, b)
    if thresh.ndim:
        call.fail(f"The magnitude threshold must be a scalar: got shape {brief(thresh.shape)}")
    rows, in_a, in_b = _merged(a[0], b[0])
    total = (_taken(a[1], in_a) + _taken(b[1], in_b)).astype(call.dtypes[1].np)
    kept = np.abs(total) >= thresh
    return rows[kept], total[kept], np.array(a[2])


def _places_among(rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """By wanted row, its number among `rows`, which are distinct; -1 where it is none of them."""
    order = row_order(np.concatenate([rows, wanted]))
    both = np.concatenate([rows, wanted])[order]
    fresh = np.concatenate([[True], ~same_as_before(both)]) if len(both) else np.zeros(0, bool)
    # Equal rows stand together, the one of `rows` first.
    leader = np.maximum.accumulate(np.where(fresh, np.arange(len(both)), 0)) if len(both) else np.zeros(0, np.int64)
    found = np.empty(len(both), np.int64)
    found[order] = order[leader]
    mine = found[len(rows) :]
    return np.where(mine < len(rows), mine, -1)


def _add_grad(
    call: Call, grad: np.ndarray, a_indices: np.ndarray, b_indices: np.ndarray, sum_indices: np.ndarray
) -> Any:
    if any(part.ndim != 2 for part in (a_indices, b_indices, sum_indices)):
        call.fail("Inputs indices should be matrices")
    if grad.shape != sum_indices.shape[:1]:
        call.fail(
            f"# elements in backprop_val_grad ({grad.size}) does not match # rows in sum_indices ({len(sum_indices)})"
        )
    if not a_indices.shape[1] == b_indices.shape[1] == sum_indices.shape[1]:
        call.fail("The densified operands should have the same ndims")
    return tuple(_taken(grad, _places_among(sum_indices, each)) for each in (a_indices, b_indices))


def _extremum(function: Callable[..., Any]) -> Callable[..., Any]:
    def reference(call: Call, *arrays: np.ndarray) -> Any:
        a, b = arrays[:3], arrays[3:]
        _check_two(call, a, b)
        check_bounds(call, a[0], a[2].tolist())
        check_bounds(call, b[0], b[2].tolist())
        rows, in_a, in_b = _merged(a[0], b[0])
        return rows, function(_taken(a[1], in_a), _taken(b[1], in_b)).astype(call.dtypes[1].np)

    return reference


_TWO = "a_indices: int64, a_values: T, a_shape: int64, b_indices: int64, b_values: T, b_shape: int64"

define(
    "SparseAdd", f"{_TWO}, thresh: Treal -> sum_indices: int64, sum_values: T, sum_shape: int64",
    f"{_NUMBER}, Treal: type in real", infer=_two_shapes, reference=_add,
)  # fmt: skip
define(
    "SparseAddGrad",
    "backprop_val_grad: T, a_indices: int64, b_indices: int64, sum_indices: int64 -> a_val_grad: T, b_val_grad: T",
    _NUMBER, infer=lambda x: [x.with_rank(1, 2)[:1], x.with_rank(2, 2)[:1]], reference=_add_grad,
)  # fmt: skip
define("SparseSparseMaximum", f"{_TWO} -> output_indices: int64, output_values: T", _REAL,
       infer=lambda x: _two_shapes(x)[:2], reference=_extremum(np.maximum))  # fmt: skip
define("SparseSparseMinimum", f"{_TWO} -> output_indices: int64, output_values: T", _NUMBER,
       infer=lambda x: _two_shapes(x)[:2], reference=_extremum(np.minimum))  # fmt: skip

# --- SparseTensorDenseAdd ---


def _dense_sum_shape(x: Inference) -> list[ShapeLike]:
    sparse_input(x, 0)
    return [merge(x, x.extents(2), x.shape(3), "Dimensions do not match (no broadcasting is supported)")]


def _dense_sum(call: Call, indices: np.ndarray, values: np.ndarray, shape: np.ndarray, b: np.ndarray) -> np.ndarray:
    if indices.ndim != 2:
        call.fail(f"Input a_indices should be a matrix but received shape: {brief(indices.shape)}")
    for mine, theirs in ((len(indices), len(values)), (indices.shape[1], len(shape))):
        if mine != theirs:
            call.fail(f"Dimensions {mine} and {theirs} are not compatible")
    if len(shape) != b.ndim:
        call.fail(f"Ranks of a and b must match: {len(shape)} against {b.ndim}")
    for k, (mine, theirs) in enumerate(zip(shape.tolist(), b.shape, strict=True)):
        if mine != theirs:
            call.fail(
                f"Dimension {k} does not equal (no broadcasting is supported): sparse side {mine} vs dense side "
                f"{theirs}"
            )
    outside = (indices < 0) | (indices >= shape)
    if outside.any():
        row, column = np.argwhere(outside)[0]
        call.fail(
            f"Sparse tensor has an invalid index on dimension {column}: a_indices({row},{column}) = "
            f"{indices[row, column]}, dense tensor shape: {' '.join(map(str, b.shape))}"
        )
    found = np.array(b, order="C")
    np.add.at(found.reshape(-1), flat_places(indices.astype(np.int64), b.shape), values)
    return found


define(
    "SparseTensorDenseAdd", "a_indices: Tindices, a_values: T, a_shape: Tindices, b: T -> output: T",
    f"{_NUMBER}, Tindices: type in index", infer=_dense_sum_shape, reference=_dense_sum,
)  # fmt: skip

# --- SparseDenseCwiseAdd, SparseDenseCwiseMul, SparseDenseCwiseDiv ---


def _divided(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.dtype.kind not in "iu":
        return np.asarray(x / y)
    cut = np.abs(x) // np.abs(y)
    return np.where((x < 0) != (y < 0), -cut, cut) if x.dtype.kind == "i" else cut


def _with_dense(function: Callable[..., np.ndarray]) -> Callable[..., Any]:
    def reference(call: Call, indices: np.ndarray, values: np.ndarray, shape: np.ndarray, dense: np.ndarray) -> Any:
        if indices.ndim == 2 and len(indices) != len(values):
            call.fail(
                f"The first dimension of values and indices should match. ({len(values)} vs. {len(indices)})"
            )
        if indices.ndim == 2 and indices.shape[1] != shape.size:
            call.fail(
                f"Number of dimensions must match second dimension of indices. Got {shape.size} dimensions, indices "
                f"shape: {brief(indices.shape)}"
            )
        check_parts(call, indices, values, shape)
        extents = extents_of(call, shape)
        padded = [1] * (len(extents) - dense.ndim) + list(dense.shape)
        if dense.ndim > len(extents) or any(mine not in (1, whole) for mine, whole in zip(padded, extents)):
            call.fail(
                "SparseDenseBinaryOpShared broadcasts dense to sparse only; got incompatible shapes: "
                f"{brief(extents)} vs. {brief(dense.shape)}"
            )
        if len(indices) and ((indices < 0) | (indices >= shape)).any():
            call.fail("Provided indices are out-of-bounds w.r.t. dense side with broadcasted shape")
        places = tuple(indices[:, k] if extent != 1 else 0 for k, extent in enumerate(padded))
        others = np.broadcast_to(dense.reshape(padded)[places], values.shape)
        if function is _divided and values.dtype.kind in "iu" and (others == 0).any():
            call.fail("Integer division by zero")
        return function(values, others).astype(call.dtypes[0].np, copy=False)

    return reference


for _name, _function in (("Add", np.add), ("Mul", np.multiply), ("Div", _divided)):
    define(
        f"SparseDenseCwise{_name}", "sp_indices: int64, sp_values: T, sp_shape: int64, dense: T -> output: T", _NUMBER,
        infer=lambda x: sparse_shapes(*sparse_input(x, 0))[1:2], reference=_with_dense(_function),
    )  # fmt: skip

# --- SparseReduceSum, SparseReduceMax, and each giving a sparse tensor ---


def _reduced_dense(x: Inference) -> list[ShapeLike]:
    sparse_input(x, 0)
    axes, shape = ints_input(x, 3), x.extents(2)
    if shape is None:
        return [None]
    if axes is None:
        return [(None,) * len(shape) if x.attrs["keep_dims"] else None]
    gone = {_axis(x, axis, len(shape)) for axis in axes}
    keep = x.attrs["keep_dims"]
    return [tuple([1 if k in gone else extent for k, extent in enumerate(shape) if keep or k not in gone])]


def _axis(x: Any, axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        x.fail(f"Invalid reduction dimension {axis}, for input with {rank} dimension(s)")
    return axis % rank


def _reduced_sparse(x: Inference) -> list[ShapeLike]:
    rank = sparse_input(x, 0)[1]
    axes = ints_input(x, 3)
    if not x.attrs["keep_dims"]:
        if axes is None or not isinstance(rank, int):
            rank = None
        else:
            rank -= len({_axis(x, axis, rank) for axis in axes})
    return sparse_shapes(None, rank)


def _groups(
    call: Call, function: Any, indices: np.ndarray, values: np.ndarray, shape: np.ndarray, axes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[int], list[int]]:
    """The indices and reduced values of the groups, on the axes that stay; these axes, and the whole shape."""
    if indices.ndim != 2:
        call.fail(f"indices must be a matrix, but got: {brief(indices.shape)}")
    if len(indices) != values.size:
        call.fail(
            f"indices and values rows (indexing dimension) must match. (indices = {len(indices)}, "
            f"values = {values.size})"
        )
    if indices.shape[1] != shape.size:
        call.fail("Order length must be SparseTensor rank.")
    extents = extents_of(call, shape)
    gone = {_axis(call, axis, len(extents)) for axis in axes.reshape(-1).tolist()}
    staying = [k for k in range(len(extents)) if k not in gone]
    rows = indices[:, staying]
    order = row_order(rows)
    rows, values = rows[order], values[order]
    if not len(rows):
        return rows, values, staying, extents
    starts = np.flatnonzero(np.concatenate([[True], ~same_as_before(rows)]))
    return rows[starts], function.reduceat(values, starts).astype(values.dtype, copy=False), staying, extents


def _kept(extents: Sequence[int], staying: Sequence[int], keep: bool) -> list[int]:
    return [extent if k in staying else 1 for k, extent in enumerate(extents) if keep or k in staying]


def _reduce(function: Any) -> Callable[..., np.ndarray]:
    def reference(call: Call, *arrays: np.ndarray) -> np.ndarray:
        rows, values, staying, extents = _groups(call, function, *arrays)
        found = np.zeros(_kept(extents, staying, call.attrs["keep_dims"]), call.dtypes[0].np)
        places = flat_places(rows, [extents[k] for k in staying])
        bad = np.flatnonzero(((rows < 0) | (rows >= np.array([extents[k] for k in staying], np.int64))).any(axis=1))
        if len(bad):
            call.fail(
                f"Obtained a write index of {places[bad[0]]} which is outside of bounds of [0, {found.size})", INTERNAL
            )
        found.reshape(-1)[places] = values
        return found

    return reference


def _reduce_sparse(function: Any) -> Callable[..., Any]:
    def reference(call: Call, *arrays: np.ndarray) -> Any:
        rows, values, staying, extents = _groups(call, function, *arrays)
        keep = call.attrs["keep_dims"]
        if keep:
            whole = np.zeros((len(rows), len(extents)), np.int64)
            whole[:, staying] = rows
            rows = whole
        return rows, values, np.array(_kept(extents, staying, keep), np.int64)

    return reference


_REDUCED = "input_indices: int64, input_values: T, input_shape: int64, reduction_axes: int32"

for _name, _total, _types in (("Sum", np.add, _NUMBER), ("Max", np.maximum, _REAL)):
    define(f"SparseReduce{_name}", f"{_REDUCED} -> output: T", f"keep_dims: bool = False, {_types}",
           infer=_reduced_dense, reference=_reduce(_total))  # fmt: skip
    define(
        f"SparseReduce{_name}Sparse", f"{_REDUCED} -> output_indices: int64, output_values: T, output_shape: int64",
        f"keep_dims: bool = False, {_types}", infer=_reduced_sparse, reference=_reduce_sparse(_total),
    )  # fmt: skip

# --- SparseSoftmax ---


def _softmax(call: Call, indices: np.ndarray, values: np.ndarray, shape: np.ndarray) -> np.ndarray:
    if indices.ndim == 2 and len(indices) != values.size:
        call.fail(
            f"indices and values rows (indexing dimension) must match. (indices = {len(indices)}, "
            f"values = {values.size})"
        )
    if indices.ndim == 2 and indices.shape[1] != shape.size:
        call.fail("Order length must be SparseTensor rank.")
    check_parts(call, indices, values, shape)
    extents_of(call, shape)
    if len(shape) < 2:
        call.fail("Input should have rank >= 2, but received shape: " + brief(shape.tolist()))
    if not len(values):
        return np.array(values)
    order = row_order(indices[:, :-1])
    rows = indices[order, :-1]
    first = np.concatenate([[True], ~same_as_before(rows)])
    starts, group = np.flatnonzero(first), np.cumsum(first) - 1
    ordered = values[order]
    powers = np.exp(ordered - np.maximum.reduceat(ordered, starts)[group])
    found = np.empty_like(values)
    found[order] = powers / np.add.reduceat(powers, starts)[group]
    return found


define(
    "SparseSoftmax", "sp_indices: int64, sp_values: T, sp_shape: int64 -> output: T",
    "T: type in float16|float32|float64", infer=lambda x: sparse_shapes(*sparse_input(x, 0))[1:2], reference=_softmax,
)  # fmt: skip
