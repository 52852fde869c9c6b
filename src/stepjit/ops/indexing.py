"""Choosing elements: slices, Python indexing, gather, scatter_nd, boolean_mask, one_hot; with gradients."""

from __future__ import annotations

import builtins
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
from stepjit.framework.shape import Dimension, TensorShape
from stepjit.framework.stack import get_default_graph
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.array import shape as shape_of
from stepjit.ops.broadcasting import static_shape, unbroadcast
from stepjit.ops.creation import sequence_mask
from stepjit.ops.reductions import reduce_prod
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import as_dtype

Grads = Sequence[Any]


# --- slices ---


def slice(input_: Any, begin: Any, size: Any, name: str | None = None) -> Tensor:
    """The block of `size` (-1: to the end) that starts at `begin`."""
    return apply_op("Slice", input=input_, begin=begin, size=size, name=name)


@RegisterGradient("Slice")
def _slice_grad(op: Operation, grad: Tensor) -> Grads:
    x, begin = op.inputs[0], op.inputs[1]
    number = begin.dtype.base_dtype
    inner, outer = static_shape(op.outputs[0]), static_shape(x)
    if number is not dtypes.int32:
        inner, outer = (apply_op("Cast", x=each, DstT=number) for each in (inner, outer))
    rest = apply_op("Sub", x=apply_op("Sub", x=outer, y=inner, name="sub"), y=begin, name="sub")
    paddings = apply_op("Pack", values=[begin, rest], axis=1, name="stack")
    return [apply_op("Pad", input=grad, paddings=paddings), None, None]


def strided_slice(
    input_: Any, begin: Any, end: Any, strides: Any = None, begin_mask: int = 0, end_mask: int = 0,
    ellipsis_mask: int = 0, new_axis_mask: int = 0, shrink_axis_mask: int = 0, var: Any = None, name: str | None = None,
) -> Tensor:  # fmt: skip
    """What Python's `input_[begin:end:strides]` would give; bits of the masks say which entries mean otherwise.

    With `var` the result can be assigned to, as `v[1:2].assign(...)`.
    """
    if strides is None:
        begin = convert_to_tensor(begin, name="begin")
        from stepjit.ops.creation import ones_like

        strides = ones_like(begin)
    masks = {
        "begin_mask": begin_mask, "end_mask": end_mask, "ellipsis_mask": ellipsis_mask, "new_axis_mask": new_axis_mask,
        "shrink_axis_mask": shrink_axis_mask,
    }  # fmt: skip
    result = apply_op("StridedSlice", input=input_, begin=begin, end=end, strides=strides, name=name, **masks)
    if var is not None:
        place = dict(zip(("begin", "end", "strides"), result.op.inputs[1:]))

        def assign(value: Any, name: str | None = None) -> Any:
            """Let the slice of the variable be `value`; gives the variable's new value."""
            label = name or f"{result.op.name}/_assign/"
            if getattr(var, "handle", None) is not None:
                op = apply_op("ResourceStridedSliceAssign", ref=var.handle, value=value, name=label, **place, **masks)
                return var._after(op)
            return apply_op("StridedSliceAssign", ref=var._ref(), value=value, name=label, **place, **masks)

        result.assign = assign
    return result


@RegisterGradient("StridedSlice")
def _strided_slice_grad(op: Operation, grad: Tensor) -> Grads:
    x, begin, end, strides = op.inputs
    shape = static_shape(x)
    if begin.dtype.base_dtype is not dtypes.int32:
        shape = apply_op("Cast", x=shape, DstT=begin.dtype.base_dtype)
    back = apply_op(
        "StridedSliceGrad", shape=shape, begin=begin, end=end, strides=strides, dy=grad,
        **{mask: op.attrs[mask] for mask in _MASKS},
    )  # fmt: skip
    return [back, None, None, None]


_MASKS = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")


@RegisterGradient("StridedSliceGrad")
def _strided_slice_grad_grad(op: Operation, grad: Tensor) -> Grads:
    begin, end, strides = op.inputs[1:4]
    again = apply_op(
        "StridedSlice", input=grad, begin=begin, end=end, strides=strides, **{mask: op.attrs[mask] for mask in _MASKS}
    )
    return [None, None, None, None, again]


