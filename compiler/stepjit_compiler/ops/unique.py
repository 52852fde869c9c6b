"""Ops whose extents follow from values: distinct elements, places, partitions and their stitching."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from stepjit_compiler.dims import Extent
from stepjit_compiler.lowering import Composite, Distinct, Hits, Indexed
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define
from stepjit_compiler.ops.arguments import brief, filled, fresh, integers, ints_input
from stepjit_compiler.ops.gather import at_text
from stepjit_runtime import dtypes

# --- Unique, UniqueWithCounts, UniqueV2, UniqueWithCountsV2 ---


def _first_seen(keys: list[Any]) -> tuple[list[int], np.ndarray, list[int]]:
    """Where each distinct key is first seen, the number of each key, and how often each distinct one is seen."""
    numbers: dict[Any, int] = {}
    first: list[int] = []
    counts: list[int] = []
    which = np.empty(len(keys), np.int64)
    for at, key in enumerate(keys):
        number = numbers.setdefault(key, len(first))
        if number == len(first):
            first.append(at)
            counts.append(0)
        counts[number] += 1
        which[at] = number
    return first, which, counts


def _unique(call: Call, x: np.ndarray, axis: int, with_counts: bool) -> tuple[np.ndarray, ...]:
    rows = np.moveaxis(x, axis, 0)
    # NaN equals nothing, itself included: Python floats made one by one keep that as dictionary keys.
    keys = rows.tolist() if x.ndim == 1 else [tuple(row.ravel().tolist()) for row in rows]
    first, which, counts = _first_seen(keys)
    out = (fresh(np.take(x, first, axis)), which.astype(call.dtypes[1].np))
    return (*out, np.array(counts, call.dtypes[2].np)) if with_counts else out


def _unique_vector(with_counts: bool) -> Callable[..., tuple[np.ndarray, ...]]:
    def reference(call: Call, x: np.ndarray) -> tuple[np.ndarray, ...]:
        if x.ndim != 1:
            call.fail(f"unique expects a 1D vector. Got shape {brief(x.shape)}")
        return _unique(call, x, 0, with_counts)

    return reference


def _unique_axis(with_counts: bool) -> Callable[..., tuple[np.ndarray, ...]]:
    def reference(call: Call, x: np.ndarray, axis: np.ndarray) -> tuple[np.ndarray, ...]:
        axes = integers(axis)
        if len(axes) > 1 or (not axes and x.ndim != 1):
            call.fail("axis does not support input tensors larger than 1 elements")
        at = axes[0] if axes else 0
        if not -x.ndim <= at < x.ndim:
            call.fail(f"axis has to be between {-x.ndim} and {x.ndim}, got {at}")
        return _unique(call, x, at, with_counts)

    return reference


def _unique_shape(x: Inference, outs: int) -> list[ShapeLike]:
    (length,) = x.with_rank(0, 1)
    shapes: list[ShapeLike] = [(None,), (length,), (None,)]
    return shapes[:outs]


def _unique_axis_shape(x: Inference, outs: int) -> list[ShapeLike]:
    shape, axes = x.shape(0), ints_input(x, 1)
    rest: list[ShapeLike] = [(None,), (None,)]
    if shape is None or axes is None or len(axes) > 1:
        return [None if shape is None else (None,) * len(shape), *rest][:outs]
    axis = x.axis(axes[0], len(shape)) if axes else 0
    shapes: list[ShapeLike] = [(*shape[:axis], None, *shape[axis + 1 :]), (shape[axis],), (None,)]
    return shapes[:outs]


def _expand_unique(x: Any, call: Any, values: Any, *axis: Any) -> tuple[Any, ...]:
    index = call.dtypes[1]
    places, first, count = x.op("_Distinct", values, out_idx=index)
    y = x.op("_First", values, first, count)
    if len(call.dtypes) == 2:
        return y, places
    each = x.op("Fill", x.dims(call.inputs[0].dims), x.const(1, index))
    none = x.op("Fill", x.dims(x.type(y).dims), x.const(0, index))
    return y, places, x.op("_IntoSegments", none, places, each, kind=b"Sum")


def _vector_of_integers(call: Any) -> bool:
    axis = call.known(1) if call.count > 1 else np.zeros(0)
    along = axis is not None and axis.size < 2 and all(each in (0, -1) for each in axis.ravel())
    return along and len(call.inputs[0].dims) == 1 and call.inputs[0].dtype.kind in "iu"


for _counts in (False, True):
    _name = "UniqueWithCounts" if _counts else "Unique"
    _outputs = "y: T, idx: out_idx" + (", count: out_idx" if _counts else "")
    define(
        _name, f"x: T -> {_outputs}", "T: type, out_idx: type in index = int32",
        infer=partial(_unique_shape, outs=2 + _counts), reference=_unique_vector(_counts),
        lower=Composite(_expand_unique, when=_vector_of_integers),
    )  # fmt: skip
    define(
        _name + "V2", f"x: T, axis: Taxis -> {_outputs}",
        "T: type, Taxis: type in index = int64, out_idx: type in index = int32",
        infer=partial(_unique_axis_shape, outs=2 + _counts), reference=_unique_axis(_counts),
        lower=Composite(_expand_unique, when=_vector_of_integers),
    )  # fmt: skip

# --- _Distinct: the numbers of values, in the order of their first places; these places; how many there are ---


def _distinct(call: Call, x: np.ndarray) -> tuple[np.ndarray, ...]:
    first, which, _ = _first_seen(x.tolist())
    places = np.zeros(len(x), np.int64)
    places[: len(first)] = first
    return which.astype(call.dtypes[0].np), places, np.array(len(first), np.int64)


define(
    "_Distinct", "x: T -> idx: out_idx, first: int64, count: int64", "T: type, out_idx: type in index = int32",
    infer=lambda x: [x.shape(0), x.shape(0), ()], reference=_distinct, lower=Distinct(),
)  # fmt: skip

# --- _First: the elements at the first `count` of some places ---


def _emit_first(k: Any, call: Any, output: int, index: Any) -> Any:
    return k.load(0, (k.index(k.load(1, index)),))


define(
    "_First", "x: T, places: int64, count: int64 -> y: T", "T: type", infer=lambda x: [(None,)],
    reference=lambda call, x, places, count: x[places[:count]], lower=Indexed(_emit_first, born=2),
)  # fmt: skip

# --- Where ---


def _where_shape(x: Inference) -> list[ShapeLike]:
    return [(None, x.rank(0))]


def _where(call: Call, x: np.ndarray) -> np.ndarray:
    if not 1 <= x.ndim <= _WHERE_RANK:
        call.fail(f"WhereOp : Unhandled input dimensions: {x.ndim}")
    return np.argwhere(x != 0).astype(np.int64).reshape(-1, x.ndim)


def _expand_where(x: Any, call: Any, value: Any) -> Any:
    type_ = call.inputs[0]
    if type_.dtype is not dtypes.bool_:
        value = x.op("NotEqual", value, x.const(0, type_.dtype))
    places, count = x.op("_Hits", x.op("Reshape", value, x.const([-1], dtypes.int32)))
    return x.op("_Coordinates", places, x.dims(type_.dims), count)


_WHERE_RANK = 8
define("Where", "input: T -> index: int64", "T: type in number|bool = bool", infer=_where_shape, reference=_where,
       lower=Composite(_expand_where, when=lambda call: 1 <= len(call.inputs[0].dims) <= _WHERE_RANK))  # fmt: skip

# --- _Hits: the numbers of the elements that hold, and how many there are ---


def _hits(call: Call, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = np.flatnonzero(x)
    places = np.zeros(x.size, np.int64)
    places[: found.size] = found
    return places, np.array(found.size, np.int64)


define("_Hits", "x: bool -> places: int64, count: int64", infer=lambda x: [x.shape(0), ()], reference=_hits,
       lower=Hits())  # fmt: skip

# --- _Coordinates: the first `count` of some places in a tensor of shape `dims`, as indices ---


def _emit_coordinate(k: Any, call: Any, output: int, index: Any) -> Any:
    row, axis = index
    rest, which = k.load(0, (row,)), k.value(axis)
    digits = []
    for extent in reversed(call.known(1).ravel()[1:]):
        parts = k.same_lanes(rest, k.extent(extent))
        digits.append(k.b.rem(*parts))
        rest = k.b.div(*parts)
    found = rest
    for at, digit in enumerate(reversed(digits), 1):
        found = k.select(k.b.compare("eq", which, k.b.like(at, which)), digit, found)
    return found


define(
    "_Coordinates", "places: int64, dims: int32, count: int64 -> index: int64",
    infer=lambda x: [(None, (x.shape(1) or (None,))[0])], lower=Indexed(_emit_coordinate, born=2),
    reference=lambda call, places, dims, count: np.stack(np.unravel_index(places[:count], dims), 1),
)  # fmt: skip

# --- ListDiff ---


def _list_diff_shape(x: Inference) -> list[ShapeLike]:
    for i in range(2):
        x.with_rank(i, 1)
    return [(None,), (None,)]


def _list_diff(call: Call, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    for name, each in (("x", x), ("y", y)):
        if each.ndim != 1:
            call.fail(f"{name} should be a 1D vector.")
    gone = set(y.tolist())
    kept = [at for at, each in enumerate(x.tolist()) if each not in gone]
    return x[kept], np.array(kept, call.dtypes[1].np)


define(
    "ListDiff", "x: T, y: T -> out: T, idx: out_idx", "T: type, out_idx: type in index = int32",
    infer=_list_diff_shape, reference=_list_diff,
)  # fmt: skip

# --- DynamicPartition ---


def _dynamic_partition_shape(x: Inference) -> list[ShapeLike]:
    data, parts, count = x.shape(0), x.shape(1), x.attrs["num_partitions"]
    if data is None or parts is None:
        return [None] * count
    message = (
        f"data.shape must start with partitions.shape, got data.shape = {brief(data)}, "
        f"partitions.shape = {brief(parts)}"
    )
    if len(parts) > len(data):
        x.fail(message)
    for mine, wanted in zip(parts, data, strict=False):
        x.equal(mine, wanted, message)
    return [(None, *data[len(parts) :])] * count


def _dynamic_partition(call: Call, data: np.ndarray, parts: np.ndarray) -> tuple[np.ndarray, ...]:
    count = call.attrs["num_partitions"]
    if data.shape[: parts.ndim] != parts.shape:
        call.fail(
            f"data.shape must start with partitions.shape, got data.shape = {brief(data.shape)}, "
            f"partitions.shape = {brief(parts.shape)}"
        )
    bad = np.argwhere((parts < 0) | (parts >= count))
    if len(bad):
        place = tuple(bad[0].tolist())
        call.fail(f"partitions{at_text(place)} = {parts[place]} is not in [0, {count})")
    return tuple(data[parts == k].reshape(-1, *data.shape[parts.ndim :]) for k in range(count))


define(
    "DynamicPartition", "data: T, partitions: int32 -> outputs: num_partitions*T", "num_partitions: int, T: type",
    infer=_dynamic_partition_shape, reference=_dynamic_partition,
)  # fmt: skip

# --- DynamicStitch, ParallelDynamicStitch ---


def _dynamic_stitch_shape(x: Inference) -> list[ShapeLike]:
    count = x.count() // 2
    rest: tuple[Extent | None, ...] | None = None
    for k in range(count):
        indices, data = x.shape(k), x.shape(count + k)
        if indices is None or data is None:
            continue
        message = f"data[{k}].shape = {brief(data)} does not start with indices[{k}].shape = {brief(indices)}"
        if len(indices) > len(data):
            x.fail(message)
        for mine, wanted in zip(indices, data, strict=False):
            x.equal(mine, wanted, message)
        tail = data[len(indices) :]
        if rest is not None and len(rest) != len(tail):
            x.fail(f"Need data[0].shape[{k}:] = data[{k}].shape: shapes must be equal rank")
        rest = tail
    known = [ints_input(x, k) for k in range(count)]
    length: int | None = None
    if all(each is not None for each in known):
        length = max((each + 1 for some in known for each in some or ()), default=0)
    return [None if rest is None else (length, *rest)]


def _dynamic_stitch(call: Call, *arrays: np.ndarray) -> np.ndarray:
    count = len(arrays) // 2
    indices, data = arrays[:count], arrays[count:]
    rest = data[0].shape[indices[0].ndim :]
    for k, (where, what) in enumerate(zip(indices, data, strict=True)):
        if what.shape[: where.ndim] != where.shape:
            call.fail(
                f"data[{k}].shape = {brief(what.shape)} does not start with indices[{k}].shape = {brief(where.shape)}"
            )
        if what.shape[where.ndim :] != rest:
            call.fail(
                f"Need data[0].shape[{indices[0].ndim}:] = data[{k}].shape[{where.ndim}:], "
                f"got data[0].shape = {brief(data[0].shape)}, data[{k}].shape = {brief(what.shape)}"
            )
        bad = np.flatnonzero(where < 0)
        if len(bad):
            call.fail(f"indices[{bad[0]}] is out of range")
    length = max((int(where.max()) + 1 for where in indices if where.size), default=0)
    found = filled((length, *rest), data[0].dtype)
    for where, what in zip(indices, data, strict=True):
        if where.size:
            found[np.array(integers(where))] = what.reshape(-1, *rest)
    return found


for _name in ("DynamicStitch", "ParallelDynamicStitch"):
    define(
        _name, "indices: N*int32, data: N*T -> merged: T", "N: int, T: type",
        infer=_dynamic_stitch_shape, reference=_dynamic_stitch, symbolic=_name == "DynamicStitch",
    )  # fmt: skip
