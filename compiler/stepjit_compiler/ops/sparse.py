"""Sparse tensors, given as (indices, values, shape): to dense ones, and put in order, reshaped, cut and joined.

All work on whole index matrices; no loop runs over elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjit_compiler.dims import Extent
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define
from stepjit_compiler.ops.arguments import brief, integer, safe_shape, shape_input

# --- What the sparse families share ---


def sparse_input(x: Inference, first: int) -> tuple[Extent | None, Extent | None]:
    """The number of elements and the rank of the sparse tensor whose parts are inputs `first` to `first + 2`."""
    count, rank = x.with_rank(first, 2)
    (values,), (length,) = x.with_rank(first + 1, 1), x.with_rank(first + 2, 1)
    return (
        x.equal(count, values, f"Number of elements in indices ({count}) and values ({values}) do not match"),
        x.equal(rank, length, f"Index rank ({rank}) and shape rank ({length}) do not match"),
    )


def sparse_shapes(count: Extent | None, rank: Extent | None) -> list[ShapeLike]:
    """The shapes of indices, values and shape."""
    return [(count, rank), (count,), (rank,)]


def check_parts(call: Call, indices: np.ndarray, values: np.ndarray, shape: np.ndarray, names: str = "") -> None:
    """Fail unless indices are a matrix, values and shape vectors of its lengths; `names` go before theirs in texts."""
    if indices.ndim != 2:
        call.fail(f"Input {names}indices should be a matrix but received shape {brief(indices.shape)}")
    if values.ndim != 1 or shape.ndim != 1:
        which, part = ("values", values) if values.ndim != 1 else ("shape", shape)
        call.fail(f"Input {names}{which} should be a vector but received shape {brief(part.shape)}")
    if len(indices) != len(values):
        call.fail(f"Number of elements in indices ({len(indices)}) and values ({len(values)}) do not match")
    if indices.shape[1] != len(shape):
        call.fail(f"Index rank ({indices.shape[1]}) and shape rank ({len(shape)}) do not match")


def extents_of(call: Call, shape: np.ndarray) -> list[int]:
    """A dense shape as ints; fails for negative extents."""
    found: list[int] = shape.tolist()
    for extent in found:
        if extent < 0:
            call.fail(f"Expected shape dimensions to be non-negative, got {extent}")
    return found


def out_of_bounds(indices: np.ndarray, shape: Any) -> np.ndarray:
    """By row: whether it lies outside the shape."""
    inside = (indices >= 0) & (indices < np.asarray(shape, np.int64))
    return np.logical_not(inside.all(axis=1))


def check_bounds(call: Call, indices: np.ndarray, shape: Sequence[int]) -> None:
    bad = np.flatnonzero(out_of_bounds(indices, shape))
    if len(bad):
        row = ", ".join(map(str, indices[bad[0]].tolist()))
        call.fail(f"Sparse index tuple indices[{bad[0]}, :] = [{row}] is out of bounds for shape {brief(shape)}")


def row_order(indices: np.ndarray) -> np.ndarray:
    """The permutation that puts the rows in lexicographic order, equal ones as they stand."""
    if indices.shape[1] == 0:
        return np.arange(len(indices))
    return np.lexsort(indices.T[::-1])


def same_as_before(rows: np.ndarray) -> np.ndarray:
    """By row but the first: whether it equals the one before."""
    same: np.ndarray = (rows[1:] == rows[:-1]).all(axis=1)
    return same


def flat_places(indices: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The places of rows in a dense array of the shape, in row-major order."""
    strides = np.ones(len(shape), np.int64)
    if len(shape) > 1:
        strides[:-1] = np.cumprod(np.asarray(shape[:0:-1], np.int64))[::-1]
    places: np.ndarray = indices @ strides
    return places


def check_sorted(call: Call, indices: np.ndarray, shape: Sequence[int]) -> None:
    """Fail for rows outside the shape, out of order or repeated."""
    outside = out_of_bounds(indices, shape)
    trouble = outside.copy()
    equal = np.zeros_like(outside)
    if len(indices) > 1:
        places = np.where(outside, 0, flat_places(indices, shape))
        equal[1:] = same_as_before(indices)
        trouble[1:] |= equal[1:] | (places[1:] < places[:-1])
    if trouble.any():
        at = int(np.flatnonzero(trouble)[0])
        text = f"indices[{at}] = {brief(indices[at].tolist())} is"
        if outside[at]:
            call.fail(f"{text} out of bounds: need 0 <= index < {brief(shape)}")
        if equal[at]:
            call.fail(f"{text} repeated")
        call.fail(f"{text} out of order: many sparse ops need sorted indices, which tf.sparse.reorder gives")


