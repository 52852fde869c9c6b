"""Slices whose start is computed in the step: what `rules_slices` makes of StridedSlice, its gradient, and Slice."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler import dims
from stepjit_compiler.lowering import Check, Indexed
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define
from stepjit_compiler.ops.arguments import filled, fresh

_AT = "T: type, axis: int, item: int"

# --- _Element: what is at an index of one dimension; `item` is that of the slice ---


def _beyond(item: int) -> str:
    return f"slice index {{value}} of dimension {item} out of bounds."


def _element_shape(x: Inference) -> list[ShapeLike]:
    shape, axis = x.shape(0), x.attrs["axis"]
    return [None if shape is None else (*shape[:axis], *shape[axis + 1 :])]


def _element(call: Call, x: np.ndarray, index: np.ndarray) -> np.ndarray:
    axis, at = call.attrs["axis"], int(index)
    if not 0 <= at < x.shape[axis]:
        call.fail(_beyond(call.attrs["item"]).format(value=at))
    return fresh(np.take(x, at, axis))


def _emit_element(k: Any, call: Any, output: int, index: Any) -> Any:
    axis = call.attrs["axis"]
    return k.load(0, (*index[:axis], k.index(k.load(1, ())), *index[axis:]))


define(
    "_Element", "input: T, index: int64 -> output: T", _AT, infer=_element_shape, reference=_element,
    lower=Indexed(
        _emit_element,
        checks=lambda call: [Check(1, call.inputs[0].dims[call.attrs["axis"]], _beyond(call.attrs["item"]))],
    ),
)  # fmt: skip

# --- _AtElement: zeros but at that index, in a dimension of `extent`: the gradient of _Element ---


def _at_element_shape(x: Inference) -> list[ShapeLike]:
    shape, extent, axis = x.shape(0), x.extents(2), x.attrs["axis"]
    return [None if shape is None else (*shape[:axis], None if extent is None else extent[0], *shape[axis:])]


def _at_element(call: Call, value: np.ndarray, index: np.ndarray, extent: np.ndarray) -> np.ndarray:
    axis, at = call.attrs["axis"], int(index)
    if not 0 <= at < extent:
        call.fail(_beyond(call.attrs["item"]).format(value=at))
    found = filled((*value.shape[:axis], int(extent), *value.shape[axis:]), value.dtype)
    np.moveaxis(found, axis, 0)[at] = value
    return found


def _emit_at_element(k: Any, call: Any, output: int, index: Any) -> Any:
    axis = call.attrs["axis"]
    here = k.b.compare("eq", *k.same_lanes(k.value(index[axis]), k.load(1, ())))
    value = k.load(0, (*index[:axis], *index[axis + 1 :]))
    return k.select(here, value, k.b.like(0, value))


define(
    "_AtElement", "value: T, index: int64, extent: int64 -> output: T", _AT,
    infer=_at_element_shape, reference=_at_element,
    lower=Indexed(
        _emit_at_element,
        checks=lambda call: [Check(1, call.known(2)[()], _beyond(call.attrs["item"]))],
    ),
)  # fmt: skip

# --- _Part: `count` elements of one dimension from `start` on ---


def _part_shape(x: Inference) -> list[ShapeLike]:
    shape, count, axis = x.shape(0), x.extents(2), x.attrs["axis"]
    if shape is None:
        return [None]
    return [(*shape[:axis], None if count is None else count[0], *shape[axis + 1 :])]


def _part(call: Call, x: np.ndarray, start: np.ndarray, count: np.ndarray) -> np.ndarray:
    axis, first, size = call.attrs["axis"], int(start), int(count)
    extent = x.shape[axis]
    if not 0 <= first <= extent:
        call.fail(f"Expected begin[{axis}] in [0, {extent}], but got {first}")
    if size > extent - first:
        call.fail(f"Expected size[{axis}] in [0, {extent - first}], but got {size}")
    return fresh(np.take(x, range(first, first + size), axis))


def _part_checks(call: Any) -> list[Check]:
    axis = call.attrs["axis"]
    extent, size = call.inputs[0].dims[axis], call.known(2)[()]
    begin = f"Expected begin[{axis}] in [0, {{shape}}], but got {{value}}"
    end = f"Expected size[{axis}] in [0, {{left}}], but got {size}"
    starts = dims.maximum(extent - size + 1, 0)
    return [Check(1, extent + 1, begin, shape=(extent,)), Check(1, starts, end, shape=(extent,))]


def _emit_part(k: Any, call: Any, output: int, index: Any) -> Any:
    axis = call.attrs["axis"]
    return k.load(0, (*index[:axis], index[axis] + k.index(k.load(1, ())), *index[axis + 1 :]))


define(
    "_Part", "input: T, start: int64, count: int64 -> output: T", "T: type, axis: int",
    infer=_part_shape, reference=_part,
    lower=Indexed(
        _emit_part,
        checks=_part_checks,
    ),
)  # fmt: skip
