"""Sums by segment, partitions, sorting and uniqueness, in TF1's signatures, with gradients."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.registry import NotDifferentiable, RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.array import shape as shape_of
from stepjit.ops.broadcasting import static_shape
from stepjit_runtime import dtypes

Grads = Sequence[Any]

TopKV2 = namedtuple("TopKV2", ["values", "indices"])
Unique = namedtuple("Unique", ["y", "idx"])
UniqueWithCounts = namedtuple("UniqueWithCounts", ["y", "idx", "count"])
ListDiff = namedtuple("ListDiff", ["out", "idx"])


def _rows(params: Tensor, indices: Any) -> Tensor:
    return apply_op("GatherV2", params=params, indices=indices, axis=0)


# --- sorted segments ---


def segment_sum(data: Any, segment_ids: Any, name: str | None = None) -> Tensor:
    """The sums of rows with the same id; ids are sorted."""
    return apply_op("SegmentSum", data=data, segment_ids=segment_ids, name=name)


def segment_mean(data: Any, segment_ids: Any, name: str | None = None) -> Tensor:
    """The means of rows with the same id; ids are sorted."""
    return apply_op("SegmentMean", data=data, segment_ids=segment_ids, name=name)


def segment_max(data: Any, segment_ids: Any, name: str | None = None) -> Tensor:
    """The largest of rows with the same id; ids are sorted."""
    return apply_op("SegmentMax", data=data, segment_ids=segment_ids, name=name)


def segment_min(data: Any, segment_ids: Any, name: str | None = None) -> Tensor:
    """The smallest of rows with the same id; ids are sorted."""
    return apply_op("SegmentMin", data=data, segment_ids=segment_ids, name=name)


def segment_prod(data: Any, segment_ids: Any, name: str | None = None) -> Tensor:
    """The products of rows with the same id; ids are sorted."""
    return apply_op("SegmentProd", data=data, segment_ids=segment_ids, name=name)


@RegisterGradient("SegmentSum")
def _segment_sum_grad(op: Operation, grad: Tensor) -> Grads:
    return [_rows(grad, op.inputs[1]), None]


@RegisterGradient("SegmentMean")
def _segment_mean_grad(op: Operation, grad: Tensor) -> Grads:
    data, ids = op.inputs
    ones = apply_op("Fill", dims=static_shape(ids), value=constant(1, dtype=data.dtype.base_dtype))
    counts = apply_op("SegmentSum", data=ones, segment_ids=ids)
    rank = apply_op("Rank", input=data)
    tail = apply_op("Fill", dims=apply_op("Reshape", tensor=apply_op("Sub", x=rank, y=1), shape=[1]), value=constant(1))
    shape = apply_op("ConcatV2", values=[static_shape(counts), tail], axis=0)
    scaled = apply_op("RealDiv", x=grad, y=apply_op("Reshape", tensor=counts, shape=shape))
    return [_rows(scaled, ids), None]


@RegisterGradient("SegmentMax")
@RegisterGradient("SegmentMin")
def _segment_extremum_grad(op: Operation, grad: Tensor) -> Grads:
    data, ids = op.inputs
    hits = apply_op("Equal", x=data, y=_rows(op.outputs[0], ids))
    indicators = apply_op("Cast", x=hits, DstT=data.dtype.base_dtype)
    shares = apply_op("RealDiv", x=grad, y=apply_op("SegmentSum", data=indicators, segment_ids=ids))
    spread = _rows(shares, ids)
    return [apply_op("Select", condition=hits, t=spread, e=apply_op("ZerosLike", x=spread)), None]


@RegisterGradient("SegmentProd")
def _segment_prod_grad(op: Operation, grad: Tensor) -> Grads:
    ids = op.inputs[1]

    def by_segment(kind: str, values: Tensor) -> Tensor:
        return apply_op("Segment" + kind, data=values, segment_ids=ids)

    return [_product_grad(op, grad, by_segment, lambda rows: _rows(rows, ids)), None]


def _product_grad(
    op: Operation, grad: Tensor, by_segment: Callable[[str, Tensor], Tensor], spread: Callable[[Tensor], Tensor]
) -> Tensor:
    """The gradient of products: `by_segment` reduces by "Sum" or "Prod", `spread` gives each element its segment's."""
    data, number = op.inputs[0], op.inputs[0].dtype.base_dtype
    zero, one = constant(0, dtype=number), constant(1, dtype=number)
    is_zero = apply_op("Equal", x=data, y=zero)
    zeros = by_segment("Sum", apply_op("Cast", x=is_zero, DstT="int32"))
    # With two zeros no element matters, with one only that element does.
    grad = apply_op("SelectV2", condition=apply_op("Greater", x=zeros, y=1), t=zero, e=grad)
    others = apply_op("SelectV2", condition=is_zero, t=one, e=data)
    whole, rest = spread(op.outputs[0]), spread(by_segment("Prod", others))
    partial = apply_op("SelectV2", condition=is_zero, t=rest, e=apply_op("RealDiv", x=whole, y=others))
    return apply_op("Mul", x=spread(grad), y=partial)