# --- SparseToDense ---


def _dense_shape(x: Inference) -> list[ShapeLike]:
    x.with_rank(3, 0)
    indices, values = x.shape(0), x.shape(2)
    if indices is not None and len(indices) > 2:
        x.fail(f"Shape must be at most rank 2 but is rank {len(indices)}: sparse_indices")
    if values is not None and len(values) > 1:
        x.fail(f"Shape must be at most rank 1 but is rank {len(values)}: sparse_values")
    x.with_rank(1, 1)
    return [shape_input(x, 1)]


def _to_dense(
    call: Call, indices: np.ndarray, shape: np.ndarray, values: np.ndarray, default_value: np.ndarray
) -> np.ndarray:
    if indices.ndim > 2:
        call.fail(f"sparse_indices should be a scalar, vector, or matrix, got shape {brief(indices.shape)}")
    rows = indices.reshape(-1, indices.shape[1] if indices.ndim == 2 else 1).astype(np.int64)
    if shape.ndim != 1:
        call.fail(f"output_shape should be a vector, got shape {brief(shape.shape)}")
    if len(shape) != rows.shape[1]:
        call.fail(f"output_shape has incorrect number of elements: {len(shape)} should be: {rows.shape[1]}")
    if values.ndim > 1 or (values.ndim == 1 and len(values) != len(rows)):
        call.fail(f"sparse_values has incorrect shape {brief(values.shape)}, should be [] or [{len(rows)}]")
    if default_value.ndim:
        call.fail("default_value should be a scalar.")
    extents = safe_shape(call, shape.tolist())
    if call.attrs["validate_indices"]:
        check_sorted(call, rows, extents)
    elif out_of_bounds(rows, extents).any():
        call.fail(f"Indices are not valid (out of bounds).  Shape: {brief(extents)}")
    found = np.full(extents, default_value[()], call.dtypes[0].np)
    found.reshape(-1)[flat_places(rows, extents)] = values
    return found


define(
    "SparseToDense",
    "sparse_indices: Tindices, output_shape: Tindices, sparse_values: T, default_value: T -> dense: T",
    "validate_indices: bool = True, T: type, Tindices: type in index", infer=_dense_shape, reference=_to_dense,
)  # fmt: skip

# --- SparseReorder ---


def _reorder(call: Call, indices: np.ndarray, values: np.ndarray, shape: np.ndarray) -> Any:
    check_parts(call, indices, values, shape)
    order = row_order(indices)
    return indices[order], values[order]


define(
    "SparseReorder",
    "input_indices: int64, input_values: T, input_shape: int64 -> output_indices: int64, output_values: T", "T: type",
    infer=lambda x: sparse_shapes(*sparse_input(x, 0))[:2], reference=_reorder,
)  # fmt: skip

# --- SparseReshape ---


def _reshaped_shapes(x: Inference) -> list[ShapeLike]:
    count, rank = x.with_rank(0, 2)
    (length,), (new_rank,) = x.with_rank(1, 1), x.with_rank(2, 1)
    x.equal(rank, length, "Input tensor rank must match input shape length.")
    return [(count, new_rank), (new_rank,)]


def _target(call: Call, shape: Sequence[int], wanted: list[int]) -> list[int]:
    """The new extents, the one that is -1 worked out."""
    total = int(np.prod(shape, dtype=object)) if len(shape) else 1
    unknown = [k for k, extent in enumerate(wanted) if extent == -1]
    if len(unknown) > 1:
        call.fail(f"only one output dimension may be -1, not both {unknown[0]} and {unknown[1]}")
    for k, extent in enumerate(wanted):
        if extent < -1:
            call.fail(f"size {k} must be non-negative, not {extent}")
    known = int(np.prod([extent for extent in wanted if extent != -1], dtype=object))
    if unknown:
        if known == 0:
            call.fail(
                "reshape cannot infer the missing input size for an empty tensor unless all specified input sizes are "
                "non-zero"
            )
        if total % known:
            call.fail(
                f"Input to reshape is a SparseTensor with {total} dense values, but the requested shape requires a "
                f"multiple of {known}. input_shape={brief(shape)} output_shape={brief(wanted)}"
            )
        wanted[unknown[0]] = total // known
    elif known != total:
        call.fail(
            f"Input to reshape is a tensor with {total} dense values, but the requested shape has {known}. "
            f"input_shape={brief(shape)} output_shape={brief(wanted)}"
        )
    return wanted


