"""Reading rows and elements at places that indices name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepjit_compiler.dims import Extent
from stepjit_compiler.lowering import Check, Composite, Indexed
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, extent_text
from stepjit_compiler.ops.arguments import (
    as_dtype,
    at_least,
    brief,
    integer,
    known_ints,
    knows,
    number_input,
)  # fmt: skip
from stepjit_runtime import dtypes


def first_outside(indices: np.ndarray, bound: int) -> tuple[int, ...] | None:
    """The place of the first index that isn't in [0, bound)."""
    bad = np.argwhere((indices < 0) | (indices >= bound))
    return tuple(bad[0].tolist()) if len(bad) else None


def at_text(place: Sequence[int]) -> str:
    """How kernels name an element of the indices: `indices[0,1]`, `indices[0]`, `indices` for a scalar."""
    return "[" + ",".join(map(str, place)) + "]" if place else ""


# --- GatherV2 ---


def _gathered(x: Inference, axis: int | None, batch: int) -> list[ShapeLike]:
    params, indices = at_least(x, 0, 1), x.shape(1)
    if params is None or indices is None:
        return [None]
    rank = len(params)
    if batch < 0:
        batch += len(indices)
    if axis is None:
        return [(None,) * (rank - 1 + len(indices) - batch)]
    if not -rank <= axis < rank:
        x.fail(f"Shape must be at least rank {axis + 1 if axis >= 0 else -axis} but is rank {rank} for '{x.op}'")
    axis %= rank
    if not 0 <= batch <= min(axis, len(indices)):
        x.fail(f"batch_dims ({batch}) must be less than or equal to axis ({axis}) and to rank(indices)")
    lead: list[Extent | None] = []
    for k in range(batch):
        message = f"params.shape[{k}]: {params[k]} should be equal to indices.shape[{k}]: {indices[k]}"
        lead.append(x.equal(params[k], indices[k], message))
    return [(*lead, *params[batch:axis], *indices[batch:], *params[axis + 1 :])]


def _gather(call: Call, params: np.ndarray, indices: np.ndarray, axis: int, batch: int) -> np.ndarray:
    rank = params.ndim
    if rank == 0:
        call.fail("params must be at least 1 dimensional")
    if not -rank <= axis < rank:
        call.fail(f"Shape must be at least rank {axis + 1 if axis >= 0 else -axis} but is rank {rank}")
    axis %= rank
    batch += indices.ndim if batch < 0 else 0
    if not 0 <= batch <= min(axis, indices.ndim):
        call.fail(f"batch_dims ({batch}) must be less than or equal to axis ({axis}) and to rank(indices)")
    for k in range(batch):
        if params.shape[k] != indices.shape[k]:
            call.fail(
                f"params.shape[{k}]: {params.shape[k]} should be equal to indices.shape[{k}]: {indices.shape[k]}"
            )
    place = first_outside(indices, params.shape[axis])
    if place is not None:
        call.fail(f"indices{at_text(place)} = {indices[place]} is not in [0, {params.shape[axis]})")
    indices = indices.astype(np.int64)
    if batch == 0:
        return np.asarray(np.take(params, indices, axis))
    return _gather_batches(params, indices, axis, batch)


def _gather_batches(params: np.ndarray, indices: np.ndarray, axis: int, batch: int) -> np.ndarray:
    """Broadcasts an index per axis: batch and leading axes count, the gathered one is named by the indices."""
    middle, inner, tail = axis - batch, indices.ndim - batch, params.ndim - axis - 1
    rank = axis + inner + tail
    index: list[np.ndarray] = []
    for k, extent in enumerate(params.shape):
        if k == axis:
            shape = (*indices.shape[:batch], *(1,) * middle, *indices.shape[batch:], *(1,) * tail)
            index.append(indices.reshape(shape))
        else:
            at = k if k < axis else k - 1 + inner
            index.append(np.arange(extent).reshape([-1 if d == at else 1 for d in range(rank)]))
    return params[tuple(index)]


def _emit_gather(axis_of: Callable[[Any], int], batch_of: Callable[[Any], int]) -> Callable[..., Any]:
    def emit(k: Any, call: Any, output: int, index: Any) -> Any:
        axis, batch, rank = axis_of(call), batch_of(call), len(call.inputs[1].dims)
        inner = rank - batch
        chosen = k.load(1, (*index[:batch], *index[axis : axis + inner]))
        return k.load(0, (*index[:axis], k.index(chosen), *index[axis + inner :]))

    return emit


def _axis(call: Any) -> int:
    return (known_ints(call, 2) or [0])[0] % len(call.inputs[0].dims)