# --- segments in any order ---


def unsorted_segment_sum(data: Any, segment_ids: Any, num_segments: Any, name: str | None = None) -> Tensor:
    """The sums of slices with the same id; slices with negative ids are left out."""
    return apply_op("UnsortedSegmentSum", data=data, segment_ids=segment_ids, num_segments=num_segments, name=name)


def unsorted_segment_max(data: Any, segment_ids: Any, num_segments: Any, name: str | None = None) -> Tensor:
    """The largest of slices with the same id; the lowest number for none."""
    return apply_op("UnsortedSegmentMax", data=data, segment_ids=segment_ids, num_segments=num_segments, name=name)


def unsorted_segment_min(data: Any, segment_ids: Any, num_segments: Any, name: str | None = None) -> Tensor:
    """The smallest of slices with the same id; the highest number for none."""
    return apply_op("UnsortedSegmentMin", data=data, segment_ids=segment_ids, num_segments=num_segments, name=name)


def unsorted_segment_prod(data: Any, segment_ids: Any, num_segments: Any, name: str | None = None) -> Tensor:
    """The products of slices with the same id; 1 for none."""
    return apply_op("UnsortedSegmentProd", data=data, segment_ids=segment_ids, num_segments=num_segments, name=name)


def _counts(data: Tensor, ids: Tensor, num_segments: Any) -> Tensor:
    """How many slices each segment has (at least 1), in a shape that divides the sums."""
    ones = apply_op("Fill", dims=static_shape(ids), value=constant(1, dtype=data.dtype.base_dtype))
    flat = [apply_op("Reshape", tensor=each, shape=[-1]) for each in (ones, ids)]
    counts = apply_op("UnsortedSegmentSum", data=flat[0], segment_ids=flat[1], num_segments=num_segments)
    if data.dims is None or ids.dims is None:
        raise ValueError("a mean by segment needs static ranks")
    shape = [-1] + [1] * (len(data.dims) - len(ids.dims))
    return apply_op("Maximum", x=apply_op("Reshape", tensor=counts, shape=shape), y=1)


def unsorted_segment_mean(data: Any, segment_ids: Any, num_segments: Any, name: str | None = None) -> Tensor:
    """The means of slices with the same id; 0 for none."""
    with name_scope(name, "UnsortedSegmentMean"):
        rows, ids = convert_to_tensor(data), convert_to_tensor(segment_ids)
        total = apply_op("UnsortedSegmentSum", data=rows, segment_ids=ids, num_segments=num_segments)
        return apply_op("RealDiv", x=total, y=_counts(rows, ids, num_segments), name="truediv")


def unsorted_segment_sqrt_n(data: Any, segment_ids: Any, num_segments: Any, name: str | None = None) -> Tensor:
    """The sums of slices with the same id divided by the root of their number."""
    with name_scope(name, "UnsortedSegmentSqrtN"):
        rows, ids = convert_to_tensor(data), convert_to_tensor(segment_ids)
        total = apply_op("UnsortedSegmentSum", data=rows, segment_ids=ids, num_segments=num_segments)
        return apply_op("RealDiv", x=total, y=apply_op("Sqrt", x=_counts(rows, ids, num_segments)), name="truediv")


