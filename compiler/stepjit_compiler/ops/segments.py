"""Sums and other reductions over segments that ids name: sorted ids, unsorted ids, and rows picked by indices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stepjit_compiler.dims import Extent
from stepjit_compiler.lowering import Check, Composite, Indexed, Scatter
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, extent_text, unchanged
from stepjit_compiler.ops.arguments import as_dtype, at_least, brief, follows, integer, number_input
from stepjit_compiler.ops.gather import at_text
from stepjit_runtime import dtypes

# --- UnsortedSegmentSum, UnsortedSegmentProd, UnsortedSegmentMax, UnsortedSegmentMin ---


def _unsorted_shape(x: Inference) -> list[ShapeLike]:
    data, ids, count = x.shape(0), x.shape(1), number_input(x, 2)
    x.with_rank(2, 0)
    if isinstance(count, int) and count < 0:
        x.fail(f"Input num_segments == {count} must not be negative.")
    if data is None or ids is None:
        return [None]
    message = f"data.shape = {brief(data)} does not start with segment_ids.shape = {brief(ids)}"
    if len(ids) > len(data):
        x.fail(message)
    for mine, wanted in zip(ids, data, strict=False):
        pair = f"{extent_text(wanted)} and {extent_text(mine)}"
        x.equal(mine, wanted, f"Dimensions must be equal, but are {pair}" if x.building else message)
    return [(count, *data[len(ids) :])]


def _lowest(dtype: np.dtype[Any]) -> Any:
    return dtypes.as_dtype(dtype).min


def _highest(dtype: np.dtype[Any]) -> Any:
    return dtypes.as_dtype(dtype).max


def _unsorted(change: Any, start: Callable[[np.dtype[Any]], Any]) -> Callable[..., np.ndarray]:
    def reference(call: Call, data: np.ndarray, ids: np.ndarray, num_segments: np.ndarray) -> np.ndarray:
        count = integer(num_segments)
        if count < 0:
            call.fail(f"Input num_segments == {count} must not be negative.")
        if data.shape[: ids.ndim] != ids.shape:
            call.fail(
                f"data.shape = {brief(data.shape)} does not start with segment_ids.shape = {brief(ids.shape)}"
            )
        bad = np.argwhere(ids >= count)
        if len(bad):
            place = tuple(bad[0].tolist())
            call.fail(f"segment_ids{at_text(place)} = {ids[place]} is out of range [0, {count})")
        rest = data.shape[ids.ndim :]
        found = np.full((count, *rest), start(data.dtype), data.dtype)
        kept = ids >= 0  # rows of negative ids are dropped
        with np.errstate(all="ignore"):
            change.at(found, ids[kept].astype(np.int64), data[kept])
        return found

    return reference


def _expand_unsorted(kind: bytes, start: Callable[[np.dtype[Any]], Any]) -> Callable[..., Any]:
    """Rows joined to those of their segments; those of negative ids to one past the end, which is left out."""

    def expand(x: Any, call: Any, data: Any, ids: Any, num_segments: Any) -> Any:
        dtype, out = call.dtypes[0], call.types[0].dims
        first = x.const(start(dtype.np), dtype)
        if _numbers_of(x, ids, out[0]):
            return x.op("_IntoSegments", x.op("Fill", x.dims(out), first), ids, data, kind=kind)
        places = x.op("_SegmentPlaces", ids, x.dims(out[0], dtypes.int64))
        wide: tuple[Extent, ...] = (out[0] + 1, *out[1:])
        total = x.op("_IntoSegments", x.op("Fill", x.dims(wide), first), places, data, kind=kind)
        return x.op("Slice", total, x.const([0] * len(out), dtypes.int32), x.dims(out))

    return expand


def _numbers_of(x: Any, ids: Any, count: Extent) -> bool:
    """Whether the ids are the numbers that `_Distinct` has given, and `count` is how many there are."""
    first, source = x.born_by(count), x.nodes[ids.node]
    return source.op == "_Distinct" and first is not None and first.op == "_First" and first.inputs[2].node == ids.node


def _joins_natively(call: Any) -> bool:
    return call.known(2) is not None and bool(call.inputs[1].dims) and call.dtypes[0].kind in "fiu"


# --- _SegmentPlaces: segment ids, with the number of segments in place of those below 0 ---


def _segment_places(call: Call, ids: np.ndarray, count: np.ndarray) -> np.ndarray:
    bad = np.argwhere(ids >= count)
    if len(bad):
        place = tuple(bad[0].tolist())
        call.fail(_BAD_SEGMENT.format(place=at_text(place), value=ids[place], bound=count))
    return np.where(ids < 0, count, ids.astype(np.int64))


def _emit_segment_place(k: Any, call: Any, output: int, index: Any) -> Any:
    value = as_dtype(k, k.load(0, index), dtypes.int64)
    return k.select(k.b.compare("lt", value, k.b.like(0, value)), k.extent(call.known(1)[()]), value)


_BAD_SEGMENT = "segment_ids{place} = {value} is out of range [0, {bound})"
define(
    "_SegmentPlaces", "ids: Tindices, count: int64 -> places: int64", "Tindices: type in int16|int32|int64",
    infer=lambda x: [x.shape(0)], reference=_segment_places,
    lower=Indexed(
        _emit_segment_place, when=follows(1),
        checks=lambda call: [Check(0, call.known(1)[()], _BAD_SEGMENT, negatives=True)],
    ),
)  # fmt: skip

# --- _IntoSegments {kind}: rows joined to those of their segments, by ids that were checked where they were made ---

_JOIN: dict[bytes, tuple[Any, Callable[..., Any]]] = {
    b"Sum": (np.add, lambda b, old, new: b.add(old, new)), b"Prod": (np.multiply, lambda b, old, new: b.mul(old, new)),
    b"Max": (np.maximum, lambda b, old, new: b.maximum(old, new)),
    b"Min": (np.minimum, lambda b, old, new: b.minimum(old, new)),
}  # fmt: skip


def _into_segments(call: Call, start: np.ndarray, ids: np.ndarray, data: np.ndarray) -> np.ndarray:
    found = np.array(start)
    with np.errstate(all="ignore"):
        _JOIN[call.attrs["kind"]][0].at(found, ids.astype(np.int64), data)
    return found


define(
    "_IntoSegments", "start: T, segment_ids: Tindices, data: T -> output: T",
    "T: type, Tindices: type in index, kind: string", infer=unchanged, reference=_into_segments,
    lower=Scatter(lambda b, call, old, new: _JOIN[call.attrs["kind"]][1](b, old, new), message=""),
)  # fmt: skip

_REAL = "T: type in real"
_NUMBER = "T: type in number"

for _name, _change, _start, _types in (
    ("Sum", np.add, lambda dtype: 0, _NUMBER), ("Prod", np.multiply, lambda dtype: 1, _NUMBER),
    ("Max", np.maximum, _lowest, _REAL), ("Min", np.minimum, _highest, _REAL),
):  # fmt: skip
    _ids = "int16|int32|int64" if _name == "Sum" else "index"
    define(
        f"UnsortedSegment{_name}", "data: T, segment_ids: Tindices, num_segments: Tnumsegments -> output: T",
        f"{_types}, Tindices: type in {_ids}, Tnumsegments: type in index = int32",
        infer=_unsorted_shape, reference=_unsorted(_change, _start),
        lower=Composite(_expand_unsorted(_name.encode(), _start), when=_joins_natively),
    )  # fmt: skip

# --- SegmentSum, SegmentMean, SegmentProd, SegmentMax, SegmentMin ---


def _sorted_shape(x: Inference) -> list[ShapeLike]:
    data, (length,) = at_least(x, 0, 1), x.with_rank(1, 1)
    if data is None:
        return [None]
    x.equal(data[0], length, "segment_ids should be the same size as dimension 0 of input.")
    return [(None, *data[1:])]


def _sorted_counts(call: Call, ids: np.ndarray) -> int:
    """The number of segments; fails unless the ids are sorted and not negative."""
    if not ids.size:
        return 0
    count = int(ids[-1]) + 1
    if ids.size > 1 and (np.diff(ids.astype(np.int64)) < 0).any() and ids[0] >= 0:
        call.fail("segment ids are not increasing")
    if ids[0] < 0 or count <= 0:
        call.fail(
            f"Segment id {ids[0]} out of range [0, {count}), possibly because 'segment_ids' input is not sorted."
        )
    return count


def _sorted(change: Any, start: Callable[[np.dtype[Any]], Any], empty: int, mean: bool) -> Callable[..., np.ndarray]:
    def reference(call: Call, data: np.ndarray, ids: np.ndarray) -> np.ndarray:
        if ids.ndim != 1:
            call.fail("segment_ids should be a vector.")
        if data.ndim < 1 or data.shape[0] != ids.size:
            call.fail("segment_ids should be the same size as dimension 0 of input.")
        count = _sorted_counts(call, ids)
        found = np.full((count, *data.shape[1:]), start(data.dtype), data.dtype)
        rows = np.bincount(ids, minlength=count)[:count] if ids.size else np.zeros(0, np.int64)
        with np.errstate(all="ignore"):
            change.at(found, ids.astype(np.int64), data)
            if mean:
                found = _divided(found, rows)
        found[rows == 0] = empty
        return found

    return reference


def _divided(total: np.ndarray, rows: np.ndarray) -> np.ndarray:
    by = np.maximum(rows, 1).reshape([-1] + [1] * (total.ndim - 1))
    if total.dtype.kind in "iu":
        cut = np.abs(total) // by.astype(total.dtype)  # towards zero, as C divides
        return np.where(total < 0, -cut, cut).astype(total.dtype)
    return (total / by.astype(total.dtype)).astype(total.dtype)


for _name, _change, _start, _empty, _types in (
    ("Sum", np.add, lambda dtype: 0, 0, _NUMBER), ("Mean", np.add, lambda dtype: 0, 0, _NUMBER),
    ("Prod", np.multiply, lambda dtype: 1, 1, _NUMBER), ("Max", np.maximum, _lowest, 0, _REAL),
    ("Min", np.minimum, _highest, 0, _REAL),
):  # fmt: skip
    define(
        f"Segment{_name}", "data: T, segment_ids: Tindices -> output: T", f"{_types}, Tindices: type in index",
        infer=_sorted_shape, reference=_sorted(_change, _start, _empty, _name == "Mean"),
    )  # fmt: skip

# --- SparseSegmentSum, SparseSegmentMean, SparseSegmentSqrtN, and each with num_segments ---


def _sparse_shape(x: Inference) -> list[ShapeLike]:
    data, (indices,), (ids,) = at_least(x, 0, 1), x.with_rank(1, 1), x.with_rank(2, 1)
    x.equal(indices, ids, "segment_ids and indices should have same size.")
    count = number_input(x, 3) if x.count() > 3 else None
    return [None if data is None else (count, *data[1:])]


def _sparse_rows(call: Call, indices: np.ndarray, ids: np.ndarray, extent: int) -> None:
    if indices.shape != ids.shape or ids.ndim != 1:
        call.fail("segment_ids and indices should have same size.")
    if ids.size > 1 and (np.diff(ids.astype(np.int64)) < 0).any():
        call.fail("segment ids are not increasing")
    if ids.size and ids[0] < 0:
        call.fail("segment ids must be >= 0")
    bad = np.flatnonzero((indices < 0) | (indices >= extent))
    if len(bad):
        call.fail(f"Bad: indices[{bad[0]}] == {indices[bad[0]]} out of range [0, {extent})")


def _scale(kind: str, rows: np.ndarray, dtype: np.dtype[Any], rank: int) -> np.ndarray:
    """What a segment's sum is divided by."""
    by = np.maximum(rows, 1).astype(np.float64)
    by = {"Sum": np.ones_like(by), "Mean": by, "SqrtN": np.sqrt(by)}[kind]
    return by.astype(dtype).reshape([-1] + [1] * (rank - 1))