def _batch(call: Any) -> int:
    batch: int = call.attrs["batch_dims"]
    return batch % len(call.inputs[1].dims) if batch < 0 else batch


def _bound_check(call: Any, bound: Extent) -> list[Check]:
    known = known_ints(call, 1)
    if known is not None and isinstance(bound, int) and all(0 <= each < bound for each in known):
        return []
    return [Check(1, bound)]


def _gather_v2_shape(x: Inference) -> list[ShapeLike]:
    axis, batch = number_input(x, 2), x.attrs["batch_dims"]
    x.with_rank(2, 0)
    return _gathered(x, axis if isinstance(axis, int) else None, batch)


define(
    "GatherV2", "params: Tparams, indices: Tindices, axis: Taxis -> output: Tparams",
    "batch_dims: int = 0, Tparams: type, Tindices: type in int16|int32|int64, Taxis: type in index",
    infer=_gather_v2_shape,
    reference=lambda call, params, indices, axis: _gather(
        call, params, indices, integer(axis), call.attrs["batch_dims"]
    ),
    lower=Indexed(
        _emit_gather(_axis, _batch), when=knows(2),
        checks=lambda call: _bound_check(call, call.inputs[0].dims[_axis(call)]),
    ),
    symbolic=True,
)  # fmt: skip

# --- Gather ---

_ROWS = Indexed(
    _emit_gather(lambda call: 0, lambda call: 0), checks=lambda call: _bound_check(call, call.inputs[0].dims[0])
)

define(
    "Gather", "params: Tparams, indices: Tindices -> output: Tparams",
    "validate_indices: bool = True, Tparams: type, Tindices: type in index",
    infer=lambda x: _gathered(x, 0, 0),
    reference=lambda call, params, indices: _gather(call, params, indices, 0, 0), lower=_ROWS, symbolic=True,
)  # fmt: skip

# --- ResourceGather: in a step, the variable's value stands in place of the resource ---


define(
    "ResourceGather", "resource: resource, indices: Tindices -> output: dtype",
    "batch_dims: int = 0, validate_indices: bool = True, dtype: type, Tindices: type in index",
    infer=lambda x: _gathered(x, x.attrs["batch_dims"], x.attrs["batch_dims"]),
    reference=lambda call, params, indices: _gather(
        call, params, indices, call.attrs["batch_dims"], call.attrs["batch_dims"]
    ),
    lower=Indexed(
        _emit_gather(_batch, _batch), checks=lambda call: _bound_check(call, call.inputs[0].dims[_batch(call)])
    ),
)  # fmt: skip

# --- GatherNd ---


def _gather_nd_shape(x: Inference) -> list[ShapeLike]:
    params, indices = x.shape(0), at_least(x, 1, 1)
    if params is None or indices is None or not isinstance(indices[-1], int):
        return [None]
    depth = indices[-1]
    if depth > len(params):
        x.fail(f"index innermost dimension length must be <= params rank; saw: {depth} vs. {len(params)}")
    return [(*indices[:-1], *params[depth:])]


def checked_places(
    call: Call, indices: np.ndarray, shape: Sequence[int], what: Callable[[str], str]
) -> tuple[np.ndarray, ...]:
    """The index arrays, one per leading axis of `shape`; fails with `what(text)` at the first that is outside."""
    depth = indices.shape[-1]
    flat = indices.reshape(int(np.prod(indices.shape[:-1], dtype=np.int64)), depth).astype(np.int64)
    bad = ((flat < 0) | (flat >= np.array(shape[:depth], np.int64))).any(axis=1)
    if bad.any():
        at = int(np.argmax(bad))
        place = np.unravel_index(at, indices.shape[:-1]) if indices.ndim > 1 else ()
        text = "[" + ", ".join(map(str, flat[at].tolist())) + "]"
        call.fail(what(f"indices{at_text([int(each) for each in place])} = {text}"))
    return tuple(flat[:, k].reshape(indices.shape[:-1]) for k in range(depth))


def _gather_nd(call: Call, params: np.ndarray, indices: np.ndarray) -> np.ndarray:
    if indices.ndim < 1:
        call.fail("indices must be at least a vector")
    depth = indices.shape[-1]
    if depth > params.ndim:
        call.fail(f"index innermost dimension length must be <= params rank; saw: {depth} vs. {params.ndim}")
    if params.size == 0 and indices.size and params.ndim:
        call.fail(f"Requested more than 0 entries, but params is empty.  Params shape: {brief(params.shape)}")
    index = checked_places(
        call, indices, params.shape,
        lambda text: f"{text} does not index into param shape {brief(params.shape)}, node name: {call.name}",
    )  # fmt: skip
    if depth == 0:
        return np.array(np.broadcast_to(params, (*indices.shape[:-1], *params.shape)))
    return params[index]