def _taken(params: Tensor, ids: Tensor, data: Tensor) -> tuple[Tensor, Tensor]:
    """The slices at ids, zeros for negative ones; and where ids aren't negative, in the shape of `data`."""
    zero = constant(0, dtype=ids.dtype.base_dtype)
    found = _rows(params, apply_op("Maximum", x=ids, y=zero))
    present = apply_op("GreaterEqual", x=ids, y=zero)
    for _ in range(len(data.dims or ()) - len(ids.dims or ())):
        present = apply_op("ExpandDims", input=present, dim=-1)
    return apply_op("SelectV2", condition=present, t=found, e=constant(0, dtype=params.dtype.base_dtype)), present


@RegisterGradient("UnsortedSegmentSum")
def _unsorted_segment_sum_grad(op: Operation, grad: Tensor) -> Grads:
    return [_taken(grad, op.inputs[1], op.inputs[0])[0], None, None]


@RegisterGradient("UnsortedSegmentMax")
@RegisterGradient("UnsortedSegmentMin")
def _unsorted_segment_extremum_grad(op: Operation, grad: Tensor) -> Grads:
    data, ids, count = op.inputs
    best, present = _taken(op.outputs[0], ids, data)
    hits = apply_op("LogicalAnd", x=apply_op("Equal", x=data, y=best), y=present)
    indicators = apply_op("Cast", x=hits, DstT=grad.dtype.base_dtype)
    total = apply_op("UnsortedSegmentSum", data=indicators, segment_ids=ids, num_segments=count)
    spread, _ = _taken(apply_op("DivNoNan", x=grad, y=total), ids, data)
    return [apply_op("SelectV2", condition=hits, t=spread, e=constant(0, dtype=grad.dtype.base_dtype)), None, None]


@RegisterGradient("UnsortedSegmentProd")
def _unsorted_segment_prod_grad(op: Operation, grad: Tensor) -> Grads:
    data, ids, count = op.inputs

    def by_segment(kind: str, values: Tensor) -> Tensor:
        return apply_op("UnsortedSegment" + kind, data=values, segment_ids=ids, num_segments=count)

    return [_product_grad(op, grad, by_segment, lambda rows: _taken(rows, ids, data)[0]), None, None]


# --- sparse segments ---


def _sparse_segment(kind: str, data: Any, indices: Any, ids: Any, name: str | None, num_segments: Any) -> Tensor:
    if num_segments is None:
        return apply_op(kind, data=data, indices=indices, segment_ids=ids, name=name)
    return apply_op(
        kind + "WithNumSegments", data=data, indices=indices, segment_ids=ids, num_segments=num_segments, name=name
    )


def sparse_segment_sum(
    data: Any, indices: Any, segment_ids: Any, name: str | None = None, num_segments: Any = None,
    sparse_gradient: bool = False,
) -> Tensor:  # fmt: skip
    """The sums of rows `indices` of `data` with the same id."""
    return _sparse_segment("SparseSegmentSum", data, indices, segment_ids, name, num_segments)


def sparse_segment_mean(
    data: Any, indices: Any, segment_ids: Any, name: str | None = None, num_segments: Any = None,
    sparse_gradient: bool = False,
) -> Tensor:  # fmt: skip
    """The means of rows `indices` of `data` with the same id."""
    return _sparse_segment("SparseSegmentMean", data, indices, segment_ids, name, num_segments)


def sparse_segment_sqrt_n(
    data: Any, indices: Any, segment_ids: Any, name: str | None = None, num_segments: Any = None,
    sparse_gradient: bool = False,
) -> Tensor:  # fmt: skip
    """The sums of rows `indices` of `data` with the same id divided by the root of their number."""
    return _sparse_segment("SparseSegmentSqrtN", data, indices, segment_ids, name, num_segments)


def _scaled_segment_grad(kind: str, op: Operation, grad: Tensor) -> Grads:
    data, indices, ids = op.inputs[:3]
    rows = apply_op("StridedSlice", input=static_shape(data), begin=[0], end=[1], strides=[1], shrink_axis_mask=1)
    back = apply_op(kind, grad=grad, indices=indices, segment_ids=ids, output_dim0=rows)
    return [back, *[None] * (len(op.inputs) - 1)]


