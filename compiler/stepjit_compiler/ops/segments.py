"""Sums and other reductions over segments that ids name: sorted ids, unsorted ids, and rows picked by indices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stepjit_compiler.dims import Extent
from stepjit_compiler.lowering import Composite, Scatter
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, unchanged
from stepjit_compiler.ops.arguments import at_least, brief, integer, number_input
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
        x.equal(mine, wanted, message)
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


def _expand_unsorted_sum(x: Any, call: Any, data: Any, ids: Any, num_segments: Any) -> Any:
    """Rows of negative ids go to a row past the end, and ids past the end past that, where the check finds them."""
    dtype, index, out = call.dtypes[0], call.inputs[1].dtype, call.types[0].dims
    count = x.dims(out[0], index)
    wide: tuple[Extent, ...] = (out[0] + 1, *out[1:])
    beyond = x.op("AddV2", ids, x.op("Cast", x.op("GreaterEqual", ids, count), DstT=index))
    places = x.op("SelectV2", x.op("Less", ids, x.const(0, index)), count, beyond)
    zeros = x.op("Fill", x.dims(wide), x.const(0, dtype))
    total = x.op("_AddToSegments", zeros, places, data)
    return x.op("Slice", total, x.const([0] * len(out), dtypes.int32), x.dims(out))


def _sums_natively(call: Any) -> bool:
    ids = call.inputs[1]
    return call.known(2) is not None and bool(ids.dims) and ids.dtype.itemsize > 2 and call.dtypes[0].kind in "fiu"


def _add_to_segments(call: Call, total: np.ndarray, ids: np.ndarray, data: np.ndarray) -> np.ndarray:
    found = np.array(total)
    if (ids >= len(found)).any():
        call.fail("segment_ids are out of range")
    with np.errstate(all="ignore"):
        np.add.at(found, ids.astype(np.int64), data)
    return found


define(
    "_AddToSegments", "total: T, segment_ids: Tindices, data: T -> output: T", "T: type, Tindices: type in index",
    infer=unchanged, reference=_add_to_segments,
    lower=Scatter(
        lambda b, call, old, new: b.add(old, new), message="segment_ids[{at}] = {value} is out of range [0, {bound})"
    ),
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
        lower=Composite(_expand_unsorted_sum, when=_sums_natively) if _name == "Sum" else None,
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
