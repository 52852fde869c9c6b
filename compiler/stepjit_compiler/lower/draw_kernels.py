"""Kernels that choose at random: classes by their log probabilities, and the order of rows."""

from __future__ import annotations

from stepjit_compiler import dims
from stepjit_compiler.dims import Extent
from stepjit_compiler.ir import Ref
from stepjit_compiler.lower import philox, vmath
from stepjit_compiler.lower.builder import Builder, Value
from stepjit_compiler.lower.index import Index, LoopVar
from stepjit_compiler.lower.moves import nest
from stepjit_compiler.lower.point import Point
from stepjit_compiler.lower.random_source import BLOCKS, Source
from stepjit_compiler.lower.sweep import serial
from stepjit_runtime import dtypes

_SCRATCH = Value("%scratch", None)

# --- Classes ---


def emit_classes(point: Point, i: int, source: Source) -> Extent:
    """Per row the running totals of exp(logit - largest); per sample the first that is above its uniform's part.

    Where none is, as no class has a chance, that is the number of classes.
    """
    b, node = point.b, point.step.nodes[i]
    rows, classes = point.step.type(node.inputs[0]).dims
    samples, out = node.types[0].dims[1], node.types[0].dtype
    shared = philox.keys(b, source.key, source.counter_hi, 1)
    count = point.extent(classes)
    last = b.sub(count, b.int64(1))

    def row(var: LoopVar, carried: list[Value]) -> list[Value]:
        _running_totals(point, node.inputs[0], point.var(var), classes)
        whole = b.load(b.offset(_SCRATCH, dtypes.float64, last), dtypes.float64)

        def sample(each: LoopVar, inner: list[Value]) -> list[Value]:
            number = point.var(var) * samples + point.var(each)
            threshold = b.exact_mul(_uniform(b, source, shared, point.value(number)), whole)
            found = _first_above(b, threshold, count)
            point.store_at(b.convert(found, out), point.pointer(Ref(i, 0)), number)
            return inner

        serial(point, samples, sample)
        return carried

    serial(point, rows, row)
    return classes * 8


def _running_totals(point: Point, logits: Ref, row: Index, classes: Extent) -> None:
    """To the scratch memory; what is not finite counts for nothing."""
    b = point.b

    def finite(var: LoopVar) -> tuple[Value, Value]:
        value = b.convert(point.at(logits, (row, point.var(var))), dtypes.float64)
        return value, b.compare("lt", b.abs(value), b.like(float("inf"), value))

    def larger(var: LoopVar, carried: list[Value]) -> list[Value]:
        value, counts = finite(var)
        above = b.and_(counts, b.not_(b.compare("ge", carried[0], value)))
        return [b.select(above, value, carried[0])]

    (largest,) = serial(point, classes, larger, [b.const(float("-inf"), dtypes.float64)])

    def add(var: LoopVar, carried: list[Value]) -> list[Value]:
        value, counts = finite(var)
        part = vmath.exp(b, b.exact_sub(b.select(counts, value, largest), largest))
        total = b.exact_add(carried[0], b.select(counts, part, b.like(0, part)))
        b.store(total, b.offset(_SCRATCH, dtypes.float64, var.value))
        return [total]

    serial(point, classes, add, [b.const(0.0, dtypes.float64)])


def _uniform(b: Builder, source: Source, shared: philox.Keys, number: Value) -> Value:
    """float64 number `number` of the stream: a block has two."""
    at = b.add(source.first, b.lshr(number, b.int64(1)))
    words = philox.block(b, Value(at.ref, dtypes.uint64), shared)
    second = b.compare("ne", b.and_(number, b.int64(1)), b.int64(0))
    high, low = (b.select(second, words[k + 2], words[k]) for k in range(2))
    return philox.unit_64(b, high, low)


