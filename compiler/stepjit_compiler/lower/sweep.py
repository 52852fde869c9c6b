"""Loops over one extent, vectorised: full vectors first, then the rest in ever narrower ones or one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stepjit_compiler.dims import Extent
from stepjit_compiler.lower.builder import Value
from stepjit_compiler.lower.index import LoopVar
from stepjit_compiler.lower.point import Point

Body = Callable[[LoopVar, list[Value]], "list[Value]"]
"""`body(loop variable, carried values) -> carried values`, where carried values have the variable's lanes."""
Narrow = Callable[[Sequence[Value]], "list[Value]"]
"""Joins the upper half of the lanes of each carried value into the lower half."""

UNROLLED_TAILS = 3
"""A static rest is taken in so many vectors of falling width, at most, if the body is light."""


BLOCK = 4096
"""Elements that are accumulated before their total joins the others: keeps rounding errors of long sums small."""
LONG = 4 * BLOCK
"""Static extents from which on sums are taken in blocks; symbolic extents always are."""


def is_long(extent: Extent) -> bool:
    return not isinstance(extent, int) or extent >= LONG


def totals_in_blocks(
    point: Point, extent: Extent, lanes: int, body: Body, carried: Sequence[Value],
    fresh: Callable[[int], list[Value]], join: Callable[[Sequence[Value], Sequence[Value]], list[Value]],
    narrow: Narrow,
) -> list[Value]:  # fmt: skip
    """`lanes` at a time in blocks that begin with `fresh(lanes)`, then the rest one by one; totals are scalars."""
    b = point.b
    stop = point.extent(extent)
    whole = b.and_(stop, b.int64(-lanes))

    def added(total: Sequence[Value], block: list[Value]) -> list[Value]:
        return join(total, _narrowed(block, 1, narrow))

    state = in_blocks(point, whole, lanes, body, carried, lambda: fresh(lanes), added)
    return _one_by_one(point, whole, stop, body, state)


def in_blocks(
    point: Point, stop: Value, lanes: int, body: Body, carried: Sequence[Value], fresh: Callable[[], list[Value]],
    join: Callable[[Sequence[Value], list[Value]], list[Value]],
) -> list[Value]:  # fmt: skip
    """Turns of `lanes` up to `stop`, a multiple of it, block by block: a block's values begin afresh and are joined."""
    b = point.b
    count = b.div(b.add(stop, b.int64(BLOCK - 1)), b.int64(BLOCK))
    outer = b.begin_loop(b.int64(0), count, 1, carried)
    with point.scope():
        first = b.mul(outer.index, b.int64(BLOCK))
        inner = b.begin_loop(first, b.minimum(b.add(first, b.int64(BLOCK)), stop), lanes, fresh())
        block = b.end_loop(inner, _turn(point, inner.index, lanes, body, inner.carried))
        total = join(outer.carried, block)
    return b.end_loop(outer, total)


def serial(point: Point, extent: Extent, body: Body, carried: Sequence[Value] = ()) -> list[Value]:
    """Turn by turn."""
    b = point.b
    if extent == 1:
        return _turn(point, b.int64(0), 1, body, list(carried))
    loop = b.begin_loop(b.int64(0), point.extent(extent), 1, carried)
    return b.end_loop(loop, _turn(point, loop.index, 1, body, loop.carried))


def vectorised(
    point: Point, extent: Extent, lanes: int, body: Body, carried: Sequence[Value] = (),
    narrow: Narrow | None = None, heavy: bool = False,
) -> list[Value]:  # fmt: skip
    """`lanes` at a time, then the rest; with `narrow`, the carried values end up as scalars."""
    state = list(carried)
    if lanes == 1:
        return serial(point, extent, body, state)
    if isinstance(extent, int):
        state = _static(point, extent, lanes, body, state, narrow, heavy)
    else:
        state = _dynamic(point, extent, lanes, body, state, narrow)
    return _narrowed(state, 1, narrow)


def _static(
    point: Point, extent: int, lanes: int, body: Body, state: list[Value], narrow: Narrow | None, heavy: bool
) -> list[Value]:
    b = point.b
    whole = extent // lanes * lanes
    if whole == lanes:
        state = _turn(point, b.int64(0), lanes, body, state)
    elif whole:
        loop = b.begin_loop(b.int64(0), b.int64(whole), lanes, state)
        state = b.end_loop(loop, _turn(point, loop.index, lanes, body, loop.carried))
    rest = extent - whole
    if rest.bit_count() > (1 if heavy else UNROLLED_TAILS):
        return _one_by_one(point, b.int64(whole), b.int64(extent), body, _narrowed(state, 1, narrow))
    at, width = whole, lanes // 2
    while at < extent:
        if extent - at >= width:
            state = _turn(point, b.int64(at), width, body, _narrowed(state, width, narrow))
            at += width
        width //= 2
    return state


def _dynamic(
    point: Point, extent: Extent, lanes: int, body: Body, state: list[Value], narrow: Narrow | None
) -> list[Value]:
    b = point.b
    stop = point.extent(extent)
    loop = b.begin_loop(b.int64(0), stop, lanes, state)
    state = b.end_loop(loop, _turn(point, loop.index, lanes, body, loop.carried))
    whole = b.and_(stop, b.int64(-lanes))
    return _one_by_one(point, whole, stop, body, _narrowed(state, 1, narrow))


def _one_by_one(point: Point, start: Value, stop: Value, body: Body, state: list[Value]) -> list[Value]:
    b = point.b
    loop = b.begin_loop(start, stop, 1, state)
    return b.end_loop(loop, _turn(point, loop.index, 1, body, loop.carried))


def _turn(point: Point, at: Value, lanes: int, body: Body, carried: list[Value]) -> list[Value]:
    with point.scope():
        return body(LoopVar(at, lanes), carried)


def _narrowed(state: list[Value], lanes: int, narrow: Narrow | None) -> list[Value]:
    while narrow is not None and state and state[0].lanes > lanes:
        state = narrow(state)
    return state