def _expand_gather_nd(x: Any, call: Any, params: Any, indices: Any) -> Any:
    depth = call.inputs[1].dims[-1]
    columns = x.op("Unpack", indices, num=depth, axis=-1)
    return x.op("_GatherColumns", params, *(columns if depth > 1 else (columns,)))


def _depth_known(call: Any) -> bool:
    depth = call.inputs[1].dims[-1] if call.inputs[1].dims else 0
    return isinstance(depth, int) and depth >= 1


define(
    "GatherNd", "params: Tparams, indices: Tindices -> output: Tparams",
    "Tparams: type, Tindices: type in int16|int32|int64, bad_indices_policy: string = ''",
    infer=_gather_nd_shape, reference=_gather_nd, lower=Composite(_expand_gather_nd, when=_depth_known), symbolic=True,
)  # fmt: skip

# --- _GatherColumns: GatherNd with the columns of its indices apart, so that each has a bound of its own ---


def _gather_columns_shape(x: Inference) -> list[ShapeLike]:
    params, columns = x.shape(0), x.shape(1)
    return [None if params is None or columns is None else (*columns, *params[x.count() - 1 :])]


def _emit_gather_columns(k: Any, call: Any, output: int, index: Any) -> Any:
    lead = len(call.inputs[1].dims)
    chosen = [k.index(k.load(i, index[:lead])) for i in range(1, call.count)]
    return k.load(0, (*chosen, *index[lead:]))


def _column_checks(call: Any) -> list[Check]:
    shape = call.inputs[0].dims
    message = "indices{place} = [{row}] does not index into param shape [{shape}], node name: {op}"
    others = tuple((i, shape[i - 1]) for i in range(2, call.count))
    return [Check(1, shape[0], message, columns=others, shape=shape)]


define(
    "_GatherColumns", "params: Tparams, columns: N*Tindices -> output: Tparams",
    "N: int, Tparams: type, Tindices: type in int16|int32|int64",
    infer=_gather_columns_shape,
    reference=lambda call, params, *columns: _gather_nd(call, params, np.stack(columns, -1)),
    lower=Indexed(_emit_gather_columns, checks=_column_checks),
)  # fmt: skip

# --- OneHot ---


def _one_hot_shape(x: Inference) -> list[ShapeLike]:
    indices, depth, axis = x.shape(0), number_input(x, 1), x.attrs["axis"]
    for i in (1, 2, 3):
        x.with_rank(i, 0)
    if isinstance(depth, int) and depth < 0:
        x.fail(f"depth must be non-negative, got: {extent_text(depth)}")
    x.check("ge", depth, 0, f"depth must be non-negative, got: {extent_text(depth)}")
    if indices is None:
        return [None]
    if not -1 <= axis <= len(indices):
        x.fail(f"Expected axis to be -1 or between [0, {len(indices) + 1}).  But received: {axis}")
    axis = len(indices) if axis == -1 else axis
    return [(*indices[:axis], depth, *indices[axis:])]


def _one_hot(call: Call, indices: np.ndarray, depth: np.ndarray, on: np.ndarray, off: np.ndarray) -> np.ndarray:
    count, axis = integer(depth), call.attrs["axis"]
    if not -1 <= axis <= indices.ndim:
        call.fail(f"Expected axis to be -1 or between [0, {indices.ndim + 1}).  But received: {axis}")
    if count < 0:
        call.fail(f"depth must be non-negative, got: {count}")
    axis = indices.ndim if axis == -1 else axis
    classes = np.arange(count).reshape([-1 if k == axis else 1 for k in range(indices.ndim + 1)])
    hot = np.expand_dims(indices, axis) == classes
    found = np.empty(hot.shape, on.dtype)
    found[...] = off
    found[hot] = on
    return found


def _emit_one_hot(k: Any, call: Any, output: int, index: Any) -> Any:
    axis = call.attrs["axis"] % len(index)
    chosen = k.load(0, (*index[:axis], *index[axis + 1 :]))
    same = k.same_lanes(as_dtype(k, chosen, dtypes.int64), k.value(index[axis]))
    return k.select(k.b.compare("eq", *same), k.load(2, ()), k.load(3, ()))


define(
    "OneHot", "indices: TI, depth: int32, on_value: T, off_value: T -> output: T",
    "axis: int = -1, T: type, TI: type in uint8|int8|int32|int64 = int64",
    infer=_one_hot_shape, reference=_one_hot, lower=Indexed(_emit_one_hot, when=lambda call: call.known(1) is not None),
)  # fmt: skip