@RegisterGradient("TensorStridedSliceUpdate")
def _strided_slice_update_grad(op: Operation, grad: Tensor) -> Grads:
    begin, end, strides, value = op.inputs[1:]
    where: dict[str, Any] = {"begin": begin, "end": end, "strides": strides}
    where |= {mask: op.attrs[mask] for mask in _MASKS}
    kept = apply_op("TensorStridedSliceUpdate", input=grad, value=apply_op("ZerosLike", x=value), **where)
    taken = apply_op("StridedSlice", input=grad, **where)
    # The value may have been stretched to the slice.
    return [kept, None, None, None, unbroadcast(value, taken, taken, None)[0]]


# --- Python indexing ---


def _check_index(index: Any) -> None:
    whole = isinstance(index, (int, np.integer, Dimension)) and not isinstance(index, bool)
    tensor = isinstance(index, Tensor) or hasattr(index, "_as_graph_element")
    if tensor and (index.dtype.base_dtype not in _INDEX_DTYPES or index.shape.ndims not in (0, None)):
        tensor = False
    array = isinstance(index, np.ndarray) and index.ndim == 0 and index.dtype.kind in "iu"
    if not (whole or tensor or array):
        raise TypeError(
            "Only integers, slices (`:`), ellipsis (`...`), tf.newaxis (`None`) and scalar integer tensors are valid "
            f"indices, got {index!r}"
        )


_INDEX_DTYPES = (dtypes.int32, dtypes.int64, dtypes.int16)


def _is_mask(item: Any) -> bool:
    if isinstance(item, Tensor):
        return item.dtype.base_dtype is dtypes.bool_
    return isinstance(item, np.ndarray) and item.dtype == bool


def getitem(tensor: Any, item: Any, var: Any = None) -> Tensor:
    """`tensor[item]`: integers, slices, ellipsis, newaxis (numbers may be scalar tensors), or one boolean mask.

    TypeError for other kinds of index.
    """
    if _is_mask(item) or (isinstance(item, list) and item and all(isinstance(each, bool) for each in item)):
        return boolean_mask(tensor, item)
    items = item if isinstance(item, (list, tuple)) else (item,)
    begin: list[Any] = []
    end: list[Any] = []
    strides: list[Any] = []
    masks: dict[str, Any] = dict.fromkeys(_MASKS, 0)
    sources = [tensor]
    for k, part in enumerate(items):
        bit = 1 << k
        if isinstance(part, builtins.slice):
            for each in (part.start, part.stop, part.step):
                if each is not None:
                    _check_index(each)
                    sources.append(each)
            begin.append(0 if part.start is None else part.start)
            end.append(0 if part.stop is None else part.stop)
            strides.append(1 if part.step is None else part.step)
            masks["begin_mask"] |= bit if part.start is None else 0
            masks["end_mask"] |= bit if part.stop is None else 0
        elif part is Ellipsis:
            _extend(begin, end, strides, 0, 0)
            masks["ellipsis_mask"] |= bit
        elif part is None:
            _extend(begin, end, strides, 0, 0)
            masks["new_axis_mask"] |= bit
        else:
            _check_index(part)
            sources.append(part)
            begin.append(part)
            end.append(part + 1)
            strides.append(1)
            masks["shrink_axis_mask"] |= bit
    with name_scope(None, "strided_slice", sources) as scope:
        vectors = [_vector(part, label) for part, label in ((begin, "stack"), (end, "stack_1"), (strides, "stack_2"))]
        if len({each.dtype for each in vectors}) > 1:
            vectors = [
                apply_op("Cast", x=each, DstT="int64") if each.dtype is not dtypes.int64 else each for each in vectors
            ]
        return strided_slice(tensor, vectors[0], vectors[1], vectors[2], var=var, name=scope, **masks)


def _extend(begin: list[Any], end: list[Any], strides: list[Any], first: int, last: int) -> None:
    begin.append(first)
    end.append(last)
    strides.append(1)


