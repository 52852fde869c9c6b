"""Convolutions and transposed convolutions as generated code: tiles of windows by vectors of the result's channels.

Results of a few channels fill no vectors: for them the vectors run along the image's channels and are added up at last.

A transposed convolution with stride s is s convolutions along each axis, one for every residue of the result's
positions: each takes every s-th place of the filter only. They are called phases here; what they make stands s apart.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from stepjit_compiler.lower.builder import Builder, Value
from stepjit_compiler.lower.conv import (
    SUMS,
    Extents,
    Room,
    Window,
    multiplied,
    nested,
    panels,
    straight,
    summed,
    tiles,
    zeros,
)
from stepjit_compiler.lower.gemm_tile import Column, Size, at, for_each, piece_of, plus, times, value

STRAIGHT = 32
"""Places of a filter up to which a tile's sum is written out without loops."""

NARROW = 4
"""Channels of the result up to which vectors run along those of the image."""

Finish = Callable[[Builder, Value, "tuple[Size, ...]", Value], None]
"""`finish(b, sums, (image, *position), channel)`: takes one vector of the result."""


@dataclass(frozen=True)
class Sweep:
    """`count` windows along one axis.

    The first begins at `start` of the image and makes position `target` of the result; each next one is `stride` on in
    the image and `apart` on in the result. A window takes `taps` elements `rate` apart, which meet the filter's places
    from `first` on, `every` apart.
    """

    count: Size
    start: Size
    stride: int
    target: Size
    apart: int
    taps: int
    rate: int
    first: Size
    every: int


