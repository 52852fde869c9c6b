"""Kernels for distributions whose parameters are tensors, as IR: each number has a stretch of blocks of its own.

Numbers are drawn parameter by parameter, all samples of one after the other; the result has them sample by sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stepjit_compiler import dims
from stepjit_compiler.dims import Extent
from stepjit_compiler.ir import Ref
from stepjit_compiler.lower import philox
from stepjit_compiler.lower.builder import Builder, Value
from stepjit_compiler.lower.index import Index
from stepjit_compiler.lower.point import Point
from stepjit_compiler.lower.random_source import RESERVED, Source
from stepjit_compiler.lower.vmath.terms import Term
from stepjit_runtime import dtypes

LANES = 8
F64 = dtypes.float64
MADE = Value("%made", None)
"""Where a vector of numbers is put together: float64[LANES]."""
_PLACES = Value("%places", None)

Make = Callable[[Value, Term], None]
"""`make(first blocks of the stretches, parameters)`: LANES numbers to `MADE`."""


def emit_numbers(point: Point, i: int, parameters: Ref, first: Value, make: Make) -> None:
    """The numbers of node i; `parameters` may be of any shape, which the result's ends with."""
    b, type_ = point.b, point.step.nodes[i].types[0]
    point.allocas.append(f"  {MADE.ref} = alloca [{LANES} x double], align 64")
    grid = _Grid.of(point, i, parameters)
    total = point.extent(type_.size)
    loop = b.begin_loop(b.int64(0), b.div(b.add(total, b.int64(LANES - 1)), b.int64(LANES)), 1)
    at = b.mul(loop.index, b.int64(LANES))
    numbers = b.add(b.splat(at, LANES), b.iota(LANES))
    within = b.minimum(numbers, b.splat(b.sub(total, b.int64(1)), LANES))
    which = grid.parameter_of(within)
    blocks = b.add(b.splat(first, LANES), b.mul(numbers, b.like(RESERVED, numbers)))
    make(blocks, grid.parameter(parameters, which))
    grid.store(i, at, total, within, which)
    b.end_loop(loop)


@dataclass(frozen=True)
class _Grid:
    """So many samples of each of so many parameters."""

    point: Point
    samples: Extent
    each: Extent

    @staticmethod
    def of(point: Point, i: int, parameters: Ref) -> _Grid:
        own, whole = point.step.type(parameters).dims, point.step.nodes[i].types[0].dims
        return _Grid(point, dims.product(whole[: len(whole) - len(own)]), dims.product(own))

    @property
    def in_order(self) -> bool:
        """Whether the result has the numbers in the order in which they are drawn."""
        return self.samples == 1 or self.each == 1

    def parameter_of(self, numbers: Value) -> Value | None:
        """Which parameter each number has; None where there is but one."""
        b = self.point.b
        if self.each == 1:
            return None
        if self.samples == 1:
            return numbers
        # Vectors have no integer division; in float64 it is exact for as many numbers as fit into memory.
        parts = (numbers, b.splat(self.point.extent(self.samples), LANES))
        quotient = b.div(*(b.convert(part, F64) for part in parts))
        return b.convert(b.truncate(quotient), dtypes.int64)

    def parameter(self, parameters: Ref, which: Value | None) -> Term:
        """float64[LANES]."""
        point, b = self.point, self.point.b
        index = point.zero() if which is None else Index(point, 0, (), which)
        # One number for all lanes comes as a scalar.
        return Term(b, b.splat(b.convert(point.element(parameters, index), F64), LANES))

    def store(self, i: int, at: Value, total: Value, numbers: Value, which: Value | None) -> None:
        """Move what was made to its place in the result."""
        point, b = self.point, self.point.b
        dtype, out = point.step.nodes[i].types[0].dtype, point.pointer(Ref(i, 0))
        rest = b.sub(total, at)
        if self.in_order:
            whole, narrow, done = b.label("whole"), b.label("rest"), b.label("stored")
            b.branch_if(b.compare("ge", rest, b.int64(LANES)), whole, narrow)
            b.start(whole)
            b.store(b.convert(b.load(MADE, F64, LANES), dtype), b.offset(out, dtype, at))
            b.branch(done)
            b.start(narrow)
            loop = b.begin_loop(b.int64(0), rest, 1)
            value = b.load(b.offset(MADE, F64, loop.index), F64)
            b.store(b.convert(value, dtype), b.offset(out, dtype, b.add(at, loop.index)))
            b.end_loop(loop)
            b.branch(done)
            b.start(done)
            return
        assert which is not None
        samples, each = (b.splat(point.extent(extent), LANES) for extent in (self.samples, self.each))
        sample = b.sub(numbers, b.mul(which, samples))
        point.allocas.append(f"  {_PLACES.ref} = alloca [{LANES} x i64], align 64")
        b.store(b.add(b.mul(sample, each), which), _PLACES)
        loop = b.begin_loop(b.int64(0), b.minimum(rest, b.int64(LANES)), 1)
        place = b.load(b.offset(_PLACES, dtypes.int64, loop.index), dtypes.int64)
        value = b.load(b.offset(MADE, F64, loop.index), F64)
        b.store(b.convert(value, dtype), b.offset(out, dtype, place))
        b.end_loop(loop)


