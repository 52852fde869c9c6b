"""Reductions over axes, arg-extrema and cumulative sums, in TF1's signatures, with gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjit.framework.apply import apply_op
from stepjit.framework.constant_value import constant_value
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.registry import NotDifferentiable, RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.broadcasting import static_shape
from stepjit_runtime import dtypes


def either(new: str, value: Any, old: str, old_value: Any) -> Any:
    """The one of an argument and its older name that was given; ValueError when both were."""
    if old_value is None:
        return value
    if value is not None:
        raise ValueError(f"Cannot specify both '{old}' and '{new}'.")
    return old_value


def _axes(x: Tensor, axis: Any) -> Any:
    """`axis`, or all axes for None."""
    if axis is not None:
        return axis.tolist() if isinstance(axis, np.ndarray) else axis
    if x.dims is not None:
        return constant(np.arange(len(x.dims), dtype=np.int32))
    start, delta = constant(0), constant(1)
    return apply_op("Range", start=start, limit=apply_op("Rank", input=x), delta=delta)


def _reduce(kind: str, x: Any, axis: Any, keepdims: Any, name: str | None, old_axis: Any, old_keep: Any) -> Tensor:
    axis = either("axis", axis, "reduction_indices", old_axis)
    keep = bool(either("keepdims", keepdims, "keep_dims", old_keep))
    tensor = convert_to_tensor(x, dtype_hint="bool" if kind in ("All", "Any") else None, name="input_tensor")
    axes = _axes(tensor, axis)
    result = apply_op(kind, input=tensor, reduction_indices=axes, keep_dims=keep, name=name)
    if axis is None and not keep and result.dims is None:
        result.set_shape(())
    return result


def reduce_sum(
    input_tensor: Any, axis: Any = None, keepdims: bool | None = None, name: str | None = None,
    reduction_indices: Any = None, keep_dims: bool | None = None,
) -> Tensor:  # fmt: skip
    """The sum over `axis` (all axes by default); 0 for no elements."""
    return _reduce("Sum", input_tensor, axis, keepdims, name, reduction_indices, keep_dims)


def reduce_mean(
    input_tensor: Any, axis: Any = None, keepdims: bool | None = None, name: str | None = None,
    reduction_indices: Any = None, keep_dims: bool | None = None,
) -> Tensor:  # fmt: skip
    """The mean over `axis` (all axes by default); of integers rounded down."""
    return _reduce("Mean", input_tensor, axis, keepdims, name, reduction_indices, keep_dims)


def reduce_max(
    input_tensor: Any, axis: Any = None, keepdims: bool | None = None, name: str | None = None,
    reduction_indices: Any = None, keep_dims: bool | None = None,
) -> Tensor:  # fmt: skip
    """The largest element over `axis` (all axes by default)."""
    return _reduce("Max", input_tensor, axis, keepdims, name, reduction_indices, keep_dims)


def reduce_min(
    input_tensor: Any, axis: Any = None, keepdims: bool | None = None, name: str | None = None,
    reduction_indices: Any = None, keep_dims: bool | None = None,
) -> Tensor:  # fmt: skip
    """The smallest element over `axis` (all axes by default)."""
    return _reduce("Min", input_tensor, axis, keepdims, name, reduction_indices, keep_dims)


def reduce_prod(
    input_tensor: Any, axis: Any = None, keepdims: bool | None = None, name: str | None = None,
    reduction_indices: Any = None, keep_dims: bool | None = None,
) -> Tensor:  # fmt: skip
    """The product over `axis` (all axes by default); 1 for no elements."""
    return _reduce("Prod", input_tensor, axis, keepdims, name, reduction_indices, keep_dims)


def reduce_all(
    input_tensor: Any, axis: Any = None, keepdims: bool | None = None, name: str | None = None,
    reduction_indices: Any = None, keep_dims: bool | None = None,
) -> Tensor:  # fmt: skip
    """Whether all elements over `axis` hold."""
    return _reduce("All", input_tensor, axis, keepdims, name, reduction_indices, keep_dims)


def reduce_any(
    input_tensor: Any, axis: Any = None, keepdims: bool | None = None, name: str | None = None,
    reduction_indices: Any = None, keep_dims: bool | None = None,
) -> Tensor:  # fmt: skip
    """Whether any element over `axis` holds."""
    return _reduce("Any", input_tensor, axis, keepdims, name, reduction_indices, keep_dims)


for _kind in ("All", "Any"):
    NotDifferentiable(_kind)


# --- Gradients ---


def _known_axes(op: Operation) -> list[int] | None:
    """The reduced axes, not negative, when they and the rank are static."""
    x = op.inputs[0]
    axes = constant_value(op.inputs[1])
    if axes is None or x.dims is None:
        return None
    rank = len(x.dims)
    return sorted({int(axis) % rank for axis in np.reshape(axes, -1)}) if rank else []


def _kept_shape(op: Operation) -> Tensor:
    """The shape of the input with 1 for the reduced dimensions, computed in the step."""
    x = op.inputs[0]
    shape = apply_op("Shape", input=x)
    rank = apply_op("Size", input=shape)
    axes = apply_op("Reshape", tensor=apply_op("Cast", x=op.inputs[1], DstT="int32"), shape=[-1])
    axes = apply_op("FloorMod", x=apply_op("AddV2", x=axes, y=rank, name="add"), y=rank, name="mod")
    ones = apply_op("Fill", dims=apply_op("Shape", input=axes), value=constant(1))
    every = apply_op("Range", start=constant(0), limit=rank, delta=constant(1), name="range")
    return apply_op("DynamicStitch", indices=[every, axes], data=[shape, ones])


def _with_kept_dims(op: Operation, tensor: Tensor) -> Tensor:
    """A tensor of the output's shape with the reduced dimensions back, as extents of 1."""
    if op.attrs["keep_dims"]:
        return tensor
    axes = _known_axes(op)
    if axes is None:
        return apply_op("Reshape", tensor=tensor, shape=_kept_shape(op))
    dims = [1 if k in axes else extent for k, extent in enumerate(op.inputs[0].dims or ())]
    if dims.count(None) <= 1:
        return apply_op("Reshape", tensor=tensor, shape=constant([-1 if d is None else d for d in dims], dtype="int32"))
    for axis in axes:
        tensor = apply_op("ExpandDims", input=tensor, dim=axis)
    return tensor


