"""What must hold of a plan; checked after memory planning under STEPJIT_VERIFY, always in tests.

Kernels
  - a kernel reads sources (feeds, slots, constants, what the entry provides) and what earlier kernels store
  - every stored value is stored by one kernel, and a kernel computes a node once
Buffers
  - every value that a kernel stores or that leaves the step has a buffer
  - no two values that live at the same time share bytes of the arena, for small and for larger extents
  - a slot, or a loop variable, that is written in place is not read by a later kernel, nor copied out as its old value
"""

from __future__ import annotations

from collections.abc import Mapping

from stepjit_compiler import dims, opdef
from stepjit_compiler.ir import Ref
from stepjit_compiler.lowering import Scatter
from stepjit_compiler.passes.fuse import SOURCES, root_of
from stepjit_compiler.plan import Plan

SAMPLES = (0, 2, 7, 1000)
"""Extents that arena offsets are worked out for."""


class PlanError(Exception):
    """A plan breaks an invariant, which is a bug of fusion or memory planning."""


def verify_plan(plan: Plan) -> None:
    """Raise PlanError when the plan, or that of a region, can't be right."""
    for each in plan.plans():
        _verify(each)


def _verify(plan: Plan) -> None:
    _verify_kernels(plan)
    _verify_overwrites(plan, "_Read", "slot", "slot", "slot")
    _verify_overwrites(plan, "_Feed", "index", "feed", "loop variable")
    symbols = {name for area in plan.areas for name in dims.symbols(area.bytes) | dims.symbols(area.offset)}
    for sample in SAMPLES:
        shared = overlaps(plan, dict.fromkeys(symbols, sample))
        if shared:
            raise PlanError(f"values share memory while both live: {shared[0]} with extents of {sample}")


def _verify_kernels(plan: Plan) -> None:
    stored: dict[Ref, int] = {}
    for number, kernel in enumerate(plan.kernels):
        if len(set(kernel.nodes)) != len(kernel.nodes):
            raise PlanError(f"kernel {number} computes a node twice")
        for ref in kernel.inputs:
            root = root_of(plan.step, ref)
            if plan.step.nodes[root.node].op not in SOURCES and root not in stored:
                raise PlanError(f"kernel {number} reads {root}, which no kernel before it stores")
        for ref in kernel.outputs:
            if ref in stored:
                raise PlanError(f"{ref} is stored by kernels {stored[ref]} and {number}")
            if ref not in plan.buffers:
                raise PlanError(f"{ref}, stored by kernel {number}, has no buffer")
            stored[ref] = number
    for ref in (*plan.step.fetches, *(ref for _, ref in plan.step.writes)):
        root = root_of(plan.step, ref)
        if plan.step.nodes[root.node].op not in SOURCES and root not in plan.buffers:
            raise PlanError(f"{ref} leaves the step but is stored nowhere")


def _verify_overwrites(plan: Plan, op: str, attr: str, kind: str, what: str) -> None:
    """No kernel overwrites a buffer of the kind while its old value, that of an `op` node, is still wanted."""
    olds = {node.attr[attr]: Ref(i, 0) for i, node in enumerate(plan.step.nodes) if node.op == op}
    for number, kernel in enumerate(plan.kernels):
        for ref in kernel.outputs:
            buffer = plan.buffers[ref]
            old = olds.get(buffer.number) if buffer.kind == kind else None
            if old is None:
                continue
            later = [k for k in range(number + 1, len(plan.kernels)) if _reads(plan, k, old)]
            if later or any(root_of(plan.step, copied) == old for copied, _ in plan.copies):
                raise PlanError(f"kernel {number} overwrites {what} {buffer.number}; its old value is still wanted")


def _reads(plan: Plan, kernel: int, value: Ref) -> bool:
    return any(root_of(plan.step, ref) == value for ref in plan.kernels[kernel].inputs)


def overlaps(plan: Plan, values: Mapping[str, int]) -> list[tuple[Ref, Ref]]:
    """Pairs of values that live at the same time in the same arena bytes, for given extents."""
    leaving = {root_of(plan.step, ref) for ref, _ in plan.copies}
    last: dict[Ref, int] = dict.fromkeys(leaving, len(plan.kernels))
    for k, kernel in enumerate(plan.kernels):
        for ref in kernel.inputs:
            root = root_of(plan.step, ref)
            last[root] = max(last.get(root, k), k)
    lives = []
    for k, kernel in enumerate(plan.kernels):
        for ref in kernel.outputs:
            buffer = plan.buffers[ref]
            if buffer.kind == "arena" and buffer.number < len(plan.areas):
                start = dims.evaluate(plan.areas[buffer.number].offset, values)
                stop = start + dims.evaluate(plan.areas[buffer.number].bytes, values)
                lives.append((ref, k, last.get(ref, k), start, stop))
    return [
        (a[0], b[0])
        for n, a in enumerate(lives)
        for b in lives[n + 1 :]
        if a[1] <= b[2] and b[1] <= a[2] and a[3] < b[4] and b[3] < a[4] and not _becomes(plan, a[0], b[0])
    ]


def _becomes(plan: Plan, old: Ref, new: Ref) -> bool:
    """Whether `new` is `old` with rows changed in place."""
    node = plan.step.nodes[new.node]
    op = opdef.lookup(node.op)
    scatter = op is not None and isinstance(op.lower, Scatter)
    return scatter and root_of(plan.step, node.inputs[0]) == old and plan.buffers[old] == plan.buffers[new]
