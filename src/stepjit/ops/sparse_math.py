"""Arithmetic with sparse tensors, in TF1's signatures, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.registry import NotDifferentiable, RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.sparse_tensor import SparseTensor, SparseTensorValue, as_sparse_tensor
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops import array, indexing, reductions
from stepjit.ops.linear import matmul
from stepjit.ops.sparse import renamed
from stepjit_runtime import dtypes

Grads = Sequence[Any]

# --- products ---


def _adjoint(matrix: Tensor) -> Tensor:
    swapped = array.matrix_transpose(matrix)
    return apply_op("Conj", input=swapped) if matrix.dtype.base_dtype.kind == "c" else swapped


def sparse_tensor_dense_matmul(
    sp_a: Any, b: Any, adjoint_a: bool = False, adjoint_b: bool = False, name: str | None = None
) -> Tensor:
    """The matrix product of a sparse and a dense matrix, either of which may be the sparse one."""
    if isinstance(b, (SparseTensor, SparseTensorValue)):
        # A B = (B' A')'
        return _adjoint(sparse_tensor_dense_matmul(b, sp_a, adjoint_a=not adjoint_b, adjoint_b=not adjoint_a))
    a = as_sparse_tensor(sp_a)
    with name_scope(name, "SparseTensorDenseMatMul", [a.values, b]) as scope:
        return apply_op(
            "SparseTensorDenseMatMul", a_indices=a.indices, a_values=a.values, a_shape=a.dense_shape,
            b=convert_to_tensor(b, name="b"), adjoint_a=adjoint_a, adjoint_b=adjoint_b, name=scope,
        )  # fmt: skip


@RegisterGradient("SparseTensorDenseMatMul")
def _product_grad(op: Operation, grad: Tensor) -> Grads:
    indices, values, shape, b = op.inputs
    adjoint_a, adjoint_b = op.attrs["adjoint_a"], op.attrs["adjoint_b"]
    of_b = apply_op(
        "SparseTensorDenseMatMul", a_indices=indices, a_values=values, a_shape=shape, b=grad, adjoint_a=not adjoint_a,
        adjoint_b=False,
    )  # fmt: skip
    rows, inner = (indices[:, 1], indices[:, 0]) if adjoint_a else (indices[:, 0], indices[:, 1])
    # Each value takes one row of b to one row of the product.
    theirs = indexing.gather(_adjoint(b) if adjoint_b else b, inner)
    ours = indexing.gather(grad, rows)
    if values.dtype.base_dtype.kind == "c":
        if adjoint_a:
            ours = apply_op("Conj", input=ours)
        else:
            theirs = apply_op("Conj", input=theirs)
    of_values = reductions.reduce_sum(apply_op("Mul", x=ours, y=theirs), axis=1)
    return [None, of_values, None, _adjoint(of_b) if adjoint_b else of_b]


def sparse_matmul(
    a: Any,
    b: Any,
    transpose_a: bool = False,
    transpose_b: bool = False,
    a_is_sparse: bool = False,
    b_is_sparse: bool = False,
    name: str | None = None,
) -> Tensor:
    """The product of dense matrices that may be mostly zeros."""
    return apply_op(
        "SparseMatMul", a=a, b=b, transpose_a=transpose_a, transpose_b=transpose_b, a_is_sparse=a_is_sparse,
        b_is_sparse=b_is_sparse, name=name,
    )  # fmt: skip


@RegisterGradient("SparseMatMul")
def _mostly_zero_grad(op: Operation, grad: Tensor) -> Grads:
    a, b = (apply_op("Cast", x=each, DstT=dtypes.float32) for each in op.inputs)
    ta, tb = op.attrs["transpose_a"], op.attrs["transpose_b"]
    of_a = matmul(b, grad, transpose_a=tb, transpose_b=True) if ta else matmul(grad, b, transpose_b=not tb)
    of_b = matmul(grad, a, transpose_a=True, transpose_b=ta) if tb else matmul(a, grad, transpose_a=not ta)
    return [apply_op("Cast", x=g, DstT=each.dtype.base_dtype) for g, each in zip((of_a, of_b), op.inputs, strict=True)]


# --- sums and maxima of two ---


def sparse_add(a: Any, b: Any, threshold: Any = None, thresh: Any = None) -> Any:
    """a + b, one of which is sparse; sparse when both are, then without sums smaller than `threshold`."""
    kinds = (SparseTensor, SparseTensorValue)
    if not isinstance(a, kinds) and not isinstance(b, kinds):
        raise TypeError("At least one input should be SparseTensor; do you mean to use tf.add()?")
    limit = renamed("threshold", threshold, "thresh", thresh)
    if isinstance(a, kinds) and isinstance(b, kinds):
        left, right = as_sparse_tensor(a), as_sparse_tensor(b)
        dtype = left.dtype.real_dtype.base_dtype
        found = apply_op(
            "SparseAdd", a_indices=left.indices, a_values=left.values, a_shape=left.dense_shape,
            b_indices=right.indices, b_values=right.values, b_shape=right.dense_shape,
            thresh=convert_to_tensor(0 if limit is None else limit, dtype, "thresh"),
        )  # fmt: skip
        left.shape.assert_is_compatible_with(right.shape)
        result = SparseTensor(*found)
        result.set_shape(left.shape.merge_with(right.shape))
        return result
    sparse, dense = (as_sparse_tensor(a), b) if isinstance(a, kinds) else (as_sparse_tensor(b), a)
    return apply_op(
        "SparseTensorDenseAdd", a_indices=sparse.indices, a_values=sparse.values, a_shape=sparse.dense_shape, b=dense
    )


@RegisterGradient("SparseAdd")
def _add_grad(op: Operation, *grads: Any) -> Grads:
    of_a, of_b = apply_op(
        "SparseAddGrad", backprop_val_grad=grads[1], a_indices=op.inputs[0], b_indices=op.inputs[3],
        sum_indices=op.outputs[0],
    )  # fmt: skip
    return [None, of_a, None, None, of_b, None, None]


@RegisterGradient("SparseTensorDenseAdd")
def _dense_add_grad(op: Operation, grad: Tensor) -> Grads:
    return [None, indexing.gather_nd(grad, op.inputs[0]), None, grad]


def _extremum(kind: str, sp_a: Any, sp_b: Any, name: str | None) -> SparseTensor:
    a, b = as_sparse_tensor(sp_a), as_sparse_tensor(sp_b)
    with name_scope(name, kind, [a.values, b.values]) as scope:
        indices, values = apply_op(
            kind, a_indices=a.indices, a_values=a.values, a_shape=a.dense_shape, b_indices=b.indices,
            b_values=b.values, b_shape=b.dense_shape, name=scope,
        )  # fmt: skip
        return SparseTensor(indices, values, a.dense_shape)


def sparse_maximum(sp_a: Any, sp_b: Any, name: str | None = None) -> SparseTensor:
    """The larger of both elementwise; a missing element counts as zero."""
    return _extremum("SparseSparseMaximum", sp_a, sp_b, name)


def sparse_minimum(sp_a: Any, sp_b: Any, name: str | None = None) -> SparseTensor:
    """The smaller of both elementwise; a missing element counts as zero."""
    return _extremum("SparseSparseMinimum", sp_a, sp_b, name)


# --- with a dense tensor that is broadcast ---


def _dense_places(op: Operation) -> Tensor:
    """Where in the dense operand the other of each sparse element is."""
    indices, _, shape, dense = op.inputs
    extents = array.shape(dense, out_type=dtypes.int64)
    missing = array.size(shape) - array.size(extents)
    ours = apply_op("StridedSlice", input=indices, begin=array.stack([0, missing]), end=[0, 0], strides=[1, 1],
                    begin_mask=1, end_mask=3)  # fmt: skip
    stretched = apply_op("Equal", x=extents, y=constant(1, dtypes.int64))
    return apply_op("SelectV2", condition=stretched, t=constant(0, dtypes.int64), e=ours)


@RegisterGradient("SparseDenseCwiseMul")
def _with_dense_mul_grad(op: Operation, grad: Tensor) -> Grads:
    return _with_dense_grad(op, grad, False)


@RegisterGradient("SparseDenseCwiseDiv")
def _with_dense_div_grad(op: Operation, grad: Tensor) -> Grads:
    return _with_dense_grad(op, grad, True)


def _with_dense_grad(op: Operation, grad: Tensor, divide: bool) -> Grads:
    values, dense = op.inputs[1], op.inputs[3]
    places = _dense_places(op)
    others = indexing.gather_nd(dense, places)
    if divide:
        of_values = grad / others
        of_others = -grad * values / (others * others)
    else:
        of_values, of_others = grad * others, grad * values
    shape = array.shape(dense, out_type=dtypes.int64)
    return [None, of_values, None, indexing.scatter_nd(places, of_others, shape)]


@RegisterGradient("SparseDenseCwiseAdd")
def _with_dense_add_grad(op: Operation, grad: Tensor) -> Grads:
    shape = array.shape(op.inputs[3], out_type=dtypes.int64)
    return [None, grad, None, indexing.scatter_nd(_dense_places(op), grad, shape)]


# --- reductions ---


def _reduction(
    kind: str, sp_input: Any, axis: Any, keepdims: Any, reduction_axes: Any, keep_dims: Any
) -> Any:
    keep = bool(renamed("keepdims", keepdims, "keep_dims", keep_dims))
    axis = renamed("axis", axis, "reduction_axes", reduction_axes)
    sparse = as_sparse_tensor(sp_input)
    if axis is None:
        rank = sparse.dense_shape.dims[0] if sparse.dense_shape.dims else None
        axis = (
            apply_op("Range", start=0, limit=array.rank(sparse), delta=1)
            if rank is None
            else constant(np.arange(rank, dtype=np.int32))
        )
    return apply_op(
        kind, input_indices=sparse.indices, input_values=sparse.values, input_shape=sparse.dense_shape,
        reduction_axes=axis, keep_dims=keep,
    )  # fmt: skip


def sparse_reduce_sum(
    sp_input: Any, axis: Any = None, keepdims: Any = None, reduction_axes: Any = None, keep_dims: Any = None
) -> Tensor:
    """The sum over axes (default: all), as a dense tensor."""
    return _reduction("SparseReduceSum", sp_input, axis, keepdims, reduction_axes, keep_dims)


def sparse_reduce_max(
    sp_input: Any, axis: Any = None, keepdims: Any = None, reduction_axes: Any = None, keep_dims: Any = None
) -> Tensor:
    """The largest of the given elements over axes (default: all), as a dense tensor; 0 where there is none."""
    return _reduction("SparseReduceMax", sp_input, axis, keepdims, reduction_axes, keep_dims)


def sparse_reduce_sum_sparse(
    sp_input: Any, axis: Any = None, keepdims: Any = None, reduction_axes: Any = None, keep_dims: Any = None
) -> SparseTensor:
    """The sum over axes (default: all), as a sparse tensor."""
    return SparseTensor(*_reduction("SparseReduceSumSparse", sp_input, axis, keepdims, reduction_axes, keep_dims))


def sparse_reduce_max_sparse(
    sp_input: Any, axis: Any = None, keepdims: Any = None, reduction_axes: Any = None, keep_dims: Any = None
) -> SparseTensor:
    """The largest of the given elements over axes (default: all), as a sparse tensor."""
    return SparseTensor(*_reduction("SparseReduceMaxSparse", sp_input, axis, keepdims, reduction_axes, keep_dims))


@RegisterGradient("SparseReduceSum")
def _reduce_sum_grad(op: Operation, grad: Tensor) -> Grads:
    indices, _, shape, axes = op.inputs
    rank = array.size(shape)
    reduced = apply_op("Reshape", tensor=apply_op("FloorMod", x=axes, y=rank), shape=[-1, 1])
    hits = apply_op("Equal", x=reduced, y=apply_op("Range", start=0, limit=rank, delta=1))
    gone = reductions.reduce_any(hits, axis=0)
    kept_shape = apply_op("SelectV2", condition=gone, t=constant(1, dtypes.int64), e=shape)
    places = apply_op("SelectV2", condition=gone, t=constant(0, dtypes.int64), e=indices)
    return [None, indexing.gather_nd(array.reshape(grad, kept_shape), places), None, None]


NotDifferentiable("SparseAddGrad")

# --- softmax ---


def sparse_softmax(sp_input: Any, name: str | None = None) -> SparseTensor:
    """The softmax over the given elements of each row (last axis)."""
    sparse = as_sparse_tensor(sp_input)
    with name_scope(name, "SparseSoftmax", [sparse.values]) as scope:
        values = apply_op(
            "SparseSoftmax", sp_indices=sparse.indices, sp_values=sparse.values, sp_shape=sparse.dense_shape,
            name=scope,
        )  # fmt: skip
        return SparseTensor(sparse.indices, values, sparse.dense_shape)


@RegisterGradient("SparseSoftmax")
def _softmax_grad(op: Operation, grad: Tensor) -> Grads:
    indices, _, shape = op.inputs
    out = op.outputs[0]
    sums = apply_op(
        "SparseReduceSum", input_indices=indices, input_values=out * grad, input_shape=shape, reduction_axes=[-1],
        keep_dims=True,
    )  # fmt: skip
    centred = apply_op(
        "SparseDenseCwiseAdd", sp_indices=indices, sp_values=grad, sp_shape=shape, dense=apply_op("Neg", x=sums)
    )
    return [None, centred * out, None]
