"""The gradient of a depthwise convolution for its filter as generated code.

Row by row of the result, so that the rows of the image stay in cache, and some vectors of channels at a time: sums for
some places of the filter stay in registers along the row and are added to what stands in the result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from stepjit_compiler.lower.builder import Builder, Value
from stepjit_compiler.lower.conv import SUMS, Extents, Room, Window, nested, summed
from stepjit_compiler.lower.conv_filter import zero
from stepjit_compiler.lower.gemm_tile import Column, Size, at, columns_of, for_each, piece_of, plus, times

MOST_VECTORS = 2


def emit_depthwise_filter(
    b: Builder, window: Window, image: Value, grad: Value, result: Value, extent: Extents
) -> None:  # fmt: skip
    """result[*sizes, channel, column] = the sum over all windows of image[..., channel] times the gradient of both."""
    dtype, columns, lanes = window.dtype, window.share, window.lanes
    zero(b, dtype, result, math.prod(window.sizes) * window.depth)
    room = Room(b, window, extent)
    places = _places(b, window, room)
    vectors = min(MOST_VECTORS, max(1, window.groups // lanes))
    width, most = lanes * vectors, max(1, SUMS // vectors)
    whole = [Column(first, lanes, ((0, lanes),)) for first in range(0, width, lanes)]
    end = window.groups // width * width

    def row(n: Size, *outer: Size) -> None:
        line, slope = times(b, n, room.image), n
        for k, index in enumerate(outer):
            line = plus(b, line, times(b, times(b, index, window.strides[k]), room.pitch[k]))
            slope = plus(b, times(b, slope, room.counts[k]), index)
        pixels = at(b, image, dtype, line)
        slopes = at(b, grad, dtype, times(b, times(b, slope, room.counts[-1]), window.depth))

        def channels(first: Size, vector: list[Column], column: Size) -> None:
            for some in range(0, len(places), most):
                part = places[some : some + most]
                sums = _sums(b, window, room, at(b, pixels, dtype, first), at(
                    b, slopes, dtype, plus(b, times(b, first, columns), column)), part, vector)  # fmt: skip
                _added(b, window, sums, result, first, column, part, vector)

        def one(column: Size) -> None:
            for_each(b, 0, end, width, lambda first: channels(first, whole, column))
            if window.groups > end:
                channels(end, columns_of(window.groups - end, lanes, window.groups), column)

        for_each(b, 0, columns, 1, one)

    nested(b, (room.batch, *room.counts[:-1]), row)


def _places(b: Builder, window: Window, room: Room) -> list[tuple[int, Size]]:
    """(number, where it stands in the image) of every place of the filter."""
    found: list[tuple[int, Size]] = []
    for number in range(math.prod(window.sizes)):
        rest, where = number, 0
        offset: Size = where
        for size, rate, pitch in reversed(list(zip(window.sizes, window.rates, room.pitch, strict=True))):
            offset = plus(b, offset, times(b, pitch, rest % size * rate))
            rest //= size
        found.append((number, offset))
    return found


def _sums(
    b: Builder, window: Window, room: Room, pixels: Value, slopes: Value, places: Sequence[tuple[int, Size]],
    vectors: Sequence[Column],
) -> list[Value]:  # fmt: skip
    """Along one row of windows, for each place and each vector of channels."""
    dtype, columns = window.dtype, window.share

    def step(where: tuple[Size, ...], sums: list[Value]) -> list[Value]:
        pixel, slope = at(b, pixels, dtype, where[0]), at(b, slopes, dtype, where[1])
        grads = [_spaced(b, window, slope, each) for each in vectors]
        found = []
        for k, (_, offset) in enumerate(places):
            line = at(b, pixel, dtype, offset)
            for v, each in enumerate(vectors):
                x = b.load(at(b, line, dtype, each.offset), dtype, each.lanes)
                found.append(b.add(sums[k * len(vectors) + v], b.mul(x, grads[v])))
        return found

    zeros = [b.const(0, dtype, each.lanes) for _ in places for each in vectors]
    steps = (window.strides[-1] * window.pixel, columns * window.groups)
    return summed(b, (), room.counts[-1], steps, (0, 0), zeros, step)


def _spaced(b: Builder, window: Window, slope: Value, each: Column) -> Value:
    """One column's gradients of a vector of channels."""
    dtype, columns = window.dtype, window.share
    where = at(b, slope, dtype, each.offset * columns)
    if columns == 1:
        return b.load(where, dtype, each.lanes)
    scalars = [b.load(at(b, where, dtype, lane * columns), dtype) for lane in range(each.lanes)]
    return scalars[0] if each.lanes == 1 else b.vector_of(scalars)


def _added(
    b: Builder, window: Window, sums: Sequence[Value], result: Value, first: Size, column: Size,
    places: Sequence[tuple[int, Size]], vectors: Sequence[Column],
) -> None:  # fmt: skip
    dtype, columns = window.dtype, window.share
    each = iter(sums)
    for number, _ in places:
        for vector in vectors:
            total = next(each)
            for start, lanes in vector.pieces:
                channel = plus(b, first, vector.offset + start)
                offset = plus(b, plus(b, times(b, channel, columns), column), number * window.depth)
                _add_to(b, at(b, result, dtype, offset), piece_of(b, total, start, lanes), columns)


def _add_to(b: Builder, where: Value, sums: Value, apart: int) -> None:
    dtype = sums.dtype
    assert dtype is not None
    if apart == 1 or sums.lanes == 1:
        b.store(b.add(b.load(where, dtype, sums.lanes), sums), where)
        return
    for lane in range(sums.lanes):
        place = at(b, where, dtype, lane * apart)
        b.store(b.add(b.load(place, dtype), b.lane(sums, lane)), place)
