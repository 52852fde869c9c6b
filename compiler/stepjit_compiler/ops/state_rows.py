"""Rows of variables changed in place, or gathered; indices are checked before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stepjit_compiler.lowering import Check, Indexed, Scatter, Update
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, show
from stepjit_compiler.ops.arguments import at_least
from stepjit_compiler.ops.scatter import tensor_scatter_shape
from stepjit_compiler.ops.state import differ


# --- _ScatterRows {kind}: data with `data[indices[i]] = kind(data[indices[i]], updates[i])` for each i in order ---
def _rows_shape(x: Inference) -> list[ShapeLike]:
    check_rows(x, x.shape(0), x.shape(1), x.shape(2))
    return [x.shape(0)]


def check_rows(x: Inference, data: ShapeLike, indices: ShapeLike, updates: ShapeLike) -> None:
    """Fails unless updates have the shape of `indices` followed by that of a row, or are a scalar."""
    if data is None or indices is None or not updates:
        return
    wanted = (*indices, *data[1:])
    text = ("Must have updates.shape = indices.shape + params.shape[1:] or updates.shape = [], got "
            f"updates.shape {show(updates)}, indices.shape {show(indices)}, params.shape {show(data)}")  # fmt: skip
    if len(wanted) != len(updates):
        x.fail(f"Shapes must be equal rank, but are {len(updates)} and {len(wanted)}" if x.building else text)
    for axis, (m, n) in enumerate(zip(updates, wanted)):
        x.equal(m, n, differ(axis, updates, wanted) if x.building else text)


def _divided(old: np.ndarray, update: np.ndarray) -> np.ndarray:
    """Quotients; those of integers are cut towards zero, as C's are."""
    if old.dtype.kind not in "iu":
        return np.asarray(old / update, old.dtype)
    floor = old // update
    below = (old % update != 0) & ((old < 0) != (update < 0))
    return np.asarray(floor + below, old.dtype)


_COMBINE: dict[bytes, Callable[..., Any]] = {
    b"update": lambda old, update: update, b"add": np.add, b"sub": np.subtract, b"mul": np.multiply,
    b"div": _divided, b"min": np.minimum, b"max": np.maximum,
}  # fmt: skip