def _spread(op: Operation, grad: Tensor) -> Tensor:
    """The gradient of a sum: every element gets its result's."""
    return apply_op("BroadcastTo", input=_with_kept_dims(op, grad), shape=static_shape(op.inputs[0]))


@RegisterGradient("Sum")
def _sum_grad(op: Operation, grad: Tensor) -> Sequence[Any]:
    return [_spread(op, grad), None]


@RegisterGradient("Mean")
def _mean_grad(op: Operation, grad: Tensor) -> Sequence[Any]:
    x, dtype = op.inputs[0], grad.dtype.base_dtype
    axes = _known_axes(op)
    spread = _spread(op, grad)
    if axes is not None and x.dims is not None and all(x.dims[axis] is not None for axis in axes):
        count = constant(max(math.prod(x.dims[axis] or 0 for axis in axes), 1), dtype=dtype)
    else:
        sizes = apply_op("Shape", input=x)
        if axes is not None:
            if len(axes) < len(x.dims or ()):
                sizes = apply_op(
                    "GatherV2", params=sizes, indices=constant(axes, dtype="int32", shape=[len(axes)]), axis=0
                )
            quotient = apply_op("Prod", input=sizes, reduction_indices=[0])
        else:
            whole = apply_op("Prod", input=sizes, reduction_indices=[0])
            part = apply_op("Prod", input=apply_op("Shape", input=op.outputs[0]), reduction_indices=[0])
            quotient = apply_op("FloorDiv", x=whole, y=apply_op("Maximum", x=part, y=1), name="floordiv")
        count = apply_op("Cast", x=quotient, DstT=dtype)
    return [apply_op("RealDiv", x=spread, y=count, name="truediv"), None]


