"""Candidates for losses over many classes: classes drawn from distributions, and those drawn that are true."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from stepjit_compiler.dims import Extent
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define
from stepjit_compiler.philox import Source
from stepjit_runtime import files, forking

_CHUNK = 1 << 14
_BLOCKS = 512
"""Blocks that a stream moves on for each candidate, whatever was used."""


class Sampler(Protocol):
    """A distribution over classes."""

    def draws(self, words: Iterator[int]) -> Iterator[int]:
        """Classes without end."""

    def probability(self, classes: np.ndarray) -> np.ndarray:
        """float32: how probable each class is."""

    def support(self) -> int:
        """How many classes can be drawn."""

    def learn(self, classes: np.ndarray) -> None:
        """Take note of true classes, after a draw."""


# --- Words to numbers ---


def _words(source: Source) -> Iterator[int]:
    """The stream's words without end."""
    size = 64
    while True:
        yield from source.words(size).tolist()
        source = source._replace(first=source.first + size // 4)
        size = min(2 * size, _CHUNK)


def _below(draw: Callable[[], int], limit: int, bits: int) -> int:
    """An integer in [0, limit), each as probable as the others, of words of that many bits."""
    if limit & (limit - 1) == 0:
        return draw() & (limit - 1)
    uneven = (1 << bits) % limit
    while True:
        found = draw()
        if found >= uneven:
            return found % limit


def _wide(words: Iterator[int]) -> Callable[[], int]:
    return lambda: next(words) | next(words) << 32


def _unit(upper: int, lower: int) -> float:
    """A number in [0, 1) of 52 bits."""
    return math.ldexp(((upper & 0xFFFFF) << 32) | lower, -52)


def _unit_single(word: int) -> float:
    return math.ldexp(word & 0x7FFFFF, -23)


# --- Distributions ---


class _Uniform:
    def __init__(self, classes: int) -> None:
        self.classes = classes

    def draws(self, words: Iterator[int]) -> Iterator[int]:
        draw = _wide(words)
        while True:
            yield _below(draw, self.classes, 64)

    def probability(self, classes: np.ndarray) -> np.ndarray:
        return np.full(classes.shape, 1 / self.classes, np.float32)

    def support(self) -> int:
        return self.classes

    def learn(self, classes: np.ndarray) -> None:
        pass


class _LogUniform(_Uniform):
    """Nearly Zipf's: the lower a class, the more probable."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.log = math.log1p(classes)

    def draws(self, words: Iterator[int]) -> Iterator[int]:
        while True:
            upper = next(words)
            yield (int(math.exp(_unit(upper, next(words)) * self.log)) - 1) % self.classes

    def probability(self, classes: np.ndarray) -> np.ndarray:
        exact = np.log((classes + 2.0) / (classes + 1.0)) / self.log
        return np.asarray(exact, np.float32)


class _LearnedUnigram:
    """Classes as often as they were true so far, counting each once to begin with."""

    def __init__(self, classes: int) -> None:
        self.counts = np.ones(classes, np.int64)
        self.total = classes

    def draws(self, words: Iterator[int]) -> Iterator[int]:
        sums = np.cumsum(self.counts).tolist()
        while True:
            yield bisect_right(sums, _below(words.__next__, self.total, 32))

    def probability(self, classes: np.ndarray) -> np.ndarray:
        return self.counts[classes].astype(np.float32) / np.float32(self.total)

    def support(self) -> int:
        return self.counts.size

    def learn(self, classes: np.ndarray) -> None:
        np.add.at(self.counts, classes, 1)
        self.total += classes.size


class _FixedUnigram:
    """Classes by given weights: Walker's alias method."""

    def __init__(self, weights: np.ndarray) -> None:
        self.weights, self.total = weights, np.add.accumulate(weights, dtype=np.float32)[-1]
        count = weights.size
        shares = (weights.astype(np.float64) * count / np.sum(weights.astype(np.float64))).tolist()
        short = [k for k, share in enumerate(shares) if share < 1]
        long = [k for k, share in enumerate(shares) if share >= 1]
        self.other = list(range(count))
        while short and long:
            low, high = short.pop(), long.pop()
            self.other[low] = high
            shares[high] -= 1 - shares[low]
            (short if shares[high] < 1 else long).append(high)
        for k in (*short, *long):
            shares[k] = 1.0  # but for rounding it is
        self.shares = np.asarray(shares, np.float32).tolist()

    def draws(self, words: Iterator[int]) -> Iterator[int]:
        while True:
            place = _unit_single(next(words))
            k = _below(words.__next__, len(self.shares), 32)
            yield k if place < self.shares[k] else self.other[k]

    def probability(self, classes: np.ndarray) -> np.ndarray:
        return self.weights[classes] / self.total

    def support(self) -> int:
        return int(np.count_nonzero(self.weights))

    def learn(self, classes: np.ndarray) -> None:
        pass


# --- What all samplers do ---


def _matrix(call: Call, true_classes: np.ndarray) -> None:
    columns = call.attrs["num_true"]
    if true_classes.ndim != 2:
        call.fail("true_classes must be a matrix")
    if true_classes.shape[1] != columns:
        call.fail(f"true_classes must have num_true columns, expected: {true_classes.shape[1]} was: {columns}")


def _in_range(call: Call, true_classes: np.ndarray, classes: int) -> None:
    bad = (true_classes < 0) | (true_classes >= classes)
    if bad.any():
        call.fail(f"`true_candidate` out of range [0, {classes}), received {true_classes[bad][0]}")


def _distinct(call: Call, draws: Iterator[int], count: int) -> tuple[list[int], int]:
    """That many different classes, and how many were drawn to find them."""
    found: dict[int, None] = {}
    tries = 0
    for candidate in draws:
        tries += 1
        found[candidate] = None
        if len(found) == count:
            break
        if tries % _CHUNK == 0:
            call.attrs["_resources"].cancellation.check()
    return list(found), tries


def _expected(probability: np.ndarray, count: int, tries: int) -> np.ndarray:
    """How often a class is to be expected among `count` candidates that `tries` draws gave."""
    if tries == count:
        return probability * np.float32(count)
    with np.errstate(all="ignore"):  # a class that is certain
        return -np.expm1(np.float32(tries) * np.log1p(-probability))


def _sampling(make: Callable[[Call], Sampler]) -> Callable[..., Any]:
    """The reference of an op whose sampler, one in each session, `make` makes."""

    def reference(call: Call, true_classes: np.ndarray) -> tuple[np.ndarray, ...]:
        attrs = call.attrs
        stream, count = attrs["_stream"], attrs["num_sampled"]
        sampler, lock = attrs["_resources"].stream((call.name, stream), lambda: (make(call), forking.lock()))
        _matrix(call, true_classes)
        if attrs["unique"] and sampler.support() < count:
            call.fail("Sampler's range is too small.")
        _in_range(call, true_classes, attrs["range_max"])
        source = Source(stream.key, stream.counter_hi, stream.take(_BLOCKS * count))
        with lock:
            draws = sampler.draws(_words(source))
            if attrs["unique"]:
                candidates, tries = _distinct(call, draws, count)
            else:
                candidates, tries = [next(draws) for _ in range(count)], count
            sampled = np.asarray(candidates, np.int64)
            expected = [_expected(sampler.probability(each), count, tries) for each in (true_classes, sampled)]
            sampler.learn(true_classes.ravel())
        return sampled, *expected

    return reference


def _of_rank(x: Inference, i: int, rank: int, message: str) -> tuple[Extent | None, ...]:
    """The shape of input i; what a graph is told and what a step is told about another rank both stand in the text."""
    shape = x.shape(i)
    if shape is not None and len(shape) != rank:
        x.fail(f"Shape must be rank {rank} but is rank {len(shape)}: {message}")
    return (None,) * rank if shape is None else shape


def _sampled(x: Inference) -> list[ShapeLike]:
    for name in ("num_true", "num_sampled", "range_max", "num_shards"):
        if x.attrs.get(name, 1) < 1:
            x.fail(f"Attr '{name}' of '{x.op}' Op passed {x.attrs[name]} less than minimum 1.")
    if x.attrs.get("shard", 0) < 0:
        x.fail(f"Attr 'shard' of '{x.op}' Op passed {x.attrs['shard']} less than minimum 0.")
    rows = _of_rank(x, 0, 2, "true_classes must be a matrix")[0]
    count = x.attrs["num_sampled"]
    return [(count,), (rows, x.attrs["num_true"]), (count,)]


_SIGNATURE = (
    "true_classes: int64 -> sampled_candidates: int64, true_expected_count: float32, sampled_expected_count: float32"
)
_COUNTS = "num_true: int, num_sampled: int, unique: bool"
_SEEDS = "seed: int = 0, seed2: int = 0"

# --- UniformCandidateSampler, LogUniformCandidateSampler, LearnedUnigramCandidateSampler ---

_KINDS: tuple[tuple[str, Callable[[int], Sampler]], ...] = (
    ("UniformCandidateSampler", _Uniform), ("LogUniformCandidateSampler", _LogUniform),
    ("LearnedUnigramCandidateSampler", _LearnedUnigram), ("ThreadUnsafeUnigramCandidateSampler", _LearnedUnigram),
)  # fmt: skip


def _of_range(kind: Callable[[int], Sampler]) -> Callable[[Call], Sampler]:
    return lambda call: kind(call.attrs["range_max"])


for _name, _kind in _KINDS:
    define(
        _name, _SIGNATURE, f"{_COUNTS}, range_max: int, {_SEEDS}",
        infer=_sampled, reference=_sampling(_of_range(_kind)), stateful=True, resources=True,
    )  # fmt: skip

# --- FixedUnigramCandidateSampler ---


def _number(call: Call, entry: float | str) -> float:
    """A weight, or the one in the last column of a file's line."""
    try:
        return float(entry.rsplit(",", 1)[-1]) if isinstance(entry, str) else entry
    except ValueError:
        call.fail(f"Wrong vocabulary format at line: {entry}")


def _fixed(call: Call) -> Sampler:
    attrs = call.attrs
    path, given = attrs["vocab_file"].decode(), attrs["unigrams"]
    if path and given:
        call.fail("Must only provide one of vocab_file and unigrams.")
    if not path and not given:
        call.fail("Must provide either vocab_file or unigrams.")
    lines = files.read_file(path).decode(errors="replace").splitlines() if path else []
    # Lines of other shards may hold anything.
    entries: list[float | str] = [line for line in lines if line] if path else list(given)
    shards, shard, reserved = attrs["num_shards"], attrs["shard"], max(attrs["num_reserved_ids"], 0)
    none = [0.0] * len([k for k in range(reserved) if k % shards == shard])
    mine = [_number(call, entry) for k, entry in enumerate(entries, len(none)) if k % shards == shard]
    with np.errstate(all="ignore"):
        weights = np.power(np.asarray(mine, np.float32), np.float32(attrs["distortion"]))
    weights = np.concatenate([np.asarray(none, np.float32), weights])
    if weights.size != attrs["range_max"]:
        call.fail(f"range is {attrs['range_max']} must be equal to weights size  {weights.size}")
    if not (weights >= 0).all() or not 0 < np.sum(weights) < np.inf:
        call.fail("the weights of the classes must not be negative, and their sum must be positive and finite")
    return _FixedUnigram(weights)


define(
    "FixedUnigramCandidateSampler", _SIGNATURE,
    f"{_COUNTS}, range_max: int, vocab_file: string = '', distortion: float = 1.0, num_reserved_ids: int = 0, "
    f"num_shards: int = 1, shard: int = 0, unigrams: list(float) = [], {_SEEDS}",
    infer=_sampled, reference=_sampling(_fixed), stateful=True, resources=True,
)  # fmt: skip

# --- AllCandidateSampler ---


def _all(call: Call, true_classes: np.ndarray) -> tuple[np.ndarray, ...]:
    count = call.attrs["num_sampled"]
    _matrix(call, true_classes)
    _in_range(call, true_classes, count)
    ones = (np.ones(shape, np.float32) for shape in (true_classes.shape, count))
    return np.arange(count, dtype=np.int64), *ones


define(
    "AllCandidateSampler", _SIGNATURE, f"{_COUNTS}, {_SEEDS}", infer=_sampled, reference=_all, stateful=True,
)  # fmt: skip

# --- ComputeAccidentalHits ---

_HITS_OF = "true_candidates must be a batch_size * num_true matrix"
_HITS_AMONG = "sampled_candidates must be a vector, which is typically an output from CandidateSampler"


def _hits(call: Call, true_classes: np.ndarray, sampled: np.ndarray) -> tuple[np.ndarray, ...]:
    if true_classes.ndim != 2 or true_classes.shape[1] != call.attrs["num_true"]:
        call.fail(_HITS_OF)
    if sampled.ndim != 1:
        call.fail(_HITS_AMONG)
    places = {candidate: k for k, candidate in enumerate(sampled.tolist())}
    rows, found = [], []
    for row, classes in enumerate(true_classes.tolist()):
        here = [places[each] for each in classes if each in places]
        found += here
        rows += [row] * len(here)
    weights = np.full(len(rows), np.finfo(np.float32).min, np.float32)
    return np.asarray(rows, np.int32), np.asarray(found, np.int64), weights


def _hits_shape(x: Inference) -> list[ShapeLike]:
    count = x.attrs["num_true"]
    columns = _of_rank(x, 0, 2, _HITS_OF)[1]
    _of_rank(x, 1, 1, _HITS_AMONG)
    x.equal(columns, count, f"Dimension must be {count} but is {columns}: {_HITS_OF}")
    return [(None,)] * 3


define(
    "ComputeAccidentalHits", "true_classes: int64, sampled_candidates: int64 -> indices: int32, ids: int64, "
    "weights: float32", f"num_true: int, {_SEEDS}", infer=_hits_shape, reference=_hits,
)  # fmt: skip
