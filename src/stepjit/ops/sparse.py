"""Functions that make, cut, join and rearrange sparse tensors, in TF1's signatures, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjit.framework.apply import apply_op
from stepjit.framework.constant_value import constant_value
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.indexed_slices import IndexedSlices
from stepjit.framework.registry import NotDifferentiable, RegisterGradient
from stepjit.framework.scopes import control_dependencies, name_scope
from stepjit.framework.shape import TensorShape
from stepjit.framework.sparse_tensor import SparseTensor, as_sparse_tensor, parts_of
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops import array, indexing, reductions
from stepjit.ops.comparison import not_equal, where
from stepjit.ops.control import Assert, identity
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import as_dtype

Grads = Sequence[Any]


def renamed(name: str, new: Any, old_name: str, old: Any) -> Any:
    """An argument that may be given under its old name; ValueError when both are."""
    if old is None:
        return new
    if new is not None:
        raise ValueError(f"Cannot specify both '{old_name}' and '{name}'.")
    return old


def _zero(dtype: Any) -> Any:
    return b"" if dtype.kind == "s" else np.zeros((), dtype.np)


# --- between dense and sparse ---


def sparse_to_dense(
    sparse_indices: Any,
    output_shape: Any,
    sparse_values: Any,
    default_value: Any = 0,
    validate_indices: bool = True,
    name: str | None = None,
) -> Tensor:
    """A dense tensor with `sparse_values` at `sparse_indices` and `default_value` elsewhere.

    With `validate_indices` the indices must be in order and distinct.
    """
    return apply_op(
        "SparseToDense", sparse_indices=sparse_indices, output_shape=output_shape, sparse_values=sparse_values,
        default_value=default_value, validate_indices=validate_indices, name=name,
    )  # fmt: skip


def sparse_tensor_to_dense(
    sp_input: Any, default_value: Any = None, validate_indices: bool = True, name: str | None = None
) -> Tensor:
    """The dense tensor, with `default_value` (zero, or the empty string) where `sp_input` has no element."""
    sparse = as_sparse_tensor(sp_input)
    if default_value is None:
        default_value = convert_to_tensor(_zero(sparse.dtype.base_dtype), sparse.dtype.base_dtype, "zeros")
    dense = sparse_to_dense(
        sparse.indices, sparse.dense_shape, sparse.values, default_value, validate_indices, name
    )
    dense.set_shape(sparse.shape)
    return dense


@RegisterGradient("SparseToDense")
def _to_dense_grad(op: Operation, grad: Tensor) -> Grads:
    indices, shape, values = op.inputs[0], op.inputs[1], op.inputs[2]
    if indices.dims is None or len(indices.dims) < 2:
        indices = array.reshape(indices, array.stack([-1, array.size(shape)]))
    of_values = indexing.gather_nd(grad, indices)
    of_default = reductions.reduce_sum(grad) - reductions.reduce_sum(of_values)
    of_one = reductions.reduce_sum(of_values) if values.dims == () else of_values
    return [None, None, of_one, of_default]


def from_dense(tensor: Any, name: str | None = None) -> SparseTensor:
    """The elements of a dense tensor that are not zero (or not empty)."""
    with name_scope(name, "dense_to_sparse"):
        dense = convert_to_tensor(tensor)
        zero = convert_to_tensor(_zero(dense.dtype.base_dtype), dense.dtype.base_dtype)
        indices = where(not_equal(dense, zero))
        shape = array.shape(dense, out_type=dtypes.int64)
        return SparseTensor(indices, indexing.gather_nd(dense, indices), shape)


def sparse_eye(
    num_rows: int, num_columns: int | None = None, dtype: Any = dtypes.float32, name: str | None = None
) -> SparseTensor:
    """A sparse matrix with ones on the diagonal."""
    with name_scope(name, "eye"):
        columns = num_rows if num_columns is None else num_columns
        diagonal = np.arange(min(num_rows, columns), dtype=np.int64)
        return SparseTensor(
            np.stack([diagonal, diagonal], 1), np.ones(len(diagonal), as_dtype(dtype).np), [num_rows, columns]
        )


def sparse_to_indicator(sp_input: Any, vocab_size: Any, name: str | None = None) -> Tensor:
    """A bool tensor whose last axis tells which of `vocab_size` ids the last axis of `sp_input` holds."""
    sparse = as_sparse_tensor(sp_input)
    with name_scope(name, "SparseToIndicator", [sparse.values]) as scope:
        count = array.expand_dims(array.shape(sparse.indices)[0], 0)
        present = apply_op("Fill", dims=count, value=constant(True))
        merged = sparse_merge(sparse, sparse.with_values(present), vocab_size)
        return sparse_tensor_to_dense(merged, default_value=False, validate_indices=False, name=scope)


# --- order and shape ---


def sparse_reorder(sp_input: Any, name: str | None = None) -> SparseTensor:
    """The same tensor with its elements in row-major order."""
    sparse = as_sparse_tensor(sp_input)
    indices, values = apply_op(
        "SparseReorder", input_indices=sparse.indices, input_values=sparse.values, input_shape=sparse.dense_shape,
        name=name,
    )  # fmt: skip
    if sparse.shape.is_fully_defined():
        return SparseTensor(indices, values, constant(sparse.shape.as_list(), dtypes.int64))
    result = SparseTensor(indices, values, identity(sparse.dense_shape))
    result.set_shape(sparse.shape)
    return result


@RegisterGradient("SparseReorder")
def _reorder_grad(op: Operation, _: Any, grad: Tensor) -> Grads:
    indices, _values, shape = op.inputs
    numbers = apply_op("Range", start=0, limit=array.shape(indices)[0], delta=1)
    moved = apply_op("SparseReorder", input_indices=indices, input_values=numbers, input_shape=shape)[1]
    return [None, indexing.gather(grad, array.invert_permutation(moved)), None]


def sparse_reshape(sp_input: Any, shape: Any, name: str | None = None) -> SparseTensor:
    """The same elements, in row-major order, in another shape, one extent of which may be -1.

    ValueError or InvalidArgumentError when the numbers of elements differ.
    """
    sparse = as_sparse_tensor(sp_input)
    with name_scope(name, "SparseReshape", [sparse.values]) as scope:
        wanted = convert_to_tensor(shape, dtypes.int64)
        static = _static_target(sparse, constant_value(wanted))
        indices, new_shape = apply_op(
            "SparseReshape", input_indices=sparse.indices, input_shape=sparse.dense_shape, new_shape=wanted, name=scope
        )
        result = SparseTensor(indices, identity(sparse.values), new_shape)
        if static is not None:
            result.set_shape(static)
        return result


def _static_target(sparse: SparseTensor, wanted: np.ndarray | None) -> TensorShape | None:
    if wanted is None:
        return None
    extents = wanted.reshape(-1).tolist()
    if extents.count(-1) > 1:
        raise ValueError(f"At most one dimension can be inferred (-1). Found: {extents}")
    total = sparse.shape.num_elements()
    if total is not None:
        known = int(np.prod([extent for extent in extents if extent != -1], dtype=np.int64))
        if -1 in extents and known and total % known == 0:
            extents[extents.index(-1)] = total // known
        elif -1 in extents or known != total:
            raise ValueError(
                f"Cannot reshape a tensor with {total} elements to shape {extents} ({known} elements)."
            )
    return TensorShape([None if extent == -1 else extent for extent in extents])


def sparse_transpose(sp_input: Any, perm: Any = None, name: str | None = None) -> SparseTensor:
    """The tensor with its axes permuted; reversed by default."""
    sparse = as_sparse_tensor(sp_input)
    with name_scope(name, "SparseTranspose"):
        if perm is None:
            rank = array.rank(sparse)
            perm = rank - 1 - apply_op("Range", start=0, limit=rank, delta=1)
        axes = convert_to_tensor(perm, dtype_hint=dtypes.int32)
        indices = indexing.gather(sparse.indices, axes, axis=1)
        moved = SparseTensor(indices, sparse.values, indexing.gather(sparse.dense_shape, axes))
        known = constant_value(axes)
        if known is not None and sparse.shape.ndims is not None:
            moved.set_shape([sparse.shape.as_list()[axis] for axis in known.tolist()])
        return sparse_reorder(moved)


def sparse_expand_dims(sp_input: Any, axis: Any = None, name: str | None = None) -> SparseTensor:
    """The tensor with a new axis of extent 1 before `axis` (default: at the end)."""
    sparse = as_sparse_tensor(sp_input)
    rank = sparse.dense_shape.dims[0] if sparse.dense_shape.dims else None
    axis = -1 if axis is None else axis
    with name_scope(name, "expand_dims", [sparse.values]):
        if isinstance(axis, Tensor) or rank is None:
            number = convert_to_tensor(axis, dtypes.int32)
            whole = array.rank(sparse)
            below = apply_op("Less", x=number, y=0)
            at: Any = apply_op("SelectV2", condition=below, t=number + whole + 1, e=number)
        else:
            if not -rank - 1 <= axis <= rank:
                raise ValueError(f"axis {axis} is out of range for a sparse tensor of rank {rank}")
            at = axis + rank + 1 if axis < 0 else axis
        count = array.shape(sparse.indices, out_type=dtypes.int64)[0]
        zeros = apply_op("Fill", dims=array.stack([count, 1]), value=constant(0, dtypes.int64))
        indices = array.concat([sparse.indices[:, :at], zeros, sparse.indices[:, at:]], axis=1)
        shape = array.concat([sparse.dense_shape[:at], [1], sparse.dense_shape[at:]], axis=0)
        return SparseTensor(indices, sparse.values, shape)


def sparse_reset_shape(sp_input: Any, new_shape: Any = None) -> SparseTensor:
    """The tensor with the smallest shape that holds its elements, or with `new_shape`, which must not be smaller."""
    sparse = as_sparse_tensor(sp_input)
    indices, values, shape = (identity(part) for part in parts_of(sparse))
    if new_shape is None:
        bound = reductions.reduce_max(indices, axis=0)
        return SparseTensor(indices, values, apply_op("Maximum", x=constant(0, dtypes.int64), y=bound + 1))
    wanted = convert_to_tensor(new_shape, dtypes.int64)
    wanted.shape.assert_has_rank(1)
    wanted.shape.assert_is_compatible_with(shape.shape)
    known = constant_value(wanted)
    if known is not None and sparse.shape.is_fully_defined():
        if (np.array(sparse.shape.as_list()) > known).any():
            raise ValueError(
                f"Requested new_shape should have dimension sizes >= sp_input.shape.  Found new_shape ({known}), "
                f"sp_input.shape ({sparse.shape})."
            )
        return SparseTensor(indices, values, wanted)
    same_rank = Assert(
        apply_op("Equal", x=array.shape(shape), y=array.shape(wanted)), ["new_shape has another rank:", wanted, shape]
    )
    with control_dependencies([same_rank]):
        fits = reductions.reduce_all(apply_op("LessEqual", x=shape, y=wanted))
        large = Assert(fits, ["Requested new_shape should have dimension sizes >= sp_input.shape:", wanted, shape])
    with control_dependencies([large]):
        return SparseTensor(indices, values, identity(wanted))


# --- parts ---


def sparse_slice(sp_input: Any, start: Any, size: Any, name: str | None = None) -> SparseTensor:
    """The block of `size` that begins at `start`, cut off at the tensor's end."""
    sparse = as_sparse_tensor(sp_input)
    with name_scope(name, "SparseSlice", [sparse.values]) as scope:
        parts = apply_op(
            "SparseSlice", indices=sparse.indices, values=sparse.values, shape=sparse.dense_shape,
            start=convert_to_tensor(start, dtypes.int64), size=convert_to_tensor(size, dtypes.int64), name=scope,
        )  # fmt: skip
        return SparseTensor(*parts)


