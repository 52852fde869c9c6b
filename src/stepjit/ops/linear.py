"""Matrix products: matmul, tensordot, einsum, in TF1's signatures, with gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjit.framework.apply import apply_op
from stepjit.framework.constant_value import constant_value
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.registry import RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.broadcasting import static_shape
from stepjit.ops.creation import matrix_diag_part
from stepjit.ops.elementwise import abs as magnitude
from stepjit.ops.reductions import either, reduce_max, reduce_sum


def _conj(x: Tensor) -> Tensor:
    return apply_op("Conj", input=x) if x.dtype.base_dtype.kind == "c" else x


def matmul(
    a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False, adjoint_a: bool = False,
    adjoint_b: bool = False, a_is_sparse: bool = False, b_is_sparse: bool = False, output_type: Any = None,
    grad_a: bool = False, grad_b: bool = False, name: str | None = None,
) -> Tensor:  # fmt: skip
    """The product of matrices in the last two dimensions; leading dimensions are batches and broadcast.

    ValueError when both transposition and adjunction are asked for, or when the inner sizes differ.
    """
    with name_scope(name, "MatMul", [a, b]) as scope:
        if transpose_a and adjoint_a:
            raise ValueError("Only one of `transpose_a` and `adjoint_a` can be True.")
        if transpose_b and adjoint_b:
            raise ValueError("Only one of `transpose_b` and `adjoint_b` can be True.")
        if not isinstance(a, Tensor) and isinstance(b, Tensor):
            a = convert_to_tensor(a, dtype_hint=b.dtype.base_dtype, name="a")
        a = convert_to_tensor(a, name="a")
        b = convert_to_tensor(b, dtype_hint=a.dtype.base_dtype, name="b")
        if a.dims is None or b.dims is None or len(a.dims) > 2 or len(b.dims) > 2:
            # The batched op knows adjoints only, so a complex operand is conjugated first.
            a, b = (_conj(a) if transpose_a else a), (_conj(b) if transpose_b else b)
            return apply_op(
                "BatchMatMulV2", x=a, y=b, adj_x=transpose_a or adjoint_a, adj_y=transpose_b or adjoint_b, name=scope
            )
        a, b = (_conj(a) if adjoint_a else a), (_conj(b) if adjoint_b else b)
        return _product(a, b, transpose_a or adjoint_a, transpose_b or adjoint_b, scope)


def _product(a: Tensor, b: Tensor, ta: bool = False, tb: bool = False, name: str | None = None) -> Tensor:
    return apply_op("MatMul", a=a, b=b, transpose_a=ta, transpose_b=tb, name=name)


@RegisterGradient("MatMul")
def _matmul_grad(op: Operation, grad: Tensor) -> Sequence[Any]:
    a, b = _conj(op.inputs[0]), _conj(op.inputs[1])
    ta, tb = op.attrs["transpose_a"], op.attrs["transpose_b"]
    if not ta and not tb:
        return [_product(grad, b, tb=True), _product(a, grad, ta=True)]
    if not ta:
        return [_product(grad, b), _product(grad, a, ta=True)]
    if not tb:
        return [_product(b, grad, tb=True), _product(a, grad)]
    return [_product(b, grad, True, True), _product(grad, a, True, True)]


def _batched(x: Tensor, y: Tensor, ax: bool = False, ay: bool = False) -> Tensor:
    return apply_op("BatchMatMulV2", x=x, y=y, adj_x=ax, adj_y=ay, name="MatMul")


@RegisterGradient("BatchMatMul")
@RegisterGradient("BatchMatMulV2")
def _batch_matmul_grad(op: Operation, grad: Tensor) -> Sequence[Any]:
    x, y = op.inputs
    ax, ay = op.attrs["adj_x"], op.attrs["adj_y"]
    if not ax:
        dx = _batched(grad, y, ay=not ay)
        dy = _batched(grad, x, ax=True) if ay else _batched(x, grad, ax=True)
    else:
        dx = _batched(y, grad, ay, True)
        dy = _batched(grad, x, True, True) if ay else _batched(x, grad)
    return unbroadcast_batches(x, y, dx, dy)


def unbroadcast_batches(x: Tensor, y: Tensor, dx: Tensor, dy: Tensor) -> list[Tensor]:
    """`dx` and `dy` summed over the batch dimensions along which x and y were stretched to one another's."""
    if x.dims is not None and y.dims is not None and x.dims[:-2] == y.dims[:-2] and None not in x.dims[:-2]:
        return [dx, dy]
    shapes = static_shape(x), static_shape(y)
    batches = [apply_op("StridedSlice", input=s, begin=[0], end=[-2], strides=[1]) for s in shapes]
    both = apply_op("BroadcastGradientArgs", s0=batches[0], s1=batches[1])
    result = []
    for part, over, shape in zip((dx, dy), both, shapes):
        total = apply_op("Sum", input=part, reduction_indices=over, keep_dims=True)
        result.append(apply_op("Reshape", tensor=total, shape=shape))
    return result


