"""Normals with |z| < 2, in groups that each have a stretch of blocks of their own, as IR.

A vector of groups takes its first block at a time. Groups in which a number falls out (one in six) are made good one
by one: what is left moves up, and further blocks of the group fill it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stepjit_compiler.lower import philox
from stepjit_compiler.lower.builder import Builder, Value, memory_type
from stepjit_compiler.lower.number_draws import each_lane
from stepjit_compiler.lower.point import Point
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType

BOUND = 2.0


@dataclass(frozen=True)
class Repair:
    """How single groups are made: the stream's keys for one lane, the dtype, the blocks from group to group."""

    keys: philox.Keys
    dtype: DType
    stride: int

    @property
    def size(self) -> int:
        """Numbers in a group."""
        return 16 // self.dtype.itemsize


def store_groups(point: Point, repair: Repair, words: philox.Words, numbers: Value, place: Value) -> None:
    """The groups, a lane each, whose first blocks have these words and numbers, to memory one after the other."""
    b = point.b
    drawn = philox.normals(b, words, repair.dtype)
    b.store(philox.interleaved(b, drawn), place)
    good = _inside(b, drawn[0])
    for each in drawn[1:]:
        good = b.and_(good, _inside(b, each))
    lanes = numbers.lanes
    point.allocas.append(f"  %row = alloca [{repair.size + 1} x {memory_type(repair.dtype)}], align 16")
    point.allocas.append(f"  %numbers = alloca [{lanes} x i64], align 64")
    b.store(numbers, Value("%numbers", None))

    def mend(lane: Value) -> None:
        number = b.load(b.offset(Value("%numbers", None), dtypes.int64, lane), dtypes.int64)
        _mend(b, repair, number, b.offset(place, repair.dtype, b.mul(lane, b.int64(repair.size))))

    each_lane(b, b.not_(good), mend)


def _inside(b: Builder, z: Value) -> Value:
    return b.compare("lt", b.abs(z), b.like(BOUND, z))


def _mend(b: Builder, repair: Repair, number: Value, group: Value) -> None:
    """Drop what is out of bounds in a group's first block, and go on drawing until it is full."""
    dtype, size = repair.dtype, repair.size
    drawn = [b.load(b.offset(group, dtype, b.int64(k)), dtype) for k in range(size)]
    have = _kept(b, drawn, b.int64(0), size)
    before, more, full = b.block, b.label("more"), b.label("full")
    b.branch(more)
    b.start(more)
    at = len(b.lines)
    b.lines.extend(["", ""])
    held, block = Value(b.name(), dtypes.int64), Value(b.name(), dtypes.int64)
    following = b.add(block, b.int64(1))
    words = philox.block(b, b.bitcast(following, dtypes.uint64), repair.keys)
    now = _kept(b, philox.normals(b, words, dtype), held, size)
    for k, (phi, first, then) in enumerate(((held, have, now), (block, number, following))):
        b.lines[at + k] = f"  {phi.ref} = phi i64 [ {first.ref}, %{before} ], [ {then.ref}, %{b.block} ]"
    b.branch_if(b.compare("lt", now, b.int64(size)), more, full)
    b.start(full)
    row = b.load(Value("%row", None), dtype, size)
    b.store(row, group)


def _kept(b: Builder, drawn: Sequence[Value], have: Value, size: int) -> Value:
    """Put what is within bounds behind the `have` numbers of %row; a full row's end is written over and over."""
    row = Value("%row", None)
    for z in drawn:
        b.store(z, b.offset(row, z.dtype or dtypes.float32, b.minimum(have, b.int64(size))))
        inside = _inside(b, z)
        have = b.add(have, b.assign(f"zext i1 {inside.ref} to i64", dtypes.int64))
    return have
