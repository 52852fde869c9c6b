"""Register tiles of a matrix product: rows of C by vectors of consecutive columns, summed over all of k at once.

Columns go panel by panel; a panel of B may be packed into scratch first (always when B is transposed), and all row
tiles of C run over it. Imports the Builder only; which tile suits which product is decided in `matmul.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stepjit_compiler.lower.builder import Builder, Value
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType

Size = int | Value
"""An extent, index or stride: a number, or an i64 that is known when the step runs."""
Finish = Callable[[Builder, Value, Value, Value], None]

STRAIGHT = 96
"""Products of up to so many multiply-adds are written out without a loop over k."""
CHAINS = 8
"""Independent sums that keep two FMA units busy, each with a latency of four cycles."""


@dataclass(frozen=True)
class Plan:
    """How to tile: `rows` by `vectors` of `lanes`, B in `packed` panels or not, results `direct` or `buffered`."""

    lanes: int
    rows: int
    vectors: int
    packed: bool
    direct: bool
    buffered: bool


@dataclass(frozen=True)
class Job:
    """One product being emitted: sizes, operands, what to do with results; `scratch` is None if the plan needs none."""

    b: Builder
    dtype: DType
    m: Size
    n: Size
    k: Size
    transpose_a: bool
    transpose_b: bool
    a: Value
    bb: Value
    finish: Finish
    scratch: Value | None
    plan: Plan

    @property
    def buffer(self) -> Value:
        """Room for one tile of finished sums; packed panels follow it."""
        assert self.scratch is not None
        return self.scratch


@dataclass(frozen=True)
class Column:
    """A vector of a tile: `lanes` columns from `offset` in the panel; `pieces` (first lane, lanes) are wanted of it."""

    offset: int
    lanes: int
    pieces: tuple[tuple[int, int], ...]


# --- sizes ---


def value(b: Builder, x: Size) -> Value:
    return b.int64(x) if isinstance(x, int) else x


def plus(b: Builder, x: Size, y: Size) -> Size:
    if isinstance(x, int) and isinstance(y, int):
        return x + y
    if x == 0 or y == 0:
        return y if x == 0 else x
    return b.assign(f"add nsw i64 {value(b, x).ref}, {value(b, y).ref}", dtypes.int64)


def times(b: Builder, x: Size, y: Size) -> Size:
    if isinstance(x, int) and isinstance(y, int):
        return x * y
    if x == 1 or y == 1:
        return y if x == 1 else x
    return b.assign(f"mul nsw i64 {value(b, x).ref}, {value(b, y).ref}", dtypes.int64)


def smaller(b: Builder, x: Size, y: Size) -> Size:
    if isinstance(x, int) and isinstance(y, int):
        return min(x, y)
    return b.minimum(value(b, x), value(b, y))


def round_down(b: Builder, x: Size, unit: int) -> Size:
    """The largest multiple of `unit` (a power of two) that is at most x."""
    return x // unit * unit if isinstance(x, int) else b.and_(x, b.int64(-unit))


def at(b: Builder, pointer: Value, dtype: DType, index: Size) -> Value:
    return pointer if index == 0 else b.offset(pointer, dtype, value(b, index))


# --- lanes ---


def power_pieces(first: int, count: int) -> tuple[tuple[int, int], ...]:
    """Lanes first ... first + count - 1 cut into powers of two, largest first."""
    pieces = []
    while count:
        width = 1 << (count.bit_length() - 1)
        pieces.append((first, width))
        first, count = first + width, count - width
    return tuple(pieces)


def columns_of(count: int, lanes: int, extent: int) -> list[Column]:
    """Vectors over the last `count` of `extent` columns that never reach beyond them.

    The last vector overlaps its neighbour on the left where the row is long enough: 10 columns are 8 lanes at 0 and
    8 lanes at 2, of which the last two are wanted.
    """
    columns = [Column(at, lanes, ((0, lanes),)) for at in range(0, count - lanes + 1, lanes)]
    rest = count % lanes
    if rest and extent >= lanes:
        columns.append(Column(count - lanes, lanes, power_pieces(lanes - rest, rest)))
    elif rest:
        columns.extend(Column(count - rest + at, width, ((0, width),)) for at, width in power_pieces(0, rest))
    return columns


def shuffle(b: Builder, x: Value, y: Value | None, picks: Sequence[int]) -> Value:
    """Lanes `picks` of x and y laid end to end."""
    text = ", ".join(f"i32 {pick}" for pick in picks)
    other = f"{x.type} poison" if y is None else repr(y)
    return b.assign(f"shufflevector {x!r}, {other}, <{len(picks)} x i32> <{text}>", x.dtype, len(picks))


def piece_of(b: Builder, x: Value, first: int, lanes: int) -> Value:
    if lanes == x.lanes:
        return x
    return b.lane(x, first) if lanes == 1 else shuffle(b, x, None, range(first, first + lanes))


def transposed(b: Builder, rows: Sequence[Value]) -> list[Value]:
    """The columns of a square of 4 x 4 or 8 x 8, by shuffles that stay in 16 bytes until the last stage."""
    size = len(rows)
    if size == 4:
        low = [shuffle(b, rows[i], rows[i + 1], (0, 4, 2, 6)) for i in (0, 2)]
        high = [shuffle(b, rows[i], rows[i + 1], (1, 5, 3, 7)) for i in (0, 2)]
        return [shuffle(b, x, y, half) for half in ((0, 1, 4, 5), (2, 3, 6, 7)) for x, y in (low, high)]
    assert size == 8
    low = [shuffle(b, rows[i], rows[i + 1], (0, 8, 1, 9, 4, 12, 5, 13)) for i in (0, 2, 4, 6)]
    high = [shuffle(b, rows[i], rows[i + 1], (2, 10, 3, 11, 6, 14, 7, 15)) for i in (0, 2, 4, 6)]
    quarters = []
    for group in (low, high):
        for picks in ((0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15)):
            quarters.append([shuffle(b, group[i], group[i + 1], picks) for i in (0, 2)])
    halves = ((0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15))
    return [shuffle(b, x, y, half) for half in halves for x, y in quarters]


# --- sums over k ---


def accumulate(
    b: Builder,
    dtype: DType,
    k: Size,
    rows: int,
    lanes: Sequence[int],
    load_a: Callable[[Size], list[Value]],
    load_b: Callable[[Size], list[Value]],
) -> list[list[Value]]:
    """Sums over k of load_a(k)[r] * load_b(k)[v], for each row r and vector v of so many lanes.

    With few sums at once, every sum is split in interleaved parts, so that FMA latency is hidden.
    """
    parts = 1
    while parts * rows * len(lanes) < CHAINS and parts < 8:
        parts *= 2
    straight = isinstance(k, int) and k * rows * len(lanes) <= STRAIGHT
    if isinstance(k, int):
        while parts > 1 and (parts > k or (straight and parts * 4 > k)):
            parts //= 2
    zeros = [b.const(0, dtype, width) for _ in range(rows) for width in lanes]
    sums = [list(zeros) for _ in range(parts)]

    def step(index: Size, part: list[Value]) -> list[Value]:
        vectors, scalars = load_b(index), load_a(index)
        return [
            b.add(part[r * len(lanes) + v], b.mul(b.splat(scalar, width), vectors[v]))
            for r, scalar in enumerate(scalars)
            for v, width in enumerate(lanes)
        ]

    done: Size = 0
    if not straight:
        done = round_down(b, k, parts)
        loop = b.begin_loop(b.int64(0), value(b, done), parts, [each for part in sums for each in part])
        carried = [loop.carried[p * len(zeros) : (p + 1) * len(zeros)] for p in range(parts)]
        carried = [step(plus(b, loop.index, p), part) for p, part in enumerate(carried)]
        flat = b.end_loop(loop, [each for part in carried for each in part])
        sums = [flat[p * len(zeros) : (p + 1) * len(zeros)] for p in range(parts)]
    if isinstance(k, int):
        assert isinstance(done, int)
        for index in range(done, k):
            sums[index % parts] = step(index, sums[index % parts])
    elif parts > 1:
        loop = b.begin_loop(value(b, done), k, 1, sums[0])
        sums[0] = b.end_loop(loop, step(loop.index, loop.carried))
    while len(sums) > 1:
        half = len(sums) // 2
        sums = [[b.add(x, y) for x, y in zip(sums[p], sums[p + half], strict=True)] for p in range(half)]
    return [sums[0][r * len(lanes) : (r + 1) * len(lanes)] for r in range(rows)]


# --- tiles ---


def emit_tiles(job: Job) -> None:
    """The whole of C, panel by panel."""
    b, plan, n = job.b, job.plan, job.n
    width = plan.lanes * plan.vectors
    whole = [Column(at, plan.lanes, ((0, plan.lanes),)) for at in range(0, width, plan.lanes)]
    if isinstance(n, int):
        count = n // width
        for_each(b, 0, count * width, width, lambda j: _panel(job, j, whole, plan.packed))
        rest = n - count * width
        if rest and plan.packed and job.transpose_b:
            _panel(job, count * width, _padded_columns(rest, plan.lanes), True)
        elif rest:
            _panel(job, count * width, columns_of(rest, plan.lanes, n), False)
        return
    loop = b.begin_loop(b.int64(0), n, width)
    _panel(job, loop.index, whole, plan.packed)
    b.end_loop(loop)
    whole_end = times(b, b.div(n, b.int64(width)), width)
    # Whatever is left goes in panels of one vector, filled up with copies of the last column.
    loop = b.begin_loop(value(b, whole_end), value(b, plus(b, n, plan.lanes - 1)), plan.lanes)
    _panel(job, loop.index, [Column(0, plan.lanes, ())], True)
    b.end_loop(loop)


def _padded_columns(count: int, lanes: int) -> list[Column]:
    return [Column(at, lanes, power_pieces(0, min(lanes, count - at))) for at in range(0, count, lanes)]


def for_each(b: Builder, start: int, stop: int, step: int, body: Callable[[Size], None]) -> None:
    """Run `body` for start, start + step ... below stop; no loop for a single turn."""
    if stop - start <= 0:
        return
    if stop - start == step:
        body(start)
        return
    loop = b.begin_loop(b.int64(start), b.int64(stop), step)
    body(loop.index)
    b.end_loop(loop)


def _panel(job: Job, j: Size, columns: list[Column], packed: bool) -> None:
    """All rows of the panel of columns from j on."""
    b, m = job.b, job.m
    most = _tile_rows(job.plan, len(columns))
    panel = pack(job, j, columns) if packed else None
    if isinstance(m, int):
        tiles = -(-m // most)
        low, more = divmod(m, tiles)
        split = more * (low + 1)
        for_each(b, 0, split, low + 1, lambda i: _tile(job, i, low + 1, j, columns, panel, False))
        for_each(b, split, m, low, lambda i: _tile(job, i, low, j, columns, panel, False))
        return
    # As many tiles of `most` rows as leave the rest to tiles of one row less; only for few rows is the last one short.
    tiles_ = b.div(b.add(m, b.int64(most - 1)), b.int64(most))
    full = b.maximum(b.int64(0), b.sub(m, b.mul(tiles_, b.int64(most - 1))))
    split_ = b.mul(full, b.int64(most))
    loop = b.begin_loop(b.int64(0), split_, most)
    _tile(job, loop.index, most, j, columns, panel, False)
    b.end_loop(loop)
    low = max(most - 1, 1)
    loop = b.begin_loop(split_, b.add(m, b.int64(low - 1)), low)
    _tile(job, loop.index, low, j, columns, panel, True)
    b.end_loop(loop)


def _tile_rows(plan: Plan, vectors: int) -> int:
    """Rows of a tile with so many vectors per row, in the register budget of a full tile."""
    return max(2, min(8, plan.rows * plan.vectors // vectors))


def _tile(job: Job, i: Size, rows: int, j: Size, columns: list[Column], panel: Value | None, short: bool) -> None:
    """The tile of `rows` rows from i on; of a `short` one, rows beyond m repeat the last row and are dropped."""
    b, dtype = job.b, job.dtype
    load_b = _panel_loader(job, panel, columns) if panel else _b_loader(job, j, columns)
    load_a = _a_loader(job, i, rows, short)
    sums = accumulate(b, dtype, job.k, rows, [column.lanes for column in columns], load_a, load_b)
    if job.plan.direct and not short and columns[0].pieces:
        for r, row in enumerate(sums):
            for column, acc in zip(columns, row, strict=True):
                for first, lanes in column.pieces:
                    place = plus(b, j, column.offset + first)
                    job.finish(b, piece_of(b, acc, first, lanes), value(b, plus(b, i, r)), value(b, place))
        return
    stride = sum(column.lanes for column in columns)
    starts = [sum(column.lanes for column in columns[:v]) for v in range(len(columns))]
    for r, row in enumerate(sums):
        for start, acc in zip(starts, row, strict=True):
            b.store(acc, at(b, job.buffer, dtype, r * stride + start))
    count: Size = smaller(b, rows, plus(b, job.m, times(b, i, -1))) if short else rows
    loop = b.begin_loop(b.int64(0), value(b, count))
    line = at(b, job.buffer, dtype, times(b, loop.index, stride))
    row_index = value(b, plus(b, i, loop.index))
    for start, column in zip(starts, columns, strict=True):
        for first, lanes in column.pieces:
            acc = b.load(at(b, line, dtype, start + first), dtype, lanes)
            job.finish(b, acc, row_index, value(b, plus(b, j, column.offset + first)))
    if not columns[0].pieces:
        inner = b.begin_loop(b.int64(0), value(b, smaller(b, stride, plus(b, job.n, times(b, j, -1)))))
        acc = b.load(at(b, line, dtype, inner.index), dtype)
        job.finish(b, acc, row_index, value(b, plus(b, j, inner.index)))
        b.end_loop(inner)
    b.end_loop(loop)


# --- operands ---


def _a_loader(job: Job, i: Size, rows: int, short: bool) -> Callable[[Size], list[Value]]:
    """The scalars of A at some k, one for each row from i on."""
    b, dtype = job.b, job.dtype
    last = plus(b, job.m, -1) if short else 0
    which: list[Size] = [plus(b, i, r) for r in range(rows)]
    if short:
        which = [smaller(b, row, last) for row in which]
    if job.transpose_a:

        def load_across(k: Size) -> list[Value]:
            if short:
                line = at(b, job.a, dtype, times(b, k, job.m))
                return [b.load(at(b, line, dtype, row), dtype) for row in which]
            line = at(b, job.a, dtype, plus(b, times(b, k, job.m), i))
            return [b.load(at(b, line, dtype, r), dtype) for r in range(rows)]

        return load_across
    if isinstance(job.k, int) and not short:
        base, stride = at(b, job.a, dtype, times(b, i, job.k)), job.k

        def load_fixed(k: Size) -> list[Value]:
            line = at(b, base, dtype, k)
            return [b.load(at(b, line, dtype, r * stride), dtype) for r in range(rows)]

        return load_fixed
    lines = [at(b, job.a, dtype, times(b, row, job.k)) for row in which]
    return lambda k: [b.load(at(b, line, dtype, k), dtype) for line in lines]


def _b_loader(job: Job, j: Size, columns: list[Column]) -> Callable[[Size], list[Value]]:
    """The vectors of B at some k, read where they are; of a transposed B lane by lane."""
    b, dtype = job.b, job.dtype

    def load(k: Size) -> list[Value]:
        line = at(b, job.bb, dtype, plus(b, times(b, k, job.n), j))
        return [b.load(at(b, line, dtype, column.offset), dtype, column.lanes) for column in columns]

    def load_lanes(k: Size) -> list[Value]:
        vectors = []
        for column in columns:
            first = plus(b, j, column.offset)
            places = [plus(b, times(b, plus(b, first, lane), job.k), k) for lane in range(column.lanes)]
            scalars = [b.load(at(b, job.bb, dtype, place), dtype) for place in places]
            vectors.append(scalars[0] if column.lanes == 1 else b.vector_of(scalars))
        return vectors

    return load_lanes if job.transpose_b else load


def _panel_loader(job: Job, panel: Value, columns: list[Column]) -> Callable[[Size], list[Value]]:
    b, dtype, lanes = job.b, job.dtype, job.plan.lanes

    def load(k: Size) -> list[Value]:
        line = at(b, panel, dtype, times(b, k, len(columns) * lanes))
        return [b.load(at(b, line, dtype, v * lanes), dtype, lanes) for v in range(len(columns))]

    return load


def pack(job: Job, j: Size, columns: list[Column]) -> Value:
    """Copy the panel of B from column j on into scratch, k by k; columns beyond n repeat the last one."""
    b, dtype, lanes = job.b, job.dtype, job.plan.lanes
    panel = at(b, job.buffer, dtype, BUFFER_VECTORS * lanes)
    width = len(columns) * lanes
    ragged = any(column.pieces != ((0, lanes),) for column in columns)
    if not job.transpose_b and not ragged:
        loop = b.begin_loop(b.int64(0), value(b, job.k))
        vectors = _b_loader(job, j, columns)(loop.index)
        line = at(b, panel, dtype, times(b, loop.index, width))
        for v, vector in enumerate(vectors):
            b.store(vector, at(b, line, dtype, v * lanes))
        b.end_loop(loop)
        return panel
    last = plus(b, job.n, -1) if ragged else None
    done: Size = 0
    if job.transpose_b:
        done = round_down(b, job.k, lanes)
        for_each(b, 0, width, lanes, lambda start: _pack_squares(job, panel, j, start, last, width, done))
    if isinstance(job.k, int) and done == job.k:
        return panel
    loop = b.begin_loop(value(b, done), value(b, job.k))
    line = at(b, panel, dtype, times(b, loop.index, width))
    inner = b.begin_loop(b.int64(0), b.int64(width))
    column = _within(b, plus(b, j, inner.index), last)
    place = (column, job.k, loop.index) if job.transpose_b else (loop.index, job.n, column)
    scalar = b.load(at(b, job.bb, dtype, plus(b, times(b, place[0], place[1]), place[2])), dtype)
    b.store(scalar, at(b, line, dtype, inner.index))
    b.end_loop(inner)
    b.end_loop(loop)
    return panel


def _within(b: Builder, index: Size, last: Size | None) -> Size:
    return index if last is None else smaller(b, index, last)


def _pack_squares(job: Job, panel: Value, j: Size, start: Size, last: Size | None, width: int, stop: Size) -> None:
    """Columns `start` ... of the panel from rows of the transposed B, a square of lanes by lanes at a time."""
    b, dtype, lanes = job.b, job.dtype, job.plan.lanes
    first = plus(b, j, start)
    which = [_within(b, plus(b, first, c), last) for c in range(lanes)]
    lines = [at(b, job.bb, dtype, times(b, row, job.k)) for row in which]
    loop = b.begin_loop(b.int64(0), value(b, stop), lanes)
    rows = [b.load(at(b, line, dtype, loop.index), dtype, lanes) for line in lines]
    target = at(b, panel, dtype, plus(b, times(b, loop.index, width), start))
    for t, column in enumerate(transposed(b, rows)):
        b.store(column, at(b, target, dtype, t * width))
    b.end_loop(loop)


BUFFER_VECTORS = 16
"""Vectors that the tile buffer at the front of scratch holds."""