@RegisterGradient("SparseSlice")
def _slice_grad(op: Operation, *grads: Any) -> Grads:
    found = apply_op(
        "SparseSliceGrad", backprop_val_grad=grads[1], input_indices=op.inputs[0], input_start=op.inputs[3],
        output_indices=op.outputs[0],
    )  # fmt: skip
    return [None, found, None, None, None]


def sparse_split(
    keyword_required: Any = None,
    sp_input: Any = None,
    num_split: Any = None,
    axis: Any = None,
    name: str | None = None,
    split_dim: Any = None,
) -> list[SparseTensor]:
    """`num_split` pieces along an axis, the first ones longer where its extent does not divide.

    All arguments go by name; ValueError when one is missing.
    """
    if keyword_required is not None:
        raise ValueError("Keyword arguments are required for this function.")
    axis = renamed("axis", axis, "split_dim", split_dim)
    for what, given in (("sp_input", sp_input), ("num_split", num_split), ("axis", axis)):
        if given is None:
            raise ValueError(f"{what} is required")
    sparse = as_sparse_tensor(sp_input)
    parts = apply_op(
        "SparseSplit", split_dim=convert_to_tensor(axis, dtypes.int64), indices=sparse.indices, values=sparse.values,
        shape=sparse.dense_shape, num_split=num_split, name=name,
    )  # fmt: skip
    return [SparseTensor(*parts[k::num_split]) for k in range(num_split)]