def _sparse(kind: str) -> Callable[..., np.ndarray]:
    def reference(
        call: Call, data: np.ndarray, indices: np.ndarray, ids: np.ndarray, num_segments: np.ndarray | None = None
    ) -> np.ndarray:
        _sparse_rows(call, indices, ids, data.shape[0])
        count = int(ids[-1]) + 1 if ids.size else 0
        if num_segments is not None:
            if count > integer(num_segments):
                call.fail("segment ids must be < num_segments")
            count = integer(num_segments)
        found = np.zeros((count, *data.shape[1:]), data.dtype)
        with np.errstate(all="ignore"):
            np.add.at(found, ids.astype(np.int64), data[indices.astype(np.int64)])
            if kind != "Sum":
                rows = np.bincount(ids, minlength=count) if ids.size else np.zeros(count, np.int64)
                found = (found / _scale(kind, rows, data.dtype, data.ndim)).astype(data.dtype)
        return found

    return reference


_SPARSE_IDS = "Tidx: type in index = int32, {}Tsegmentids: type in index = int32"

for _name in ("Sum", "Mean", "SqrtN"):
    _types = "T: type in real" if _name == "Sum" else "T: type in float"
    define(
        f"SparseSegment{_name}", "data: T, indices: Tidx, segment_ids: Tsegmentids -> output: T",
        f"{_types}, {_SPARSE_IDS.format('')}, sparse_gradient: bool = False",
        infer=_sparse_shape, reference=_sparse(_name),
    )  # fmt: skip
    _number = _SPARSE_IDS.format("Tnumsegments: type in index = int32, ")
    define(
        f"SparseSegment{_name}WithNumSegments",
        "data: T, indices: Tidx, segment_ids: Tsegmentids, num_segments: Tnumsegments -> output: T",
        f"{_types}, {_number}, sparse_gradient: bool = False", infer=_sparse_shape, reference=_sparse(_name),
    )  # fmt: skip