@RegisterGradient("EuclideanNorm")
def _norm_grad(op: Operation, grad: Tensor) -> Sequence[Any]:
    norm, kept = _with_kept_dims(op, op.outputs[0]), _with_kept_dims(op, grad)
    return [apply_op("RealDiv", x=op.inputs[0], y=apply_op("RealDiv", x=norm, y=kept)), None]


@RegisterGradient("Max")
@RegisterGradient("Min")
def _extremum_grad(op: Operation, grad: Tensor) -> Sequence[Any]:
    x = op.inputs[0]
    # Elements that tie share the gradient equally.
    hits = apply_op("Equal", x=_with_kept_dims(op, op.outputs[0]), y=x)
    indicators = apply_op("Cast", x=hits, DstT=grad.dtype.base_dtype)
    count = apply_op("Sum", input=indicators, reduction_indices=op.inputs[1], keep_dims=True)
    share = apply_op("RealDiv", x=indicators, y=count, name="truediv")
    return [apply_op("Mul", x=share, y=_with_kept_dims(op, grad), name="mul"), None]


@RegisterGradient("Prod")
def _prod_grad(op: Operation, grad: Tensor) -> Sequence[Any]:
    x = op.inputs[0]
    spread = _spread(op, grad)
    axes: Any = _known_axes(op)
    shape = static_shape(x)
    if axes is not None and x.dims is not None:
        others: Any = [k for k in range(len(x.dims)) if k not in axes]
        order: Any = axes + others
        back: Any = np.argsort(order).tolist()
        axes, others, order, back = (
            constant(each, dtype="int32", shape=[len(each)]) for each in (axes, others, order, back)
        )
    else:
        rank = apply_op("Rank", input=x)
        axes = apply_op("Reshape", tensor=apply_op("Cast", x=op.inputs[1], DstT="int32"), shape=[-1])
        axes = apply_op("FloorMod", x=apply_op("AddV2", x=axes, y=rank, name="add"), y=rank, name="mod")
        every = apply_op("Range", start=constant(0), limit=rank, delta=constant(1), name="range")
        others = apply_op("ListDiff", x=every, y=axes)[0]
        order = apply_op("ConcatV2", values=[axes, others], axis=constant(0), name="concat")
        back = apply_op("InvertPermutation", x=order)
    sizes = [
        apply_op("Prod", input=apply_op("GatherV2", params=shape, indices=each, axis=0), reduction_indices=[0])
        for each in (axes, others)
    ]
    moved = apply_op("Transpose", x=x, perm=order, name="transpose")
    flat = apply_op("Reshape", tensor=moved, shape=apply_op("Pack", values=sizes, axis=0))
    # Products of all elements before and all after each: right also where some are 0.
    before = apply_op("Cumprod", x=flat, axis=0, exclusive=True)
    after = apply_op("Cumprod", x=flat, axis=0, exclusive=True, reverse=True)
    others_product = apply_op("Mul", x=before, y=after, name="mul")
    in_place = apply_op("Reshape", tensor=others_product, shape=static_shape(moved))
    factor = apply_op("Transpose", x=in_place, perm=back, name="transpose")
    product = apply_op("Mul", x=spread, y=factor, name="mul")
    return [apply_op("Reshape", tensor=product, shape=shape), None]


def reduce_euclidean_norm(
    input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None
) -> Tensor:
    """The root of the sum of squares over `axis`."""
    return _reduce("EuclideanNorm", input_tensor, axis, keepdims, name, None, None)


# --- Composed reductions ---


