"""Shapes: shape, reshape, transpose, concat, split, stack, ...; in TF1's signatures, with gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjit.framework.apply import apply_op
from stepjit.framework.constant_value import constant_value
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.indexed_slices import IndexedSlices
from stepjit.framework.registry import NotDifferentiable, RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.broadcasting import static_shape
from stepjit.ops.reductions import either
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import as_dtype

Grads = Sequence[Any]


# --- shape, size, rank ---


def shape(input: Any, name: str | None = None, out_type: Any = None) -> Tensor:
    """The shape as an integer vector; a constant where it is static."""
    return _shape_internal(input, name, as_dtype(out_type or dtypes.int32))


def _shape_internal(input: Any, name: str | None, out_type: dtypes.DType, optimize: bool = True) -> Tensor:
    with name_scope(name, "Shape", [input]) as scope:
        if hasattr(input, "dense_shape") and hasattr(input, "indices"):
            return apply_op("Cast", x=input.dense_shape, DstT=out_type, name=scope)
        x = convert_to_tensor(input)
        if optimize and x.dims is not None and None not in x.dims:
            return constant(list(x.dims), dtype=out_type, shape=[len(x.dims)], name=scope)
        return apply_op("Shape", input=x, out_type=out_type, name=scope)


def shape_n(input: Any, out_type: Any = dtypes.int32, name: str | None = None) -> list[Tensor]:
    """The shapes of several tensors."""
    return apply_op("ShapeN", input=input, out_type=out_type, name=name)


def size(input: Any, name: str | None = None, out_type: Any = None) -> Tensor:
    """How many elements there are; a constant where that is static."""
    with name_scope(name, "Size", [input]) as scope:
        number = as_dtype(out_type or dtypes.int32)
        if hasattr(input, "dense_shape") and hasattr(input, "indices"):
            total = apply_op("Prod", input=input.dense_shape, reduction_indices=0)
            return apply_op("Cast", x=total, DstT=number, name=scope)
        x = convert_to_tensor(input)
        if x.dims is not None and None not in x.dims:
            return constant(math.prod(extent or 0 for extent in x.dims), dtype=number, name=scope)
        return apply_op("Size", input=x, out_type=number, name=scope)


def rank(input: Any, name: str | None = None) -> Tensor:
    """The number of dimensions; a constant where it is static."""
    with name_scope(name, "Rank", [input]) as scope:
        if hasattr(input, "dense_shape") and hasattr(input, "indices"):
            return size(input.dense_shape, name=scope)
        x = convert_to_tensor(input)
        if x.dims is not None:
            return constant(len(x.dims), dtype="int32", name=scope)
        return apply_op("Rank", input=x, name=scope)


for _kind in (
    "Shape",
    "ShapeN",
    "Size",
    "Rank",
    "ConcatOffset",
    "InvertPermutation",
    "BroadcastGradientArgs",
    "BroadcastArgs",
):
    NotDifferentiable(_kind)


# --- reshape and its kin ---


def reshape(tensor: Any, shape: Any, name: str | None = None) -> Tensor:
    """The same elements in another shape, in which one -1 is found by itself."""
    return apply_op("Reshape", tensor=tensor, shape=shape, name=name)


@RegisterGradient("Reshape")
def _reshape_grad(op: Operation, grad: Tensor) -> Grads:
    return [apply_op("Reshape", tensor=grad, shape=static_shape(op.inputs[0])), None]


def expand_dims(input: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Tensor:
    """A new dimension of extent 1 before `axis`; ValueError without an axis."""
    place = either("axis", axis, "dim", dim)
    if place is None:
        raise ValueError("Must specify an axis argument to tf.expand_dims()")
    return apply_op("ExpandDims", input=input, dim=place, name=name)


@RegisterGradient("ExpandDims")
def _expand_dims_grad(op: Operation, grad: Tensor) -> Grads:
    return [apply_op("Reshape", tensor=grad, shape=static_shape(op.inputs[0])), None]


def squeeze(input: Any, axis: Any = None, name: str | None = None, squeeze_dims: Any = None) -> Tensor:
    """Without the dimensions of extent 1: all of them, or those in `axis`."""
    places = either("axis", axis, "squeeze_dims", squeeze_dims)
    if places is None:
        places = []
    elif np.isscalar(places):
        places = [places]
    return apply_op("Squeeze", input=input, squeeze_dims=[int(each) for each in places], name=name)


@RegisterGradient("Squeeze")
def _squeeze_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("Reshape", tensor=grad, shape=static_shape(op.inputs[0]))


def transpose(a: Any, perm: Any = None, name: str | None = "transpose", conjugate: bool = False) -> Tensor:
    """Dimensions in the order `perm`, by default reversed; `conjugate` also conjugates."""
    with name_scope(name, "transpose", [a]) as scope:
        x = convert_to_tensor(a, name="a")
        kind = "ConjugateTranspose" if conjugate and x.dtype.base_dtype.kind == "c" else "Transpose"
        if perm is not None:
            return apply_op(kind, x=x, perm=perm, name=scope)
        if x.dims is not None:
            order: Any = np.arange(len(x.dims) - 1, -1, -1, dtype=np.int32)
        else:
            count = apply_op("Rank", input=x)
            order = apply_op("Range", start=apply_op("Sub", x=count, y=1, name="sub"), limit=-1, delta=-1)
        return apply_op(kind, x=x, perm=order, name=scope)


@RegisterGradient("Transpose")
def _transpose_grad(op: Operation, grad: Tensor) -> Grads:
    return [apply_op("Transpose", x=grad, perm=_inverse(op.inputs[1]), name="transpose"), None]


@RegisterGradient("ConjugateTranspose")
def _conjugate_transpose_grad(op: Operation, grad: Tensor) -> Grads:
    return [apply_op("ConjugateTranspose", x=grad, perm=_inverse(op.inputs[1]), name="transpose"), None]


def _inverse(perm: Tensor) -> Tensor:
    known = constant_value(perm)
    if known is None:
        return apply_op("InvertPermutation", x=perm)
    return constant(np.argsort(known % max(len(known), 1)).astype(known.dtype), shape=[len(known)])


def invert_permutation(x: Any, name: str | None = None) -> Tensor:
    """The permutation that undoes x."""
    return apply_op("InvertPermutation", x=x, name=name)


def matrix_transpose(a: Any, name: str | None = "matrix_transpose", conjugate: bool = False) -> Tensor:
    """The last two dimensions swapped; ValueError below rank 2."""
    with name_scope(name, "matrix_transpose", [a]):
        x = convert_to_tensor(a, name="a")
        if x.dims is None:
            count = apply_op("Rank", input=x)
            last = [apply_op("Sub", x=count, y=k, name="sub") for k in (2, 1)]
            start = apply_op("Range", start=0, limit=last[0], delta=1)
            order: Any = apply_op(
                "ConcatV2", values=[start, apply_op("Pack", values=last[::-1])], axis=0, name="concat"
            )
        else:
            ndims = len(x.dims)
            if ndims < 2:
                raise ValueError(
                    f"Argument `a` should be a (batch) matrix with rank >= 2.  Received `a` = {x} with shape: {x.shape}"
                )
            order = [*range(ndims - 2), ndims - 1, ndims - 2]
        return transpose(x, order, conjugate=conjugate)


def broadcast_to(input: Any, shape: Any, name: str | None = None) -> Tensor:
    """`input` stretched to a shape by the rules of broadcasting."""
    return apply_op("BroadcastTo", input=input, shape=shape, name=name)


@RegisterGradient("BroadcastTo")
def _broadcast_to_grad(op: Operation, grad: Tensor) -> Grads:
    from stepjit.ops.broadcasting import unbroadcast

    return [unbroadcast(op.inputs[0], op.outputs[0], grad, None)[0], None]


def broadcast_static_shape(shape_x: Any, shape_y: Any) -> Any:
    """The static shape that two shapes broadcast to; ValueError when they don't."""
    from stepjit.framework.shape import TensorShape

    x, y = TensorShape(shape_x), TensorShape(shape_y)
    if x.ndims is None or y.ndims is None:
        return TensorShape(None)
    count = max(x.ndims, y.ndims)
    pairs = zip([1] * (count - x.ndims) + x.as_list(), [1] * (count - y.ndims) + y.as_list())
    result: list[int | None] = []
    for a, b in pairs:
        if a == 1 or a == b:
            result.append(b)
        elif b == 1:
            result.append(a)
        elif a is None or b is None:
            result.append(a if b is None else b)
        else:
            raise ValueError(f"Incompatible shapes for broadcasting: {x} and {y}")
    return TensorShape(result)