def _reshape(call: Call, indices: np.ndarray, shape: np.ndarray, new_shape: np.ndarray) -> Any:
    if indices.ndim != 2:
        call.fail(f"Input indices should be a matrix but received shape {brief(indices.shape)}")
    if shape.ndim != 1 or new_shape.ndim != 1:
        part = shape if shape.ndim != 1 else new_shape
        call.fail(f"Input shape and target shape should be vectors but received shape {brief(part.shape)}")
    if indices.shape[1] != len(shape):
        call.fail("Input tensor rank must match input shape length.")
    old = extents_of(call, shape)
    new = _target(call, old, new_shape.tolist())
    check_bounds(call, indices, old)
    places = flat_places(indices, old)
    found = np.empty((len(indices), len(new)), np.int64)
    for k in range(len(new) - 1, -1, -1):
        places, found[:, k] = np.divmod(places, max(new[k], 1))
    return found, np.array(new, np.int64).reshape(len(new))


define(
    "SparseReshape",
    "input_indices: int64, input_shape: int64, new_shape: int64 -> output_indices: int64, output_shape: int64",
    infer=_reshaped_shapes, reference=_reshape,
)  # fmt: skip

# --- SparseSlice, SparseSliceGrad ---


def _slice_shapes(x: Inference) -> list[ShapeLike]:
    rank = sparse_input(x, 0)[1]
    for i in (3, 4):
        rank = x.equal(rank, x.with_rank(i, 1)[0], "start, size and shape must have the same length")
    return sparse_shapes(None, rank)


def _slice(
    call: Call, indices: np.ndarray, values: np.ndarray, shape: np.ndarray, start: np.ndarray, size: np.ndarray
) -> Any:
    check_parts(call, indices, values, shape)
    for name, part in (("start", start), ("size", size)):
        if part.ndim != 1 or len(part) != len(shape):
            call.fail(f"Expected {name} to be a vector of length {len(shape)}, got shape {brief(part.shape)}")
    extents = np.array(extents_of(call, shape), np.int64)
    if (size < 0).any():
        call.fail(f"Expected size to be non-negative, got {int(size[size < 0][0])}")
    if (start < 0).any():
        call.fail(f"Expected start to be non-negative, got {int(start[start < 0][0])}")
    kept_size = np.clip(extents - start, 0, size)
    kept = ~out_of_bounds(indices - start, kept_size)
    return indices[kept] - start, values[kept], kept_size.reshape(len(shape))


def _slice_grad(
    call: Call, grad: np.ndarray, input_indices: np.ndarray, start: np.ndarray, output_indices: np.ndarray
) -> np.ndarray:
    for name, part in (("input", input_indices), ("output", output_indices)):
        if part.ndim != 2:
            call.fail(f"Input {name}_indices should be a matrix but received shape {brief(part.shape)}")
    if grad.shape != output_indices.shape[:1]:
        call.fail(f"Number of elements of backprop ({grad.size}) and rows of output_indices must match")
    rank = input_indices.shape[1]
    if start.shape != (rank,) or output_indices.shape[1] != rank:
        call.fail("The input_indices, input_start and output_indices must agree in rank")
    rows = np.concatenate([input_indices, output_indices + start])
    order = row_order(rows)
    same = np.flatnonzero(same_as_before(rows[order]))
    ours, theirs = order[same], order[same + 1] - len(input_indices)
    found = np.zeros(len(input_indices), call.dtypes[0].np)
    paired = (ours < len(input_indices)) & (theirs >= 0)
    found[ours[paired]] = grad[theirs[paired]]
    return found


