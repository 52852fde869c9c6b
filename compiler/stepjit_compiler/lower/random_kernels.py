"""Kernels that fill a buffer with random numbers: vectors of blocks, written in the order of the stream.

Distributions: `uniform` in [0, 1), `normal`, `truncated_normal` (|z| < 2), `uniform_int` in [low, high), `full_int`;
`gamma`, `poisson` of parameters in the last input; and the choices of `draw_kernels.py`: `classes`, `shuffled`.
A stateful op's place in its stream is a word that sessions share with native code (`abi.STREAM`); it is moved on
atomically, so that any number of threads may draw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stepjit_compiler import opdef
from stepjit_compiler.dims import Extent
from stepjit_compiler.ir import Ref
from stepjit_compiler.lower import philox
from stepjit_compiler.lower.builder import Builder, Value, memory_type
from stepjit_compiler.lower.checks import fail_if
from stepjit_compiler.lower.draw_kernels import blocks_to_shuffle, emit_classes, emit_shuffled
from stepjit_compiler.lower.gammas import emit_gammas
from stepjit_compiler.lower.kernel_code import Failure
from stepjit_compiler.lower.point import Point
from stepjit_compiler.lower.poissons import emit_poissons
from stepjit_compiler.lower.random_source import BLOCKS, RESERVED, stateless, taken
from stepjit_compiler.lower.truncated_normals import Repair, store_groups
from stepjit_compiler.lowering import Generate
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType

BAD_BOUNDS = "Need minval < maxval, got {at} >= {value}"


def emit_random(point: Point) -> Extent:
    """The numbers of one op; a stream moves on even where nobody takes them."""
    i = point.kernel.nodes[0]
    op = opdef.lookup(point.step.nodes[i].op)
    assert op is not None and isinstance(op.lower, Generate)
    lower, type_ = op.lower, point.step.nodes[i].types[0]
    count = point.extent(type_.size)
    bounds = _bounds(point, i, count) if lower.distribution == "uniform_int" else None
    if lower.seed is not None:
        source = stateless(point, i, lower.seed)
    else:
        source = taken(point, i, _blocks(point, i, lower.distribution, count))
    if Ref(i, 0) not in point.kernel.outputs:
        return 0
    if lower.distribution in _OTHERS:
        return _OTHERS[lower.distribution](point, i, source)
    per_block = 16 // type_.dtype.itemsize
    lanes = _lanes(type_.size, per_block)
    shared = philox.keys(point.b, source.key, source.counter_hi, lanes)
    if lower.distribution == "truncated_normal":
        # Groups of as many numbers as a block gives; each has a stretch of blocks of its own.
        alone = philox.keys(point.b, source.key, source.counter_hi, 1)
        repair = Repair(alone, type_.dtype, RESERVED * per_block // 4)
        _fill(point, i, lanes, source.first, repair.stride, shared,
              lambda words, numbers, place: store_groups(point, repair, words, numbers, place))  # fmt: skip
        return 0
    make = _maker(point.b, lower.distribution, type_.dtype, bounds)

    def store(words: philox.Words, numbers: Value, place: Value) -> None:
        point.b.store(make(words), place)

    _fill(point, i, lanes, source.first, 1, shared, store)
    return 0


def _blocks(point: Point, i: int, distribution: str, count: Value) -> Value:
    """How far the stream moves on."""
    b, node = point.b, point.step.nodes[i]
    if distribution == "shuffled":
        return blocks_to_shuffle(b, point.extent(node.types[0].dims[0]))
    if distribution == "classes":
        rows, samples = node.types[0].dims
        return b.mul(point.extent(rows * ((samples + 3) // 4 * 4)), b.int64(2 * RESERVED))
    return b.mul(count, b.int64(RESERVED))


_OTHERS = {"classes": emit_classes, "shuffled": emit_shuffled, "gamma": emit_gammas, "poisson": emit_poissons}


def _lanes(size: Extent, per_block: int) -> int:
    lanes = BLOCKS
    while isinstance(size, int) and lanes > 2 and size <= lanes * per_block // 2:
        lanes //= 2
    return lanes


def _fill(
    point: Point, i: int, lanes: int, first: Value, stride: int, shared: philox.Keys,
    store: Callable[[philox.Words, Value, Value], None],
) -> None:  # fmt: skip
    """`store(words, numbers of the blocks, address)` for as many blocks as it takes; the last ones by way of a copy."""
    b, type_ = point.b, point.step.nodes[i].types[0]
    unit = lanes * 16 // type_.dtype.itemsize
    count, out = point.extent(type_.size), point.pointer(Ref(i, 0))
    point.allocas.append(f"  %rest = alloca [{unit} x {memory_type(type_.dtype)}], align 64")
    turns = b.div(b.add(count, b.int64(unit - 1)), b.int64(unit))
    steps = b.mul(b.iota(lanes), b.like(stride, b.iota(lanes)))
    start = b.add(b.splat(first, lanes), steps)
    loop = b.begin_loop(b.int64(0), turns, 1)
    at = b.mul(loop.index, b.int64(unit))
    moved = b.mul(loop.index, b.int64(lanes * stride))
    numbers = b.add(start, b.splat(moved, lanes))
    words = philox.block(b, b.bitcast(numbers, dtypes.uint64), shared)
    whole = b.compare("ge", b.sub(count, at), b.int64(unit))
    place = b.select(whole, b.offset(out, type_.dtype, at), Value("%rest", None))
    store(words, numbers, place)
    b.end_loop(loop)
    done = b.and_(count, b.int64(-unit))
    size = b.mul(b.sub(count, done), b.int64(type_.dtype.itemsize))
    b.intrinsics.add("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1 immarg)")
    end = b.offset(out, type_.dtype, done)
    b.raw(f"call void @llvm.memcpy.p0.p0.i64(ptr {end.ref}, ptr %rest, {size!r}, i1 false)")


# --- Numbers ---


@dataclass(frozen=True)
class _Bounds:
    low: Value
    span: Value
    """high - low, unsigned."""


def _bounds(point: Point, i: int, count: Value) -> _Bounds:
    """The bounds of integers; fails unless low < high or there is nothing to draw."""
    b, inputs = point.b, point.step.nodes[i].inputs
    low, high = (point.at(ref, ()) for ref in inputs[-2:])
    if any(value.ref.startswith("%") for value in (low, high)):
        number = len(point.failures)
        point.failures.append(Failure(BAD_BOUNDS, point.step.nodes[i].origin))
        bad = b.and_(b.compare("ge", low, high), b.compare("gt", count, b.int64(0)))
        told = [b.convert(value, dtypes.int64) for value in (low, high)]
        fail_if(b, bad, (b.int64(number), *told, b.int64(0)))
    assert low.dtype is not None
    raw = dtypes.uint64 if low.dtype.itemsize == 8 else dtypes.uint32
    if not any(value.ref.startswith("%") for value in (low, high)):
        return _Bounds(low, b.const(int(high.ref) - int(low.ref), raw))
    span = b.bitcast(b.sub(high, low), raw)
    return _Bounds(low, b.select(b.compare("eq", span, b.like(0, span)), b.like(1, span), span))


def _maker(b: Builder, distribution: str, dtype: DType, bounds: _Bounds | None) -> Callable[[philox.Words], Value]:
    """From words to numbers in the order of the stream."""
    if distribution == "uniform":
        return lambda words: philox.uniforms(b, words, dtype)
    if distribution == "normal":
        return lambda words: philox.interleaved(b, philox.normals(b, words, dtype))

    def raw(words: philox.Words) -> Value:
        return philox.words_64(b, words) if dtype.itemsize == 8 else philox.words_32(b, words)

    if bounds is None:
        return lambda words: b.bitcast(raw(words), dtype)

    def ranged(words: philox.Words) -> Value:
        drawn = raw(words)
        rest = b.bitcast(_remainder(b, drawn, bounds.span), dtype)
        return b.add(rest, b.splat(bounds.low, rest.lanes))

    return ranged


def _remainder(b: Builder, words: Value, span: Value) -> Value:
    """Words modulo a span; of 32 bits, through quotients in float64, whose integer parts are exact."""
    spread = b.splat(span, words.lanes)
    if words.dtype is dtypes.uint64 or not span.ref.startswith("%"):
        return b.rem(words, spread)
    quotient = b.truncate(b.div(b.convert(words, dtypes.float64), b.convert(spread, dtypes.float64)))
    whole = b.assign(f"fptoui {quotient!r} to <{words.lanes} x i32>", dtypes.uint32, words.lanes)
    return b.sub(words, b.mul(whole, spread))