def matvec(
    a: Any, b: Any, transpose_a: bool = False, adjoint_a: bool = False, a_is_sparse: bool = False,
    b_is_sparse: bool = False, name: str | None = None,
) -> Tensor:  # fmt: skip
    """The product of matrices with vectors in the last dimension."""
    with name_scope(name, "MatVec", [a, b]):
        column = apply_op("ExpandDims", input=b, dim=-1)
        return apply_op("Squeeze", input=matmul(a, column, transpose_a, adjoint_a=adjoint_a), squeeze_dims=[-1])


# --- tensordot ---


def _contraction(a: Tensor, b: Tensor, axes: Any) -> tuple[list[int], list[int]]:
    """The contracted axes of a and of b."""
    if isinstance(axes, Tensor):
        axes = constant_value(axes)
        if axes is None:
            raise ValueError("'axes' must be known when the graph is built")
    if isinstance(axes, (int, np.integer)) or np.ndim(axes) == 0:
        count = int(axes)
        if count < 0:
            raise ValueError(f"`axes` must be at least 0. Received: axes={count}.")
        rank = len(a.dims or ())
        if count > rank:
            raise ValueError(
                f"`axes` must not be larger than the number of dimensions of tensor {a}. Received: {count}."
            )
        return list(range(rank - count, rank)), list(range(count))
    if len(axes) != 2:
        raise ValueError(f"`axes` must be an integer or have length 2. Received: axes={axes}.")
    first, second = ([int(each)] if np.ndim(each) == 0 else [int(e) for e in each] for each in axes)
    if len(first) != len(second):
        raise ValueError(f"Different number of contraction axes `a` and `b`, {len(first)} != {len(second)}.")
    return first, second


def _as_matrix(x: Tensor, axes: list[int], last: bool) -> tuple[Tensor, Any]:
    """x as a matrix with the contracted axes last or first; and the shape of the others: a list, or a tensor."""
    dims = x.dims or ()
    axes = [axis % len(dims) if dims else axis for axis in axes]
    free = [k for k in range(len(dims)) if k not in axes]
    order = free + axes if last else axes + free
    moved = x
    if order != list(range(len(dims))):
        moved = apply_op("Transpose", x=x, perm=constant(order, dtype="int32", name="transpose/perm"), name="transpose")
    rows = [dims[k] for k in free]
    inner = [dims[k] for k in axes]
    if None not in rows and None not in inner:
        sizes = [math.prod(each or 0 for each in rows), math.prod(each or 0 for each in inner)]
        sizes = sizes if last else sizes[::-1]
        if len(free) == 1 and len(axes) == 1:
            return moved, rows
        return apply_op("Reshape", tensor=moved, shape=sizes), rows
    shape = static_shape(x)
    parts = [
        apply_op("GatherV2", params=shape, indices=constant(each, dtype="int32", shape=[len(each)]), axis=0)
        for each in (free, axes)
    ]
    if len(free) == 1 and len(axes) == 1:
        return moved, parts[0]
    products = [apply_op("Prod", input=each, reduction_indices=[0]) for each in parts]
    target = apply_op("Pack", values=products if last else products[::-1], axis=0, name="stack")
    return apply_op("Reshape", tensor=moved, shape=target), parts[0]


def tensordot(a: Any, b: Any, axes: Any, name: str | None = None) -> Tensor:
    """The sum of products of a and b over pairs of axes: the last and first `axes`, or a list for each.

    ValueError when the axes don't pair up or a rank isn't static.
    """
    with name_scope(name, "Tensordot", [a, b, axes]) as scope:
        a = convert_to_tensor(a, name="a")
        b = convert_to_tensor(b, name="b")
        if a.dims is None or b.dims is None:
            raise ValueError("tensordot needs the static ranks of both tensors")
        first, second = _contraction(a, b, axes)
        left, a_free = _as_matrix(a, first, last=True)
        right, b_free = _as_matrix(b, second, last=False)
        product = _product(left, right)
        if isinstance(a_free, list) and isinstance(b_free, list):
            if len(a_free) == len(b_free) == 1:
                return product
            return apply_op(
                "Reshape",
                tensor=product,
                shape=constant(a_free + b_free, dtype="int32", shape=[len(a_free) + len(b_free)]),
                name=scope,
            )
        parts = [
            constant(each, dtype="int32", shape=[len(each)]) if isinstance(each, list) else each
            for each in (a_free, b_free)
        ]
        shape = apply_op("ConcatV2", values=parts, axis=constant(0, name="concat/axis"), name="concat")
        return apply_op("Reshape", tensor=product, shape=shape, name=scope)