def reduce_logsumexp(
    input_tensor: Any, axis: Any = None, keepdims: bool | None = None, name: str | None = None,
    reduction_indices: Any = None, keep_dims: bool | None = None,
) -> Tensor:  # fmt: skip
    """log(sum(exp(x))) over `axis`, without overflow."""
    axis = either("axis", axis, "reduction_indices", reduction_indices)
    keep = bool(either("keepdims", keepdims, "keep_dims", keep_dims))
    with name_scope(name, "ReduceLogSumExp", [input_tensor]) as scope:
        x = convert_to_tensor(input_tensor)
        raw = reduce_max(x, axis, keepdims=True)
        finite = apply_op("IsFinite", x=raw)
        largest = apply_op("StopGradient", input=apply_op("SelectV2", condition=finite, t=raw, e=0))
        powers = apply_op("Exp", x=apply_op("Sub", x=x, y=largest))
        result = apply_op("Log", x=reduce_sum(powers, axis, keepdims=keep))
        if not keep:
            largest = apply_op("Reshape", tensor=largest, shape=static_shape(result))
        return apply_op("AddV2", x=result, y=largest, name=scope)


def reduce_variance(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None) -> Tensor:
    """The mean squared distance from the mean, over `axis`; TypeError for integers."""
    with name_scope(name or "reduce_variance"):
        x = convert_to_tensor(input_tensor)
        if x.dtype.base_dtype.is_integer:
            raise TypeError(f"Input must be either real or complex; received integer type {x.dtype!r}.")
        distance = apply_op("Sub", x=x, y=reduce_mean(x, axis, keepdims=True), name="sub")
        if x.dtype.base_dtype.kind == "c":
            conj = apply_op("Conj", input=distance)
            product = apply_op("Mul", x=distance, y=conj, name="mul")
            squares = apply_op("Real", input=product, Tout=x.dtype.base_dtype.real_dtype)
        else:
            squares = apply_op("Square", x=distance)
        return reduce_mean(squares, axis, keepdims=keepdims)


def reduce_std(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None) -> Tensor:
    """The square root of the variance over `axis`; TypeError for integers."""
    with name_scope(name or "reduce_std"):
        return apply_op("Sqrt", x=reduce_variance(input_tensor, axis, keepdims))


def count_nonzero(
    input_tensor: Any = None, axis: Any = None, keepdims: bool | None = None, dtype: Any = dtypes.int64,
    name: str | None = None, reduction_indices: Any = None, keep_dims: bool | None = None, input: Any = None,
) -> Tensor:  # fmt: skip
    """How many elements over `axis` are not 0 (not empty, for strings)."""
    axis = either("axis", axis, "reduction_indices", reduction_indices)
    keep = bool(either("keepdims", keepdims, "keep_dims", keep_dims))
    with name_scope(name, "count_nonzero", [input_tensor, input]):
        x = convert_to_tensor(either("input", input, "input_tensor", input_tensor), name="input")
        zero = {dtypes.string: "", dtypes.bool_: False}.get(x.dtype.base_dtype, 0)
        nothing = constant(zero, dtype=x.dtype.base_dtype, name="zeros")
        hits = apply_op("Cast", x=apply_op("NotEqual", x=x, y=nothing), DstT="int64")
        total = reduce_sum(hits, axis, keepdims=keep, name="nonzero_count")
        return apply_op("Cast", x=total, DstT=dtype) if dtypes.as_dtype(dtype) is not dtypes.int64 else total


# --- Where the extremum is ---


def argmax(
    input: Any, axis: Any = None, name: str | None = None, dimension: Any = None, output_type: Any = dtypes.int64
) -> Tensor:  # fmt: skip
    """The index of the largest element along `axis` (0 by default); the first of equals."""
    axis = either("axis", axis, "dimension", dimension)
    return apply_op("ArgMax", input=input, dimension=0 if axis is None else axis, output_type=output_type, name=name)