define(
    "SparseSlice",
    "indices: int64, values: T, shape: int64, start: int64, size: int64 "
    "-> output_indices: int64, output_values: T, output_shape: int64",
    "T: type", infer=_slice_shapes, reference=_slice,
)  # fmt: skip
define(
    "SparseSliceGrad",
    "backprop_val_grad: T, input_indices: int64, input_start: int64, output_indices: int64 -> val_grad: T",
    "T: type in number", infer=lambda x: [x.with_rank(1, 2)[:1]], reference=_slice_grad,
)  # fmt: skip

# --- SparseConcat ---


def _concat_shapes(x: Inference) -> list[ShapeLike]:
    n = x.attrs["N"]
    total: Extent | None = 0
    rank: Extent | None = None
    for k in range(n):
        count, width = x.with_rank(k, 2)
        (values,), (length,) = x.with_rank(n + k, 1), x.with_rank(2 * n + k, 1)
        count = x.equal(count, values, "indices and values rows (indexing dimension) must match.")
        rank = x.equal(rank, x.equal(width, length, "Index rank and shape rank do not match"), "Ranks must match")
        total = None if total is None or count is None else total + count
    return sparse_shapes(total, rank)


def _concat_axis(call: Call, shapes: Sequence[list[int]]) -> int:
    """The axis to join on; fails unless the shapes agree elsewhere."""
    first = shapes[0]
    axis = int(call.attrs["concat_dim"])
    if not -len(first) <= axis < len(first):
        call.fail(f"Concat dimension must be in range [-{len(first)}, {len(first)}), got {axis}")
    axis %= len(first)
    for k, shape in enumerate(shapes):
        if len(shape) != len(first):
            call.fail(
                f"Ranks of all input tensors must match: expected {len(first)} but got {len(shape)} at position {k}"
            )
        for j, (mine, theirs) in enumerate(zip(first, shape, strict=True)):
            if j != axis and mine != theirs:
                call.fail(
                    f"Input shapes must match: expected {mine} for dimension {j} but got {theirs} at position {k}"
                )
    return axis


def _concat(call: Call, *arrays: np.ndarray) -> Any:
    n = len(arrays) // 3
    parts = list(zip(arrays[:n], arrays[n : 2 * n], arrays[2 * n :], strict=True))
    for indices, values, _ in parts:
        if indices.ndim == 2 and values.ndim == 1 and len(indices) != len(values):
            call.fail(
                f"indices and values rows (indexing dimension) must match. (indices = {len(indices)}, "
                f"values = {len(values)})"
            )
    shapes = [extents_of(call, shape) for shape in arrays[2 * n :]]
    axis = _concat_axis(call, shapes)
    for part in parts:
        check_parts(call, *part)
    moved = []
    starts = np.cumsum([0, *(shape[axis] for shape in shapes)])
    for indices, shape, start in zip(arrays[:n], shapes, starts, strict=False):
        check_bounds(call, indices, shape)
        indices = indices.copy()
        indices[:, axis] += start
        moved.append(indices)
    rows = np.concatenate(moved)
    order = row_order(rows)
    whole = list(shapes[0])
    whole[axis] = sum(shape[axis] for shape in shapes)
    return rows[order], np.concatenate(arrays[n : 2 * n])[order], np.array(whole, np.int64)


define(
    "SparseConcat",
    "indices: N*int64, values: N*T, shapes: N*int64 -> output_indices: int64, output_values: T, output_shape: int64",
    "concat_dim: int, N: int, T: type", infer=_concat_shapes, reference=_concat,
)  # fmt: skip

# --- SparseSplit ---


def _split_shapes(x: Inference) -> list[ShapeLike]:
    x.with_rank(0, 0)
    count, rank = sparse_input(x, 1)
    n = x.attrs["num_split"]
    counts: list[ShapeLike] = [(count,)] if n == 1 else [(None,)] * n
    return [*((each[0], rank) for each in counts if each), *counts, *[(rank,)] * n]


