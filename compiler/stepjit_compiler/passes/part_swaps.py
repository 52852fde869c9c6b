"""part swaps: variables that take one another's old values get them through a value of the step."""

from __future__ import annotations

from dataclasses import replace

from stepjit_compiler.ir import Node, Ref, Step
from stepjit_compiler.passes.fuse import root_of


def part_swaps(step: Step) -> Step:
    """`write a = read b` -> `write a = _Copy(read b)`, where b is written too: b's buffer may be overwritten first."""
    written = {slot for slot, _ in step.writes}
    nodes, writes = list(step.nodes), []
    for slot, ref in step.writes:
        root = root_of(step, ref)
        source = step.nodes[root.node]
        if source.op == "_Read" and source.attr["slot"] in written - {slot}:
            type_ = step.type(ref)
            nodes.append(Node("_Copy", (ref,), (("T", type_.dtype),), (type_,), origin=step.nodes[ref.node].origin))
            ref = Ref(len(nodes) - 1, 0)
        writes.append((slot, ref))
    return step if len(nodes) == len(step.nodes) else replace(step, nodes=tuple(nodes), writes=tuple(writes))