# --- norms and traces ---


def norm(
    tensor: Any, ord: Any = "euclidean", axis: Any = None, keepdims: bool | None = None, name: str | None = None,
    keep_dims: bool | None = None,
) -> Tensor:  # fmt: skip
    """The norm of vectors along one axis (or of all elements), or of matrices along two.

    ord: "euclidean", 1, 2 (of matrices the largest singular value), inf, or for vectors any positive number, for
    matrices "fro". ValueError for another.
    """
    keep = bool(either("keepdims", keepdims, "keep_dims", keep_dims))
    is_matrix = isinstance(axis, (list, tuple)) and len(axis) == 2
    if is_matrix and ord not in ("euclidean", "fro", 1, 2, np.inf):
        raise ValueError(f"'ord' must be a supported matrix norm in ['euclidean', 'fro', 1, 2, inf], got {ord}")
    if not is_matrix and ord != "euclidean" and (isinstance(ord, str) or not ord > 0):
        raise ValueError(f"'ord' must be a supported vector norm, 'euclidean' or a positive number, got {ord}")
    with name_scope(name, "norm", [tensor]) as scope:
        x = convert_to_tensor(tensor)
        if ord in ("fro", "euclidean") or (ord == 2 and not is_matrix):
            squares = reduce_sum(apply_op("Mul", x=x, y=_conj(x), name="mul"), axis, keepdims=True)
            if x.dtype.base_dtype.kind == "c":
                squares = apply_op("Cast", x=squares, DstT=x.dtype.base_dtype)
            result = apply_op("Sqrt", x=squares)
        elif ord == 2:
            result = _spectral_norm(x, [int(each) for each in axis])
        else:
            result = _absolute_norm(x, ord, axis, is_matrix)
        return result if keep else apply_op("Squeeze", input=result, squeeze_dims=_plain_axes(axis), name=scope)


def _plain_axes(axis: Any) -> list[int]:
    if axis is None:
        return []
    return [int(each) for each in axis] if isinstance(axis, (list, tuple)) else [int(axis)]


def _spectral_norm(x: Tensor, axes: list[int]) -> Tensor:
    """The largest singular values of matrices along two axes, which keep an extent of 1."""
    if axes != [-2, -1]:
        if x.dims is None:
            raise ValueError("norm of matrices along these axes needs a static rank")
        rank = len(x.dims)
        axes = [axis % rank for axis in axes]
        order = [k for k in range(rank) if k not in axes] + axes
        x = apply_op("Transpose", x=x, perm=constant(order, dtype="int32"))
    values = apply_op("Svd", input=x, compute_uv=False, full_matrices=False)[0]
    largest = reduce_max(values, -1, keepdims=axes == [-2, -1])
    if axes == [-2, -1]:
        return apply_op("ExpandDims", input=largest, dim=-1)
    for axis in sorted(axes):
        largest = apply_op("ExpandDims", input=largest, dim=axis)
    return largest


def _absolute_norm(x: Tensor, ord: Any, axis: Any, is_matrix: bool) -> Tensor:
    size = magnitude(x)
    if is_matrix:
        # 1: the largest column sum; inf: the largest row sum.
        rank = len(x.dims or ())
        rows, columns = (int(each) % rank for each in axis)
        summed, rest = (rows, columns) if ord == 1 else (columns, rows)
        return reduce_max(reduce_sum(size, summed, keepdims=True), rest, keepdims=True)
    if ord == 1:
        return reduce_sum(size, axis, keepdims=True)
    if ord == np.inf:
        return reduce_max(size, axis, keepdims=True)
    total = reduce_sum(apply_op("Pow", x=size, y=float(ord)), axis, keepdims=True)
    return apply_op("Pow", x=total, y=1.0 / ord)


def trace(x: Any, name: str | None = None) -> Tensor:
    """The sums of the diagonals of the matrices in the last two dimensions."""
    with name_scope(name, "Trace", [x]) as scope:
        return reduce_sum(matrix_diag_part(convert_to_tensor(x, name="x")), [-1], name=scope)