def forward_vectors(window: Window) -> int:
    """Vectors of result channels per tile."""
    have = -(-window.share // window.lanes)
    width = window.counts[-1]
    if isinstance(width, int) and window.turned:
        width = -(-width // window.strides[-1])
    wanted = {1: 6, 2: 4, 3: 4}.get(width, 2) if isinstance(width, int) else 2
    return 3 if have == 3 else min(have, wanted)


def is_narrow(window: Window) -> bool:
    """Whether vectors run along the image's channels."""
    return window.share <= NARROW and window.channels % window.lanes == 0


def scratch_elements(window: Window) -> int:
    """Room for one panel of the filter, where there is more than one panel."""
    if is_narrow(window):
        return math.prod(window.sizes) * window.channels * window.share
    width = forward_vectors(window) * window.lanes
    return math.prod(window.sizes) * window.channels * width if window.depth > width else 0


def emit_forward(
    b: Builder, window: Window, image: Value, kernel: Value, extent: Extents, finish: Finish, scratch: Value | None
) -> None:
    """Loops that call `finish` once for every vector of the result."""
    room, form = Room(b, window, extent), _NarrowPass if is_narrow(window) else _Pass
    axes = [_phases(b, window, room, axis) if window.turned else _plain(window, room, axis)
            for axis in range(len(window.sizes))]  # fmt: skip

    def group(g: Size) -> None:
        for phases in itertools.product(*axes):
            _each_phase(b, phases, (), lambda sweeps: form(b, window, room, sweeps, g, scratch).emit(
                image, kernel, finish))  # fmt: skip

    for_each(b, 0, window.groups, 1, group)


# --- which windows there are ---

Phases = tuple[int, int, Callable[[Size], Sweep]]
"""(first, end, the sweep of each): phases that differ only in numbers."""


def _plain(window: Window, room: Room, axis: int) -> list[Phases]:
    sweep = Sweep(room.counts[axis], 0, window.strides[axis], 0, 1, window.sizes[axis], window.rates[axis], 0, 1)
    return [(0, 1, lambda _: sweep)]


def _phases(b: Builder, window: Window, room: Room, axis: int) -> list[Phases]:
    """The phases along an axis, those with as many taps together."""
    stride, rate, size = window.strides[axis], window.rates[axis], window.sizes[axis]
    found: list[Phases] = []
    for taps, group in itertools.groupby(range(stride), lambda p: len(_taps(p, stride, rate, size))):
        phases = list(group)
        whole = rate == 1 and len(phases) > 1
        for first, end in [(phases[0], phases[-1] + 1)] if whole else [(p, p + 1) for p in phases]:
            sweep = _sweep_of(b, window, room, axis, taps, first)
            found.append((first, end, sweep))
    return found


def _taps(phase: int, stride: int, rate: int, size: int) -> list[int]:
    """The filter's places that meet elements of the image in this phase."""
    return [t for t in range(size) if t * rate % stride == phase]


def _sweep_of(
    b: Builder, window: Window, room: Room, axis: int, taps: int, example: int
) -> Callable[[Size], Sweep]:  # fmt: skip
    """Position i of the result gets image[w] * filter[t] wherever w * stride + t * rate = i + before.

    With i + before = q * stride + phase, place t stands at w = q - (t * rate - phase) / stride. The filter is turned
    round: its place u is size - 1 - t. The image has zeros around it, `edge` of them in front.
    """
    stride, rate, size = window.strides[axis], window.rates[axis], window.sizes[axis]
    every, step = stride // math.gcd(stride, rate), rate // math.gcd(stride, rate)
    extent, before, edge = room.counts[axis], room.before[axis], turned_edge(size, rate, stride)

    def sweep(phase: Size) -> Sweep:
        first_tap: Size = phase
        back: Size = 0
        if isinstance(phase, int) and taps:
            first_tap = _taps(phase, stride, rate, size)[0]
            back = (first_tap * rate - phase) // stride
        past = plus(b, plus(b, before, times(b, phase, -1)), stride - 1)
        low = _divided(b, past, stride)  # the first q whose position is not before the result
        high = _divided(b, plus(b, past, extent), stride)  # the first one beyond it
        count = plus(b, high, times(b, low, -1))
        if isinstance(extent, int) and extent % stride == 0:
            count = extent // stride
        start = plus(b, plus(b, low, times(b, back, -1)), edge - max(taps - 1, 0) * step)
        target = plus(b, plus(b, times(b, low, stride), phase), times(b, before, -1))
        first = plus(b, size - 1 - max(taps - 1, 0) * every, times(b, first_tap, -1))
        return Sweep(count, start, 1, target, stride, taps, step, first, every)

    return sweep


def _divided(b: Builder, x: Size, by: int) -> Size:
    """x // by for x >= 0."""
    if isinstance(x, int) or by == 1:
        return x if by == 1 else x // by  # type: ignore[operator]
    return b.div(x, b.int64(by))


def turned_edge(size: int, rate: int, stride: int) -> int:
    """Zeros that a transposed convolution reads in front of an axis of the image."""
    return (size - 1) * rate // stride


def _each_phase(
    b: Builder, phases: Sequence[Phases], done: tuple[Sweep, ...], body: Callable[[tuple[Sweep, ...]], None]
) -> None:
    """Loops over the phases of every axis."""
    if not phases:
        body(done)
        return
    first, end, sweep = phases[0]
    for_each(b, first, end, 1, lambda phase: _each_phase(b, phases[1:], (*done, sweep(phase)), body))


# --- one pass over all windows of one phase, with the channels of one group ---


class _Pass:
    def __init__(
        self, b: Builder, window: Window, room: Room, sweeps: Sequence[Sweep], group: Size, scratch: Value | None
    ) -> None:
        self.b, self.window, self.room, self.sweeps = b, window, room, sweeps
        self.group, self.scratch = group, scratch
        self.places = math.prod(each.taps for each in sweeps)
        self.vectors = forward_vectors(window)

    def emit(self, image: Value, kernel: Value, finish: Finish) -> None:
        b, window, group = self.b, self.window, self.group
        image = at(b, image, window.dtype, times(b, group, window.channels))
        begin = times(b, group, window.share)

        def panel(first: Size, columns: list[Column]) -> None:
            column = plus(b, begin, first)
            where = at(b, kernel, window.dtype, column)
            packed = self._may_pack(columns)
            if packed:
                self._pack(where, columns)
            self._windows(image, where, packed, columns, column, finish)

        panels(b, window, self.vectors, panel)

    def _may_pack(self, columns: Sequence[Column]) -> bool:
        lanes = self.window.lanes
        return self.scratch is not None and [each.pieces for each in columns] == [((0, lanes),)] * self.vectors

    def _pack(self, where: Value, columns: Sequence[Column]) -> None:
        """Lay one panel of the filter's places that this phase takes out row behind row."""
        b, window, scratch = self.b, self.window, self.scratch
        assert scratch is not None
        width = len(columns) * window.lanes

        def row(source: Size, tap: Size, channel: Size) -> None:
            target = plus(b, times(b, tap, window.channels), channel)
            line = at(b, where, window.dtype, times(b, source, window.depth))
            out = at(b, scratch, window.dtype, times(b, target, width))
            for column in columns:
                vector = b.load(at(b, line, window.dtype, column.offset), window.dtype, column.lanes)
                b.store(vector, at(b, out, window.dtype, column.offset))

        self._each_row(row)

    def _each_row(self, body: Callable[[Size, Size, Size], None]) -> None:
        """Run `body(row of the filter, number of the tap, channel)` for all that this phase takes."""
        b, window = self.b, self.window

        def one(*index: Size) -> None:
            source: Size = index[-1]
            tap: Size = 0
            for turn, sweep, rows in zip(index, self.sweeps, window.rows, strict=False):
                place = plus(b, sweep.first, times(b, turn, sweep.every))
                source = plus(b, source, times(b, place, rows))
                tap = plus(b, times(b, tap, sweep.taps), turn)
            body(source, tap, index[-1])

        nested(b, [*(each.taps for each in self.sweeps), window.channels], one)

    def _windows(
        self, image: Value, where: Value, packed: bool, columns: list[Column], column: Size, finish: Finish
    ) -> None:
        b, window, room, sweeps = self.b, self.window, self.room, self.sweeps
        pitch = window.depth
        if packed:
            assert self.scratch is not None
            where, pitch = self.scratch, len(columns) * window.lanes
        else:
            for sweep, rows in zip(sweeps, window.rows, strict=True):
                where = at(b, where, window.dtype, times(b, sweep.first, rows * window.depth))

        def row(n: Size, *outer: Size) -> None:
            line = times(b, n, room.image)
            for index, sweep, apart in zip((*outer, 0), sweeps, room.pitch, strict=True):
                line = plus(b, line, times(b, plus(b, sweep.start, times(b, index, sweep.stride)), apart))
            base = at(b, image, window.dtype, line)
            position = [plus(b, each.target, times(b, index, each.apart))
                        for index, each in zip(outer, sweeps, strict=False)]  # fmt: skip

            def tile(w: Size, rows: int) -> None:
                pixels = at(b, base, window.dtype, times(b, w, sweeps[-1].stride * window.pixel))
                sums = self._tile(pixels, rows, where, pitch, packed, columns)
                across = [plus(b, sweeps[-1].target, times(b, plus(b, w, r), sweeps[-1].apart)) for r in range(rows)]
                _store(b, sums, (n, *position), across, column, columns, finish)

            # Phases repeat the code: fewer kinds of tiles are worth a slower rest.
            tiles(b, sweeps[-1].count, max(2, min(8, SUMS // len(columns))), tile, (1,) if window.turned else (2, 1))

        nested(b, (room.batch, *(each.count for each in sweeps[:-1])), row)

    def _tile(
        self, base: Value, rows: int, where: Value, pitch: int, packed: bool, columns: Sequence[Column]
    ) -> list[Value]:
        """The sums of `rows` neighbouring windows, by vector."""
        b, window = self.b, self.window
        dtype, apart = window.dtype, self.sweeps[-1].stride * window.pixel
        sums = zeros(b, window, rows, columns)
        if not self.places:
            return sums
        loops, inner = self._loops(packed)

        def step(places: tuple[Size, ...], sums: list[Value]) -> list[Value]:
            pixel, weight = at(b, base, dtype, places[0]), at(b, where, dtype, times(b, places[1], pitch))
            scalars = [b.load(at(b, pixel, dtype, row * apart), dtype) for row in range(rows)]
            vectors = [b.load(at(b, weight, dtype, column.offset), dtype, column.lanes) for column in columns]
            return multiplied(b, sums, scalars, vectors)

        run = straight if self.places * window.channels <= STRAIGHT else summed
        return run(b, loops, inner, (1, 1), (0, 0), sums, step)

    def _loops(self, packed: bool) -> tuple[list[tuple[int, tuple[Size, ...]]], int]:
        """The loops over places that leave gaps, and how many rows of the filter follow without any."""
        b, window, left = self.b, self.window, self.window.channels
        loops: list[tuple[int, tuple[Size, ...]]] = []
        for sweep, pitch, rows in reversed(list(zip(self.sweeps, self.room.pitch, window.rows, strict=True))):
            row_move = left if packed else sweep.every * rows
            loops.insert(0, (sweep.taps, (times(b, pitch, sweep.rate), row_move)))
            left *= sweep.taps
        count, moves = loops[-1]
        if moves == (window.channels, window.channels) or count == 1:
            return loops[:-1], window.channels * count
        return loops, window.channels


class _NarrowPass(_Pass):
    """The filter lies in scratch channel of the result by channel, for each of its places."""

    def emit(self, image: Value, kernel: Value, finish: Finish) -> None:
        b, window = self.b, self.window
        column = times(b, self.group, window.share)
        self._pack(at(b, kernel, window.dtype, column), ())
        assert self.scratch is not None
        columns = [Column(each, 1, ((0, 1),)) for each in range(window.share)]
        pixels = at(b, image, window.dtype, times(b, self.group, window.channels))
        self._windows(pixels, self.scratch, True, columns, column, finish)

    def _pack(self, where: Value, columns: Sequence[Column]) -> None:
        b, window, scratch = self.b, self.window, self.scratch
        assert scratch is not None
        dtype, depth = window.dtype, window.share * window.channels

        def row(source: Size, tap: Size, channel: Size) -> None:
            line = at(b, where, dtype, times(b, source, window.depth))
            for each in range(window.share):
                place = plus(b, times(b, tap, depth), plus(b, channel, each * window.channels))
                b.store(b.load(at(b, line, dtype, each), dtype), at(b, scratch, dtype, place))

        self._each_row(row)

    def _tile(
        self, base: Value, rows: int, where: Value, pitch: int, packed: bool, columns: Sequence[Column]
    ) -> list[Value]:
        b, window, share = self.b, self.window, self.window.share
        dtype, lanes, apart = window.dtype, window.lanes, self.sweeps[-1].stride * window.pixel
        if not self.places:
            return zeros(b, window, rows, columns)

        def step(places: tuple[Size, ...], sums: list[Value]) -> list[Value]:
            pixel, weight = at(b, base, dtype, places[0]), at(b, where, dtype, places[1])
            pixels = [b.load(at(b, pixel, dtype, row * apart), dtype, lanes) for row in range(rows)]
            weights = [b.load(at(b, weight, dtype, each * window.channels), dtype, lanes) for each in range(share)]
            products = iter([b.mul(x, w) for x in pixels for w in weights])
            return [b.add(total, each) for total, each in zip(sums, products, strict=True)]

        loops: list[tuple[int, tuple[Size, ...]]] = []
        left = share * window.channels
        for sweep, apart_ in reversed(list(zip(self.sweeps, self.room.pitch, strict=True))):
            loops.insert(0, (sweep.taps, (times(b, apart_, sweep.rate), left)))
            left *= sweep.taps
        sums = [b.const(0, dtype, lanes) for _ in range(rows * share)]
        found = summed(b, loops, window.channels // lanes, (lanes, lanes), (0, 0), sums, step)
        return [_added_up(b, each) for each in found]


def _added_up(b: Builder, vector: Value) -> Value:
    while vector.lanes > 1:
        vector = b.add(b.half_of(vector, False), b.half_of(vector, True))
    return vector


def _store(
    b: Builder, sums: list[Value], outer: tuple[Size, ...], across: Sequence[Size], first: Size,
    columns: Sequence[Column], finish: Finish,
) -> None:  # fmt: skip
    for position, (column, acc) in zip(_repeated(across, len(columns)), zip(itertools.cycle(columns), sums)):
        for start, lanes in column.pieces:
            channel = plus(b, first, column.offset + start)
            finish(b, piece_of(b, acc, start, lanes), (*outer, position), value(b, channel))


def _repeated(items: Sequence[Size], times_each: int) -> Iterator[Size]:
    return itertools.chain.from_iterable(itertools.repeat(each, times_each) for each in items)
