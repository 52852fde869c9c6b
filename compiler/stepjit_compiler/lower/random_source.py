"""Where random kernels get their blocks: a session's stream, or what two seeds decide."""

from __future__ import annotations

from dataclasses import dataclass

from stepjit_compiler.lower import philox
from stepjit_compiler.lower.builder import Builder, Value
from stepjit_compiler.lower.kernel_code import Stream
from stepjit_compiler.lower.point import Point
from stepjit_runtime import abi, dtypes

BLOCKS = 8
"""Blocks made at a time."""
RESERVED = 256
"""Blocks that a stream moves on for each number, whatever was used."""
STATELESS_KEY = 0x02461E29_3EC8F720


@dataclass(frozen=True)
class Source:
    """A stream from a block on, as IR values: its seeds and the first block's number."""

    key: Value
    counter_hi: Value
    first: Value


def taken(point: Point, i: int, blocks: Value) -> Source:
    """The next blocks of the op's stream, which moves on by as many."""
    b, stream = point.b, point.stream(Stream(point.step.nodes[i].attr["_slot"]))
    key, counter_hi, following = (
        b.assign(f"getelementptr i8, ptr {stream.ref}, i64 {abi.STREAM[name]}", None)
        for name in ("key", "counter_hi", "next")
    )
    first = b.assign(f"atomicrmw add ptr {following.ref}, {blocks!r} monotonic, align 8", dtypes.int64)
    return Source(b.load(key, dtypes.int64), b.load(counter_hi, dtypes.int64), first)


def stateless(point: Point, i: int, seed: int) -> Source:
    """What two seeds decide: the words of a block that they number."""
    b, ref = point.b, point.step.nodes[i].inputs[seed]
    numbers = [b.convert(point.at(ref, (point.zero() + k,)), dtypes.int64) for k in range(2)]
    shared = philox.keys(b, b.int64(STATELESS_KEY), numbers[1], 1)
    mixed = philox.block(b, Value(numbers[0].ref, dtypes.uint64), shared)
    key, counter_hi = (_pair(b, mixed[k], mixed[k + 1]) for k in (0, 2))
    return Source(key, counter_hi, b.int64(0))


def _pair(b: Builder, low: Value, high: Value) -> Value:
    both = b.or_(b.shl(high, b.like(32, high)), philox.low_half(b, low))
    return b.bitcast(both, dtypes.int64)
