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
from stepjit_compiler.lower.sweep import serial, vectorised
from stepjit_runtime import dtypes

_SCRATCH = Value("%scratch", None)
COUNTED = 64
"""Up to so many classes are all looked at for every sample."""

# --- Classes ---


def emit_classes(point: Point, i: int, source: Source) -> Extent:
    """Per row the running totals of exp(logit - largest); per sample the first that is above its uniform's part.

    Where none is, as no class has a chance, that is the number of classes.
    """
    b, node = point.b, point.step.nodes[i]
    rows, classes = point.step.type(node.inputs[0]).dims
    samples = node.types[0].dims[1]
    count = point.extent(classes)
    together = not isinstance(samples, int) or samples >= BLOCKS // 2
    draw = _Choice(point, i, source, count, BLOCKS if together else 1)

    def row(var: LoopVar, carried: list[Value]) -> list[Value]:
        _running_totals(point, node.inputs[0], point.var(var), classes)
        whole = b.load(b.offset(_SCRATCH, dtypes.float64, b.sub(count, b.int64(1))), dtypes.float64)
        draw.row(point.value(point.var(var) * samples), point.extent(samples), whole)
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

    def part(var: LoopVar, carried: list[Value]) -> list[Value]:
        value, counts = finite(var)
        most = b.splat(largest, value.lanes)
        chance = vmath.exp(b, b.exact_sub(b.select(counts, value, most), most))
        b.store(b.select(counts, chance, b.like(0, chance)), b.offset(_SCRATCH, dtypes.float64, var.value))
        return carried

    vectorised(point, classes, BLOCKS, part, heavy=True)

    def add(var: LoopVar, carried: list[Value]) -> list[Value]:
        place = b.offset(_SCRATCH, dtypes.float64, var.value)
        total = b.exact_add(carried[0], b.load(place, dtypes.float64))
        b.store(total, place)
        return [total]

    serial(point, classes, add, [b.const(0.0, dtypes.float64)])


class _Choice:
    """Code that draws the samples of a row, so many at a time."""

    def __init__(self, point: Point, i: int, source: Source, classes: Value, lanes: int) -> None:
        self.point, self.source, self.classes, self.lanes = point, source, classes, lanes
        self.keys = philox.keys(point.b, source.key, source.counter_hi, lanes)
        self.dtype, self.out = point.step.nodes[i].types[0].dtype, point.pointer(Ref(i, 0))

    def row(self, start: Value, samples: Value, whole: Value) -> None:
        """`samples` classes from number `start` of the stream, and of the result, on."""
        b, lanes = self.point.b, self.lanes
        turns = b.div(b.add(samples, b.int64(lanes - 1)), b.int64(lanes))
        loop = b.begin_loop(b.int64(0), turns, 1)
        done = b.mul(loop.index, b.int64(lanes))
        at = b.add(start, done)
        numbers = b.splat(at, lanes) if lanes == 1 else b.add(b.splat(at, lanes), b.iota(lanes))
        threshold = b.exact_mul(self._uniforms(numbers), b.splat(whole, lanes))
        found = self._counted(threshold) if lanes > 1 and self._few() else self._searched(threshold)
        self._store(b.convert(found, self.dtype), at, b.sub(samples, done))
        b.end_loop(loop)

    def _few(self) -> bool:
        return not self.classes.ref.startswith("%") and int(self.classes.ref) <= COUNTED

    def _uniforms(self, numbers: Value) -> Value:
        """Numbers of the stream as float64: a block has two."""
        b = self.point.b
        blocks = b.add(b.splat(self.source.first, numbers.lanes), b.lshr(numbers, b.like(1, numbers)))
        words = philox.block(b, b.bitcast(blocks, dtypes.uint64), self.keys)
        second = b.compare("ne", b.and_(numbers, b.like(1, numbers)), b.like(0, numbers))
        high, low = (b.select(second, words[k + 2], words[k]) for k in range(2))
        return philox.unit_64(b, high, low)

    def _counted(self, threshold: Value) -> Value:
        """How many totals are not above each threshold, by looking at all."""
        b, lanes = self.point.b, self.lanes
        loop = b.begin_loop(b.int64(0), self.classes, 1, [b.const(0, dtypes.int64, lanes)])
        total = b.load(b.offset(_SCRATCH, dtypes.float64, loop.index), dtypes.float64)
        below = b.compare("le", b.splat(total, lanes), threshold)
        (found,) = b.end_loop(loop, [b.add(loop.carried[0], b.convert(below, dtypes.int64))])
        return found

    def _searched(self, threshold: Value) -> Value:
        """The same by halving, in as many turns for every threshold: what it finds decides no branch."""
        b, lanes = self.point.b, self.lanes
        head, turn, done = b.label("halve"), b.label("half"), b.label("found")
        before = b.block
        b.branch(head)
        b.start(head)
        at = len(b.lines)
        b.lines += ["", ""]
        first, left = Value(b.name(), dtypes.int64, lanes), Value(b.name(), dtypes.int64)
        b.branch_if(b.compare("gt", left, b.int64(1)), turn, done)
        b.start(turn)
        half = b.lshr(left, b.int64(1))
        beyond = b.add(first, b.splat(half, lanes))
        step = b.select(self._below(b.sub(beyond, b.like(1, beyond)), threshold), beyond, first)
        rest = b.sub(left, half)
        for k, (phi, start, then) in enumerate((
            (first, b.const(0, dtypes.int64, lanes), step), (left, self.classes, rest),
        )):  # fmt: skip
            b.lines[at + k] = f"  {phi.ref} = phi {phi.type} [ {start.ref}, %{before} ], [ {then.ref}, %{turn} ]"
        b.branch(head)
        b.start(done)
        return b.add(first, b.convert(self._below(first, threshold), dtypes.int64))

    def _below(self, at: Value, threshold: Value) -> Value:
        """Whether the totals there are not above."""
        b = self.point.b
        return b.compare("le", b.gather(_SCRATCH, dtypes.float64, at), threshold)

    def _store(self, values: Value, at: Value, rest: Value) -> None:
        b, lanes = self.point.b, self.lanes
        if lanes == 1:
            b.store(values, b.offset(self.out, self.dtype, at))
            return
        whole, narrow, done = b.label("whole"), b.label("rest"), b.label("stored")
        kept = Value("%chosen", None)
        self.point.allocas.append(f"  {kept.ref} = alloca [{lanes} x i64], align 64")
        b.branch_if(b.compare("ge", rest, b.int64(lanes)), whole, narrow)
        b.start(whole)
        b.store(values, b.offset(self.out, self.dtype, at))
        b.branch(done)
        b.start(narrow)
        b.store(values, kept)
        loop = b.begin_loop(b.int64(0), rest, 1)
        one = b.load(b.offset(kept, self.dtype, loop.index), self.dtype)
        b.store(one, b.offset(self.out, self.dtype, b.add(at, loop.index)))
        b.end_loop(loop)
        b.branch(done)
        b.start(done)


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