def _vector(values: list[Any], name: str) -> Tensor:
    plain: list[Any] = [each.value if isinstance(each, Dimension) else each for each in values]
    if any(isinstance(each, Tensor) or hasattr(each, "_as_graph_element") for each in plain):
        tensors = [each for each in plain if not isinstance(each, (int, np.generic, np.ndarray))]
        wide = any(each.dtype.base_dtype is dtypes.int64 for each in tensors)
        number = dtypes.int64 if wide else tensors[0].dtype.base_dtype
        mixed = any(each.dtype.base_dtype is not number for each in tensors)
        if mixed:
            plain = [
                apply_op("Cast", x=each, DstT=number) if any(each is t for t in tensors) else each for each in plain
            ]
        return apply_op("Pack", values=plain, T=number, name=name)
    largest = max((abs(int(each)) for each in plain), default=0)
    dtype = (
        "int64" if largest > 2**31 - 1 or any(getattr(each, "dtype", None) == np.int64 for each in plain) else "int32"
    )
    return constant([int(each) for each in plain], dtype=dtype, shape=[len(plain)], name=name)


# --- gather ---


def gather(
    params: Any, indices: Any, validate_indices: bool | None = None, name: str | None = None, axis: Any = None,
    batch_dims: int = 0,
) -> Tensor:  # fmt: skip
    """The slices of `params` at `indices` along `axis` (by default `batch_dims`)."""
    if axis is None:
        axis = batch_dims
    if getattr(params, "handle", None) is not None and not isinstance(axis, Tensor) and axis == 0 and batch_dims == 0:
        with name_scope(name, "Gather", [params, indices]) as scope:
            rows = convert_to_tensor(indices, name="indices")
            value = apply_op("ResourceGather", resource=params.handle, indices=rows, dtype=params.dtype, name=scope)
            rest = params.shape[1:]
            value.set_shape(rows.shape.concatenate(rest))
        return apply_op("Identity", input=value)
    if not isinstance(axis, Tensor) and axis == 0:
        batch_dims = 0  # as in TF, where an axis of 0 is asked for and no other
    return apply_op("GatherV2", params=params, indices=indices, axis=axis, batch_dims=batch_dims, name=name)


gather_v2 = gather


@RegisterGradient("Gather")
def _gather_v1_grad(op: Operation, grad: Tensor) -> Grads:
    return [_rows(op.inputs[0], op.inputs[1], grad), None]


def _rows(params: Tensor, indices: Tensor, grad: Tensor) -> IndexedSlices:
    """The gradient of taking rows, as slices."""
    graph = get_default_graph()
    with graph.colocate_with(params.op):
        whole = static_shape(params)
    count = apply_op("ExpandDims", input=_size(indices), dim=0)
    rest = apply_op("StridedSlice", input=whole, begin=[1], end=[0], strides=[1], end_mask=1, name="strided_slice")
    values = apply_op("Reshape", tensor=grad, shape=apply_op("ConcatV2", values=[count, rest], axis=0, name="concat"))
    return IndexedSlices(values, apply_op("Reshape", tensor=indices, shape=count), whole)


def _size(x: Tensor) -> Tensor:
    if x.dims is not None and None not in x.dims:
        return constant(math.prod(extent or 0 for extent in x.dims), name="Size")
    return apply_op("Size", input=x)


@RegisterGradient("GatherV2")
def _gather_grad(op: Operation, grad: Tensor) -> Grads:
    params, indices, axis = op.inputs
    known, batch = constant_value(axis), op.attrs.get("batch_dims", 0)
    if known is not None and int(known) == 0 and batch == 0:
        return [_rows(params, indices, grad), None, None]
    if known is None or params.dims is None or indices.dims is None or grad.dims is None:
        raise ValueError("the gradient of gather needs a static axis and static ranks, unless the axis is 0")
    place = int(known) % len(params.dims)
    if batch:
        return [_batched_rows(params, indices, grad, place, batch), None, None]
    # Bring the gathered dimensions to the front, sum them by index, and move the axis back.
    inner = len(indices.dims)
    count = len(grad.dims)
    order = [*range(place, place + inner), *range(place), *range(place + inner, count)]
    front = apply_op("Transpose", x=grad, perm=constant(order, dtype="int32"), name="transpose")
    whole = static_shape(params)
    length = apply_op("StridedSlice", input=whole, begin=[place], end=[place + 1], strides=[1], shrink_axis_mask=1)
    sums = apply_op("UnsortedSegmentSum", data=front, segment_ids=indices, num_segments=length)
    back = [*range(1, place + 1), 0, *range(place + 1, len(params.dims))]
    return [apply_op("Transpose", x=sums, perm=constant(back, dtype="int32"), name="transpose"), None, None]