def _split(call: Call, axis_input: np.ndarray, indices: np.ndarray, values: np.ndarray, shape: np.ndarray) -> Any:
    check_parts(call, indices, values, shape)
    n, rank, axis = call.attrs["num_split"], len(shape), integer(axis_input)
    if not -rank <= axis < rank:
        call.fail(f"Input split_dim should be between -{rank} and {rank - 1}, got {axis}")
    axis %= rank
    extents = shape.tolist()
    if not 1 <= n <= extents[axis]:
        call.fail(f"Input num_split should be between 1 and the splitting dimension size ({extents[axis]}), got {n}")
    check_bounds(call, indices, extents)
    # The first pieces are one longer where the extent does not divide.
    small, longer = divmod(extents[axis], n)
    starts = np.array([k * small + min(k, longer) for k in range(n + 1)])
    piece = np.searchsorted(starts, indices[:, axis], side="right") - 1
    rows, kept, shapes = [], [], []
    for k in range(n):
        mine = piece == k
        part = indices[mine]
        part[:, axis] -= starts[k]
        rows.append(part)
        kept.append(values[mine])
        extents[axis] = int(starts[k + 1] - starts[k])
        shapes.append(np.array(extents, np.int64))
    return (*rows, *kept, *shapes)


define(
    "SparseSplit",
    "split_dim: int64, indices: int64, values: T, shape: int64 "
    "-> output_indices: num_split*int64, output_values: num_split*T, output_shape: num_split*int64",
    "num_split: int, T: type", infer=_split_shapes, reference=_split,
)  # fmt: skip

# --- SparseFillEmptyRows, SparseFillEmptyRowsGrad ---


def _filled_shapes(x: Inference) -> list[ShapeLike]:
    count, rank = sparse_input(x, 0)
    x.with_rank(3, 0)
    shape = x.extents(2)
    return [(None, rank), (None,), (shape[0] if shape else None,), (count,)]


def _fill_empty_rows(
    call: Call, indices: np.ndarray, values: np.ndarray, shape: np.ndarray, default_value: np.ndarray
) -> Any:
    if indices.ndim == 2 and len(indices) != len(values):
        call.fail(
            f"The length of `values` ({len(values)}) must match the first dimension of `indices` ({len(indices)})."
        )
    if indices.ndim == 2 and shape.ndim == 1 and indices.shape[1] != len(shape):
        call.fail(
            f"The length of `dense_shape` ({len(shape)}) must match the second dimension of `indices` "
            f"({indices.shape[1]})."
        )
    check_parts(call, indices, values, shape)
    if default_value.ndim:
        call.fail(f"Default value should be a scalar, saw shape {brief(default_value.shape)}")
    if not len(shape):
        call.fail("Dense shape cannot be empty.")
    rows = int(shape[0])
    first = indices[:, 0]
    bad = np.flatnonzero((first < 0) | (first >= rows))
    if len(bad):
        call.fail(f"indices({bad[0]}, 0) is invalid: {first[bad[0]]} >= {rows}")
    empty = np.ones(max(rows, 0), bool)
    empty[first] = False
    added = np.zeros((int(empty.sum()), indices.shape[1]), np.int64)
    added[:, 0] = np.flatnonzero(empty)
    together = np.concatenate([indices, added])
    fill = np.full(len(added), default_value[()], values.dtype)
    order = np.argsort(together[:, 0], kind="stable")
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return together[order], np.concatenate([values, fill])[order], empty, back[: len(indices)].copy()


def _fill_empty_rows_grad(call: Call, reverse_index_map: np.ndarray, grad: np.ndarray) -> Any:
    if reverse_index_map.ndim != 1 or grad.ndim != 1:
        call.fail("reverse_index_map and grad_values must be vectors")
    bad = np.flatnonzero((reverse_index_map < 0) | (reverse_index_map >= len(grad)))
    if len(bad):
        call.fail(f"Elements in reverse index must be in [0, {len(grad)}) but got {reverse_index_map[bad[0]]}")
    added = np.ones(len(grad), bool)
    added[reverse_index_map] = False
    return grad[reverse_index_map], np.asarray(grad[added].sum(dtype=grad.dtype))


define(
    "SparseFillEmptyRows",
    "indices: int64, values: T, dense_shape: int64, default_value: T "
    "-> output_indices: int64, output_values: T, empty_row_indicator: bool, reverse_index_map: int64",
    "T: type", infer=_filled_shapes, reference=_fill_empty_rows,
)  # fmt: skip
define(
    "SparseFillEmptyRowsGrad", "reverse_index_map: int64, grad_values: T -> d_values: T, d_default_value: T",
    "T: type", infer=lambda x: [x.with_rank(0, 1), ()], reference=_fill_empty_rows_grad,
)  # fmt: skip
