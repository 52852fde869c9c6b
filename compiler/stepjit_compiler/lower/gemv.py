"""Products with a single row or a single column: a vector times a matrix, as sums of rows or as dot products."""

from __future__ import annotations

from collections.abc import Sequence

from stepjit_compiler.lower.builder import Builder, Value
from stepjit_compiler.lower.gemm_tile import (
    CHAINS,
    Column,
    Job,
    Size,
    accumulate,
    at,
    columns_of,
    for_each,
    piece_of,
    plus,
    round_down,
    shuffle,
    times,
    value,
)
from stepjit_runtime import dtypes

BLOCK = 8
"""Vectors of results that a full block of `emit_row_sums` holds in registers."""

STREAMED_BYTES = 1 << 17
"""The rows of a matrix from this size on are prefetched: the hardware does not follow reads of parts of rows."""
AHEAD, LINE_BYTES = 8, 64


def emit_vector(job: Job) -> None:
    """The product when m or n is 1: every operand that is a vector lies densely whatever its transposition."""
    if job.m == 1:
        x, matrix, results, along = job.a, job.bb, job.n, job.transpose_b
    else:
        x, matrix, results, along = job.bb, job.a, job.m, not job.transpose_a
    if along:
        _dot_products(job, x, matrix, results)
    else:
        _row_sums(job, x, matrix, results)


def _put(job: Job, acc: Value, place: Size, pieces: Sequence[tuple[int, int]]) -> None:
    """Finish lanes `pieces` of the results from `place` on (place belongs to lane 0)."""
    b = job.b
    if job.m == 1:
        for first, lanes in pieces:
            job.finish(b, piece_of(b, acc, first, lanes), b.int64(0), value(b, plus(b, place, first)))
        return
    start, count = pieces[0][0], sum(lanes for _, lanes in pieces)
    if count == 1 or (job.plan.direct and count <= 4):
        for lane in range(start, start + count):
            scalar = b.lane(acc, lane) if acc.lanes > 1 else acc
            job.finish(b, scalar, value(b, plus(b, place, lane)), b.int64(0))
        return
    b.store(acc, job.buffer)
    loop = b.begin_loop(b.int64(start), b.int64(start + count))
    scalar = b.load(b.offset(job.buffer, job.dtype, loop.index), job.dtype)
    job.finish(b, scalar, value(b, plus(b, place, loop.index)), b.int64(0))
    b.end_loop(loop)


# --- x[k] times a matrix [k, p]: sums of its rows ---


def _row_sums(job: Job, x: Value, matrix: Value, results: Size) -> None:
    b, lanes = job.b, job.plan.lanes
    width = BLOCK * lanes
    whole = [Column(start, lanes, ((0, lanes),)) for start in range(0, width, lanes)]
    if isinstance(results, int):
        stop = results // width * width
        for_each(b, 0, stop, width, lambda j: _row_block(job, x, matrix, results, j, whole))
        if stop < results:
            _row_block(job, x, matrix, results, stop, columns_of(results - stop, lanes, results))
        return
    start: Value = b.int64(0)
    for columns in (whole, whole[:1], [Column(0, 1, ((0, 1),))]):
        step = sum(column.lanes for column in columns)
        loop = b.begin_loop(start, results, step)
        _row_block(job, x, matrix, results, loop.index, columns)
        b.end_loop(loop)
        start = value(b, round_down(b, results, step))


def _row_block(job: Job, x: Value, matrix: Value, results: Size, j: Size, columns: list[Column]) -> None:
    b, dtype = job.b, job.dtype
    streamed = (
        isinstance(job.k, int) and isinstance(results, int) and job.k * results * dtype.itemsize >= STREAMED_BYTES
    )

    def load_rows(k: Size) -> list[Value]:
        line = at(b, matrix, dtype, plus(b, times(b, k, results), j))
        if streamed:
            assert isinstance(results, int)
            for offset in range(0, sum(column.lanes for column in columns) * dtype.itemsize, LINE_BYTES):
                _prefetch(b, line, results * AHEAD * dtype.itemsize + offset)
        return [b.load(at(b, line, dtype, column.offset), dtype, column.lanes) for column in columns]

    def load_x(k: Size) -> list[Value]:
        return [b.load(at(b, x, dtype, k), dtype)]

    sums = accumulate(b, dtype, job.k, 1, [column.lanes for column in columns], load_x, load_rows)[0]
    uniform = len(columns) > 2 and all(column.pieces == ((0, job.plan.lanes),) for column in columns)
    if job.m != 1 or job.plan.direct or not uniform:
        for column, acc in zip(columns, sums, strict=True):
            _put(job, acc, plus(b, j, column.offset), column.pieces)
        return
    lanes = job.plan.lanes
    for v, acc in enumerate(sums):
        b.store(acc, at(b, job.buffer, dtype, v * lanes))
    loop = b.begin_loop(b.int64(0), b.int64(len(sums) * lanes), lanes)
    acc = b.load(b.offset(job.buffer, dtype, loop.index), dtype, lanes)
    job.finish(b, acc, b.int64(0), value(b, plus(b, j, loop.index)))
    b.end_loop(loop)


def _prefetch(b: Builder, pointer: Value, distance: int) -> None:
    # Not `inbounds`: near the end of the matrix the address lies beyond it, where a prefetch does nothing.
    place = b.assign(f"getelementptr i8, {pointer!r}, i64 {distance}", None)
    b.intrinsics.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    b.raw(f"call void @llvm.prefetch.p0({place!r}, i32 0, i32 3, i32 1)")