def _first_above(b: Builder, threshold: Value, count: Value) -> Value:
    """The first of the ascending totals that is above the threshold, by halving."""
    head, turn, done = b.label("halve"), b.label("half"), b.label("found")
    before = b.block
    b.branch(head)
    b.start(head)
    at = len(b.lines)
    b.lines.extend(["", ""])
    first, left = Value(b.name(), dtypes.int64), Value(b.name(), dtypes.int64)
    b.branch_if(b.compare("gt", left, b.int64(0)), turn, done)
    b.start(turn)
    half = b.lshr(left, b.int64(1))
    middle = b.add(first, half)
    total = b.load(b.offset(_SCRATCH, dtypes.float64, middle), dtypes.float64)
    below = b.compare("le", total, threshold)
    beyond = b.add(middle, b.int64(1))
    rest = b.sub(b.sub(left, half), b.int64(1))
    for k, (phi, start, then) in enumerate((
        (first, b.int64(0), b.select(below, beyond, first)), (left, count, b.select(below, rest, half)),
    )):  # fmt: skip
        b.lines[at + k] = f"  {phi.ref} = phi i64 [ {start.ref}, %{before} ], [ {then.ref}, %{turn} ]"
    b.branch(head)
    b.start(done)
    return first


# --- The order of rows ---


def blocks_to_shuffle(b: Builder, rows: Value) -> Value:
    """A word for each row but the last, in whole blocks."""
    words = b.maximum(b.sub(rows, b.int64(1)), b.int64(0))
    return b.lshr(b.add(words, b.int64(3)), b.int64(2))


def emit_shuffled(point: Point, i: int, source: Source) -> Extent:
    """Each row of the result is one of those that are left, which its word chooses."""
    b, node = point.b, point.step.nodes[i]
    type_ = node.types[0]
    rows, row = type_.dims[0], dims.product(type_.dims[1:])
    room = _words_to_scratch(point, rows, source)
    count = point.extent(rows)
    order = b.assign(f"getelementptr i8, ptr %scratch, {point.extent(room)!r}", None)

    def start(var: LoopVar, carried: list[Value]) -> list[Value]:
        b.store(var.value, b.offset(order, dtypes.int64, var.value))
        return carried

    serial(point, rows, start)
    loop = b.begin_loop(b.int64(0), b.sub(count, b.int64(1)), 1)
    word = b.load(b.offset(_SCRATCH, dtypes.uint32, loop.index), dtypes.uint32)
    left = Value(b.sub(count, loop.index).ref, dtypes.uint64)
    chosen = b.add(loop.index, b.bitcast(b.rem(b.convert(word, dtypes.uint64), left), dtypes.int64))
    here, there = (b.offset(order, dtypes.int64, at) for at in (loop.index, chosen))
    a, c = b.load(here, dtypes.int64), b.load(there, dtypes.int64)
    b.store(c, here)
    b.store(a, there)
    b.end_loop(loop)

    def copy(var: LoopVar, carried: list[Value]) -> list[Value]:
        old = point.index(b.load(b.offset(order, dtypes.int64, var.value), dtypes.int64))

        def element(position: tuple[Index, ...]) -> None:
            value = point.element(node.inputs[0], old * row + position[0])
            point.store_at(value, point.pointer(Ref(i, 0)), point.var(var) * row + position[0])

        nest(point, [row], 64 // max(type_.dtype.itemsize, 4), element)
        return carried

    serial(point, rows, copy)
    return room + rows * 8 + 8  # never nothing, as the code names it


def _words_to_scratch(point: Point, rows: Extent, source: Source) -> Extent:
    """A word per row (and some more) at the start of the scratch memory; how many bytes they take."""
    b, unit = point.b, 4 * BLOCKS
    shared = philox.keys(b, source.key, source.counter_hi, BLOCKS)
    turns = (rows + (unit - 1)) // unit
    start = b.add(b.splat(source.first, BLOCKS), b.iota(BLOCKS))
    loop = b.begin_loop(b.int64(0), point.extent(turns), 1)
    numbers = b.add(start, b.splat(b.mul(loop.index, b.int64(BLOCKS)), BLOCKS))
    words = philox.block(b, b.bitcast(numbers, dtypes.uint64), shared)
    b.store(philox.words_32(b, words), b.offset(_SCRATCH, dtypes.uint32, b.mul(loop.index, b.int64(unit))))
    b.end_loop(loop)
    return turns * (4 * unit)
