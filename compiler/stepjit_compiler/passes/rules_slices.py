"""Rules of slices whose start is computed in the step: what they take is known, only not where; see `matching`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from stepjit_compiler.dims import Extent
from stepjit_compiler.ir import Node, Ref
from stepjit_compiler.ops.strided import place
from stepjit_compiler.passes.matching import Result, reshaped, rule
from stepjit_compiler.step_builder import StepBuilder
from stepjit_runtime import dtypes
from stepjit_runtime.errors import OpFailure


def _single_items(x: StepBuilder, node: Node, shape: Sequence[Extent], first: int) -> list[tuple[int, int]] | None:
    """The dimensions of which one element is taken, and their items, where all others are taken whole."""
    strides = x.known(node.inputs[first + 2])
    if x.known(node.inputs[first]) is not None or strides is None or any(each != 1 for each in strides.ravel()):
        return None
    masks, found = node.attr, []
    for axis, item in place(len(shape), strides.size, masks, _fail)[0]:
        if item is not None and masks["shrink_axis_mask"] >> item & 1:
            found.append((axis, item))
        elif item is not None and not (masks["begin_mask"] & masks["end_mask"]) >> item & 1:
            return None
    return found


def _fail(message: str) -> NoReturn:
    raise OpFailure(message)


def _number(x: StepBuilder, vector: Ref, item: int) -> Ref:
    """An element of a vector of integers, as an int64."""
    ends = (x.const([at], x.type(vector).dtype) for at in (item, item + 1, 1))
    element = x.op("StridedSlice", vector, *ends, shrink_axis_mask=1)
    found: Ref = x.op("Cast", element, DstT=dtypes.int64)
    return found


def _from_front(x: StepBuilder, index: Ref, extent: Extent) -> Ref:
    """An index from the end, counted from the front; one that is out of bounds stays as it is, to be told."""
    length = x.dims(extent, dtypes.int64)
    behind = x.op("Less", index, x.const(0, dtypes.int64))
    inside = x.op("GreaterEqual", index, x.op("Neg", length))
    found: Ref = x.op("SelectV2", x.op("LogicalAnd", behind, inside), x.op("AddV2", index, length), index)
    return found


@rule("StridedSlice")
def element_at_computed_index(x: StepBuilder, node: Node) -> Result:
    """StridedSlice(x, [i, j]) -> Reshape(_Element(_Element(x, j), i), s) for unknown i, j; other dimensions whole"""
    value, begin = node.inputs[:2]
    shape = x.type(value).dims
    for axis, item in reversed(_single_items(x, node, shape, 1) or ()):
        index = _from_front(x, _number(x, begin, item), shape[axis])
        value = x.op("_Element", value, index, axis=axis, item=item)
    return None if value == node.inputs[0] else reshaped(x, value, node.types[0].dims)


@rule("StridedSliceGrad")
def gradient_at_computed_index(x: StepBuilder, node: Node) -> Result:
    """StridedSliceGrad(s, [i, j], dy) -> _AtElement(_AtElement(Reshape(dy), i), j) where the slice is as above"""
    begin, shape = node.inputs[1], node.types[0].dims
    items = _single_items(x, node, shape, 1)
    if not items:
        return None
    single = {axis for axis, _ in items}
    value = reshaped(x, node.inputs[4], tuple(extent for axis, extent in enumerate(shape) if axis not in single))
    if value is None:
        return None
    for axis, item in items:
        index = _from_front(x, _number(x, begin, item), shape[axis])
        value = x.op("_AtElement", value, index, x.dims(shape[axis], dtypes.int64), axis=axis, item=item)
    return value


@rule("Slice")
def part_from_computed_start(x: StepBuilder, node: Node) -> Result:
    """Slice(x, [i, j], [m, n]) -> _Part(_Part(x, i, m), j, n) for unknown i, j and known m, n"""
    value, begin, size = node.inputs
    sizes = x.known(size)
    if sizes is None or x.known(begin) is not None or any(each == -1 for each in sizes.ravel()):
        return None
    for axis, count in enumerate(sizes.ravel()):
        value = x.op("_Part", value, _number(x, begin, axis), x.dims(count, dtypes.int64), axis=axis)
    return value