# --- x[k] times the rows of a matrix [p, k]: dot products ---


def _dot_products(job: Job, x: Value, matrix: Value, results: Size) -> None:
    b, lanes = job.b, job.plan.lanes
    if isinstance(results, int):
        stop = results // lanes * lanes
        for_each(b, 0, stop, lanes, lambda j: _dot_block(job, x, matrix, j, lanes))
        rest, width = results - stop, lanes // 2
        while rest:
            if rest >= width:
                _dot_block(job, x, matrix, results - rest, width)
                rest -= width
            width //= 2
        return
    start: Value = b.int64(0)
    for rows in (lanes, 1):
        loop = b.begin_loop(start, results, rows)
        _dot_block(job, x, matrix, loop.index, rows)
        b.end_loop(loop)
        start = value(b, round_down(b, results, rows))


def _dot_block(job: Job, x: Value, matrix: Value, j: Size, rows: int) -> None:
    """Results j ... j + rows - 1, summed in lanes along k; the last few k are added one by one."""
    b, dtype, lanes, k = job.b, job.dtype, job.plan.lanes, job.k
    lines = [at(b, matrix, dtype, times(b, plus(b, j, r), k)) for r in range(rows)]
    parts = max(1, CHAINS // rows)
    sums = [[b.const(0, dtype, lanes)] * rows for _ in range(parts)]

    def step(index: Size, part: Sequence[Value], wanted: Value | None = None) -> list[Value]:
        xs = b.load(at(b, x, dtype, index), dtype, lanes)
        vectors = [b.load(at(b, line, dtype, index), dtype, lanes) for line in lines]
        if wanted is not None:
            zero = b.like(0, xs)
            xs = b.select(wanted, xs, zero)
            vectors = [b.select(wanted, vector, zero) for vector in vectors]
        return [b.add(acc, b.mul(xs, vector)) for acc, vector in zip(part, vectors, strict=True)]

    unit = parts * lanes
    done = times(b, k // unit if isinstance(k, int) else b.div(k, b.int64(unit)), unit)
    loop = b.begin_loop(b.int64(0), value(b, done), unit, [each for part in sums for each in part])
    flat = [
        each
        for p in range(parts)
        for each in step(plus(b, loop.index, p * lanes), loop.carried[p * rows : (p + 1) * rows])
    ]
    flat = b.end_loop(loop, flat)
    sums = [flat[p * rows : (p + 1) * rows] for p in range(parts)]
    if isinstance(k, int):
        assert isinstance(done, int)
        for p, index in enumerate(range(done, k - lanes + 1, lanes)):
            sums[p] = step(index, sums[p])
        rest = k % lanes if k >= lanes else 0
        if rest:
            # The last vector overlaps the one before; what was counted already becomes zero on both sides.
            wanted = ", ".join("i1 " + ("true" if lane >= lanes - rest else "false") for lane in range(lanes))
            sums[-1] = step(k - lanes, sums[-1], Value(f"<{wanted}>", dtypes.bool_, lanes))
    elif parts > 1:
        whole = value(b, round_down(b, k, lanes))
        loop = b.begin_loop(value(b, done), whole, lanes, sums[0])
        sums[0] = b.end_loop(loop, step(loop.index, loop.carried))
    while len(sums) > 1:
        half = len(sums) // 2
        sums = [[b.add(p, q) for p, q in zip(sums[i], sums[i + half], strict=True)] for i in range(half)]
    total = across(b, sums[0])
    _put(job, _add_rest(job, x, lines, total), j, ((0, rows),))


def _add_rest(job: Job, x: Value, lines: Sequence[Value], total: Value) -> Value:
    """Add what lies beyond the last whole vector along k, unless overlapping has counted it."""
    b, dtype, lanes, k = job.b, job.dtype, job.plan.lanes, job.k

    def step(index: Size, acc: Value) -> Value:
        scalars = [b.load(at(b, line, dtype, index), dtype) for line in lines]
        vector = scalars[0] if len(scalars) == 1 else b.vector_of(scalars)
        return b.add(acc, b.mul(b.splat(b.load(at(b, x, dtype, index), dtype), len(lines)), vector))

    if isinstance(k, int):
        for index in range(k if k < lanes else 0):
            total = step(index, total)
        return total
    loop = b.begin_loop(value(b, round_down(b, k, lanes)), k, 1, [total])
    return b.end_loop(loop, [step(loop.index, loop.carried[0])])[0]


def across(b: Builder, vectors: Sequence[Value]) -> Value:
    """One vector whose lane r is the sum of the lanes of vectors[r] (a power of two of them)."""
    level, segments = list(vectors), 1
    while level[0].lanes > segments or len(level) > 1:
        lanes = level[0].lanes
        width = lanes // segments
        low = [s * width + lane for s in range(segments) for lane in range(width // 2)]
        if len(level) > 1:
            low += [lanes + pick for pick in low]
            segments *= 2
        high = [pick + width // 2 for pick in low]
        others: list[Value | None] = [*level[1::2]] or [None]
        level = [_fold(b, one, other, low, high) for one, other in zip(level[::2], others, strict=True)]
    return level[0]


def _fold(b: Builder, one: Value, other: Value | None, low: Sequence[int], high: Sequence[int]) -> Value:
    if len(low) == 1:
        return b.add(b.lane(one, low[0]), b.lane(one, high[0]))
    return b.add(shuffle(b, one, other, low), shuffle(b, one, other, high))
