"""Convolutions of images with channels last and without padding as generated code: the geometry, and the tiles' loops.

For one row of windows the image is a matrix already: window w begins `stride * channels` elements after the one
before it, and what it takes of one row of the image lies there without gaps. So a tile of windows by vectors of result
channels is summed over the places of the filter straight from the image, with no copy of the windows
(`conv_forward.py`). The gradient for the filter is the same product seen from the side: places of the filter by
vectors of channels, summed over all windows (`conv_filter.py`).

Extents of batch and space may be symbols; channels and the filter's sizes are numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stepjit_compiler.dims import Extent
from stepjit_compiler.lower.builder import Builder, Value
from stepjit_compiler.lower.gemm_tile import Column, Size, columns_of, for_each, plus, round_down, times, value
from stepjit_runtime.dtypes import DType

VECTOR_BYTES = 32
SUMS = 12
"""Vectors of sums that a tile keeps in registers."""
UNROLLED = 4

Extents = Callable[[Extent], Value]
"""The i64 of an extent in the running code."""
Step = Callable[["tuple[Size, ...]", "list[Value]"], "list[Value]"]
"""`step(places, sums) -> sums` with one product added to each."""
Loops = Sequence["tuple[Size, tuple[Size, ...]]"]
"""(count, by how much each place moves) of nested counters."""


@dataclass(frozen=True)
class Window:
    """The geometry: images [batch, *space, groups * channels], filters [*sizes, channels, depth], results
    [batch, *counts, depth]. Each group's channels make an equal share of the result's.

    `turned`: the windows are those of the transposed convolution. The result is then the larger image, of which the
    window at p begins at p * stride - before, and the image holds one element per window.
    """

    dtype: DType
    batch: Extent
    space: tuple[Extent, ...]
    channels: int
    sizes: tuple[int, ...]
    depth: int
    counts: tuple[Extent, ...]
    strides: tuple[int, ...]
    rates: tuple[int, ...]
    groups: int = 1
    turned: bool = False
    before: tuple[Extent, ...] = ()

    @property
    def lanes(self) -> int:
        return min(8, VECTOR_BYTES // self.dtype.itemsize)

    @property
    def pixel(self) -> int:
        """Elements of one pixel of the image."""
        return self.groups * self.channels

    @property
    def share(self) -> int:
        """Channels of the result that one group makes."""
        return self.depth // self.groups

    @property
    def rows(self) -> tuple[int, ...]:
        """Rows of the filter, as a matrix with `depth` columns, from one place to the next along each axis."""
        return tuple(math.prod(self.sizes[k + 1 :]) * self.channels for k in range(len(self.sizes)))


class Room:
    """Extents, and elements from one position of the image to the next along each axis, in the running code."""

    def __init__(self, b: Builder, window: Window, extent: Extents) -> None:
        def size(of: Extent) -> Size:
            return of if isinstance(of, int) else extent(of)

        self.batch = size(window.batch)
        self.space = tuple(map(size, window.space))
        self.counts = tuple(map(size, window.counts))
        self.before = tuple(map(size, window.before))
        pitch: list[Size] = [window.pixel]
        for each in reversed(self.space):
            pitch.append(times(b, pitch[-1], each))
        self.image = pitch.pop()
        self.pitch = tuple(reversed(pitch))
        self.row: Size = 1
        """Windows from one position along the first axis to the next."""
        for each in self.counts[1:]:
            self.row = times(b, self.row, each)
        self.windows = times(b, self.row, self.counts[0])


def panels(b: Builder, window: Window, vectors: int, body: Callable[[Size, list[Column]], None]) -> None:
    """Run `body(first column, vectors)` for a group's share of the result's channels, so many vectors at a time."""
    lanes, width = window.lanes, window.lanes * vectors
    whole = [Column(first, lanes, ((0, lanes),)) for first in range(0, width, lanes)]
    end = window.share // width * width
    for_each(b, 0, end, width, lambda first: body(first, whole))
    if window.share > end:
        body(end, columns_of(window.share - end, lanes, window.share))


def tiles(
    b: Builder, count: Size, most: int, body: Callable[[Size, int], None], rests: Sequence[int] = (2, 1)
) -> None:  # fmt: skip
    """Run `body(first, height)` for `count` rows in tiles up to `most`: of nearly equal heights where it is a number,
    else as many as are full, and what is left in tiles of the heights `rests`."""
    if isinstance(count, int):
        parts = max(1, -(-count // most))
        low, more = divmod(count, parts)
        split = more * (low + 1)
        for_each(b, 0, split, low + 1, lambda first: body(first, low + 1))
        for_each(b, split, count, low, lambda first: body(first, low))
        return
    done: Value = b.int64(0)
    for height in (most, *(each for each in rests if each < most)):
        turns = b.div(b.sub(count, done), b.int64(height))
        end = b.add(done, b.mul(turns, b.int64(height)))
        loop = b.begin_loop(done, end, height)
        body(loop.index, height)
        b.end_loop(loop)
        done = end


def nested(b: Builder, counts: Sequence[Size], body: Callable[..., None]) -> None:
    """Loops over all positions; `body(*indices)`."""

    def level(done: tuple[Size, ...]) -> None:
        if len(done) == len(counts):
            body(*done)
            return
        count = counts[len(done)]
        if isinstance(count, int):
            for_each(b, 0, count, 1, lambda index: level((*done, index)))
            return
        loop = b.begin_loop(b.int64(0), count)
        level((*done, loop.index))
        b.end_loop(loop)

    level(())


def moved(b: Builder, places: tuple[Size, ...], turns: Size, steps: Sequence[Size]) -> tuple[Size, ...]:
    """The places after so many turns."""
    return tuple(plus(b, place, times(b, turns, step)) for place, step in zip(places, steps, strict=True))


def summed(
    b: Builder, loops: Loops, inner: Size, steps: tuple[Size, ...], starts: tuple[Size, ...], sums: list[Value],
    step: Step,
) -> list[Value]:  # fmt: skip
    """Sums over nested counters: places move by `loops[k][1]` at each turn of loop k and by `steps` innermost."""
    if loops:
        (count, moves), rest = loops[0], loops[1:]
        if count == 1:
            return summed(b, rest, inner, steps, starts, sums, step)
        loop = b.begin_loop(b.int64(0), value(b, count), 1, sums)
        found = summed(b, rest, inner, steps, moved(b, starts, loop.index, moves), list(loop.carried), step)
        return b.end_loop(loop, found)
    done = round_down(b, inner, UNROLLED)
    if isinstance(inner, int) and inner <= UNROLLED:
        done = 0
    if done != 0:
        loop = b.begin_loop(b.int64(0), value(b, done), UNROLLED, sums)
        sums, places = list(loop.carried), moved(b, starts, loop.index, steps)
        for turn in range(UNROLLED):
            sums = step(moved(b, places, turn, steps), sums)
        sums = b.end_loop(loop, sums)
    if isinstance(inner, int) and isinstance(done, int):
        for turn in range(done, inner):
            sums = step(moved(b, starts, turn, steps), sums)
        return sums
    loop = b.begin_loop(value(b, done), value(b, inner), 1, sums)
    return b.end_loop(loop, step(moved(b, starts, loop.index, steps), list(loop.carried)))


def straight(
    b: Builder, loops: Loops, inner: int, steps: tuple[Size, ...], starts: tuple[Size, ...], sums: list[Value],
    step: Step,
) -> list[Value]:  # fmt: skip
    """As `summed`, written out; all counts are numbers."""
    if loops:
        (count, moves), rest = loops[0], loops[1:]
        assert isinstance(count, int)
        for turn in range(count):
            sums = straight(b, rest, inner, steps, moved(b, starts, turn, moves), sums, step)
        return sums
    for turn in range(inner):
        sums = step(moved(b, starts, turn, steps), sums)
    return sums


def multiplied(b: Builder, sums: list[Value], scalars: Sequence[Value], vectors: Sequence[Value]) -> list[Value]:
    """The sums plus every scalar times every vector."""
    products = iter([b.mul(b.splat(scalar, vector.lanes), vector) for scalar in scalars for vector in vectors])
    return [b.add(total, each) for total, each in zip(sums, products, strict=True)]


def zeros(b: Builder, window: Window, rows: int, columns: Sequence[Column]) -> list[Value]:
    return [b.const(0, window.dtype, column.lanes) for _ in range(rows) for column in columns]