def _batched_rows(params: Tensor, indices: Tensor, grad: Tensor, place: int, batch: int) -> Tensor:
    """The gradient of gather with batch dimensions: indices of different batches are kept apart by an offset."""
    inner = len(indices.dims or ()) - batch
    count = len(grad.dims or ())
    order = [*range(batch), *range(place, place + inner), *range(batch, place), *range(place + inner, count)]
    front = apply_op("Transpose", x=grad, perm=constant(order, dtype="int32"), name="transpose")
    whole = static_shape(params)
    length = apply_op("StridedSlice", input=whole, begin=[place], end=[place + 1], strides=[1], shrink_axis_mask=1)
    batches = apply_op("Prod", input=apply_op("Slice", input=whole, begin=[0], size=[batch]), reduction_indices=[0])
    flat = apply_op("Reshape", tensor=indices, shape=apply_op("Pack", values=[batches, constant(-1)]))
    starts = apply_op("Mul", x=apply_op("Range", start=0, limit=batches, delta=1), y=length)
    offsets = apply_op("ExpandDims", input=apply_op("Cast", x=starts, DstT=indices.dtype.base_dtype), dim=1)
    ids = apply_op("Reshape", tensor=apply_op("AddV2", x=flat, y=offsets), shape=[-1])
    rest_axes = [k for k in range(batch, len(params.dims or ())) if k != place]
    rest = apply_op(
        "GatherV2", params=whole, indices=constant(rest_axes, dtype="int32", shape=[len(rest_axes)]), axis=0
    )
    rows = apply_op("Reshape", tensor=front, shape=apply_op("ConcatV2", values=[constant([-1]), rest], axis=0))
    sums = apply_op("UnsortedSegmentSum", data=rows, segment_ids=ids, num_segments=apply_op("Mul", x=batches, y=length))
    leading = apply_op("Slice", input=whole, begin=[0], size=[batch])
    shape = apply_op("ConcatV2", values=[leading, apply_op("Pack", values=[length]), rest], axis=0)
    shaped = apply_op("Reshape", tensor=sums, shape=shape)
    back = [*range(batch), *range(batch + 1, place + 1), batch, *range(place + 1, len(params.dims or ()))]
    return apply_op("Transpose", x=shaped, perm=constant(back, dtype="int32"), name="transpose")


def batch_gather(params: Any, indices: Any, name: str | None = None) -> Tensor:
    """gather along the last dimension of `indices`, for each of the leading ones."""
    with name_scope(name, "BatchGather", [params, indices]):
        rows = convert_to_tensor(indices, name="indices")
        if rows.dims is None:
            raise ValueError("batch_gather does not allow indices with unknown shape.")
        return gather(convert_to_tensor(params, name="params"), rows, batch_dims=len(rows.dims) - 1)


def gather_nd(
    params: Any, indices: Any, name: str | None = None, batch_dims: int = 0, bad_indices_policy: str = ""
) -> Tensor:
    """The elements or slices of `params` at the index tuples in the last dimension of `indices`."""
    if batch_dims:
        return _batched_gather_nd(convert_to_tensor(params), convert_to_tensor(indices), batch_dims, name)
    return apply_op("GatherNd", params=params, indices=indices, name=name)


def _batched_gather_nd(params: Tensor, indices: Tensor, batch_dims: int, name: str | None) -> Tensor:
    with name_scope(name, "BatchGatherNd", [params, indices]):
        whole = shape_of(indices)
        columns: list[Tensor] = []
        count = len(indices.dims or ())
        for k in range(batch_dims):
            extent = apply_op("StridedSlice", input=whole, begin=[k], end=[k + 1], strides=[1], shrink_axis_mask=1)
            row = apply_op("Range", start=0, limit=extent, delta=1)
            shaped = apply_op("Reshape", tensor=row, shape=[-1 if j == k else 1 for j in range(count)])
            columns.append(apply_op("Cast", x=shaped, DstT=indices.dtype.base_dtype))
        lead = apply_op(
            "ConcatV2", values=[apply_op("Slice", input=whole, begin=[0], size=[count - 1]), constant([1])], axis=0
        )
        spread = [apply_op("BroadcastTo", input=each, shape=lead) for each in columns]
        return apply_op("GatherNd", params=params, indices=apply_op("ConcatV2", values=[*spread, indices], axis=-1))


