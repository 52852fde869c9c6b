"""Philox4x32-10 streams in numpy: blocks of random words, and the numbers that TensorFlow makes of them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from stepjit_compiler.lower.vmath import glibc

Words = np.ndarray
"""uint32 in the order of the stream."""

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
_STATELESS_KEY = (0x3EC8F720, 0x02461E29)
_SMALLEST = 1e-7
"""Uniforms are raised to this before their logarithm is taken."""


class Source(NamedTuple):
    """A stream from a block on: the key, the upper half of the counter, and the first block's number."""

    key: tuple[int, int]
    counter_hi: tuple[int, int]
    first: int = 0

    def words(self, count: int) -> Words:
        """The next `count` words."""
        numbers = np.arange(-(-count // 4), dtype=np.uint64) + np.uint64(self.first)
        return self.blocks(numbers).reshape(-1)[:count]

    def blocks(self, numbers: np.ndarray) -> Words:
        """uint32[..., 4]: the blocks of the given (absolute) numbers."""
        return philox(numbers, self.counter_hi, self.key)


def philox(numbers: np.ndarray, counter_hi: tuple[int, int], key: tuple[int, int]) -> Words:
    """uint32[..., 4]: one block per 64-bit counter in `numbers`."""
    numbers = np.asarray(numbers, np.uint64)
    c0, c1 = numbers & _LOW, numbers >> _32
    c2, c3 = (np.broadcast_to(np.uint64(word), numbers.shape) for word in counter_hi)
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (p1 >> _32) ^ c1 ^ np.uint64(k0), p1 & _LOW, (p0 >> _32) ^ c3 ^ np.uint64(k1), p0 & _LOW
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], -1).astype(np.uint32)


def stateless_source(seed: tuple[int, int]) -> Source:
    """The stream that two 64-bit seeds alone decide."""
    a, b = (each & 0xFFFFFFFFFFFFFFFF for each in seed)
    mixed = philox(np.array(a, np.uint64), (b & 0xFFFFFFFF, b >> 32), _STATELESS_KEY).tolist()
    return Source((mixed[0], mixed[1]), (mixed[2], mixed[3]))


# --- Words to numbers ---


def unit_f32(words: Words) -> np.ndarray:
    """float32 in [0, 1), one per word."""
    bits = (words & np.uint32(0x7FFFFF)) | np.uint32(0x3F800000)
    return bits.view(np.float32) - np.float32(1)


def unit_f64(words: Words) -> np.ndarray:
    """float64 in [0, 1), one per pair of words along the last axis."""
    upper = (words[..., 0::2].astype(np.uint64) & np.uint64(0xFFFFF)) << _32
    bits = np.uint64(0x3FF0000000000000) | upper | words[..., 1::2].astype(np.uint64)
    return bits.view(np.float64) - 1.0


def _unit_16(words: Words, dtype: np.dtype[Any], mask: int, one: int) -> np.ndarray:
    bits = ((words & np.uint32(mask)) | np.uint32(one)).astype(np.uint16)
    return bits.view(dtype) - np.ones((), dtype)


def normals_f32(words: Words) -> np.ndarray:
    """Standard normal float32, as many as words, by Box and Muller."""
    u = np.maximum(unit_f32(words[..., 0::2]), np.float32(_SMALLEST))
    radius = np.sqrt(np.float32(-2) * _log_f32(u))
    sine, cosine = _sin_cos_f32((2 * np.pi * unit_f32(words[..., 1::2]).astype(np.float64)).astype(np.float32))
    return np.stack([sine * radius, cosine * radius], -1).reshape(words.shape)


def _log_f32(u: np.ndarray) -> np.ndarray:
    """glibc's `logf` (see `lower/vmath/glibc.py`), for positive normal numbers below 1."""
    bits = u.view(np.int32)
    above = bits - np.int32(glibc.LOG_START)
    octave = above & np.int32(-(1 << 23))
    inverse, log_c = np.array(glibc.LOG_TABLE)[above >> 19 & 15].T
    r = (bits - octave).view(np.float32).astype(np.float64).T * inverse - 1
    start = (octave >> 23).T * glibc.LN2 + log_c + r
    square = r * r
    rest = glibc.LOG[0] * square + (glibc.LOG[1] * r + glibc.LOG[2])
    return np.asarray((rest * square + start).T, np.float32)


