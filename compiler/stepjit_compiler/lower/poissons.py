"""Poisson numbers, as IR: products of uniforms below a rate of 10, from there on rejection by a hat (Hörmann's PTRS).

A vector of numbers multiplies in step. By rejection it makes one attempt each; what that leaves open is made number by
number, with libm's logarithms and nothing contracted: at rates of 1e9 and more, rounding decides what is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from stepjit_compiler.dims import Extent
from stepjit_compiler.lower import philox, vmath
from stepjit_compiler.lower.builder import Builder, Value
from stepjit_compiler.lower.number_draws import F64, LANES, MADE, Kept, any_lane, each_lane, emit_numbers, keys_of, pair
from stepjit_compiler.lower.point import Point
from stepjit_compiler.lower.random_source import Source
from stepjit_compiler.lower.vmath.terms import Term, polynomial, sqrt, where
from stepjit_compiler.philox import largest
from stepjit_runtime import dtypes

REJECTED_FROM = 10.0
"""The rate from which on numbers are made by rejection."""
_EXACT = 1e15
"""Draws from here on are judged by libm alone."""
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188)
_SHIFT = 8
"""Stirling's series is taken so far above its argument."""


def emit_poissons(point: Point, i: int, source: Source) -> Extent:
    """Poisson numbers of the rates in the last input: 0 of negative rates, the largest number of those beyond it."""
    b, dtype = point.b, point.step.nodes[i].types[0].dtype
    top, floating = largest(dtype.np), dtype.np.kind == "f"
    wide, alone = keys_of(b, source, LANES), keys_of(b, source, 1)
    kept = Kept(point, ("starts", "rates"))

    def make(blocks: Value, rate: Term) -> None:
        beyond = rate >= top
        # What neither way makes stays: infinities, and rates that are no number.
        odd = rate if floating else where(beyond, top, rate.constant(0))
        b.store(odd.value, MADE)
        _where_any(b, rate < REJECTED_FROM, lambda wanted: _multiplied(b, wanted, rate, blocks, wide))
        _where_any(b, (rate >= REJECTED_FROM) & ~beyond, lambda wanted: attempt(wanted, rate, blocks))

    def attempt(wanted: Term, rate: Term, blocks: Value) -> None:
        number, taken, refused = _first_attempts(rate, *pair(b, blocks, wide), top)
        _put(b, wanted & taken, number)
        following = b.add(blocks, b.like(1, blocks))
        kept.put(starts=b.select(refused.value, following, blocks), rates=rate.value)

        def again(lane: Value) -> None:
            start, own = kept.lane("starts", lane, dtypes.int64), Term(b, kept.lane("rates", lane))
            b.store(_attempts(b, own, start, alone, top), b.offset(MADE, F64, lane))

        each_lane(b, (wanted & ~taken).value, again)

    emit_numbers(point, i, point.step.nodes[i].inputs[-1], source.first, make)
    return 0


def _where_any(b: Builder, wanted: Term, body: Callable[[Term], None]) -> None:
    """`body` unless no lane is wanted."""
    some, done = b.label("some"), b.label("none")
    b.branch_if(any_lane(b, wanted.value), some, done)
    b.start(some)
    body(wanted)
    b.branch(done)
    b.start(done)


def _put(b: Builder, wanted: Term, numbers: Term) -> None:
    b.store(where(wanted, numbers, Term(b, b.load(MADE, F64, LANES))).value, MADE)


def _multiplied(b: Builder, wanted: Term, rate: Term, blocks: Value, keys: philox.Keys) -> None:
    """How many uniforms it takes until their product is exp(-rate) at most, but for the last of them."""
    least = Term(b, vmath.exp(b, b.neg(rate.value)))
    before, turn, done = b.block, b.label("multiply"), b.label("multiplied")
    b.branch(turn)
    b.start(turn)
    at = len(b.lines)
    b.lines += [""] * 4
    product, count = (Term(b, Value(b.name(), F64, LANES)) for _ in range(2))
    open_ = Term(b, Value(b.name(), dtypes.bool_, LANES))
    block = Value(b.name(), dtypes.int64, LANES)
    state = product, count, open_
    for uniform in pair(b, block, keys):
        part = state[0] * uniform
        left = state[2] & (part > least)
        state = part, where(left, state[1] + 1.0, state[1]), left
    following = b.add(block, b.like(1, block))
    phis = product.value, count.value, open_.value, block
    firsts = rate.constant(1.0).value, rate.constant(0.0).value, wanted.value, blocks
    for k, (phi, first, then) in enumerate(zip(phis, firsts, (*(each.value for each in state), following))):
        b.lines[at + k] = f"  {phi.ref} = phi {phi.type} [ {first.ref}, %{before} ], [ {then.ref}, %{turn} ]"
    b.branch_if(any_lane(b, state[2].value), turn, done)
    b.start(done)
    _put(b, wanted, state[1])


