"""The kernel that lists where a vector of bools holds."""

from __future__ import annotations

from stepjit_compiler.dims import Extent
from stepjit_compiler.ir import Ref
from stepjit_compiler.lower.point import Point
from stepjit_runtime import dtypes


def emit_hits(point: Point) -> Extent:
    """Outputs of the op: the numbers of the elements that hold, in order, and how many there are."""
    b, i = point.b, point.kernel.nodes[0]
    places, total = (Ref(i, k) for k in range(2))
    count = point.extent(point.step.nodes[i].types[0].dims[0])
    loop = b.begin_loop(b.int64(0), count, 1, [b.int64(0)])
    (seen,) = loop.carried
    # Every number is written, and the next one over it unless it holds: no branch that depends on data.
    b.store(loop.index, b.offset(point.pointer(places), dtypes.int64, seen))
    holds = point.element(point.step.nodes[i].inputs[0], point.index(loop.index))
    (all_seen,) = b.end_loop(loop, [b.add(seen, b.convert(holds, dtypes.int64))])
    b.store(all_seen, point.pointer(total))
    return 0