# --- SparseSegmentMeanGrad, SparseSegmentSqrtNGrad ---


def _sparse_grad_shape(x: Inference) -> list[ShapeLike]:
    grad, count = at_least(x, 0, 1), number_input(x, 3)
    return [None if grad is None else (count, *grad[1:])]


def _sparse_grad(kind: str) -> Callable[..., np.ndarray]:
    def reference(
        call: Call, grad: np.ndarray, indices: np.ndarray, ids: np.ndarray, output_dim0: np.ndarray
    ) -> np.ndarray:
        extent = integer(output_dim0)
        _sparse_rows(call, indices, ids, extent)
        if ids.size and int(ids[-1]) >= grad.shape[0]:
            call.fail("segment ids must be < num_segments")
        rows = np.bincount(ids, minlength=grad.shape[0]) if ids.size else np.zeros(grad.shape[0], np.int64)
        scaled = (grad / _scale(kind, rows, grad.dtype, grad.ndim)).astype(grad.dtype)
        found = np.zeros((extent, *grad.shape[1:]), grad.dtype)
        np.add.at(found, indices.astype(np.int64), scaled[ids.astype(np.int64)])
        return found

    return reference


for _name in ("Mean", "SqrtN"):
    define(
        f"SparseSegment{_name}Grad",
        "grad: T, indices: Tidx, segment_ids: Tsegmentids, output_dim0: int32 -> output: T",
        f"T: type in float, {_SPARSE_IDS.format('')}", infer=_sparse_grad_shape, reference=_sparse_grad(_name),
    )  # fmt: skip