def broadcast_dynamic_shape(shape_x: Any, shape_y: Any) -> Tensor:
    """The shape, computed in the step, that two shapes broadcast to."""
    first = convert_to_tensor(shape_x)
    return apply_op("BroadcastArgs", s0=first, s1=convert_to_tensor(shape_y, dtype=first.dtype.base_dtype))


# --- concat and split ---


def concat(values: Any, axis: Any, name: str | None = "concat") -> Tensor:
    """The tensors one after the other along `axis`."""
    if not isinstance(values, (list, tuple)):
        values = [values]
    if len(values) == 1:
        with name_scope(name) as scope:
            place = convert_to_tensor(axis, dtype="int32", name="concat_dim")
            place.shape.assert_has_rank(0)
            return apply_op("Identity", input=values[0], name="concat" if scope else None)
    return apply_op("ConcatV2", values=values, axis=axis, name=name)


@RegisterGradient("ConcatV2")
def _concat_grad(op: Operation, grad: Any) -> Grads:
    return [*_pieces(op, grad, op.inputs[:-1], op.inputs[-1]), None]


@RegisterGradient("Concat")
def _concat_v1_grad(op: Operation, grad: Any) -> Grads:
    return [None, *_pieces(op, grad, op.inputs[1:], op.inputs[0])]


