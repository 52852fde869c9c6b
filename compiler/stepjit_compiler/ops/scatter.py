"""Writing rows and elements at places that indices name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepjit_compiler import dims
from stepjit_compiler.lowering import Check, Composite, Indexed
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define
from stepjit_compiler.ops.arguments import at_least, brief, filled, follows, integers, safe_shape, shape_input
from stepjit_compiler.ops.gather import checked_places
from stepjit_compiler.ops.state import differ
from stepjit_runtime import dtypes

# --- TensorScatterUpdate, TensorScatterAdd, TensorScatterSub, TensorScatterMin, TensorScatterMax ---


def _updates_shape(x: Inference, target: ShapeLike, indices_input: int, updates_input: int) -> None:
    """updates: indices.shape[:-1] + target[depth:]."""
    indices, updates = at_least(x, indices_input, 1), x.shape(updates_input)
    if target is None or indices is None or updates is None or not isinstance(indices[-1], int):
        return
    depth, lead = indices[-1], len(indices) - 1
    message = (
        f"Dimensions [0,{lead}) of indices[shape={brief(indices)}] must match dimensions [0,{lead}) of "
        f"updates[shape={brief(updates)}]. Outer dimensions of indices and update must match. "
        f"Indices shape: {brief(indices)}, updates shape:{brief(updates)}"
    )
    if depth > len(target) or len(updates) != lead + len(target) - depth:
        x.fail(
            f"Dimensions [{depth},{len(target)}) of input[shape={brief(target)}] must match dimensions "
            f"[{lead},{len(updates)}) of updates[shape={brief(updates)}]"
        )
    of_indices = f"[0,{lead}) of indices[shape={brief(indices)}]"
    of_input = f"[{depth},{len(target)}) of input[shape={brief(target)}]"
    for first, last, part, a, b in (
        (0, lead, of_indices, indices[:-1], updates[:lead]),
        (lead, len(updates), of_input, target[depth:], updates[lead:]),
    ):
        for axis, (wanted, mine) in enumerate(zip(a, b, strict=True)):
            text = message
            if x.building:
                there = f"[{first},{last}) of updates[shape={brief(updates)}] = {brief(b)}"
                text = f"Dimensions {part} = {brief(a)} must match dimensions {there}: {differ(axis, a, b)}"
            x.equal(mine, wanted, text)


def tensor_scatter_shape(x: Inference) -> list[ShapeLike]:
    """The shape of input 0, which updates (2) at places (1) leave as it is; fails where the updates do not fit."""
    _updates_shape(x, x.shape(0), 1, 2)
    return [x.shape(0)]


def _check_updates(call: Call, shape: Sequence[int], indices: np.ndarray, updates: np.ndarray) -> None:
    if indices.ndim < 1:
        call.fail(f"Indices shape must have rank at least one. Found:{brief(indices.shape)}")
    depth, lead = indices.shape[-1], indices.ndim - 1
    if indices.shape[:-1] != updates.shape[:lead]:
        call.fail(
            f"Dimensions [0,{lead}) of indices[shape={brief(indices.shape)}] must match dimensions [0,{lead}) of "
            f"updates[shape={brief(updates.shape)}]"
        )
    if depth > len(shape) or tuple(shape[depth:]) != updates.shape[lead:]:
        call.fail(
            f"Dimensions [{depth},{len(shape)}) of input[shape={brief(shape)}] must match dimensions "
            f"[{lead},{updates.ndim}) of updates[shape={brief(updates.shape)}]"
        )


def scattered(
    call: Call, into: np.ndarray, indices: np.ndarray, updates: np.ndarray, change: Callable[..., Any] | None
) -> np.ndarray:
    """`into` changed in place, update after update: by the ufunc `change`, or set where that is None."""
    _check_updates(call, into.shape, indices, updates)
    places = checked_places(
        call, indices, into.shape, lambda text: f"{text} does not index into shape {brief(into.shape)}"
    )
    if not indices.size and indices.shape[-1]:
        return into
    if indices.shape[-1] == 0:
        # An empty index names the whole tensor, once per update.
        for update in updates.reshape(-1, *into.shape):
            into[...] = update if change is None else change(into, update)
    elif change is None:
        into[places] = updates
    elif into.dtype == object:
        for at, update in zip(zip(*(p.ravel() for p in places), strict=True), updates.ravel(), strict=True):
            into[at] = into[at] + update
    else:
        with np.errstate(all="ignore"):
            change.at(into, places, updates)  # type: ignore[attr-defined]
    return into


def _depth_known(call: Any, indices: int = 1) -> bool:
    """Whether each place is so many numbers, one at least; that the updates fit, the shape rule has seen to."""
    extents = call.inputs[indices].dims
    return bool(extents) and isinstance(extents[-1], int) and extents[-1] > 0


def _expand_scatter(kind: bytes) -> Callable[..., Any]:
    """Rows of the tensor with the indexed axes made one, changed at the numbers that the places have on that axis."""

    def expand(x: Any, call: Any, tensor: Any, indices: Any, updates: Any) -> Any:
        shape, depth = call.inputs[0].dims, call.inputs[1].dims[-1]
        columns = x.op("Unpack", indices, num=depth, axis=-1)
        whole = x.dims(shape, dtypes.int64)
        places = x.op("_FlatPlaces", whole, *(columns if depth > 1 else (columns,)))
        flat = x.op("Reshape", tensor, x.dims((dims.product(shape[:depth]), *shape[depth:]), dtypes.int64))
        return x.op("Reshape", x.op("_ScatterFlat", flat, places, updates, kind=kind), whole)

    return expand


_CHANGES: dict[str, Any] = {
    "Update": None, "Add": np.add, "Sub": np.subtract, "Min": np.minimum, "Max": np.maximum,
}  # fmt: skip


def _tensor_scatter(change: Any) -> Callable[..., np.ndarray]:
    def reference(call: Call, tensor: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> np.ndarray:
        return scattered(call, np.array(tensor), indices, updates, change)

    return reference


for _name, _change in _CHANGES.items():
    _indices = "int16|int32|int64|uint16" if _name == "Update" else "index"
    define(
        f"TensorScatter{_name}", "tensor: T, indices: Tindices, updates: T -> output: T",
        f"T: type, Tindices: type in {_indices}, bad_indices_policy: string = ''",
        infer=tensor_scatter_shape, reference=_tensor_scatter(_change),
        lower=Composite(_expand_scatter(_name.lower().encode()), when=_depth_known),
    )  # fmt: skip

# --- ScatterNdNonAliasingAdd ---
define(
    "ScatterNdNonAliasingAdd", "input: T, indices: Tindices, updates: T -> output: T",
    "T: type in number|bool, Tindices: type in index, bad_indices_policy: string = ''",
    infer=tensor_scatter_shape, reference=_tensor_scatter(np.add),
    lower=Composite(_expand_scatter(b"add"), when=_depth_known),
)  # fmt: skip

# --- _FlatPlaces: numbers on the first axes made one, of places given by their coordinates there ---


def _flat_places(call: Call, shape: np.ndarray, *columns: np.ndarray) -> np.ndarray:
    extents = integers(shape)
    rows = np.stack(columns, -1)
    checked_places(call, rows, extents, lambda text: f"{text} does not index into shape {brief(extents)}")
    flat = np.zeros(columns[0].shape, np.int64)
    for extent, column in zip(extents, columns, strict=False):
        flat = flat * extent + column
    return flat


def _emit_flat_place(k: Any, call: Any, output: int, index: Any) -> Any:
    extents = call.known(0)
    total = k.zero()
    for number in range(1, call.count):
        total = total * extents[number - 1] + k.index(k.load(number, index))
    return k.value(total)


def _place_checks(call: Any) -> list[Check]:
    shape = tuple(call.known(0))
    others = tuple((number, shape[number - 1]) for number in range(2, call.count))
    message = "indices{place} = [{row}] does not index into shape [{shape}]"
    return [Check(1, shape[0], message, columns=others, shape=shape)]


define(
    "_FlatPlaces", "shape: int64, columns: N*Tindices -> places: int64", "N: int, Tindices: type in int",
    infer=lambda x: [x.shape(1)], reference=_flat_places,
    lower=Indexed(_emit_flat_place, when=follows(0), checks=_place_checks),
)  # fmt: skip

# --- ScatterNd ---


def _scatter_nd_shape(x: Inference) -> list[ShapeLike]:
    shape = shape_input(x, 2)
    _updates_shape(x, shape, 0, 1)
    return [shape]


def _scatter_nd(call: Call, indices: np.ndarray, updates: np.ndarray, shape: np.ndarray) -> np.ndarray:
    extents = safe_shape(call, integers(shape))
    if 0 in extents and indices.size:
        call.fail("Indices and updates specified for empty output")
    return scattered(call, filled(extents, updates.dtype), indices, updates, np.add)


def _expand_scatter_nd(x: Any, call: Any, indices: Any, updates: Any, shape: Any) -> Any:
    dtype = call.dtypes[0]
    zeros = x.op("Fill", shape, x.const(0, dtype))
    return x.op("TensorScatterAdd", zeros, indices, updates)


def _scatters_natively(call: Any) -> bool:
    if call.known(2) is None or not _depth_known(call, 0):
        return False
    # Indices of 16 bits have no tensor_scatter counterpart.
    return call.inputs[0].dtype.itemsize > 2 and call.dtypes[0].kind in "fiu"


define(
    "ScatterNd", "indices: Tindices, updates: T, shape: Tindices -> output: T",
    "T: type, Tindices: type in int16|int32|int64, bad_indices_policy: string = ''",
    infer=_scatter_nd_shape, reference=_scatter_nd, lower=Composite(_expand_scatter_nd, when=_scatters_natively),
)  # fmt: skip
