"""Philox blocks and the numbers made of them, as IR: a lane per block, for scalars and vectors alike.

A block's four words are `u64` values of which the low halves count: so a round's products need no widening, and what
stands above is never looked at. `philox.py` beside the passes says in numpy what these give.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stepjit_compiler.lower.builder import Builder, Value
from stepjit_compiler.lower.vmath import glibc
from stepjit_compiler.lower.vmath.exp_log import LOG_64, log_of_parts, split
from stepjit_compiler.lower.vmath.terms import Term, sqrt, where
from stepjit_compiler.lower.vmath.trig import odd, sin_cos_64
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF
ROUNDS = 10
SMALLEST = 1e-7
"""Uniforms are raised to this before their logarithm is taken."""

Words = Sequence[Value]
"""The four words of a block per lane, or the two that a pair of normals is made of."""


@dataclass(frozen=True)
class Keys:
    """What all blocks of a stream share, spread over the lanes ahead of the loop: round keys, upper counter words."""

    rounds: tuple[tuple[Value, Value], ...]
    counter_hi: tuple[Value, Value]


def keys(b: Builder, key: Value, counter_hi: Value, lanes: int) -> Keys:
    """The keys of a stream from its two 64-bit seeds."""
    low, high = halves(b, key)
    rounds = []
    for k in range(ROUNDS):
        pair = []
        for word, step in zip((low, high), _KEY_STEPS, strict=True):
            moved = b.add(word, b.like(k * step & _LOW, word)) if k else word
            pair.append(b.splat(b.and_(moved, b.like(_LOW, moved)), lanes))
        rounds.append((pair[0], pair[1]))
    upper = halves(b, counter_hi)
    return Keys(tuple(rounds), (b.splat(upper[0], lanes), b.splat(upper[1], lanes)))


def halves(b: Builder, word: Value) -> tuple[Value, Value]:
    """The low and the high 32 bits of a 64-bit word."""
    word = b.bitcast(word, dtypes.uint64)
    return low_half(b, word), b.lshr(word, b.like(32, word))


def low_half(b: Builder, word: Value) -> Value:
    return b.and_(word, b.like(_LOW, word))


def block(b: Builder, numbers: Value, shared: Keys) -> list[Value]:
    """The blocks of the given numbers (u64, a lane each)."""
    c0, c1 = halves(b, numbers)
    c2, c3 = shared.counter_hi
    for left, right in shared.rounds:
        p0 = b.mul(low_half(b, c0), b.like(_MULTIPLIERS[0], c0))
        p1 = b.mul(low_half(b, c2), b.like(_MULTIPLIERS[1], c2))
        c0 = b.xor(b.lshr(p1, b.like(32, p1)), b.xor(c1, left))
        c2 = b.xor(b.lshr(p0, b.like(32, p0)), b.xor(c3, right))
        c1, c3 = p1, p0
    return [c0, c1, c2, c3]


# --- Numbers in the order of the stream ---


def interleaved(b: Builder, parts: Sequence[Value]) -> Value:
    """One vector: the first lane of each part, then the second of each, ..."""
    if len(parts) == 1:
        return parts[0]
    if len(parts) == 4:
        parts = [interleaved(b, (parts[0], parts[2])), interleaved(b, (parts[1], parts[3]))]
    first, second = parts
    lanes = first.lanes
    picks = ", ".join(f"i32 {k + lanes * half}" for k in range(lanes) for half in (0, 1))
    code = f"shufflevector {first!r}, {second!r}, <{2 * lanes} x i32> <{picks}>"
    return b.assign(code, first.dtype, 2 * lanes)


def words_64(b: Builder, words: Words) -> Value:
    """u64[2 lanes]: pairs of words, the first of them below."""
    return interleaved(b, [_joined(b, words[1], words[0]), _joined(b, words[3], words[2])])


def _joined(b: Builder, high: Value, low: Value) -> Value:
    return b.or_(b.shl(high, b.like(32, high)), low_half(b, low))


def words_32(b: Builder, words: Words) -> Value:
    """u32[4 lanes]: the words."""
    pairs = words_64(b, words)
    return b.assign(f"bitcast {pairs!r} to <{2 * pairs.lanes} x i32>", dtypes.uint32, 2 * pairs.lanes)


def unit_32(b: Builder, word: Value) -> Value:
    """float32 in [0, 1) of u32 words."""
    bits = b.or_(b.and_(word, b.like(0x7FFFFF, word)), b.like(0x3F800000, word))
    return (Term(b, b.bitcast(bits, dtypes.float32)) - 1.0).value


def unit_64(b: Builder, high: Value, low: Value) -> Value:
    """float64 in [0, 1) of words: 20 bits of `high` above all of `low`."""
    upper = b.shl(b.and_(high, b.like(0xFFFFF, high)), b.like(32, high))
    bits = b.or_(b.or_(upper, b.like(0x3FF0000000000000, upper)), low_half(b, low))
    return (Term(b, b.bitcast(bits, dtypes.float64)) - 1.0).value


def uniforms(b: Builder, words: Words, dtype: DType) -> Value:
    """float32[4 lanes] or float64[2 lanes] in [0, 1)."""
    if dtype is dtypes.float32:
        return unit_32(b, words_32(b, words))
    return interleaved(b, [unit_64(b, words[0], words[1]), unit_64(b, words[2], words[3])])


# --- Normals, by Box and Muller ---


def normals(b: Builder, words: Words, dtype: DType) -> list[Value]:
    """Standard normals: four float32 per block, or two float64, each a vector of a lane per block."""
    if dtype is dtypes.float32:
        return [*_pair_32(b, words[:2]), *_pair_32(b, words[2:])]
    return _pair_64(b, words)


def _pair_32(b: Builder, words: Words) -> list[Value]:
    """Every bit as glibc's functions give it."""
    u, turn = (Term(b, unit_32(b, b.convert(word, dtypes.uint32))) for word in words)
    radius = sqrt(glibc.log(u.at_least(SMALLEST)) * -2.0)
    angle = (turn.convert(dtypes.float64) * (2 * math.pi)).convert(dtypes.float32)
    return [(each * radius).value for each in glibc.sin_cos(angle)]


def _pair_64(b: Builder, words: Words) -> list[Value]:
    u, turn = Term(b, unit_64(b, words[0], words[1])), Term(b, unit_64(b, words[2], words[3]))
    k, m = split(u.at_least(SMALLEST))
    radius = sqrt(log_of_parts(k, m - 1.0, None, LOG_64) * -2.0)
    (sine, _), (cosine, _), n = sin_cos_64(turn * (2 * math.pi))
    return [(each * radius).value for each in _turned(sine, cosine, n)]


def _turned(sine: Term, cosine: Term, n: Term) -> tuple[Term, Term]:
    """Sine and cosine of an angle from those of what n quarter turns leave of it."""
    swapped = odd(n)
    found = []
    for value, quarters in ((where(swapped, cosine, sine), n), (where(swapped, sine, cosine), n + 1)):
        found.append((value.bits() ^ ((quarters >> 1) << 63)).as_float())
    return found[0], found[1]
