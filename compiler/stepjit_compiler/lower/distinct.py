"""The kernel that numbers distinct integers in the order of their first places, by a hash table in scratch memory."""

from __future__ import annotations

from stepjit_compiler.dims import Extent
from stepjit_compiler.ir import Ref
from stepjit_compiler.lower.builder import Builder, Value
from stepjit_compiler.lower.point import Point
from stepjit_runtime import dtypes

_SPREAD = 0x9E3779B97F4A7C15 - (1 << 64)
"""2^64 over the golden ratio: the upper bits of its multiples lie far apart for keys that are neighbours."""
_TABLE = Value("%scratch", None)
"""Open addressing: by place 1 + the number of the key that is there, or 0."""


def emit_distinct(point: Point) -> Extent:
    """Outputs of the op: by element the number of its value, by number the first place, and how many there are."""
    b, i = point.b, point.kernel.nodes[0]
    x, length = point.step.nodes[i].inputs[0], point.step.nodes[i].types[0].dims[0]
    places, first, total = (Ref(i, k) for k in range(3))
    count = point.extent(length)
    shift, mask = _empty_table(b, count)
    loop = b.begin_loop(b.int64(0), count, 1, [b.int64(0)])
    (seen,) = loop.carried
    key = point.element(x, point.index(loop.index))
    wide = b.convert(key, dtypes.int64)
    start = b.lshr(b.mul(wide, b.int64(_SPREAD)), shift)

    # Look from place to place until there is nobody, or the key.
    probe, taken, other, fresh, found = (b.label(name) for name in ("probe", "taken", "other", "fresh", "found"))
    before = b.block
    b.branch(probe)
    b.start(probe)
    at_phi = len(b.lines)
    b.lines.append("")
    at = Value(b.name(), dtypes.int64)
    cell = b.offset(_TABLE, dtypes.int32, at)
    entry = b.load(cell, dtypes.int32)
    b.branch_if(b.compare("eq", entry, b.like(0, entry)), fresh, taken)
    b.start(taken)
    number = b.sub(b.convert(entry, dtypes.int64), b.int64(1))
    holder = b.load(b.offset(point.pointer(first), dtypes.int64, number), dtypes.int64)
    same = b.compare("eq", point.element(x, point.index(holder)), key)
    b.branch_if(same, found, other)
    b.start(other)
    following = b.and_(b.add(at, b.int64(1)), mask)
    b.lines[at_phi] = f"  {at.ref} = phi i64 [ {start.ref}, %{before} ], [ {following.ref}, %{other} ]"
    b.branch(probe)
    b.start(fresh)
    more = b.add(seen, b.int64(1))
    b.store(b.convert(more, dtypes.int32), cell)
    b.store(loop.index, b.offset(point.pointer(first), dtypes.int64, seen))
    b.branch(found)
    b.start(found)
    mine = b.phi(dtypes.int64, 1, [(number, taken), (seen, fresh)])
    now = b.phi(dtypes.int64, 1, [(seen, taken), (more, fresh)])
    point.store_at(b.convert(mine, point.step.type(places).dtype), point.pointer(places), point.index(loop.index))
    (all_seen,) = b.end_loop(loop, [now])
    b.store(all_seen, point.pointer(total))
    return 16 * length + 64


def _empty_table(b: Builder, count: Value) -> tuple[Value, Value]:
    """Clears twice to four times as many places as there are keys; by how much to shift a hash, and the last place."""
    b.intrinsics.add("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1 immarg)")
    b.intrinsics.add("declare i64 @llvm.ctlz.i64(i64, i1 immarg)")
    twice = b.shl(b.maximum(count, b.int64(1)), b.int64(1))
    less = b.sub(twice, b.int64(1))
    shift = b.assign(f"call i64 @llvm.ctlz.i64({less!r}, i1 true)", dtypes.int64)
    room = b.shl(b.int64(1), b.sub(b.int64(64), shift))
    size = b.shl(room, b.int64(2))
    b.raw(f"call void @llvm.memset.p0.i64(ptr align 64 %scratch, i8 0, {size!r}, i1 false)")
    return shift, b.sub(room, b.int64(1))