def _pieces(op: Operation, grad: Any, parts: Sequence[Tensor], axis: Tensor) -> list[Any]:
    if len(parts) == 1:
        return [grad]
    known = constant_value(axis)
    if isinstance(grad, IndexedSlices):
        return _sliced_pieces(grad, parts, known)
    if known is not None and all(part.dims is not None for part in parts):
        # Static extents along the axis: one split does it.
        place = int(known) % len(parts[0].dims or (0,))
        extents = [part.dims[place] for part in parts if part.dims is not None]
        if None not in extents:
            sizes = constant(extents, dtype="int32")
            return apply_op(
                "SplitV", value=grad, size_splits=sizes, split_dim=place, num_split=len(parts), name="split"
            )
    place = apply_op("FloorMod", x=axis, y=apply_op("Rank", input=parts[0]), name="mod")
    shapes = apply_op("ShapeN", input=list(parts))
    offsets = apply_op("ConcatOffset", concat_dim=place, shape=shapes)
    return [apply_op("Slice", input=grad, begin=start, size=length) for start, length in zip(offsets, shapes)]


def _sliced_pieces(grad: IndexedSlices, parts: Sequence[Tensor], axis: Any) -> list[Any]:
    if axis is None:
        raise ValueError("Can only compute IndexedSlices gradient with statically-known concat_dim")
    place = int(axis) % len(parts[0].dims or (0,))
    shapes = [static_shape(part) for part in parts]
    if place > 0:
        start: Any = 0
        result: list[Any] = []
        for part, whole in zip(parts, shapes):
            length = apply_op(
                "StridedSlice", input=whole, begin=[place], end=[place + 1], strides=[1], shrink_axis_mask=1
            )
            count = len(part.dims or ())
            begin = apply_op("Pack", values=[start if k == place else 0 for k in range(count)])
            size_ = apply_op("Pack", values=[length if k == place else -1 for k in range(count)])
            result.append(
                IndexedSlices(apply_op("Slice", input=grad.values, begin=begin, size=size_), grad.indices, whole)
            )
            start = apply_op("AddV2", x=start, y=length)
        return result
    start, result = constant(0, dtype=grad.indices.dtype.base_dtype), []
    for whole in shapes:
        length = apply_op("StridedSlice", input=whole, begin=[0], end=[1], strides=[1], shrink_axis_mask=1)
        end = apply_op("AddV2", x=start, y=apply_op("Cast", x=length, DstT=grad.indices.dtype.base_dtype))
        inside = apply_op(
            "LogicalAnd", x=apply_op("GreaterEqual", x=grad.indices, y=start), y=apply_op("Less", x=grad.indices, y=end)
        )
        chosen = apply_op("Squeeze", input=apply_op("Where", input=inside), squeeze_dims=[1])
        rows = apply_op("GatherV2", params=grad.indices, indices=chosen, axis=0)
        values = apply_op("GatherV2", params=grad.values, indices=chosen, axis=0)
        result.append(IndexedSlices(values, apply_op("Sub", x=rows, y=start), whole))
        start = end
    return result