@RegisterGradient("SparseSegmentMean")
@RegisterGradient("SparseSegmentMeanWithNumSegments")
def _sparse_segment_mean_grad(op: Operation, grad: Tensor) -> Grads:
    return _scaled_segment_grad("SparseSegmentMeanGrad", op, grad)


@RegisterGradient("SparseSegmentSqrtN")
@RegisterGradient("SparseSegmentSqrtNWithNumSegments")
def _sparse_segment_sqrt_n_grad(op: Operation, grad: Tensor) -> Grads:
    return _scaled_segment_grad("SparseSegmentSqrtNGrad", op, grad)


@RegisterGradient("SparseSegmentSum")
@RegisterGradient("SparseSegmentSumWithNumSegments")
def _sparse_segment_sum_grad(op: Operation, grad: Tensor) -> Grads:
    data, indices, ids = op.inputs[:3]
    rows = apply_op("StridedSlice", input=static_shape(data), begin=[0], end=[1], strides=[1], shrink_axis_mask=1)
    back = apply_op("UnsortedSegmentSum", data=_rows(grad, ids), segment_ids=indices, num_segments=rows)
    return [back, *[None] * (len(op.inputs) - 1)]


# --- partitions ---


def dynamic_partition(data: Any, partitions: Any, num_partitions: int, name: str | None = None) -> list[Tensor]:
    """The slices of `data` dealt out to `num_partitions` tensors."""
    return apply_op("DynamicPartition", data=data, partitions=partitions, num_partitions=num_partitions, name=name)


@RegisterGradient("DynamicPartition")
def _dynamic_partition_grad(op: Operation, *grads: Tensor) -> Grads:
    data, partitions = op.inputs
    prefix = static_shape(partitions)
    count = apply_op("Prod", input=prefix, reduction_indices=[0])
    original = apply_op("Reshape", tensor=apply_op("Range", start=0, limit=count, delta=1), shape=prefix)
    places = apply_op(
        "DynamicPartition", data=original, partitions=partitions, num_partitions=op.attrs["num_partitions"]
    )
    joined = apply_op("DynamicStitch", indices=places, data=list(grads))
    return [apply_op("Reshape", tensor=joined, shape=static_shape(data)), None]


def dynamic_stitch(indices: Sequence[Any], data: Sequence[Any], name: str | None = None) -> Tensor:
    """The slices of several tensors at their places in one; the last wins."""
    return apply_op("DynamicStitch", indices=list(indices), data=list(data), name=name)


@RegisterGradient("DynamicStitch")
@RegisterGradient("ParallelDynamicStitch")
def _dynamic_stitch_grad(op: Operation, grad: Tensor) -> Grads:
    count = op.attrs["N"]
    return [*[None] * count, *[_rows(grad, each) for each in op.inputs[:count]]]


# --- sorting and uniqueness ---


def top_k(
    input: Any, k: Any = 1, sorted: bool = True, index_type: Any = dtypes.int32, name: str | None = None
) -> TopKV2:
    """The k largest elements along the last dimension and where they are; the first of equals."""
    return TopKV2(*apply_op("TopKV2", input=input, k=k, sorted=sorted, name=name))


@RegisterGradient("TopK")
@RegisterGradient("TopKV2")
def _top_k_grad(op: Operation, grad: Tensor, _: Any) -> Any:
    x, indices = op.inputs[0], op.outputs[1]
    extent = apply_op("StridedSlice", input=shape_of(x), begin=[-1], end=[0], strides=[1], shrink_axis_mask=1)
    last = apply_op("StridedSlice", input=static_shape(indices), begin=[-1], end=[0], strides=[1], shrink_axis_mask=1)
    table = apply_op("Reshape", tensor=indices, shape=apply_op("Pack", values=[constant(-1), last]))
    rows = apply_op(
        "StridedSlice", input=apply_op("Shape", input=table), begin=[0], end=[1], strides=[1], shrink_axis_mask=1
    )
    starts = apply_op("Mul", x=apply_op("Range", start=0, limit=rows, delta=1), y=extent)
    flat = apply_op("AddV2", x=table, y=apply_op("ExpandDims", input=starts, dim=-1))
    line = apply_op("Reshape", tensor=flat, shape=[-1])
    values = apply_op("Reshape", tensor=grad, shape=[-1])
    total = apply_op("Prod", input=static_shape(x), reduction_indices=[0])
    sums = apply_op("UnsortedSegmentSum", data=values, segment_ids=line, num_segments=total)
    dx = apply_op("Reshape", tensor=sums, shape=static_shape(x))
    return [dx] if len(op.inputs) == 1 else [dx, None]