def argmin(
    input: Any, axis: Any = None, name: str | None = None, dimension: Any = None, output_type: Any = dtypes.int64
) -> Tensor:  # fmt: skip
    """The index of the smallest element along `axis` (0 by default); the first of equals."""
    axis = either("axis", axis, "dimension", dimension)
    return apply_op("ArgMin", input=input, dimension=0 if axis is None else axis, output_type=output_type, name=name)


def arg_max(input: Any, dimension: Any, output_type: Any = dtypes.int64, name: str | None = None) -> Tensor:
    """`argmax` in its oldest form."""
    return argmax(input, dimension, name, output_type=output_type)


def arg_min(input: Any, dimension: Any, output_type: Any = dtypes.int64, name: str | None = None) -> Tensor:
    """`argmin` in its oldest form."""
    return argmin(input, dimension, name, output_type=output_type)


for _kind in ("ArgMax", "ArgMin"):
    NotDifferentiable(_kind)


# --- Cumulative sums and products ---


def cumsum(x: Any, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None) -> Tensor:
    """Running sums along `axis`; `exclusive` leaves out the element itself, `reverse` runs from the end."""
    with name_scope(name, "Cumsum", [x]) as scope:
        x = convert_to_tensor(x, name="x")
        return apply_op("Cumsum", x=x, axis=axis, exclusive=exclusive, reverse=reverse, name=scope)


@RegisterGradient("Cumsum")
def _cumsum_grad(op: Operation, grad: Tensor) -> Sequence[Any]:
    backwards = not op.attrs["reverse"]
    return [cumsum(grad, op.inputs[1], op.attrs["exclusive"], backwards), None]


def cumprod(x: Any, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None) -> Tensor:
    """Running products along `axis`; `exclusive` leaves out the element itself, `reverse` runs from the end."""
    with name_scope(name, "Cumprod", [x]) as scope:
        x = convert_to_tensor(x, name="x")
        return apply_op("Cumprod", x=x, axis=axis, exclusive=exclusive, reverse=reverse, name=scope)


@RegisterGradient("Cumprod")
def _cumprod_grad(op: Operation, grad: Tensor) -> Sequence[Any]:
    x, axis = op.inputs
    exclusive, reverse = op.attrs["exclusive"], op.attrs["reverse"]
    scaled = apply_op("Mul", x=op.outputs[0], y=grad, name="mul")
    total = cumsum(scaled, axis, exclusive, not reverse)
    return [apply_op("DivNoNan", x=total, y=x, name="div_no_nan"), None]


def cumulative_logsumexp(
    x: Any, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None
) -> Tensor:
    """log(sum(exp(x))) of what `cumsum` adds up, without overflow."""
    with name_scope(name, "CumulativeLogsumexp", [x]) as scope:
        x = convert_to_tensor(x, name="x")
        return apply_op("CumulativeLogsumexp", x=x, axis=axis, exclusive=exclusive, reverse=reverse, name=scope)


@RegisterGradient("CumulativeLogsumexp")
def _cumulative_logsumexp_grad(op: Operation, grad: Tensor) -> Sequence[Any]:
    x, axis = op.inputs
    zero = constant(0, dtype=grad.dtype.base_dtype)
    least = constant(grad.dtype.base_dtype.min, dtype=grad.dtype.base_dtype)

    def share(part: Tensor) -> Tensor:
        """What the positive numbers of `part` contribute; as logarithms, which don't overflow."""
        logs = apply_op(
            "SelectV2", condition=apply_op("Greater", x=part, y=zero), t=apply_op("Log", x=part), e=least
        )
        total = apply_op(
            "CumulativeLogsumexp", x=apply_op("Sub", x=logs, y=op.outputs[0]), axis=axis,
            exclusive=op.attrs["exclusive"], reverse=not op.attrs["reverse"],
        )  # fmt: skip
        return apply_op("Exp", x=apply_op("AddV2", x=total, y=x))

    return [apply_op("Sub", x=share(grad), y=share(apply_op("Neg", x=grad))), None]
