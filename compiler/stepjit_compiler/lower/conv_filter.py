"""The gradient of a convolution for its filter as generated code."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stepjit_compiler.lower.builder import Builder, Value
from stepjit_compiler.lower.conv import SUMS, Extents, Room, Window, multiplied, nested, panels, summed, tiles, zeros
from stepjit_compiler.lower.gemm_tile import Column, Size, at, piece_of, plus, smaller, times, value
from stepjit_runtime.dtypes import DType

CACHED = 192 << 10
"""Bytes of an image that are gone through again and again."""
TYPICAL_EXTENT = 32
LARGER = 32
"""How many times the size of an image a filter is that is not to be gone through for each image."""


def emit_filter_gradient(
    b: Builder, window: Window, image: Value, grad: Value, result: Value, extent: Extents
) -> None:  # fmt: skip
    """result[*sizes, channels, depth] = for each place the sum over all windows of image times gradient.

    Some rows of an image at a time, so that what a tile reads again and again stays in cache; the sums so far stand in
    the result.
    """
    dtype, depth = window.dtype, window.depth
    zero(b, dtype, result, math.prod(window.sizes) * window.channels * depth)
    room = Room(b, window, extent)
    loops, inner = _runs(b, window, room)
    have = -(-window.share // window.lanes)
    vectors = 3 if have == 3 else min(2, have)
    together = _batch_at_once(window)

    def some(n: Size, group: Size, first_row: Size, rows: Size) -> None:
        source_row = times(b, times(b, first_row, window.strides[0]), room.pitch[0])
        start = plus(b, plus(b, times(b, n, room.image), source_row), times(b, group, window.channels))
        done = plus(b, times(b, n, room.windows), times(b, first_row, room.row))
        pixels, slopes = at(b, image, dtype, start), at(b, grad, dtype, times(b, done, depth))
        walk = _walk(b, window, room, rows, together)

        def panel(first: Size, columns: list[Column]) -> None:
            column = plus(b, times(b, group, window.share), first)
            column_grads = at(b, slopes, dtype, column)

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
                    sums = _filter_tile(b, window, walk, base, column_grads, rows, columns)
                    target = plus(b, times(b, plus(b, place, i), depth), column)
                    _add(b, dtype, sums, at(b, result, dtype, target), depth, rows, columns)

                tiles(b, inner, max(2, min(8, SUMS // len(columns))), tile)

            nested(b, [count for count, _ in loops], run)

        panels(b, window, vectors, panel)

    def one(n: Size, group: Size) -> None:
        if together:
            some(n, group, 0, room.counts[0])
            return
        most, count = _rows_at_once(window), room.counts[0]
        if isinstance(count, int) and count <= most:
            some(n, group, 0, count)
            return
        parts = b.div(value(b, plus(b, count, most - 1)), b.int64(most))
        loop = b.begin_loop(b.int64(0), parts)
        first = times(b, loop.index, most)
        some(n, group, first, smaller(b, most, plus(b, count, times(b, first, -1))))
        b.end_loop(loop)

    nested(b, (1 if together else room.batch, window.groups), one)


Walk = list["tuple[Size, tuple[Size, ...]]"]
"""(count, by how much image and gradient move) of the loops over windows, outermost first."""


def _walk(b: Builder, window: Window, room: Room, rows: Size, together: bool) -> Walk:
    found: Walk = []
    left: Size = window.depth
    counts = (rows, *room.counts[1:])
    for count, stride, pitch in reversed(list(zip(counts, window.strides, room.pitch, strict=True))):
        found.insert(0, (count, (times(b, pitch, stride), left)))
        left = times(b, left, count)
    if together:
        found.insert(0, (room.batch, (room.image, left)))
    return found


def _batch_at_once(window: Window) -> bool:
    """Whether the filter is so much larger than an image that it is better gone through once for all images."""
    image = window.pixel
    for extent in window.space:
        image *= extent if isinstance(extent, int) else TYPICAL_EXTENT
    return math.prod(window.sizes) * window.channels * window.depth > LARGER * image


def _rows_at_once(window: Window) -> int:
    """Rows of windows whose part of the image fits into the cache; some, where that is not known."""
    row = window.strides[0] * window.pixel * window.dtype.itemsize
    for extent in window.space[1:]:
        row *= extent if isinstance(extent, int) else TYPICAL_EXTENT
    return max(1, CACHED // row)


def _runs(b: Builder, window: Window, room: Room) -> tuple[list[tuple[int, Size]], int]:
    """((count, elements apart) of each loop over places, the places that follow without gaps at each)."""
    loops = [(size, times(b, pitch, rate))
             for size, rate, pitch in zip(window.sizes, window.rates, room.pitch, strict=True)]  # fmt: skip
    if window.groups == 1 and (window.rates[-1] == 1 or window.sizes[-1] == 1):
        return loops[:-1], window.sizes[-1] * window.channels
    return loops, window.channels


def _filter_tile(
    b: Builder, window: Window, walk: Walk, base: Value, grads: Value, rows: int, columns: Sequence[Column]
) -> list[Value]:  # fmt: skip
    """The sums over the windows that `walk` goes through for `rows` neighbouring places, by vector."""
    dtype = window.dtype

    def step(places: tuple[Size, ...], sums: list[Value]) -> list[Value]:
        pixel, slope = at(b, base, dtype, places[0]), at(b, grads, dtype, places[1])
        scalars = [b.load(at(b, pixel, dtype, row), dtype) for row in range(rows)]
        vectors = [b.load(at(b, slope, dtype, column.offset), dtype, column.lanes) for column in columns]
        return multiplied(b, sums, scalars, vectors)

    *outer, (inner, steps) = walk
    return summed(b, outer, inner, steps, (0, 0), zeros(b, window, rows, columns), step)


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
