"""Pooling as generated code: windows written out, at a place in the result or, for gradients, in the image."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from stepjit_compiler import dims
from stepjit_compiler.ops.arguments import choose, compare, every
from stepjit_compiler.ops.windows import Slide
from stepjit_runtime import dtypes

LARGEST = 256
"""Elements of a window up to which it is written out."""

Windows = Callable[[Any, Sequence[Any]], Sequence[Slide]]
"""`windows(call, image shape)`."""


def fits(windows: Sequence[Slide], spread: bool = False) -> bool:
    """Whether windows can be written out, or, with `spread`, the windows that a pixel may lie in."""
    if any(isinstance(number, int) and number <= 0 for each in windows for number in (each.extent, each.count)):
        return False
    every = [_shares(each) if spread else each.size for each in windows]
    return int(np.prod(every, dtype=int)) <= LARGEST


def _shares(each: Slide) -> int:
    """How many windows an element of the axis may lie in."""
    return 1 if each.count == 1 else -(-each.span // each.stride)


def _may_exceed(each: Slide, reached: Any) -> bool:
    """Whether the windows' elements that are `reached` into them may lie behind the axis."""
    last = (each.count - 1) * each.stride + reached - each.before
    return not each.within and not dims.at_most(last, each.extent - 1)


def _in_window(
    k: Any, windows: Sequence[Slide], index: Sequence[Any]
) -> Iterator[tuple[int, tuple[Any, ...], Any]]:  # fmt: skip
    """(number of the place, pixel, whether it lies in the image) for every place of the window at `index`."""
    for number, place in enumerate(itertools.product(*(range(each.size) for each in windows))):
        pixel, conditions = list(index), []
        for at, each in zip(place, windows, strict=True):
            where = index[each.axis] * each.stride + (at * each.rate - each.before)
            if not isinstance(each.before, int) or at * each.rate < each.before:
                conditions.append(compare(k, "ge", where, 0))
            if _may_exceed(each, at * each.rate):
                conditions.append(compare(k, "lt", where, each.extent))
            pixel[each.axis] = k.clamp(where, each.extent) if conditions else where
        yield number, tuple(pixel), every(k, conditions)


def _over_pixel(
    k: Any, windows: Sequence[Slide], index: Sequence[Any]
) -> Iterator[tuple[Any, tuple[Any, ...], Any]]:  # fmt: skip
    """(number of the place, window, whether there is such a window) for every window that the pixel may lie in.

    The number is an i64 value.
    """
    for share in itertools.product(*(range(_shares(each)) for each in windows)):
        window, conditions = list(index), []
        number = None
        for back, each in zip(share, windows, strict=True):
            start = index[each.axis] + each.before
            if each.count == 1:
                where, place = k.zero(), k.value(start)
            else:
                newest = start
                if each.stride != 1:
                    newest = k.index(k.b.div(*k.same_lanes(k.value(start), k.extent(each.stride))))
                where = newest + (-back)
                place = k.value(start + where * -each.stride)
                conditions += [compare(k, "ge", where, 0), compare(k, "lt", where, each.count)]
                where = k.clamp(where, each.count)
            if each.span % each.stride or each.count == 1:
                conditions.append(k.b.compare("lt", place, k.b.like(each.span, place)))
            scaled = place if number is None else k.b.mul(*k.same_lanes(number, k.extent(each.size)))
            number = place if number is None else k.b.add(*k.same_lanes(scaled, place))
            window[each.axis] = where
        yield (k.b.int64(0) if number is None else number), tuple(window), every(k, conditions)


# --- The largest ---


def emit_max(windows: Windows) -> Callable[..., Any]:
    """The largest of a window; NaN counts for nothing."""

    def emit(k: Any, call: Any, output: int, index: Any) -> Any:
        dtype = call.dtypes[0]
        found = k.const(dtype.min, dtype)
        for _, pixel, _ in _in_window(k, windows(call, call.inputs[0].dims), index):
            # A pixel beyond the edge stands for the one at the edge, which is in the window too.
            here, found = k.same_lanes(k.load(0, pixel), found)
            found = k.b.select(k.b.compare("gt", here, found), here, found)
        return found

    return emit


def winner(k: Any, windows: Sequence[Slide], index: Sequence[Any]) -> tuple[Any, Any]:
    """(the largest, number of its place as int32): the first among equals, a NaN that comes first stays."""
    best: Any = None
    won: Any = None
    for number, pixel, inside in _in_window(k, windows, index):
        here = k.load(0, pixel)
        if best is None:
            best, won = here, k.b.const(0 if inside is None else -1, dtypes.int32)
            if inside is not None:
                won = k.select(inside, k.b.const(0, dtypes.int32), won)
            continue
        here, best, won = k.same_lanes(here, best, won)
        better = k.b.compare("gt", here, best)
        if inside is not None or any(each.before != 0 for each in windows):
            better = k.b.or_(better, k.b.compare("lt", won, k.b.like(0, won)))
        if inside is not None:
            better = k.b.and_(*k.same_lanes(better, inside))
        best = k.b.select(better, here, best)
        won = k.b.select(better, k.b.like(number, won), won)
    return best, won


