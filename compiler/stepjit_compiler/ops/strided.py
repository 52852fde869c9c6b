"""What a strided slice picks: masks, negative bounds and steps resolved against a shape of ints and Dims."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from stepjit_compiler import dims
from stepjit_compiler.dims import Dim, Extent
from stepjit_compiler.opdef import extent_text

Fail = Callable[[str], NoReturn]


class Pick(NamedTuple):
    """One input dimension: `start + stride * i` for i < `extent`; a `single` one leaves no dimension behind."""

    start: Extent | None
    stride: int | None
    extent: Extent | None
    single: bool = False
    within: tuple[Extent, Extent] | None = None
    """(a, b) of a bound a >= b that only holds if the step's extents say so."""


class Selection(NamedTuple):
    """A strided slice of a tensor of known rank."""

    picks: tuple[Pick, ...]
    """One per input dimension."""
    layout: tuple[int | None, ...]
    """Per output dimension: the input dimension that it walks, or None for a new one of extent 1."""

    @property
    def shape(self) -> tuple[Extent | None, ...]:
        return tuple(1 if axis is None else self.picks[axis].extent for axis in self.layout)


class Slot(NamedTuple):
    """An input dimension and the number of the slice item that it is picked by (None: taken whole)."""

    axis: int
    item: int | None


def select(
    shape: Sequence[Extent | None],
    bounds: Sequence[Sequence[Extent | None]],
    masks: Mapping[str, Any],
    fail: Fail,
) -> Selection:
    """Resolve a slice's `bounds` (begin, end, strides); what elements that are None decide is unknown too."""
    begin, end, strides = bounds
    slots, layout = place(len(shape), len(strides), masks, fail)
    picks = []
    for axis, item in slots:
        if item is None:
            picks.append(Pick(0, 1, shape[axis]))
        else:
            picks.append(_pick(shape[axis], begin[item], end[item], strides[item], item, axis, masks, fail))
    return Selection(tuple(picks), layout)


def place(
    rank: int, items: int, masks: Mapping[str, Any], fail: Fail
) -> tuple[list[Slot], tuple[int | None, ...]]:
    """Which item picks which dimension, and where new dimensions go."""
    ellipsis, new_axis, shrink = (masks[f"{name}_mask"] for name in ("ellipsis", "new_axis", "shrink_axis"))
    if ellipsis & (ellipsis - 1):
        fail("Multiple ellipses in slice spec not allowed")
    dots = next((i for i in range(items) if ellipsis >> i & 1), items)
    new = [i != dots and bool(new_axis >> i & 1) for i in range(items)]
    used = sum(1 for i in range(items) if i != dots and not new[i])
    if used > rank:
        fail(f"Index out of range using input dim {rank}; input has only {rank} dims")
    slots: list[Slot] = []
    layout: list[int | None] = []
    for i in range(items + (dots == items)):
        if i == dots:
            for _ in range(rank - used):
                layout.append(len(slots))
                slots.append(Slot(len(slots), None))
        elif new[i]:
            layout.append(None)
        else:
            if not shrink >> i & 1:
                layout.append(len(slots))
            slots.append(Slot(len(slots), i))
    return slots, tuple(layout)


def _pick(
    extent: Extent | None,
    begin: Extent | None,
    end: Extent | None,
    stride: Extent | None,
    item: int,
    axis: int,
    masks: Mapping[str, Any],
    fail: Fail,
) -> Pick:
    if stride == 0:
        fail(f"strides[{item}] must be non-zero")
    if masks["shrink_axis_mask"] >> item & 1:
        if isinstance(stride, int) and stride <= 0:
            fail("only stride 1 allowed on non-range indexing.")
        return _single(extent, begin, axis, fail)
    first = None if masks["begin_mask"] >> item & 1 else begin
    last = None if masks["end_mask"] >> item & 1 else end
    free = (bool(masks["begin_mask"] >> item & 1), bool(masks["end_mask"] >> item & 1))
    if not isinstance(stride, int):
        return Pick(None, None, None)
    bounds_known = (free[0] or _signed(first)) and (free[1] or _signed(last))
    if extent is None or not bounds_known:
        whole = extent if stride == 1 and all(free) else None
        return Pick(0 if stride > 0 and (free[0] or first == 0) else None, stride, whole)
    low, size = _forward(extent, first, last) if stride > 0 else _backward(extent, first, last)
    step = abs(stride)
    return Pick(low, stride, size if step == 1 else (size + (step - 1)) // step)


def _signed(bound: Extent | None) -> bool:
    """Whether it is settled which end the bound counts from."""
    if isinstance(bound, Dim):
        return dims.is_natural(bound) or dims.is_natural(-bound - 1)
    return bound is not None


def _negative(bound: Extent) -> bool:
    return bound < 0 if isinstance(bound, int) else not dims.is_natural(bound)


def _forward(extent: Extent, first: Extent | None, last: Extent | None) -> tuple[Extent, Extent]:
    """Start and span of a slice upwards; None bounds are open. The start is in range whenever the span isn't 0."""
    if last is None:
        stop = extent
    elif _negative(last):
        stop = extent + last if first is None or not _negative(first) else dims.maximum(extent + last, 0)
    else:
        stop = dims.minimum(last, extent)
    if first is None:
        return 0, dims.maximum(stop, 0)
    if not _negative(first):
        return first, dims.maximum(stop - first, 0)
    start = dims.maximum(extent + first, 0)
    return start, dims.minimum(-first, extent) if last is None else dims.maximum(stop - start, 0)


def _backward(extent: Extent, first: Extent | None, last: Extent | None) -> tuple[Extent, Extent]:
    """Start and span of a slice downwards."""
    if first is None:
        start = extent - 1
    else:
        start = extent + first if _negative(first) else dims.minimum(first, extent - 1)
    if last is None:
        stop: Extent = -1
    else:
        stop = dims.maximum(extent + last, -1) if _negative(last) else last
    if first is None and last is None:
        return start, extent
    return start, dims.maximum(start - stop, 0)


def _single(extent: Extent | None, begin: Extent | None, axis: int, fail: Fail) -> Pick:
    unknown = Pick(None, 1, 1, True)
    if begin is None:
        return unknown
    if extent is None:
        return Pick(begin if isinstance(begin, int) and begin >= 0 else None, 1, 1, True)
    if not _signed(begin):
        return unknown
    at = extent + begin if _negative(begin) else begin
    if isinstance(at, int) and isinstance(extent, int):
        if not 0 <= at < extent:
            fail(out_of_bounds(at, axis))
        return Pick(at, 1, 1, True)
    return Pick(at, 1, 1, True, (at, 0) if _negative(begin) else (extent, at + 1))


def out_of_bounds(index: Extent | None, axis: int) -> str:
    return f"slice index {extent_text(index)} of dimension {axis} out of bounds."