def _sin_cos_f32(angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """glibc's `sinf` and `cosf`, for angles in [0, 2 pi)."""
    turns = np.rint(angle.astype(np.float64) * glibc.TWO_OVER_PI)
    r, quarters = angle.astype(np.float64) - turns * glibc.HALF_PI, turns.astype(np.int64)
    z = r * r
    fourth = z * z
    sine = r + z * r * glibc.SIN[0] + z * r * z * (glibc.SIN[1] + z * glibc.SIN[2])
    cosine = 1 + z * glibc.COS[0] + fourth * glibc.COS[1] + fourth * z * (glibc.COS[2] + z * glibc.COS[3])
    values = np.array([sine, cosine, -sine, -cosine]).astype(np.float32)
    found = [np.take_along_axis(values, ((quarters + k) % 4)[None], 0)[0] for k in range(2)]
    return found[0], found[1]


def normals_f64(words: Words) -> np.ndarray:
    """Standard normal float64, half as many as words (a multiple of 4)."""
    unit = unit_f64(words)
    radius = np.sqrt(-2 * np.log(np.maximum(unit[..., 0::2], _SMALLEST)))
    angle = 2 * np.pi * unit[..., 1::2]
    pair = np.stack([np.sin(angle) * radius, np.cos(angle) * radius], -1)
    return pair.reshape(unit.shape)


# --- Distributions: `count` numbers from the start of a source ---


def uniform(source: Source, count: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Floats in [0, 1)."""
    if dtype == np.float64:
        return unit_f64(source.words(2 * count))
    words = source.words(count)
    if dtype == np.float32:
        return unit_f32(words)
    return _unit_16(words, dtype, 0x3FF, 0x3C00) if dtype == np.float16 else _unit_16(words, dtype, 0x7F, 0x3F80)


def uniform_int(source: Source, count: int, low: int, high: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Integers in [low, high), low < high."""
    wide = dtype.itemsize == 8
    raw = full_int(source, count, np.dtype(np.uint64 if wide else np.uint32))
    span = raw.dtype.type(high - low)
    return (raw % span + np.array(low, dtype).astype(raw.dtype)).astype(dtype)


def full_int(source: Source, count: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Integers over the whole range of an integer dtype of 32 or 64 bits."""
    if dtype.itemsize == 4:
        return source.words(count).astype(dtype)
    words = source.words(2 * count).astype(np.uint64)
    return (words[0::2] | words[1::2] << _32).astype(dtype)


def normal(source: Source, count: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Standard normal floats."""
    if dtype == np.float64:
        return normals_f64(source.words(-(-count // 2) * 4))[:count]
    return normals_f32(source.words(-(-count // 4) * 4))[:count].astype(dtype)


def truncated_normal(source: Source, count: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Standard normal floats with |z| < 2; each group of them has a stretch of blocks of its own."""
    size, stride = (2, 128) if dtype == np.float64 else (4, 256)
    groups = -(-count // size)
    found = np.zeros((groups, size), np.float64 if dtype == np.float64 else np.float32)
    have = np.zeros(groups, np.int64)
    open_ = np.arange(groups)
    block = 0
    while open_.size:
        numbers = np.uint64(source.first) + open_.astype(np.uint64) * np.uint64(stride) + np.uint64(block)
        words = source.blocks(numbers)
        draws = normals_f64(words) if dtype == np.float64 else normals_f32(words)
        for z in draws.T:
            good = (np.abs(z) < 2) & (have[open_] < size)
            at = open_[good]
            found[at, have[at]] = z[good]
            have[at] += 1
        open_ = open_[have[open_] < size]
        block += 1
    return found.reshape(-1)[:count].astype(dtype)


class _Draws:
    """Normals or uniforms for many outputs, each from its stretch of blocks, taken a block at a time, last first."""

    def __init__(self, streams: _Blocks, convert: Any) -> None:
        self.streams, self.convert = streams, convert
        self.kept = np.zeros((streams.next.size, 2))
        self.left = np.zeros(streams.next.size, np.int64)

    def take(self, which: np.ndarray) -> np.ndarray:
        empty = which[self.left[which] == 0]
        if empty.size:
            self.kept[empty] = self.convert(self.streams.take(empty))
            self.left[empty] = 2
        self.left[which] -= 1
        found: np.ndarray = self.kept[which, self.left[which]]
        return found


class _Blocks:
    def __init__(self, source: Source, count: int, stride: int = 256) -> None:
        self.source = source
        self.next = np.arange(count, dtype=np.uint64) * np.uint64(stride) + np.uint64(source.first)

    def take(self, which: np.ndarray) -> Words:
        words = self.source.blocks(self.next[which])
        self.next[which] += np.uint64(1)
        return words


def gamma(source: Source, alphas: np.ndarray) -> np.ndarray:
    """float64: a gamma draw (scale 1) for each of the flat `alphas`, by Marsaglia and Tsang."""
    alphas = np.asarray(alphas, np.float64)
    blocks = _Blocks(source, alphas.size)
    normals, uniforms = _Draws(blocks, normals_f64), _Draws(blocks, unit_f64)
    found = np.zeros(alphas.size)
    exponential = np.flatnonzero(alphas == 1)
    if exponential.size:
        found[exponential] = -np.log1p(-uniforms.take(exponential))
    small = alphas < 1
    d = np.where(small, alphas + 2 / 3, alphas - 1 / 3)
    with np.errstate(all="ignore"):
        c = 1 / 3 / np.sqrt(d)
    # A shape that is no positive number has no distribution, and no draw would ever be accepted.
    found[~(alphas > 0)] = np.nan
    open_ = np.flatnonzero((alphas != 1) & (alphas > 0))
    while open_.size:
        x = normals.take(open_)
        v = 1 + c[open_] * x
        positive = v > 0
        at, x, v = open_[positive], x[positive], v[positive] ** 3
        u = uniforms.take(at)
        with np.errstate(divide="ignore"):
            accept = (u < 1 - 0.0331 * (x * x) * (x * x)) | (
                np.log(u) < 0.5 * x * x + d[at] * (1 - v + np.log(v))
            )
        found[at[accept]] = d[at[accept]] * v[accept]
        boosted = at[accept][small[at[accept]]]
        if boosted.size:
            found[boosted] *= uniforms.take(boosted) ** (1 / alphas[boosted])
        keep = np.ones(open_.size, bool)
        keep[np.flatnonzero(positive)[accept]] = False
        open_ = open_[keep]
    return found


def largest(dtype: np.dtype[Any]) -> float:
    """The largest float64 that a dtype holds."""
    if dtype.kind == "f":
        return float(np.finfo(dtype).max)
    top = float(np.iinfo(dtype).max)
    return top if int(top) <= np.iinfo(dtype).max else math.nextafter(top, 0)


def poisson(source: Source, rates: np.ndarray, top: float) -> np.ndarray:
    """float64: a Poisson draw for each of the flat `rates`, none above `top`; what has no distribution stays itself."""
    rates = np.asarray(rates, np.float64)
    uniforms = _Draws(_Blocks(source, rates.size), unit_f64)
    found = np.where(rates < 10, 0.0, rates)
    with np.errstate(over="ignore"):
        least = np.exp(-rates)
    product = np.ones(rates.size)
    open_ = np.flatnonzero(rates < 10)
    while open_.size:
        product[open_] *= uniforms.take(open_)
        open_ = open_[product[open_] > least[open_]]
        found[open_] += 1
    open_ = np.flatnonzero((rates >= 10) & (rates < top))
    while open_.size:
        u, v = uniforms.take(open_) - 0.5, uniforms.take(open_)
        number, taken = _poisson_attempts(rates[open_], u, v, top)
        found[open_[taken]] = number[taken]
        open_ = open_[~taken]
    return found


def _poisson_attempts(rate: np.ndarray, u: np.ndarray, v: np.ndarray, top: float) -> tuple[np.ndarray, np.ndarray]:
    """Numbers by Hörmann's transformed rejection with a squeeze (PTRS), and which of them are taken."""
    b = 0.931 + 2.53 * np.sqrt(rate)
    a = -0.059 + 0.02483 * b
    us = 0.5 - np.abs(u)
    with np.errstate(divide="ignore", invalid="ignore"):
        number = np.floor((2 * a / us + b) * u + rate + 0.43)
    within = number <= top
    taken = within & (us >= 0.07) & (v <= 0.9277 - 3.6224 / (b - 2))
    judged = np.flatnonzero(within & ~taken & (number >= 0) & ~((us < 0.013) & (v > us)))
    for k in judged.tolist():
        density = v[k] * (1.1239 + 1.1328 / (b[k] - 3.4)) / (a[k] / (us[k] * us[k]) + b[k])
        limit = -rate[k] + number[k] * math.log(rate[k]) - math.lgamma(number[k] + 1)
        taken[k] = density <= 0 or math.log(density) <= limit
    return number, taken


# ln k! less its approximation by Stirling, for k = 0 to 9.
_STIRLING_TAILS = (
    0.0810614667953272, 0.0413406959554092, 0.0276779256849983, 0.02079067210376509, 0.0166446911898211,
    0.0138761288230707, 0.0118967099458917, 0.0104112652619720, 0.00925546218271273, 0.00833056343336287,
)  # fmt: skip


def binomial(source: Source, counts: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """float64: how many of `counts` trials succeed, for each of flat `counts` and `probs`; NaN where either is."""
    counts, probs = np.maximum(counts, 0), np.clip(probs, 0, 1)
    flipped = probs > 0.5
    rarer = np.where(flipped, 1 - probs, probs)
    found = np.zeros(counts.size)
    # The two ways leave different numbers of blocks for each number.
    near, far = (_Draws(_Blocks(source, counts.size, stride), unit_f64) for stride in (42, 256))
    drawn, many = (counts > 0) & (rarer > 0) & np.isfinite(counts), counts * rarer >= 10
    _binomial_by_gaps(near, np.flatnonzero(drawn & ~many), counts, rarer, found)
    _binomial_by_rejection(far, np.flatnonzero(drawn & many), counts, rarer, found)
    found = np.where(flipped, counts - found, found)
    return np.where(np.isnan(counts) | np.isnan(probs), np.nan, found)


def _binomial_by_gaps(
    uniforms: _Draws, open_: np.ndarray, counts: np.ndarray, probs: np.ndarray, found: np.ndarray
) -> None:
    """Successes, whose distances are geometric, until their sum is beyond the count."""
    found[open_] = 0
    reached = np.zeros(counts.size)
    while open_.size:
        with np.errstate(divide="ignore"):
            gaps = np.ceil(np.log(uniforms.take(open_)) / np.log1p(-probs[open_]))
        reached[open_] += gaps
        open_ = open_[reached[open_] <= counts[open_]]
        found[open_] += 1


def _binomial_by_rejection(
    uniforms: _Draws, open_: np.ndarray, counts: np.ndarray, probs: np.ndarray, found: np.ndarray
) -> None:
    """Hörmann's transformed rejection with a squeeze (BTRS)."""
    while open_.size:
        n, p = counts[open_], probs[open_]
        spread = np.sqrt(n * p * (1 - p))
        b = 1.15 + 2.53 * spread
        a = -0.0873 + 0.0248 * b + 0.01 * p
        u, v = uniforms.take(open_) - 0.5, uniforms.take(open_)
        us = 0.5 - np.abs(u)
        with np.errstate(all="ignore"):
            number = np.floor((2 * a / us + b) * u + (n * p + 0.5))
            quick = (us >= 0.07) & (v <= 0.92 - 4.2 / b)
            within = (number >= 0) & (number <= n)
            chance = np.log(v * ((2.83 + 5.1 / b) * spread) / (a / (us * us) + b))
            taken = quick | (within & (chance <= _binomial_bound(n, p, number)))
        found[open_[taken]] = number[taken]
        open_ = open_[~taken]


def _binomial_bound(n: np.ndarray, p: np.ndarray, k: np.ndarray) -> np.ndarray:
    mode, odds = np.floor((n + 1) * p), p / (1 - p)
    return (
        (mode + 0.5) * np.log((mode + 1) / (odds * (n - mode + 1)))
        + (n + 1) * np.log((n - mode + 1) / (n - k + 1))
        + (k + 0.5) * np.log(odds * (n - k + 1) / (k + 1))
        + _stirling_tail(mode) + _stirling_tail(n - mode) - _stirling_tail(k) - _stirling_tail(n - k)
    )  # fmt: skip


def _stirling_tail(k: np.ndarray) -> np.ndarray:
    square = (k + 1) * (k + 1)
    series = (1 / 12 - (1 / 360 - 1 / 1260 / square) / square) / (k + 1)
    return np.where(k <= 9, np.array(_STIRLING_TAILS)[np.clip(np.nan_to_num(k), 0, 9).astype(np.int64)], series)


def shuffled(source: Source, count: int) -> np.ndarray:
    """The order of `count` rows after a shuffle; takes count - 1 words."""
    order = list(range(count))
    words = source.words(max(count - 1, 0)).tolist()
    for i, word in enumerate(words):
        j = i + word % (count - i)
        order[i], order[j] = order[j], order[i]
    return np.array(order, np.int64)


def categorical(source: Source, logits: np.ndarray, samples: int) -> np.ndarray:
    """int64[rows, samples]: classes drawn by unnormalised log probabilities `logits`: [rows, classes].

    A row in which no class has a chance gives the number of classes.
    """
    rows, _ = logits.shape
    u = unit_f64(source.words(2 * rows * samples)).reshape(rows, samples)
    found = np.zeros((rows, samples), np.int64)
    for row, (values, draws) in enumerate(zip(logits.astype(np.float64), u, strict=True)):
        finite = np.isfinite(values)
        largest = values[finite].max() if finite.any() else 0.0
        with np.errstate(all="ignore"):
            total = np.cumsum(np.where(finite, np.exp(values - largest), 0.0))
        found[row] = np.searchsorted(total, draws * total[-1], side="right")
    return found