def in_top_k(predictions: Any, targets: Any, k: Any, name: str | None = None) -> Tensor:
    """Whether each target class is among the k likeliest."""
    with name_scope(name, "in_top_k"):
        return apply_op("InTopKV2", predictions=predictions, targets=targets, k=k)


def _order(values: Tensor, axis: int, descending: bool) -> Tensor:
    """The sorting permutation along the last dimension; stable."""
    size = apply_op("StridedSlice", input=shape_of(values), begin=[-1], end=[0], strides=[1], shrink_axis_mask=1)
    return apply_op("TopKV2", input=values if descending else _reversed(values), k=size)[1]


def _reversed(x: Tensor) -> Tensor:
    """Values in the opposite order, none of which overflows; done twice, the same again."""
    dtype = x.dtype.base_dtype
    if not dtype.is_integer:
        return apply_op("Neg", x=x)
    return apply_op("Sub", x=constant(dtype.max if dtype.is_unsigned else -1, dtype=dtype), y=x)


def _along_last(values: Any, axis: int, direction: str) -> tuple[Tensor, list[int] | None]:
    if direction not in ("ASCENDING", "DESCENDING"):
        raise ValueError(
            f"Argument `direction` should be one of 'ASCENDING' or 'DESCENDING'. Received: direction={direction}"
        )
    x = convert_to_tensor(values)
    if axis == -1 or (x.dims is not None and axis == len(x.dims) - 1):
        return x, None
    if x.dims is None:
        raise ValueError("sorting along an axis other than the last needs a static rank")
    if not -len(x.dims) <= axis < len(x.dims):
        raise ValueError(f"axis {axis} is out of bounds for a tensor of rank {len(x.dims)}")
    order = list(range(len(x.dims)))
    order[axis], order[-1] = order[-1], order[axis]
    return apply_op("Transpose", x=x, perm=order), order


def argsort(
    values: Any, axis: int = -1, direction: str = "ASCENDING", stable: bool = False, name: str | None = None
) -> Tensor:
    """The indices that sort along `axis`; equal elements keep their order."""
    with name_scope(name, "argsort"):
        x, order = _along_last(values, axis, direction)
        result = _order(x, axis, direction == "DESCENDING")
        return result if order is None else apply_op("Transpose", x=result, perm=order)


def sort(values: Any, axis: int = -1, direction: str = "ASCENDING", name: str | None = None) -> Tensor:
    """The elements sorted along `axis`."""
    with name_scope(name, "sort"):
        x, order = _along_last(values, axis, direction)
        size = apply_op("StridedSlice", input=shape_of(x), begin=[-1], end=[0], strides=[1], shrink_axis_mask=1)
        if direction == "DESCENDING":
            result = apply_op("TopKV2", input=x, k=size)[0]
        else:
            result = _reversed(apply_op("TopKV2", input=_reversed(x), k=size)[0])
        return result if order is None else apply_op("Transpose", x=result, perm=order)


def unique(x: Any, out_idx: Any = dtypes.int32, name: str | None = None) -> Unique:
    """The elements of a vector, each once, and for every element where it stands among them."""
    return Unique(*apply_op("Unique", x=x, out_idx=out_idx, name=name))


def unique_with_counts(x: Any, out_idx: Any = dtypes.int32, name: str | None = None) -> UniqueWithCounts:
    """As `unique`, and how often each occurs."""
    return UniqueWithCounts(*apply_op("UniqueWithCounts", x=x, out_idx=out_idx, name=name))


def setdiff1d(x: Any, y: Any, index_dtype: Any = dtypes.int32, name: str | None = None) -> ListDiff:
    """The elements of x that aren't in y, and where they stand in x."""
    return ListDiff(*apply_op("ListDiff", x=x, y=y, out_idx=index_dtype, name=name))


for _kind in ("InTopK", "InTopKV2"):
    NotDifferentiable(_kind)
