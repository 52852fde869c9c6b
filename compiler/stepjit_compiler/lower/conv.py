"""Convolutions of images with channels last and without padding, and their gradients for the filter, as generated code.

For one row of windows the image is a matrix already: window w begins `stride * channels` elements after the one
before it, and what it takes of one row of the image lies there without gaps. So a tile of windows by vectors of result
channels is summed over the places of the filter straight from the image, with no copy of the windows. The gradient for
the filter is the same product seen from the side: places of the filter by vectors of channels, summed over all windows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stepjit_compiler.dims import Extent
from stepjit_compiler.lower.builder import Builder, Value
from stepjit_compiler.lower.gemm_tile import (
    Column,
    Size,
    at,
    columns_of,
    for_each,
    piece_of,
    plus,
    times,
    value,
)
from stepjit_runtime.dtypes import DType

VECTOR_BYTES = 32
SUMS = 12
"""Vectors of sums that a tile keeps in registers."""
STRAIGHT = 32
"""Places of a filter up to which a tile's sum is written out without loops."""
UNROLLED = 4


@dataclass(frozen=True)
class Window:
    """The geometry: an image [batch, *space, channels], filters [*sizes, channels, depth], `counts` windows."""

    dtype: DType
    batch: Extent
    space: tuple[int, ...]
    channels: int
    sizes: tuple[int, ...]
    depth: int
    counts: tuple[int, ...]
    strides: tuple[int, ...]
    rates: tuple[int, ...]

    @property
    def lanes(self) -> int:
        return min(8, VECTOR_BYTES // self.dtype.itemsize)

    @property
    def pitch(self) -> tuple[int, ...]:
        """Elements from one position to the next along each axis of the image's space."""
        return tuple(math.prod(self.space[k + 1 :]) * self.channels for k in range(len(self.space)))

    @property
    def image(self) -> int:
        """Elements of one image."""
        return math.prod(self.space) * self.channels

    @property
    def windows(self) -> int:
        """Windows of one image."""
        return math.prod(self.counts)

    @property
    def runs(self) -> tuple[tuple[tuple[int, int], ...], int]:
        """((count, elements apart) of each loop over places, the places that follow without gaps at each)."""
        loops = [(size, rate * pitch) for size, rate, pitch in zip(self.sizes, self.rates, self.pitch, strict=True)]
        if self.rates[-1] == 1 or self.sizes[-1] == 1:
            return tuple(loops[:-1]), self.sizes[-1] * self.channels
        return tuple(loops), self.channels


# --- what both share ---


def panels(b: Builder, window: Window, vectors: int, body: Callable[[Size, list[Column]], None]) -> None:
    """Run `body(first column, vectors)` for the result's channels, so many vectors at a time."""
    lanes, width = window.lanes, window.lanes * vectors
    whole = [Column(first, lanes, ((0, lanes),)) for first in range(0, width, lanes)]
    end = window.depth // width * width
    for_each(b, 0, end, width, lambda first: body(first, whole))
    if window.depth > end:
        body(end, columns_of(window.depth - end, lanes, window.depth))


def tiles(b: Builder, count: int, most: int, body: Callable[[Size, int], None]) -> None:
    """Run `body(first, height)` for `count` rows in tiles of nearly equal heights up to `most`."""
    parts = -(-count // most)
    low, more = divmod(count, parts)
    split = more * (low + 1)
    for_each(b, 0, split, low + 1, lambda first: body(first, low + 1))
    for_each(b, split, count, low, lambda first: body(first, low))


def nested(b: Builder, counts: Sequence[Extent], extent: Callable[[Extent], Value], body: Callable[..., None]) -> None:
    """Loops over all positions; `body(*indices)`."""

    def level(done: tuple[Size, ...]) -> None:
        if len(done) == len(counts):
            body(*done)
            return
        count = counts[len(done)]
        if count == 1:
            level((*done, 0))
            return
        loop = b.begin_loop(b.int64(0), extent(count))
        level((*done, loop.index))
        b.end_loop(loop)

    level(())


def summed(
    b: Builder,
    loops: Sequence[tuple[int, tuple[int, ...]]],
    inner: int,
    steps: tuple[int, ...],
    starts: tuple[Size, ...],
    sums: list[Value],
    step: Callable[[tuple[Size, ...], list[Value]], list[Value]],
) -> list[Value]:
    """Sums over nested counters: places advance by `loops[k][1]` at each turn of loop k and by `steps` innermost."""
    if loops:
        count, moves = loops[0]
        rest = loops[1:]
        if count == 1:
            return summed(b, rest, inner, steps, starts, sums, step)
        loop = b.begin_loop(b.int64(0), b.int64(count), 1, sums)
        moved = tuple(plus(b, first, times(b, loop.index, move)) for first, move in zip(starts, moves, strict=True))
        return b.end_loop(loop, summed(b, rest, inner, steps, moved, list(loop.carried), step))
    done = inner // UNROLLED * UNROLLED if inner > UNROLLED else 0
    if done:
        loop = b.begin_loop(b.int64(0), b.int64(done), UNROLLED, sums)
        sums = list(loop.carried)
        moved = tuple(plus(b, first, times(b, loop.index, move)) for first, move in zip(starts, steps, strict=True))
        for turn in range(UNROLLED):
            sums = step(tuple(plus(b, place, turn * move) for place, move in zip(moved, steps, strict=True)), sums)
        sums = b.end_loop(loop, sums)
    for turn in range(done, inner):
        sums = step(tuple(plus(b, place, turn * move) for place, move in zip(starts, steps, strict=True)), sums)
    return sums


def straight(
    b: Builder,
    loops: Sequence[tuple[int, tuple[int, ...]]],
    inner: int,
    steps: tuple[int, ...],
    starts: tuple[Size, ...],
    sums: list[Value],
    step: Callable[[tuple[Size, ...], list[Value]], list[Value]],
) -> list[Value]:
    """As `summed`, written out."""
    if loops:
        (count, moves), rest = loops[0], loops[1:]
        for turn in range(count):
            moved = tuple(plus(b, first, turn * move) for first, move in zip(starts, moves, strict=True))
            sums = straight(b, rest, inner, steps, moved, sums, step)
        return sums
    for turn in range(inner):
        sums = step(tuple(plus(b, place, turn * move) for place, move in zip(starts, steps, strict=True)), sums)
    return sums


def multiplied(b: Builder, sums: list[Value], scalars: Sequence[Value], vectors: Sequence[Value]) -> list[Value]:
    """The sums plus every scalar times every vector."""
    products = iter([b.mul(b.splat(scalar, vector.lanes), vector) for scalar in scalars for vector in vectors])
    return [b.add(total, each) for total, each in zip(sums, products, strict=True)]


def zeros(b: Builder, window: Window, rows: int, columns: Sequence[Column]) -> list[Value]:
    return [b.const(0, window.dtype, column.lanes) for _ in range(rows) for column in columns]


# --- forward ---


def forward_vectors(window: Window) -> int:
    """Vectors of result channels per tile."""
    have = -(-window.depth // window.lanes)
    wanted = {1: 6, 2: 4, 3: 4}.get(window.counts[-1], 2)
    return 3 if have == 3 else min(have, wanted)


def scratch_elements(window: Window) -> int:
    """Room for one panel of the filter, where there is more than one panel."""
    width = forward_vectors(window) * window.lanes
    return math.prod(window.sizes) * window.channels * width if window.depth > width else 0


def emit_forward(
    b: Builder,
    window: Window,
    image: Value,
    kernel: Value,
    extent: Callable[[Extent], Value],
    finish: Callable[[Builder, Value, tuple[Size, ...], Value], None],
    scratch: Value | None,
) -> None:
    """Loops that call `finish(b, acc, (image, *window), channel)` once for every vector of the result."""
    vectors = forward_vectors(window)

    def panel(first: Size, columns: list[Column]) -> None:
        place, pitch = at(b, kernel, window.dtype, first), window.depth
        whole = sum(column.lanes for column in columns)
        if scratch is not None and columns[0].pieces == ((0, window.lanes),) and whole == vectors * window.lanes:
            _pack(b, window, place, columns, scratch)
            place, pitch = scratch, whole

        def row(n: Size, *outer: Size) -> None:
            start = times(b, n, window.image)
            for index, stride, pitch_ in zip(outer, window.strides, window.pitch, strict=False):
                start = plus(b, start, times(b, index, stride * pitch_))
            line = at(b, image, window.dtype, start)

            def tile(w: Size, rows: int) -> None:
                base = at(b, line, window.dtype, times(b, w, window.strides[-1] * window.channels))
                sums = _tile(b, window, base, rows, place, pitch, columns)
                _store(b, sums, (n, *outer), w, first, rows, columns, finish)

            tiles(b, window.counts[-1], max(2, min(8, SUMS // len(columns))), tile)

        nested(b, (window.batch, *window.counts[:-1]), extent, row)

    panels(b, window, vectors, panel)


def _pack(b: Builder, window: Window, place: Value, columns: list[Column], scratch: Value) -> None:
    """Lay one panel of the filter out row behind row."""
    width = sum(column.lanes for column in columns)
    loop = b.begin_loop(b.int64(0), b.int64(math.prod(window.sizes) * window.channels))
    source = at(b, place, window.dtype, times(b, loop.index, window.depth))
    target = at(b, scratch, window.dtype, times(b, loop.index, width))
    for column in columns:
        vector = b.load(at(b, source, window.dtype, column.offset), window.dtype, column.lanes)
        b.store(vector, at(b, target, window.dtype, column.offset))
    b.end_loop(loop)


def _tile(
    b: Builder, window: Window, base: Value, rows: int, place: Value, pitch: int, columns: Sequence[Column]
) -> list[Value]:
    """The sums of `rows` neighbouring windows, by vector."""
    dtype, apart = window.dtype, window.strides[-1] * window.channels
    loops, inner = window.runs
    every = math.prod(window.sizes) * window.channels

    def step(places: tuple[Size, ...], sums: list[Value]) -> list[Value]:
        pixel, weight = at(b, base, dtype, places[0]), at(b, place, dtype, times(b, places[1], pitch))
        scalars = [b.load(at(b, pixel, dtype, row * apart), dtype) for row in range(rows)]
        vectors = [b.load(at(b, weight, dtype, column.offset), dtype, column.lanes) for column in columns]
        return multiplied(b, sums, scalars, vectors)

    moves, left = [], inner
    for count, move in reversed(loops):
        moves.append((count, (move, left)))
        left *= count
    run = straight if every <= STRAIGHT else summed
    return run(b, moves[::-1], inner, (1, 1), (0, 0), zeros(b, window, rows, columns), step)


def _store(
    b: Builder, sums: list[Value], outer: tuple[Size, ...], w: Size, first: Size, rows: int,
    columns: Sequence[Column], finish: Callable[[Builder, Value, tuple[Size, ...], Value], None],
) -> None:  # fmt: skip
    each = iter(sums)
    for row in range(rows):
        for column in columns:
            acc = next(each)
            for start, lanes in column.pieces:
                channel = plus(b, first, column.offset + start)
                finish(b, piece_of(b, acc, start, lanes), (*outer, plus(b, w, row)), value(b, channel))


# --- the gradient for the filter ---


def emit_filter_gradient(
    b: Builder, window: Window, image: Value, grad: Value, result: Value, extent: Callable[[Extent], Value]
) -> None:
    """result[*sizes, channels, depth] = for each place the sum over all windows of image times gradient.

    Image by image, so that what a tile reads again and again stays in cache; the sums so far stand in the result.
    """
    dtype, depth = window.dtype, window.depth
    zero(b, dtype, result, math.prod(window.sizes) * window.channels * depth)
    loops, inner = window.runs
    vectors = 3 if -(-depth // window.lanes) == 3 else min(2, -(-depth // window.lanes))

    def one(n: Size) -> None:
        pixels = at(b, image, dtype, times(b, n, window.image))
        slopes = at(b, grad, dtype, times(b, n, window.windows * depth))

        def panel(first: Size, columns: list[Column]) -> None:
            column_grads = at(b, slopes, dtype, first)

            def run(*outer: Size) -> None:
                source: Size = 0
                place: Size = 0
                left = inner
                for index, (count, move) in reversed(list(zip(outer, loops, strict=True))):
                    source = plus(b, source, times(b, index, move))
                    place = plus(b, place, times(b, index, left))
                    left *= count

                def tile(i: Size, rows: int) -> None:
                    base = at(b, pixels, dtype, plus(b, source, i))
                    sums = _filter_tile(b, window, base, column_grads, rows, columns)
                    target = plus(b, times(b, plus(b, place, i), depth), first)
                    _add(b, dtype, sums, at(b, result, dtype, target), depth, rows, columns)

                tiles(b, inner, max(2, min(8, SUMS // len(columns))), tile)

            nested(b, [count for count, _ in loops], extent, run)

        panels(b, window, vectors, panel)

    nested(b, (window.batch,), extent, one)


def _filter_tile(
    b: Builder, window: Window, base: Value, grads: Value, rows: int, columns: Sequence[Column]
) -> list[Value]:
    """The sums over one image's windows for `rows` neighbouring places, by vector."""
    dtype = window.dtype

    def step(places: tuple[Size, ...], sums: list[Value]) -> list[Value]:
        pixel, slope = at(b, base, dtype, places[0]), at(b, grads, dtype, places[1])
        scalars = [b.load(at(b, pixel, dtype, row), dtype) for row in range(rows)]
        vectors = [b.load(at(b, slope, dtype, column.offset), dtype, column.lanes) for column in columns]
        return multiplied(b, sums, scalars, vectors)

    moves, left = [], window.depth
    for count, stride, pitch in reversed(list(zip(window.counts, window.strides, window.pitch, strict=True))):
        moves.append((count, (stride * pitch, left)))
        left *= count
    (inner, steps), *outer = moves
    return summed(b, outer[::-1], inner, steps, (0, 0), zeros(b, window, rows, columns), step)


def _add(
    b: Builder, dtype: DType, sums: list[Value], target: Value, depth: int, rows: int, columns: Sequence[Column]
) -> None:
    each = iter(sums)
    for row in range(rows):
        for column in columns:
            acc = next(each)
            for start, lanes in column.pieces:
                where = at(b, target, dtype, row * depth + column.offset + start)
                b.store(b.add(b.load(where, dtype, lanes), piece_of(b, acc, start, lanes)), where)


def zero(b: Builder, dtype: DType, pointer: Value, count: int) -> None:
    """Fill with zeros."""
    b.externals.add("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
    b.raw(f"call void @llvm.memset.p0.i64(ptr {pointer.ref}, i8 0, i64 {count * dtype.itemsize}, i1 false)")