# --- Lanes one by one ---


def any_lane(b: Builder, wanted: Value) -> Value:
    """Whether a vector of conditions has one that holds."""
    mask = b.assign(f"bitcast {wanted!r} to i{wanted.lanes}", None)
    return b.assign(f"icmp ne i{wanted.lanes} {mask.ref}, 0", dtypes.bool_)


def where_any(b: Builder, wanted: Term, plain: Term, special: Callable[[], Term]) -> Term:
    """`special()` if any lane is wanted, else `plain`."""
    before, some, joined = b.block, b.label("some"), b.label("joined")
    b.branch_if(any_lane(b, wanted.value), some, joined)
    b.start(some)
    found = special()
    after = b.block
    b.branch(joined)
    b.start(joined)
    incoming = [(plain.value, before), (found.value, after)]
    return Term(b, b.phi(plain.value.dtype, plain.value.lanes, incoming))


def each_lane(b: Builder, wanted: Value, body: Callable[[Value], None]) -> None:
    """`body(number of a lane)` for those lanes in which `wanted` holds."""
    mask = b.assign(f"bitcast {wanted!r} to i{wanted.lanes}", None)
    left = b.assign(f"zext i{wanted.lanes} {mask.ref} to i64", dtypes.int64)
    b.intrinsics.add("declare i64 @llvm.cttz.i64(i64, i1 immarg)")
    before, head, turn, done = b.block, b.label("lanes"), b.label("lane"), b.label("done")
    b.branch(head)
    b.start(head)
    place = len(b.lines)
    b.lines.append("")
    rest = Value(b.name(), dtypes.int64)
    b.branch_if(b.compare("eq", rest, b.int64(0)), done, turn)
    b.start(turn)
    body(b.assign(f"call i64 @llvm.cttz.i64({rest!r}, i1 true)", dtypes.int64))
    following = b.and_(rest, b.sub(rest, b.int64(1)))
    b.lines[place] = f"  {rest.ref} = phi i64 [ {left.ref}, %{before} ], [ {following.ref}, %{b.block} ]"
    b.branch(head)
    b.start(done)


class Kept:
    """Vectors put aside in memory, from which single lanes are taken."""

    def __init__(self, point: Point, names: Sequence[str]) -> None:
        self.point = point
        self.places: dict[str, Value] = {name: Value(f"%kept.{name}", None) for name in names}
        point.allocas += [f"  {place.ref} = alloca [{LANES} x i64], align 64" for place in self.places.values()]

    def put(self, **vectors: Value) -> None:
        for name, vector in vectors.items():
            self.point.b.store(vector, self.places[name])

    def lane(self, name: str, number: Value, dtype: dtypes.DType = F64) -> Value:
        b = self.point.b
        return b.load(b.offset(self.places[name], dtype, number), dtype)


# --- Uniforms of a stretch, two to a block, the second first ---


def pair(b: Builder, blocks: Value, keys: philox.Keys) -> tuple[Term, Term]:
    """The two float64 uniforms of blocks, in the order in which they are taken."""
    words = philox.block(b, b.bitcast(blocks, dtypes.uint64), keys)
    return Term(b, philox.unit_64(b, words[2], words[3])), Term(b, philox.unit_64(b, words[0], words[1]))


def keys_of(b: Builder, source: Source, lanes: int) -> philox.Keys:
    return philox.keys(b, source.key, source.counter_hi, lanes)