@RegisterGradient("GatherNd")
def _gather_nd_grad(op: Operation, grad: Tensor) -> Grads:
    params, indices = op.inputs
    shape = static_shape(params)
    if indices.dtype.base_dtype is not dtypes.int32:
        shape = apply_op("Cast", x=shape, DstT=indices.dtype.base_dtype)
    if indices.dims is not None and len(indices.dims) == 2 and indices.dims[-1] == 1:
        rows = apply_op("Squeeze", input=indices, squeeze_dims=[-1])
        return [IndexedSlices(grad, rows, shape), None]
    return [apply_op("ScatterNd", indices=indices, updates=grad, shape=shape), None]


def scatter_nd(indices: Any, updates: Any, shape: Any, bad_indices_policy: str = "", name: str | None = None) -> Tensor:
    """Zeros of `shape` with `updates` added at the index tuples `indices`."""
    return apply_op("ScatterNd", indices=indices, updates=updates, shape=shape, name=name)


@RegisterGradient("ScatterNd")
def _scatter_nd_grad(op: Operation, grad: Tensor) -> Grads:
    return [None, apply_op("GatherNd", params=grad, indices=op.inputs[0]), None]


def tensor_scatter_update(tensor: Any, indices: Any, updates: Any, name: str | None = None) -> Tensor:
    """`tensor` with `updates` in place of what is at the index tuples `indices`."""
    return apply_op("TensorScatterUpdate", tensor=tensor, indices=indices, updates=updates, name=name)


@RegisterGradient("TensorScatterUpdate")
def _tensor_scatter_update_grad(op: Operation, grad: Tensor) -> Grads:
    indices, updates = op.inputs[1], op.inputs[2]
    kept = apply_op("TensorScatterUpdate", tensor=grad, indices=indices, updates=apply_op("ZerosLike", x=updates))
    return [kept, None, apply_op("GatherNd", params=grad, indices=indices)]


def tensor_scatter_add(tensor: Any, indices: Any, updates: Any, name: str | None = None) -> Tensor:
    """`tensor` with `updates` added at the index tuples `indices`."""
    return apply_op("TensorScatterAdd", tensor=tensor, indices=indices, updates=updates, name=name)


@RegisterGradient("ScatterNdNonAliasingAdd")
@RegisterGradient("TensorScatterAdd")
def _tensor_scatter_add_grad(op: Operation, grad: Tensor) -> Grads:
    return [grad, None, apply_op("GatherNd", params=grad, indices=op.inputs[1])]


def tensor_scatter_sub(tensor: Any, indices: Any, updates: Any, name: str | None = None) -> Tensor:
    """`tensor` with `updates` subtracted at the index tuples `indices`."""
    return apply_op("TensorScatterSub", tensor=tensor, indices=indices, updates=updates, name=name)


@RegisterGradient("TensorScatterSub")
def _tensor_scatter_sub_grad(op: Operation, grad: Tensor) -> Grads:
    return [grad, None, apply_op("Neg", x=apply_op("GatherNd", params=grad, indices=op.inputs[1]))]


# --- masks and one-hot ---