def emit_winner(windows: Windows) -> Callable[..., Any]:
    """The number of the place of a window's largest element."""
    return lambda k, call, output, index: winner(k, windows(call, call.inputs[0].dims), index)[1]


def emit_spread(windows: Windows) -> Callable[..., Any]:
    """Inputs winners, gradients, image: a pixel's share of the gradients of the windows that it won."""

    def emit(k: Any, call: Any, output: int, index: Any) -> Any:
        dtype = call.dtypes[0]
        total = k.const(0, dtype)
        for number, window, inside in _over_pixel(k, windows(call, call.types[0].dims), index):
            won = k.load(0, window)
            number, won = k.same_lanes(k.b.convert(number, dtypes.int32), won)
            mine = k.b.compare("eq", won, number)
            mine = mine if inside is None else k.b.and_(*k.same_lanes(mine, inside))
            total = k.b.add(*k.same_lanes(total, k.select(mine, k.load(1, window), k.const(0, dtype))))
        return total

    return emit


def emit_ties(windows: Windows) -> Callable[..., Any]:
    """Inputs image, largest, gradients: a pixel's share of the gradients of all windows that it is the largest of."""

    def emit(k: Any, call: Any, output: int, index: Any) -> Any:
        dtype = call.dtypes[0]
        total, pixel = k.const(0, dtype), k.load(0, index)
        for _, window, inside in _over_pixel(k, windows(call, call.types[0].dims), index):
            mine = k.b.compare("eq", *k.same_lanes(pixel, k.load(1, window)))
            mine = mine if inside is None else k.b.and_(*k.same_lanes(mine, inside))
            total = k.b.add(*k.same_lanes(total, k.select(mine, k.load(2, window), k.const(0, dtype))))
        return total

    return emit


def emit_pick(windows: Windows) -> Callable[..., Any]:
    """Inputs winners, values of pixels: of each window the value at its largest element."""

    def emit(k: Any, call: Any, output: int, index: Any) -> Any:
        dtype = call.dtypes[0]
        found, won = k.const(0, dtype), k.load(0, index)
        for number, pixel, _ in _in_window(k, windows(call, call.inputs[1].dims), index):
            found = k.select(k.b.compare("eq", won, k.b.like(number, won)), k.load(1, pixel), found)
        return found

    return emit


# --- The mean ---


def _share(k: Any, dtype: Any, windows: Sequence[Slide], index: Sequence[Any]) -> Any:
    """One over the number of pixels that a window holds."""
    count: Any = None
    fixed = 1
    for each in windows:
        if each.within or (each.before == 0 and dims.at_most(each.reach, each.extent)):
            fixed *= each.size
            continue
        start = k.value(index[each.axis] * each.stride + (-each.before))
        end = k.b.minimum(k.b.add(start, k.b.like(each.size, start)), k.b.splat(k.extent(each.extent), start.lanes))
        here = k.b.sub(end, k.b.maximum(start, k.b.like(0, start)))
        count = here if count is None else k.b.mul(*k.same_lanes(count, here))
    if count is None:
        return k.const(fixed, dtype)
    number = k.b.convert(count, dtype)
    return k.b.mul(number, k.b.like(fixed, number))


def emit_mean(windows: Windows) -> Callable[..., Any]:
    """The mean of what of a window lies in the image."""

    def emit(k: Any, call: Any, output: int, index: Any) -> Any:
        dtype, every_window = call.dtypes[0], windows(call, call.inputs[0].dims)
        total = None
        for _, pixel, inside in _in_window(k, every_window, index):
            here = choose(k, inside, k.load(0, pixel), k.const(0, dtype))
            total = here if total is None else k.b.add(*k.same_lanes(total, here))
        return k.b.div(*k.same_lanes(total, _share(k, dtype, every_window, index)))

    return emit


def emit_mean_spread(windows: Windows) -> Callable[..., Any]:
    """Inputs shape, gradients: a pixel's share of the gradients of its windows."""

    def emit(k: Any, call: Any, output: int, index: Any) -> Any:
        dtype, every_window = call.dtypes[0], windows(call, call.types[0].dims)
        total = None
        for _, window, inside in _over_pixel(k, every_window, index):
            here = k.b.div(*k.same_lanes(k.load(1, window), _share(k, dtype, every_window, window)))
            here = choose(k, inside, here, k.const(0, dtype))
            total = here if total is None else k.b.add(*k.same_lanes(total, here))
        return total

    return emit