def split(
    value: Any, num_or_size_splits: Any, axis: Any = 0, num: int | None = None, name: str | None = "split"
) -> list[Tensor]:
    """`value` cut along `axis` into a number of equal parts, or into parts of given sizes.

    ValueError when the number of sizes is known neither statically nor by `num`.
    """
    if isinstance(num_or_size_splits, (int, np.integer)):
        return apply_op("Split", split_dim=axis, value=value, num_split=int(num_or_size_splits), name=name)
    sizes = convert_to_tensor(num_or_size_splits)
    if sizes.dims == ():
        raise ValueError("Rank-0 tensors are not supported as the num_or_size_splits argument to split.")
    if num is None:
        num = sizes.dims[0] if sizes.dims else None
        if num is None:
            raise ValueError(f"Cannot infer argument `num` from shape {sizes.shape}")
    return apply_op("SplitV", value=value, size_splits=sizes, split_dim=axis, num_split=num, name=name)


@RegisterGradient("Split")
def _split_grad(op: Operation, *grads: Any) -> Grads:
    return [
        None,
        apply_op("ConcatV2", values=list(grads), axis=op.inputs[0], name="concat") if len(grads) > 1 else grads[0],
    ]


@RegisterGradient("SplitV")
def _split_v_grad(op: Operation, *grads: Any) -> Grads:
    joined = apply_op("ConcatV2", values=list(grads), axis=op.inputs[2], name="concat") if len(grads) > 1 else grads[0]
    return [joined, None, None]


def stack(values: Any, axis: int = 0, name: str | None = "stack") -> Tensor:
    """Tensors of one shape along a new dimension; ValueError when `axis` is out of range."""
    if axis == 0 and (isinstance(values, Tensor) or not _holds_tensors(values)):
        try:
            tensor = convert_to_tensor(values)
        except (TypeError, ValueError):
            # Ragged or mixed values: packing them says what is wrong.
            tensor = None
        if tensor is not None:
            return constant(tensor.op.attrs["value"], name=name or "stack") if tensor.op.type == "Const" else tensor
    first = convert_to_tensor(values[0]).dims
    if first is not None and not -len(first) - 1 <= axis <= len(first):
        raise ValueError(f"Argument `axis` = {axis} not in range [{-len(first) - 1}, {len(first) + 1})")
    return apply_op("Pack", values=list(values), axis=axis, name=name)


def _holds_tensors(values: Any) -> bool:
    if isinstance(values, np.ndarray):
        return False
    if isinstance(values, (list, tuple)):
        return any(_holds_tensors(each) for each in values)
    return not isinstance(values, (int, float, bool, str, bytes, complex, np.generic))


@RegisterGradient("Pack")
def _pack_grad(op: Operation, grad: Tensor) -> Grads:
    return apply_op("Unpack", value=grad, num=op.attrs["N"], axis=op.attrs["axis"], name="unstack")


def parallel_stack(values: Any, name: str | None = "parallel_stack") -> Tensor:
    """Tensors of one static shape along a new first dimension."""
    return stack(values, 0, name)


def unstack(value: Any, num: int | None = None, axis: int = 0, name: str | None = "unstack") -> list[Tensor]:
    """The slices along `axis`; ValueError when their number is known neither statically nor by `num`."""
    if num is None:
        value = convert_to_tensor(value)
        if value.dims is None:
            raise ValueError(f"Cannot infer argument `num` from shape {value.shape}")
        count = len(value.dims)
        if not -count <= axis < count:
            raise ValueError(f"Argument `axis` = {axis} not in range [{-count}, {count})")
        num = value.dims[axis]
        if num is None:
            raise ValueError(f"Cannot infer argument `num` from shape {value.shape}")
    return apply_op("Unpack", value=value, num=num, axis=axis, name=name)


@RegisterGradient("Unpack")
def _unpack_grad(op: Operation, *grads: Any) -> Any:
    return apply_op("Pack", values=list(grads), axis=op.attrs["axis"], name="stack")
