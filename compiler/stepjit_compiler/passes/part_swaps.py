"""part swaps: old values of variables that stand in what replaces them, or leave the step, are kept in values of it."""

from __future__ import annotations

from dataclasses import replace

from stepjit_compiler import opdef
from stepjit_compiler.ir import Node, Ref, Step
from stepjit_compiler.ops.step import ASSIGNS
from stepjit_compiler.passes.fuse import root_of


def part_swaps(step: Step) -> Step:
    """`write a = read b` -> `write a = _Copy(read b)`, where b is written too: b's buffer may be overwritten first.

    What Python writes is written before the results are taken, so its old value is copied for fetches as well.
    """
    by_host = {node.attr["slot"] for node in step.nodes if node.op in ASSIGNS}
    written = {slot for slot, _ in step.writes} | by_host
    if not written:
        return step
    kept = _Kept(step)
    writes = tuple((slot, kept.own(ref, written - {slot})) for slot, ref in step.writes)
    fetches = tuple(kept.own(ref, by_host) for ref in step.fetches)
    nodes = [
        replace(node, inputs=(kept.own(node.inputs[0], by_host - {node.attr["slot"]}), *node.inputs[1:]))
        if node.op in ASSIGNS
        else node
        for node in step.nodes
    ]
    return kept.renumbered(replace(step, nodes=tuple(nodes), writes=writes, fetches=fetches)) if kept.copies else step


class _Kept:
    """Copies of old values, numbered behind the step's nodes."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.copies: dict[Ref, Node] = {}

    def own(self, ref: Ref, changing: set[int]) -> Ref:
        """`ref`, or a copy of it where it is what one of the slots in `changing` holds at first."""
        source = self.step.nodes[root_of(self.step, ref).node]
        if source.op != "_Read" or source.attr["slot"] not in changing:
            return ref
        if ref not in self.copies:
            type_, origin = self.step.type(ref), self.step.nodes[ref.node].origin
            host = type_.dtype not in opdef.NATIVE
            self.copies[ref] = Node("_Copy", (ref,), (("T", type_.dtype),), (type_,), origin=origin, host=host)
        return Ref(len(self.step.nodes) + list(self.copies).index(ref), 0)

    def renumbered(self, step: Step) -> Step:
        """`step` with the copies, and Python's writes behind them."""
        nodes = [*step.nodes, *self.copies.values()]
        order = sorted(range(len(nodes)), key=lambda i: (nodes[i].op in ASSIGNS, i))
        place = {i: k for k, i in enumerate(order)}

        def moved(ref: Ref) -> Ref:
            return Ref(place[ref.node], ref.output)

        new = (
            replace(nodes[i], inputs=tuple(map(moved, nodes[i].inputs)), after=tuple(place[j] for j in nodes[i].after))
            for i in order
        )
        return step.over(new, moved, [place[i] for i in step.targets])
