"""Gamma numbers by Marsaglia and Tsang's method, as IR.

Each number has a stretch of blocks of its own. A vector of them makes its first attempt at a time; where that is turned
down (one in twenty or fewer), or the shape is 1 or none, numbers are made one by one, from the start of their stretch.
"""

from __future__ import annotations

from stepjit_compiler import dims
from stepjit_compiler.dims import Extent
from stepjit_compiler.ir import Ref
from stepjit_compiler.lower import philox, vmath
from stepjit_compiler.lower.builder import Builder, Value
from stepjit_compiler.lower.index import Index, LoopVar
from stepjit_compiler.lower.point import Point
from stepjit_compiler.lower.random_source import RESERVED, Source
from stepjit_compiler.lower.sweep import serial
from stepjit_compiler.lower.vmath.terms import Term, sqrt, where
from stepjit_runtime import dtypes

LANES = 8
_F64 = dtypes.float64
_SCRATCH = Value("%scratch", None)
_NUMBERS, _SHAPES = Value("%gamma.numbers", None), Value("%gamma.shapes", None)


def emit_gammas(point: Point, i: int, source: Source) -> Extent:
    """Numbers are drawn shape by shape, all samples of one after the other; the result has them sample by sample."""
    b, node = point.b, point.step.nodes[i]
    shapes = point.step.type(node.inputs[1])
    count, each = node.types[0].size, shapes.size
    samples = dims.product(node.types[0].dims[: len(node.types[0].dims) - len(shapes.dims)])
    point.allocas += [
        f"  {_NUMBERS.ref} = alloca [{LANES} x i64], align 64", f"  {_SHAPES.ref} = alloca [{LANES} x double], align 64"
    ]  # fmt: skip
    one_by_one = _OneByOne(point, source)
    wide = philox.keys(b, source.key, source.counter_hi, LANES)
    total, last = point.extent(count), b.sub(point.extent(count), b.int64(1))
    turns = b.div(b.add(total, b.int64(LANES - 1)), b.int64(LANES))
    loop = b.begin_loop(b.int64(0), turns, 1)
    at = b.mul(loop.index, b.int64(LANES))
    numbers = b.add(b.splat(at, LANES), b.iota(LANES))
    within = b.minimum(numbers, b.splat(last, LANES))
    which = b.div(within, b.splat(point.extent(samples), LANES)) if samples != 1 else within
    # A known shape comes as one number.
    shape = b.splat(b.convert(point.element(node.inputs[1], Index(point, 0, (), which)), _F64), LANES)
    blocks = b.add(b.splat(source.first, LANES), b.mul(numbers, b.like(RESERVED, numbers)))
    found, good = _first_attempts(b, Term(b, shape), blocks, wide)
    b.store(found, b.offset(_SCRATCH, _F64, at))
    b.store(blocks, _NUMBERS)
    b.store(shape, _SHAPES)
    _make_good(point, good, at, one_by_one)
    b.end_loop(loop)
    _turned(point, i, samples, each)
    return (count + (LANES - 1)) // LANES * (LANES * 8) + 8  # never nothing, as the code names it


def _scales(shape: Term) -> tuple[Term, Term]:
    """d and c of the method."""
    d = where(shape < 1.0, shape + 2 / 3, shape - 1 / 3)
    return d, shape.constant(1 / 3) / sqrt(d)


def _accepts(x: Term, v: Term, u: Term, d: Term) -> Term:
    """Whether a normal x, v = (1 + c x)^3, is taken by a uniform u."""
    b, square = x.b, x * x
    quick = u < 1.0 - square * 0.0331 * square
    bound = square * 0.5 + d * (1.0 - v + Term(b, vmath.log(b, v.value)))
    return quick | (Term(b, vmath.log(b, u.value)) < bound)


def _boosted(shape: Term, number: Term, u: Term) -> Term:
    """A number of shape + 1 made one of the shape."""
    power = Term(shape.b, vmath.pow(shape.b, u.value, (1.0 / shape).value))
    return where(shape < 1.0, number * power, number)


def _first_attempts(b: Builder, shape: Term, blocks: Value, keys: philox.Keys) -> tuple[Value, Value]:
    """What the first normal and the first uniforms of each stretch give, and where that will do."""
    d, c = _scales(shape)
    number = b.bitcast(blocks, dtypes.uint64)
    x = Term(b, philox.normals(b, philox.block(b, number, keys), _F64)[1])
    words = philox.block(b, b.add(number, b.like(1, number)), keys)
    second, first = (Term(b, philox.unit_64(b, words[k], words[k + 1])) for k in (0, 2))
    root = c * x + 1.0
    v = root * root * root
    good = (root > 0.0) & _accepts(x, v, first, d) & (shape > 0.0) & ~shape.equals(1.0)
    plain = d * v
    any_small = b.assign(f"bitcast {(shape < 1.0).value!r} to i{LANES}", None)
    none = b.assign(f"icmp eq i{LANES} {any_small.ref}, 0", dtypes.bool_)
    before, small, joined = b.block, b.label("small"), b.label("sized")
    b.branch_if(none, joined, small)
    b.start(small)
    boosted = _boosted(shape, plain, second)
    after = b.block
    b.branch(joined)
    b.start(joined)
    return b.phi(_F64, LANES, [(plain.value, before), (boosted.value, after)]), good.value


