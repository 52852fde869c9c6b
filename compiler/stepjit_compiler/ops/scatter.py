"""Writing rows and elements at places that indices name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepjit_compiler.lowering import Composite, Scatter
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define
from stepjit_compiler.ops.arguments import at_least, brief, filled, integers, safe_shape, shape_input
from stepjit_compiler.ops.gather import checked_places

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
    for mine, wanted in zip(updates, (*indices[:-1], *target[depth:]), strict=True):
        x.equal(mine, wanted, message)


def _tensor_scatter_shape(x: Inference) -> list[ShapeLike]:
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


def _rows(call: Any) -> bool:
    """Whole rows, named by one number each; that the updates fit, the shape rule has seen to."""
    return bool(call.inputs[1].dims) and call.inputs[1].dims[-1] == 1


_MESSAGE = "indices[{at}] = [{value}] does not index into shape [{bound}"

_CHANGES: dict[str, tuple[Any, Callable[..., Any]]] = {
    "Update": (None, lambda b, call, old, new: new),
    "Add": (np.add, lambda b, call, old, new: b.add(old, new)),
    "Sub": (np.subtract, lambda b, call, old, new: b.sub(old, new)),
    "Min": (np.minimum, lambda b, call, old, new: b.minimum(old, new)),
    "Max": (np.maximum, lambda b, call, old, new: b.maximum(old, new)),
}


def _tensor_scatter(change: Any) -> Callable[..., np.ndarray]:
    def reference(call: Call, tensor: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> np.ndarray:
        return scattered(call, np.array(tensor), indices, updates, change)

    return reference


for _name, (_change, _emit) in _CHANGES.items():
    _indices = "int16|int32|int64|uint16" if _name == "Update" else "index"
    define(
        f"TensorScatter{_name}", "tensor: T, indices: Tindices, updates: T -> output: T",
        f"T: type, Tindices: type in {_indices}, bad_indices_policy: string = ''",
        infer=_tensor_scatter_shape, reference=_tensor_scatter(_change),
        lower=Scatter(_emit, when=_rows, message=_MESSAGE),
    )  # fmt: skip

# --- ScatterNdNonAliasingAdd ---
define(
    "ScatterNdNonAliasingAdd", "input: T, indices: Tindices, updates: T -> output: T",
    "T: type in number|bool, Tindices: type in index, bad_indices_policy: string = ''",
    infer=_tensor_scatter_shape, reference=_tensor_scatter(np.add),
    lower=Scatter(_CHANGES["Add"][1], when=_rows, message=_MESSAGE),
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


def _native_rows(call: Any) -> bool:
    indices, shape = call.inputs[0].dims, call.known(2)
    if shape is None or not indices or indices[-1] != 1 or not call.types[0].dims:
        return False
    # Indices of 16 bits have no tensor_scatter counterpart.
    return call.inputs[0].dtype.itemsize > 2 and call.dtypes[0].kind in "fiu"


define(
    "ScatterNd", "indices: Tindices, updates: T, shape: Tindices -> output: T",
    "T: type, Tindices: type in int16|int32|int64, bad_indices_policy: string = ''",
    infer=_scatter_nd_shape, reference=_scatter_nd, lower=Composite(_expand_scatter_nd, when=_native_rows),
)  # fmt: skip