def _scatter_rows(call: Call, data: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> np.ndarray:
    if not data.ndim:
        call.fail(f"params must be at least 1-D, got shape {show(data.shape)}")
    if updates.ndim and updates.shape != indices.shape + data.shape[1:]:
        call.fail("Must have updates.shape = indices.shape + params.shape[1:] or updates.shape = [], got "
                  f"updates.shape {show(updates.shape)}, indices.shape {show(indices.shape)}, "
                  f"params.shape {show(data.shape)}")  # fmt: skip
    bad = np.argwhere((indices < 0) | (indices >= data.shape[0]))
    if len(bad):
        at = tuple(map(int, bad[0]))
        place = f"[{','.join(map(str, at))}]" if at else ""
        call.fail(f"indices{place} = {indices[at]} is not in [0, {data.shape[0]})")
    kind, out = call.attrs["kind"], data.copy()
    rows = np.broadcast_to(updates, indices.shape + data.shape[1:]).reshape(indices.size, *data.shape[1:])
    if kind == b"div" and data.dtype.kind in "iu" and np.any(updates == 0):
        call.fail("Integer division by zero")
    with np.errstate(all="ignore"):
        for row, index in enumerate(indices.ravel()):
            out[index] = _COMBINE[kind](out[index], rows[row])
    return out


def _emit_row(b: Any, call: Any, old: Any, update: Any) -> Any:
    kind = call.attrs["kind"]
    if kind == b"update":
        return update
    names = {b"add": b.add, b"sub": b.sub, b"mul": b.mul, b"div": b.div, b"min": b.minimum, b"max": b.maximum}
    return names[kind](old, update)


def _never_divides_by_zero(call: Any) -> bool:
    return call.attrs["kind"] != b"div" or bool(call.inputs[0].dtype.is_floating)


define("_ScatterRows", "data: T, indices: Tindices, updates: T -> output: T",
       "T: type, Tindices: type in index, kind: string",
       infer=_rows_shape, reference=_scatter_rows, lower=Scatter(_emit_row, when=_never_divides_by_zero))  # fmt: skip

# --- _ScatterFlat: the same, at indices that were checked where they were made ---
define("_ScatterFlat", "data: T, indices: int64, updates: T -> output: T", "T: type, kind: string",
       infer=_rows_shape, reference=_scatter_rows, lower=Scatter(_emit_row, message=""))  # fmt: skip

# --- _RowsOf: the rows of a variable that the gradient is for; they are read where the gradient is there ---


def _rows_of_shape(x: Inference) -> list[ShapeLike]:
    data = at_least(x, 0, 1)
    return [None if data is None else (*x.with_rank(1, 1), *data[1:])]


def _rows_of(call: Call, data: np.ndarray, indices: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    bad = np.flatnonzero((indices < 0) | (indices >= len(data)))
    if len(bad):
        call.fail(_OFFSET.format(value=indices[bad[0]], at=bad[0]))
    return data[indices]


_OFFSET = "Index {value} at offset {at} in indices is out of range"
define("_RowsOf", "data: T, indices: Tindices, gradient: T -> rows: T", "T: type, Tindices: type in index",
       infer=_rows_of_shape, reference=_rows_of,
       lower=Indexed(lambda k, call, output, index: k.load(0, (k.index(k.load(1, index[:1])), *index[1:])),
                     checks=lambda call: [Check(1, call.inputs[0].dims[0], _OFFSET)]))  # fmt: skip


# --- ScatterUpdate, ScatterAdd, ... and their resource forms ---
def _scattered(kind: bytes) -> Update:
    return Update((0,), lambda x, call, old, indices, updates: (
        x.op("_ScatterRows", old, indices, updates, kind=kind),))  # fmt: skip


def _ref_shape(x: Inference) -> list[ShapeLike]:
    check_rows(x, x.shape(0), x.shape(1), x.shape(2))
    return [x.shape(0)]


def _resource_shape(x: Inference) -> list[ShapeLike]:
    check_rows(x, x.shape(0), x.shape(1), x.shape(2))
    return []


for _name, _types in (
    ("Update", ""), ("Add", " in number"), ("Sub", " in number"), ("Mul", " in number"), ("Div", " in number"),
    ("Min", " in float|int32|int64"), ("Max", " in float|int32|int64"),
):  # fmt: skip
    define(f"Scatter{_name}", "ref: Ref(T), indices: Tindices, updates: T -> output_ref: Ref(T)",
           f"T: type{_types}, Tindices: type in index, use_locking: bool = {_name == 'Update'}",
           infer=_ref_shape, lower=_scattered(_name.lower().encode()))  # fmt: skip
    define(f"ResourceScatter{_name}", "resource: resource, indices: Tindices, updates: dtype ->",
           f"dtype: type{' in number' if _types else ''}, Tindices: type in index",
           infer=_resource_shape, stateful=True, lower=_scattered(_name.lower().encode()))  # fmt: skip


# --- ScatterNdUpdate, ScatterNdAdd, ScatterNdSub, ... and their resource forms ---
def _nd(name: str) -> Update:
    return Update((0,), lambda x, call, old, indices, updates: (
        x.op(f"TensorScatter{name}", old, indices, updates),))  # fmt: skip


def _nd_of_resource(x: Inference) -> list[ShapeLike]:
    tensor_scatter_shape(x)
    return []


_POLICY = 'bad_indices_policy: string = ""'
for _name in ("Update", "Add", "Sub", "Min", "Max"):
    define(f"ScatterNd{_name}", "ref: Ref(T), indices: Tindices, updates: T -> output_ref: Ref(T)",
           f"T: type{'' if _name == 'Update' else ' in number'}, Tindices: type in index, "
           f"use_locking: bool = {_name == 'Update'}, {_POLICY}",
           infer=tensor_scatter_shape, lower=_nd(_name))  # fmt: skip
    define(f"ResourceScatterNd{_name}", "ref: resource, indices: Tindices, updates: T ->",
           f"T: type, Tindices: type in index, use_locking: bool = True, {_POLICY}",
           infer=_nd_of_resource, stateful=True, lower=_nd(_name))  # fmt: skip
