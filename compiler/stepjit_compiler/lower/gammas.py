"""Gamma numbers by Marsaglia and Tsang's method, as IR.

Each number has a stretch of blocks of its own. A vector of them makes its first attempt at a time; where that is turned
down (one in twenty or fewer), or the shape is none, numbers are made one by one, from the start of their stretch.
"""

from __future__ import annotations

from stepjit_compiler.dims import Extent
from stepjit_compiler.lower import philox, vmath
from stepjit_compiler.lower.builder import Builder, Value
from stepjit_compiler.lower.number_draws import (
    F64,
    LANES,
    MADE,
    Kept,
    each_lane,
    emit_numbers,
    keys_of,
    pair,
    where_any,
)
from stepjit_compiler.lower.point import Point
from stepjit_compiler.lower.random_source import Source
from stepjit_compiler.lower.vmath.terms import Term, sqrt, where
from stepjit_runtime import dtypes


def emit_gammas(point: Point, i: int, source: Source) -> Extent:
    """Gamma numbers of the shapes in the last input."""
    b = point.b
    one_by_one = _OneByOne(point, source)
    wide, kept = keys_of(b, source, LANES), Kept(point, ("blocks", "shapes"))

    def make(blocks: Value, shape: Term) -> None:
        found, good = _first_attempts(b, shape, blocks, wide)
        b.store(found, MADE)
        kept.put(blocks=blocks, shapes=shape.value)

        def again(lane: Value) -> None:
            block, own = kept.lane("blocks", lane, dtypes.int64), Term(b, kept.lane("shapes", lane))
            one_by_one.make(block, own, b.offset(MADE, F64, lane))

        each_lane(b, b.not_(good), again)

    emit_numbers(point, i, point.step.nodes[i].inputs[-1], source.first, make)
    return 0


def _scales(shape: Term) -> tuple[Term, Term]:
    """d and c of the method."""
    d = where(shape < 1.0, shape + 2 / 3, shape - 1 / 3)
    return d, shape.constant(1 / 3) / sqrt(d)


def _quick(x: Term, u: Term) -> Term:
    """Whether a normal x is taken by a uniform u without more ado."""
    square = x * x
    return u < 1.0 - square * 0.0331 * square


def _accepts(x: Term, v: Term, u: Term, d: Term) -> Term:
    """Whether a normal x, v = (1 + c x)^3, is taken by a uniform u."""
    b = x.b
    bound = x * x * 0.5 + d * (1.0 - v + Term(b, vmath.log(b, v.value)))
    return _quick(x, u) | (Term(b, vmath.log(b, u.value)) < bound)


def _boosted(shape: Term, number: Term, u: Term) -> Term:
    """A number of shape + 1 made one of the shape."""
    power = Term(shape.b, vmath.pow(shape.b, u.value, (1.0 / shape).value))
    return where(shape < 1.0, number * power, number)


def _first_attempts(b: Builder, shape: Term, blocks: Value, keys: philox.Keys) -> tuple[Value, Value]:
    """What the first normal and the first uniforms of each stretch give, and where that will do."""
    d, c = _scales(shape)
    number = b.bitcast(blocks, dtypes.uint64)
    x = Term(b, philox.normals(b, philox.block(b, number, keys), F64)[1])
    first, second = pair(b, b.add(number, b.like(1, number)), keys)
    root = c * x + 1.0
    v = root * root * root
    possible = (root > 0.0) & (shape > 0.0)
    plain, quick, one = d * v, _quick(x, first), shape.equals(1.0)
    good = where_any(b, possible & ~quick, quick, lambda: _accepts(x, v, first, d)) & possible & ~one
    found = where_any(b, shape < 1.0, plain, lambda: _boosted(shape, plain, second))

    def exponential() -> Term:
        u, _ = pair(b, number, keys)
        return where(one, -Term(b, vmath.log1p(b, (-u).value)), found)

    return where_any(b, one, found, exponential).value, (good | one).value


class _OneByOne:
    """Code that makes one number, whatever its shape; normals and uniforms come two to a block, the second first."""

    def __init__(self, point: Point, source: Source) -> None:
        self.b = point.b
        self.keys = keys_of(point.b, source, 1)
        self.next = Value("%gamma.next", None)
        point.allocas.append("  %gamma.next = alloca i64, align 8")
        self.kinds = ("normals", "uniforms")
        for kind in self.kinds:
            point.allocas.append(f"  %gamma.{kind} = alloca [2 x double], align 16")
            point.allocas.append(f"  %gamma.{kind}.left = alloca i64, align 8")

    def make(self, block: Value, shape: Term, place: Value) -> None:
        """Store the number whose stretch starts at `block`; NaN if the shape is none, and the shape is not 1."""
        b = self.b
        b.store(block, self.next)
        for kind in self.kinds:
            b.store(b.int64(0), Value(f"%gamma.{kind}.left", None))
        b.store(b.const(float("nan"), F64), place)
        positive, done = b.label("positive"), b.label("made")
        b.branch_if((shape > 0.0).value, positive, done)
        b.start(positive)
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
            pair = philox.normals(b, words, F64)
        else:
            pair = [philox.unit_64(b, words[k], words[k + 1]) for k in (0, 2)]
        for k, value in enumerate(pair):
            b.store(value, b.offset(kept, F64, b.int64(k)))
        b.store(b.int64(2), left)
        b.branch(have)
        b.start(have)
        last = b.sub(b.load(left, dtypes.int64), b.int64(1))
        b.store(last, left)
        return Term(b, b.load(b.offset(kept, F64, last), F64))