def boolean_mask(tensor: Any, mask: Any, name: str | None = "boolean_mask", axis: Any = None) -> Tensor:
    """The slices of `tensor` where `mask` holds; the mask's dimensions, from `axis` on, become one.

    ValueError for a mask whose rank is 0 or unknown, or whose shape doesn't fit.
    """
    with name_scope(name, values=[tensor, mask]):
        x = convert_to_tensor(tensor, name="tensor")
        flags = convert_to_tensor(mask, name="mask")
        if flags.dims is None:
            raise ValueError("Number of mask dimensions must be specified: shape=[None] will do, shape=None will not")
        if not flags.dims:
            raise ValueError("mask cannot be scalar.")
        count = len(flags.dims)
        known = 0 if axis is None else constant_value(axis)
        if known is None:
            raise ValueError("the axis of boolean_mask must be known when the graph is built")
        place = int(known) + (len(x.dims or ()) if int(known) < 0 else 0)
        if x.dims is not None:
            TensorShape(x.dims[place : place + count]).assert_is_compatible_with(flags.shape)
        flat = x
        if count > 1:
            leading = reduce_prod(getitem(shape_of(x), builtins.slice(place, place + count)), [0])
            parts = [
                getitem(shape_of(x), builtins.slice(None, place)), apply_op("Pack", values=[leading]),
                getitem(shape_of(x), builtins.slice(place + count, None)),
            ]  # fmt: skip
            flat = apply_op("Reshape", tensor=x, shape=apply_op("ConcatV2", values=parts, axis=0, name="concat"))
            if x.dims is not None:
                first = TensorShape(x.dims[place : place + count]).num_elements()
                flat.set_shape((*x.dims[:place], first, *x.dims[place + count :]))
        line = apply_op("Reshape", tensor=flags, shape=[-1]) if count > 1 else flags
        chosen = apply_op("Squeeze", input=apply_op("Where", input=line), squeeze_dims=[1])
        return apply_op("GatherV2", params=flat, indices=chosen, axis=place)


def repeat(input: Any, repeats: Any, axis: int | None = None, name: str | None = None) -> Tensor:
    """Each element along `axis` (of the flattened input by default) as often as `repeats`, a number or one for each."""
    with name_scope(name, "Repeat", [input, repeats]):
        x = convert_to_tensor(input, name="input")
        counts = convert_to_tensor(repeats, dtype_hint="int32", name="repeats")
        if axis is None:
            x, axis = apply_op("Reshape", tensor=x, shape=[-1]), 0
        if x.dims is None:
            raise ValueError("repeating along an axis needs a static rank")
        rank = len(x.dims)
        if not -rank <= axis < rank:
            raise ValueError(f"axis {axis} is out of bounds for a tensor of rank {rank}")
        axis %= rank
        extent = apply_op("StridedSlice", input=shape_of(x), begin=[axis], end=[axis + 1], strides=[1])
        if counts.dims is not None and len(counts.dims) == 1 and counts.dims[0] != 1:
            TensorShape([x.dims[axis]]).assert_is_compatible_with(counts.shape)
        each = apply_op("BroadcastTo", input=counts, shape=extent)
        mask = sequence_mask(each, apply_op("Max", input=each, reduction_indices=[0]))
        rows = apply_op(
            "StridedSlice", input=apply_op("Where", input=mask), begin=[0, 0], end=[0, 1], strides=[1, 1], begin_mask=1,
            end_mask=1, shrink_axis_mask=2,
        )  # fmt: skip
        result = apply_op("GatherV2", params=x, indices=rows, axis=axis)
        number, have = constant_value(counts), x.dims[axis]
        if number is not None and number.size == 1 and have is not None:
            result.set_shape((*x.dims[:axis], have * int(number.item()), *x.dims[axis + 1 :]))
        return result


def one_hot(
    indices: Any, depth: Any, on_value: Any = None, off_value: Any = None, axis: int | None = None, dtype: Any = None,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """For every index a row of `depth` with `on_value` (1) at it and `off_value` (0) elsewhere.

    TypeError when the values' dtypes differ from each other or from `dtype`.
    """
    with name_scope(name, "one_hot", [indices, depth, on_value, off_value]) as scope:
        wanted = None if dtype is None else as_dtype(dtype).base_dtype
        found = None
        for each, label in ((on_value, "on_value"), (off_value, "off_value")):
            if each is None:
                continue
            given = convert_to_tensor(each, dtype_hint=wanted, name=label).dtype.base_dtype
            if found is not None and found is not given:
                raise TypeError(f"dtype {found} of on_value does not match dtype {given} of off_value")
            found = given
        if wanted is not None and found is not None and found is not wanted:
            raise TypeError(f"dtype {found} of on_value/off_value does not match dtype parameter {wanted}")
        number = found or wanted or dtypes.float32
        on = constant(True if number.is_bool else 1, dtype=number, name="on_value") if on_value is None else on_value
        off = (
            constant(False if number.is_bool else 0, dtype=number, name="off_value") if off_value is None else off_value
        )
        return apply_op(
            "OneHot",
            indices=indices,
            depth=depth,
            on_value=on,
            off_value=off,
            axis=-1 if axis is None else axis,
            name=scope,
        )


NotDifferentiable("OneHot")
