"""Assigning to a strided slice: of a tensor's copy, or of a variable."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler.lowering import Indexed, Update
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define
from stepjit_compiler.ops.arguments import brief, choose, compare, every, fresh, remainder
from stepjit_compiler.ops.slices import (
    MASKS,
    checked_bounds,
    has_elements,
    is_whole,
    known_selection,
    numpy_index,
    selection,
)  # fmt: skip
from stepjit_compiler.ops.strided import select

# --- TensorStridedSliceUpdate ---


def _update_shape(x: Inference) -> list[ShapeLike]:
    shape, value = x.shape(0), x.shape(4)
    found = selection(x, shape, 1)
    if found is not None and value is not None:
        message = f"Cannot broadcast input shape {brief(value)} into final shape {brief(found.shape)}"
        if len(value) > len(found.shape):
            x.fail(message)
        for mine, wanted in zip(reversed(value), reversed(found.shape), strict=False):
            if mine != 1 and mine is not None:
                x.equal(mine, wanted, message)
    return [shape]


def _update(
    call: Call, x: np.ndarray, begin: np.ndarray, end: np.ndarray, strides: np.ndarray, value: np.ndarray
) -> np.ndarray:
    found = select(x.shape, checked_bounds(call, begin, end, strides), call.attrs, call.fail)
    shape = found.shape
    lead = len(shape) - value.ndim
    if lead < 0 or any(a not in (1, b) for a, b in zip(value.shape, shape[lead:], strict=True)):
        call.fail(f"Cannot broadcast input shape {brief(value.shape)} into final shape {brief(shape)}")
    result = fresh(x)
    index = numpy_index(found)
    result[index] = np.broadcast_to(value, shape).reshape(np.shape(result[index]))  # type: ignore[arg-type]
    return result


def _emit_update(k: Any, call: Any, output: int, index: Any) -> Any:
    """The value's element where the position lies in the slice, else the input's."""
    found = known_selection(call, call.inputs[0].dims, 1)
    assert found is not None
    conditions, places = [], {}
    for axis, (at, pick) in enumerate(zip(index, found.picks, strict=True)):
        if pick.single:
            conditions.append(compare(k, "eq", at, pick.start))
        elif is_whole(pick, call.inputs[0].dims[axis]):
            places[axis] = at
        else:
            assert pick.start is not None
            assert pick.stride is not None
            assert pick.extent is not None
            step = abs(pick.stride)
            ahead = at - pick.start if pick.stride > 0 else -at + pick.start
            conditions += [compare(k, "ge", ahead, 0), compare(k, "lt", ahead, pick.extent * step)]
            places[axis] = k.clamp(ahead, pick.extent * step)
            if step > 1:
                conditions.append(compare(k, "eq", remainder(k, places[axis], step), 0))
                number = k.value(places[axis])
                places[axis] = k.index(k.b.div(number, k.b.like(step, number)))
    whole = [0 if axis is None else places[axis] for axis in found.layout]
    value = call.inputs[4].dims
    tail = whole[len(whole) - len(value) :]
    own = tuple(0 if extent == 1 else at for extent, at in zip(value, tail, strict=True))
    return choose(k, every(k, conditions), k.load(4, own), k.load(0, index))


def _readable(call: Any) -> bool:
    """An empty value can't be read for the positions outside the slice."""
    found = known_selection(call, call.inputs[0].dims, 1)
    return found is not None and has_elements(found, call.inputs[0].dims)


define(
    "TensorStridedSliceUpdate", "input: T, begin: Index, end: Index, strides: Index, value: T -> output: T",
    f"T: type, Index: type in index, {MASKS}",
    infer=_update_shape, reference=_update, lower=Indexed(_emit_update, when=_readable),
)  # fmt: skip

# --- StridedSliceAssign, ResourceStridedSliceAssign ---


def _expand(x: Any, call: Any, old: Any, begin: Any, end: Any, strides: Any, value: Any) -> tuple[Any]:
    masks = {name: call.attrs[name] for name in call.attrs if name.endswith("_mask")}
    return (x.op("TensorStridedSliceUpdate", old, begin, end, strides, value, **masks),)


def _assigned_nothing(x: Inference) -> list[ShapeLike]:
    _update_shape(x)
    return []


define(
    "StridedSliceAssign", "ref: Ref(T), begin: Index, end: Index, strides: Index, value: T -> output_ref: Ref(T)",
    f"T: type, Index: type in index, {MASKS}", infer=_update_shape, lower=Update((0,), _expand),
)  # fmt: skip

define(
    "ResourceStridedSliceAssign", "ref: resource, begin: Index, end: Index, strides: Index, value: T ->",
    f"T: type, Index: type in index, {MASKS}",
    infer=_assigned_nothing, lower=Update((0,), _expand), stateful=True,
)  # fmt: skip