# --- Rejection ---


@dataclass(frozen=True)
class _Hat:
    """What attempts at a rate are drawn from, in the letters of the paper."""

    rate: Term
    a: Term
    b: Term
    quick: Term
    """Below this, uniforms are taken without more ado."""

    @staticmethod
    def of(rate: Term) -> _Hat:
        b = sqrt(rate) * 2.53 + 0.931
        return _Hat(rate, b * 0.02483 - 0.059, b, 0.9277 - 3.6224 / (b - 2.0))

    def number(self, u: Term, us: Term) -> Term:
        drawn = (self.a * 2.0 / us + self.b) * u + self.rate + 0.43
        return Term(u.b, u.b.floor(drawn.value))

    def density(self, v: Term, us: Term) -> Term:
        """What has the logarithm that decides."""
        return v * (1.1328 / (self.b - 3.4) + 1.1239) / (self.a / (us * us) + self.b)


def _judged(hat: _Hat, u: Term, v: Term, top: float) -> tuple[Term, Term, Term, Term]:
    """An attempt's number, whether it is taken at once or refused at once, and how far u is from the edge."""
    us = 0.5 - abs(u)
    number = hat.number(u, us)
    above = number > top
    quick = (us >= 0.07) & ~(v > hat.quick) & ~above
    outside = (number < 0.0) | ((us < 0.013) & (v > us))
    return number, quick, above | (outside & ~quick), us


def _first_attempts(rate: Term, u: Term, v: Term, top: float) -> tuple[Term, Term, Term]:
    """A vector of numbers; which of them are taken, and which are refused: the rest is too close to tell."""
    b, hat = rate.b, _Hat.of(rate)
    number, quick, outside, us = _judged(hat, u - 0.5, v, top)
    above = number + (1.0 + _SHIFT)
    steps = number + 1.0
    for k in range(2, 1 + _SHIFT):
        steps = steps * (number + float(k))
    log_rate, log_above = (Term(b, vmath.log(b, each.value)) for each in (rate, above))
    inverse = 1.0 / above
    series = inverse * polynomial(inverse * inverse, _STIRLING)
    log_gamma = (above - 0.5) * log_above - above + (series + 0.5 * math.log(2 * math.pi))
    expected = number * log_rate
    excess = Term(b, vmath.log(b, (hat.density(v, us) / steps).value)) + rate - expected + log_gamma
    sure = (number < _EXACT) & (abs(excess) > (rate + expected) * 1e-14 + 1e-11)
    inside = sure & ~quick & ~outside
    return number, quick | (inside & (excess < 0.0)), outside | (inside & (excess > 0.0))


def _attempts(b: Builder, rate: Term, start: Value, keys: philox.Keys, top: float) -> Value:
    """One number, from a block of its stretch on."""
    hat = _Hat.of(rate)
    log_rate = _libm(b, "log", rate)
    before, turn, slow, judge, on, done = b.block, *map(b.label, ("attempt", "slow", "judge", "on", "taken"))
    b.branch(turn)
    b.start(turn)
    at = len(b.lines)
    b.lines.append("")
    block = Value(b.name(), dtypes.int64)
    u, v = pair(b, block, keys)
    number, quick, outside, us = _judged(hat, u - 0.5, v, top)
    b.branch_if(quick.value, done, slow)
    b.start(slow)
    b.branch_if(outside.value, on, judge)
    b.start(judge)
    chance = _libm(b, "log", hat.density(v, us))
    limit = -rate + number * log_rate - _libm(b, "lgamma", number + 1.0)
    b.branch_if((limit >= chance).value, done, on)
    b.start(on)
    following = b.add(block, b.int64(1))
    b.lines[at] = f"  {block.ref} = phi i64 [ {start.ref}, %{before} ], [ {following.ref}, %{on} ]"
    b.branch(turn)
    b.start(done)
    return number.value


def _libm(b: Builder, name: str, x: Term) -> Term:
    b.intrinsics.add(f"declare double @{name}(double)")
    return Term(b, b.assign(f"call double @{name}({x.value!r})", F64))