def sparse_retain(sp_input: Any, to_retain: Any) -> SparseTensor:
    """The elements whose flag in the bool vector `to_retain` is set."""
    sparse = as_sparse_tensor(sp_input)
    flags = convert_to_tensor(to_retain)
    flags.shape.assert_has_rank(1)
    flags.shape.assert_is_compatible_with(sparse.values.shape)
    kept = array.reshape(where(flags), [-1])
    return SparseTensor(
        indexing.gather(sparse.indices, kept), indexing.gather(sparse.values, kept), identity(sparse.dense_shape)
    )


def sparse_mask(a: IndexedSlices, mask_indices: Any, name: str | None = None) -> IndexedSlices:
    """IndexedSlices without the rows whose index is in `mask_indices`."""
    with name_scope(name, "sparse_mask", [a, mask_indices]):
        kept, places = apply_op("ListDiff", x=a.indices, y=mask_indices)
        return IndexedSlices(indexing.gather(a.values, places), kept, a.dense_shape)


def sparse_fill_empty_rows(
    sp_input: Any, default_value: Any, name: str | None = None
) -> tuple[SparseTensor, Tensor]:
    """The tensor with `default_value` at [row, 0, ...] of rows that have no element; and which rows these were."""
    sparse = as_sparse_tensor(sp_input)
    with name_scope(name, "SparseFillEmptyRows", [sparse.values]):
        default = convert_to_tensor(default_value, sparse.dtype.base_dtype)
        indices, values, empty, _ = apply_op(
            "SparseFillEmptyRows", indices=sparse.indices, values=sparse.values, dense_shape=sparse.dense_shape,
            default_value=default,
        )  # fmt: skip
        return SparseTensor(indices, values, sparse.dense_shape), empty