def _make_good(point: Point, good: Value, at: Value, one_by_one: _OneByOne) -> None:
    """Make those numbers one by one whose first attempt will not do."""
    b = point.b
    mask = b.assign(f"bitcast {b.not_(good)!r} to i{LANES}", None)
    left = b.assign(f"zext i{LANES} {mask.ref} to i64", dtypes.int64)
    b.intrinsics.add("declare i64 @llvm.cttz.i64(i64, i1 immarg)")
    before, head, turn, done = b.block, b.label("again"), b.label("one"), b.label("good")
    b.branch(head)
    b.start(head)
    place = len(b.lines)
    b.lines.append("")
    rest = Value(b.name(), dtypes.int64)
    b.branch_if(b.compare("eq", rest, b.int64(0)), done, turn)
    b.start(turn)
    lane = b.assign(f"call i64 @llvm.cttz.i64({rest!r}, i1 true)", dtypes.int64)
    block = b.load(b.offset(_NUMBERS, dtypes.int64, lane), dtypes.int64)
    shape = b.load(b.offset(_SHAPES, _F64, lane), _F64)
    one_by_one.make(block, Term(b, shape), b.offset(_SCRATCH, _F64, b.add(at, lane)))
    following = b.and_(rest, b.sub(rest, b.int64(1)))
    b.lines[place] = f"  {rest.ref} = phi i64 [ {left.ref}, %{before} ], [ {following.ref}, %{b.block} ]"
    b.branch(head)
    b.start(done)


def _turned(point: Point, i: int, samples: Extent, each: Extent) -> None:
    """Copy [shapes, samples] to the result, [samples, shapes]."""
    b, out = point.b, point.step.nodes[i].types[0].dtype

    def row(var: LoopVar, carried: list[Value]) -> list[Value]:
        def element(sample: LoopVar, inner: list[Value]) -> list[Value]:
            number = point.var(var) * samples + point.var(sample)
            value = b.load(b.offset(_SCRATCH, _F64, point.value(number)), _F64)
            place = point.var(sample) * each + point.var(var)
            point.store_at(b.convert(value, out), point.pointer(Ref(i, 0)), place)
            return inner

        serial(point, samples, element)
        return carried

    serial(point, each, row)


class _OneByOne:
    """Code that makes one number, whatever its shape; normals and uniforms come two to a block, the second first."""

    def __init__(self, point: Point, source: Source) -> None:
        self.b = point.b
        self.keys = philox.keys(point.b, source.key, source.counter_hi, 1)
        self.next = Value("%gamma.next", None)
        point.allocas.append("  %gamma.next = alloca i64, align 8")
        self.kinds = ("normals", "uniforms")
        for kind in self.kinds:
            point.allocas.append(f"  %gamma.{kind} = alloca [2 x double], align 16")
            point.allocas.append(f"  %gamma.{kind}.left = alloca i64, align 8")

    def make(self, block: Value, shape: Term, place: Value) -> None:
        """Store the number whose stretch starts at `block`."""
        b = self.b
        b.store(block, self.next)
        for kind in self.kinds:
            b.store(b.int64(0), Value(f"%gamma.{kind}.left", None))
        b.store(b.const(float("nan"), _F64), place)
        positive, one, many, done = (b.label(hint) for hint in ("positive", "exponential", "many", "made"))
        b.branch_if((shape > 0.0).value, positive, done)
        b.start(positive)
        b.branch_if(shape.equals(1.0).value, one, many)
        b.start(one)
        b.store(b.neg(vmath.log1p(b, b.neg(self.take("uniforms").value))), place)
        b.branch(done)
        b.start(many)
        self._attempts(shape, place)
        b.branch(done)
        b.start(done)

    def _attempts(self, shape: Term, place: Value) -> None:
        b = self.b
        d, c = _scales(shape)
        attempt, judge, taken = b.label("attempt"), b.label("judge"), b.label("taken")
        b.branch(attempt)
        b.start(attempt)
        x = self.take("normals")
        root = c * x + 1.0
        b.branch_if((root > 0.0).value, judge, attempt)
        b.start(judge)
        v = root * root * root
        accepted = _accepts(x, v, self.take("uniforms"), d)
        b.branch_if(accepted.value, taken, attempt)
        b.start(taken)
        b.store((d * v).value, place)
        small, on = b.label("small"), b.label("on")
        b.branch_if((shape < 1.0).value, small, on)
        b.start(small)
        b.store(_boosted(shape, d * v, self.take("uniforms")).value, place)
        b.branch(on)
        b.start(on)

    def take(self, kind: str) -> Term:
        """The next normal or uniform."""
        b, kept, left = self.b, Value(f"%gamma.{kind}", None), Value(f"%gamma.{kind}.left", None)
        draw, have = b.label("draw"), b.label("have")
        b.branch_if(b.compare("eq", b.load(left, dtypes.int64), b.int64(0)), draw, have)
        b.start(draw)
        number = b.load(self.next, dtypes.int64)
        b.store(b.add(number, b.int64(1)), self.next)
        words = philox.block(b, b.bitcast(number, dtypes.uint64), self.keys)
        if kind == "normals":
            pair = philox.normals(b, words, _F64)
        else:
            pair = [philox.unit_64(b, words[k], words[k + 1]) for k in (0, 2)]
        for k, value in enumerate(pair):
            b.store(value, b.offset(kept, _F64, b.int64(k)))
        b.store(b.int64(2), left)
        b.branch(have)
        b.start(have)
        last = b.sub(b.load(left, dtypes.int64), b.int64(1))
        b.store(last, left)
        return Term(b, b.load(b.offset(kept, _F64, last), _F64))
