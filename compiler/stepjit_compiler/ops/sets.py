"""Set operations between the rows (last axis) of two tensors, dense or sparse; the results are sparse and sorted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define
from stepjit_compiler.ops.arguments import at_least, brief
from stepjit_compiler.ops.sparse import check_parts, check_sorted, flat_places, sparse_input, sparse_shapes

Rows = tuple[list[int], np.ndarray, np.ndarray]
"""The extents of all axes but the last; by element the flat number of its row, and its value."""

_OPERATIONS: dict[bytes, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    b"intersection": np.intersect1d, b"union": np.union1d, b"a-b": np.setdiff1d,
    b"b-a": lambda a, b: np.setdiff1d(b, a),
}  # fmt: skip


def _dense(call: Call, array: np.ndarray) -> Rows:
    if array.ndim < 2:
        call.fail(f"Shape must be at least rank 2 but is rank {array.ndim}")
    outer = list(array.shape[:-1])
    return outer, np.repeat(np.arange(int(np.prod(outer))), array.shape[-1]), array.reshape(-1)


def _sparse(call: Call, indices: np.ndarray, values: np.ndarray, shape: np.ndarray) -> Rows:
    check_parts(call, indices, values, shape)
    if len(shape) < 2:
        call.fail(f"Shape must be at least rank 2 but is rank {len(shape)}")
    if call.attrs["validate_indices"]:
        check_sorted(call, indices, shape.tolist())
    outer = shape[:-1].tolist()
    return outer, flat_places(indices[:, :-1], outer), values


def _combined(call: Call, a: Rows, b: Rows) -> Any:
    operation = _OPERATIONS.get(call.attrs["set_operation"].lower())
    if operation is None:
        call.fail(f"Invalid set_operation {call.attrs['set_operation'].decode()}.")
    if a[0] != b[0]:
        call.fail(f"Mismatched shapes {brief(a[0])} vs {brief(b[0])}")
    values, codes = np.unique(np.concatenate([a[2], b[2]]), return_inverse=True)
    count = max(len(values), 1)
    both = np.concatenate([a[1], b[1]]) * count + codes.reshape(-1)
    found = operation(both[: len(a[2])], both[len(a[2]) :])
    rows = found // count
    sizes = np.bincount(rows, minlength=int(np.prod(a[0])))
    starts = np.cumsum(sizes) - sizes
    columns = np.arange(len(rows)) - starts[rows]
    indices = np.stack([*np.unravel_index(rows, a[0]), columns], 1).astype(np.int64)
    shape = np.array([*a[0], sizes.max() if sizes.size else 0], np.int64)
    return indices, values[found % count].astype(call.dtypes[1].np), shape


def _same_rank(x: Inference, a: Any, b: Any) -> Any:
    return x.equal(a, b, f"Shape must be rank {a} but is rank {b}")


def _dense_to_dense_shapes(x: Inference) -> list[ShapeLike]:
    a, b = at_least(x, 0, 2), at_least(x, 1, 2)
    return sparse_shapes(None, _same_rank(x, a and len(a), b and len(b)))


def _dense_to_sparse_shapes(x: Inference) -> list[ShapeLike]:
    a = at_least(x, 0, 2)
    return sparse_shapes(None, _same_rank(x, a and len(a), sparse_input(x, 1)[1]))


def _sparse_to_sparse_shapes(x: Inference) -> list[ShapeLike]:
    return sparse_shapes(None, _same_rank(x, sparse_input(x, 0)[1], sparse_input(x, 3)[1]))


def _between(first: Callable[..., Rows], second: Callable[..., Rows], parts: int) -> Callable[..., Any]:
    def reference(call: Call, *arrays: np.ndarray) -> Any:
        return _combined(call, first(call, *arrays[:parts]), second(call, *arrays[parts:]))

    return reference


_RESULT = "result_indices: int64, result_values: T, result_shape: int64"
_TYPES = "T: type in int8|int16|int32|int64|uint8|uint16|string"
_ATTRS = f"set_operation: string, validate_indices: bool = True, {_TYPES}"
_SECOND = "set2_indices: int64, set2_values: T, set2_shape: int64"

# --- DenseToDenseSetOperation, DenseToSparseSetOperation, SparseToSparseSetOperation ---
define("DenseToDenseSetOperation", f"set1: T, set2: T -> {_RESULT}", _ATTRS,
       infer=_dense_to_dense_shapes, reference=_between(_dense, _dense, 1))  # fmt: skip
define("DenseToSparseSetOperation", f"set1: T, {_SECOND} -> {_RESULT}", _ATTRS,
       infer=_dense_to_sparse_shapes, reference=_between(_dense, _sparse, 1))  # fmt: skip
define(
    "SparseToSparseSetOperation", f"set1_indices: int64, set1_values: T, set1_shape: int64, {_SECOND} -> {_RESULT}",
    _ATTRS, infer=_sparse_to_sparse_shapes, reference=_between(_sparse, _sparse, 3),
)  # fmt: skip

# --- SetSize ---


def _sizes_shape(x: Inference) -> list[ShapeLike]:
    sparse_input(x, 0)
    shape = x.extents(2)
    return [None if shape is None else shape[:-1]]


def _sizes(call: Call, indices: np.ndarray, values: np.ndarray, shape: np.ndarray) -> np.ndarray:
    outer, rows, elements = _sparse(call, indices, values, shape)
    distinct, codes = np.unique(elements, return_inverse=True)
    count = max(len(distinct), 1)
    found = np.unique(rows * count + codes.reshape(-1)) // count
    sizes: Sequence[int] = np.bincount(found, minlength=int(np.prod(outer)))  # type: ignore[assignment]
    return np.array(sizes, np.int32).reshape(outer)


define("SetSize", "set_indices: int64, set_values: T, set_shape: int64 -> size: int32",
       f"validate_indices: bool = True, {_TYPES}", infer=_sizes_shape, reference=_sizes)  # fmt: skip