@RegisterGradient("SparseFillEmptyRows")
def _fill_empty_rows_grad(op: Operation, *grads: Any) -> Grads:
    values, default = apply_op("SparseFillEmptyRowsGrad", reverse_index_map=op.outputs[3], grad_values=grads[1])
    return [None, values, None, default]


# --- joined ---


def sparse_concat(
    axis: Any,
    sp_inputs: Any,
    name: str | None = None,
    expand_nonconcat_dim: bool = False,
    concat_dim: Any = None,
    expand_nonconcat_dims: Any = None,
) -> SparseTensor:
    """Sparse tensors joined along an axis; with `expand_nonconcat_dims` the other axes take the largest extent."""
    older = expand_nonconcat_dim or None
    expand = renamed("expand_nonconcat_dims", expand_nonconcat_dims, "expand_nonconcat_dim", older)
    axis = renamed("axis", axis, "concat_dim", concat_dim)
    parts = [as_sparse_tensor(each) for each in (sp_inputs if isinstance(sp_inputs, (list, tuple)) else [sp_inputs])]
    if len(parts) == 1:
        return parts[0]
    shapes = [part.dense_shape for part in parts]
    if expand:
        largest = reductions.reduce_max(array.stack(shapes), axis=0)
        rank = array.size(largest)
        at = array.expand_dims(convert_to_tensor(axis) % rank, 0)
        on_axis = apply_op("Equal", x=apply_op("Range", start=0, limit=rank, delta=1), y=at)
        shapes = [apply_op("SelectV2", condition=on_axis, t=shape, e=largest) for shape in shapes]
    found = apply_op(
        "SparseConcat", indices=[part.indices for part in parts], values=[part.values for part in parts],
        shapes=shapes, concat_dim=axis, name=name,
    )  # fmt: skip
    result = SparseTensor(*found)
    static = _joined_shape(parts, axis, bool(expand))
    if static is not None:
        result.set_shape(static)
    return result


def _joined_shape(parts: Sequence[SparseTensor], axis: int, expand: bool) -> list[int] | None:
    if not all(part.shape.is_fully_defined() for part in parts):
        return None
    shapes: list[list[Any]] = [part.shape.as_list() for part in parts]
    if len({len(shape) for shape in shapes}) > 1 or not -len(shapes[0]) <= axis < len(shapes[0]):
        return None
    whole = [max(extents) for extents in zip(*shapes, strict=True)]
    if not expand and any(
        shape[k] != extent for shape in shapes for k, extent in enumerate(whole) if k != axis % len(whole)
    ):
        return None
    whole[axis] = sum(shape[axis] for shape in shapes)
    return whole


NotDifferentiable("SparseConcat")


def sparse_merge(
    sp_ids: Any, sp_values: Any, vocab_size: Any, name: str | None = None, already_sorted: bool = False
) -> SparseTensor:
    """The values at places whose last coordinate is the id at the same place of `sp_ids`.

    sp_ids: one sparse tensor of ids, or a list for several last coordinates, with a list `vocab_size`.
    """
    several = isinstance(sp_ids, (list, tuple))
    if several != isinstance(vocab_size, (list, tuple)):
        raise TypeError("vocab_size has to be a list exactly when sp_ids is one")
    ids = [as_sparse_tensor(each) for each in (sp_ids if several else [sp_ids])]
    sizes = list(vocab_size) if several else [vocab_size]
    values = as_sparse_tensor(sp_values)
    for size in sizes:
        if not isinstance(size, (Tensor, int, np.integer)):
            raise TypeError(f"vocab_size has to be a Tensor or Python int. Found {type(size)}")
    if len(ids) != len(sizes):
        raise ValueError("sp_ids and vocab_size have to have equal lengths.")
    with name_scope(name, "SparseMerge", [each.values for each in ids] + [values.values]):
        columns = [array.expand_dims(apply_op("Cast", x=each.values, DstT=dtypes.int64), 1) for each in ids]
        indices = array.concat([ids[0].indices[:, :-1], *columns], axis=1)
        extents = [array.reshape(apply_op("Cast", x=convert_to_tensor(size), DstT=dtypes.int64), [1]) for size in sizes]
        shape = array.concat([ids[0].dense_shape[:-1], *extents], axis=0)
        result = SparseTensor(indices, values.values, shape)
        return result if already_sorted else sparse_reorder(result)
