"""tell regions: what Python drives is a step of its own, which knows no extents but those of its parameters.

Where such a region asks for a symbol of the step around it that no parameter has as an extent (`2*n` tells nothing of
`n`), the symbols come in as the extents of one more input, an array without elements: `bool[n,m,0]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stepjit_compiler import dims
from stepjit_compiler.dims import Shape
from stepjit_compiler.ir import Literal, Node, Ref, Step, Type
from stepjit_compiler.regions import CONTROL, asked, regions_of, with_regions
from stepjit_compiler.step_inference import is_late
from stepjit_runtime import dtypes


def tell_regions(step: Step) -> Step:
    """The step with a further input for regions that Python drives, where they need it; inner regions come first."""
    if not any(node.op in CONTROL for node in step.nodes):
        return step
    return _Rewriter(step).run()


class _Rewriter:
    def __init__(self, step: Step) -> None:
        self.step = step
        self.nodes: list[Node] = []
        self.place: dict[Ref, Ref] = {}
        self.number: list[int] = []

    def run(self) -> Step:
        changed = False
        for i, node in enumerate(self.step.nodes):
            new, missing = node, []
            if node.op in CONTROL:
                new = with_regions(node, lambda name, region: tell_regions(region))
                missing = _missing(new) if node.host else []
            changed = changed or bool(missing) or any(a is not b for a, b in zip(new.attr.values(), node.attr.values()))
            inputs = tuple(self.place[ref] for ref in new.inputs)
            new = new.changed(inputs=inputs, after=tuple(self.number[j] for j in new.after))
            if missing:
                new = _told(new, self._teller(missing, node.origin), missing)
            self.nodes.append(new)
            self.number.append(len(self.nodes) - 1)
            shift = len(node.inputs) if missing and node.op == "_While" else len(node.types)
            for k in range(len(node.types)):
                self.place[Ref(i, k)] = Ref(len(self.nodes) - 1, k + (k >= shift))
        targets = [self.number[j] for j in self.step.targets]
        return self.step.over(self.nodes, self.place.__getitem__, targets) if changed else self.step

    def _teller(self, names: Sequence[str], origin: int) -> Ref:
        """An array without elements that has these extents."""
        extents: Shape = (*map(dims.symbol, names), 0)
        after = sorted({self._bearer(name) for name in names if name not in self._fed and is_late(dims.symbol(name))})
        int32, bool_ = dtypes.int32, dtypes.bool_
        shape, value = Type(int32, (len(extents),)), Literal(np.array(False))
        self.nodes += [
            Node("_Dims", (), (("dims", extents),), (shape,), tuple(after), origin),
            Node("Const", (), (("dtype", bool_), ("value", value)), (Type(bool_, ()),), origin=origin),
        ]
        first = len(self.nodes) - 2
        attrs = (("T", bool_), ("index_type", int32))
        self.nodes.append(
            Node("Fill", (Ref(first, 0), Ref(first + 1, 0)), attrs, (Type(bool_, extents),), origin=origin)
        )
        return Ref(first + 2, 0)

    @property
    def _fed(self) -> set[str]:
        return {name for type_ in self.step.feeds for extent in type_.dims for name in dims.symbols(extent)}

    def _bearer(self, name: str) -> int:
        """The node that brings a symbol."""
        return next(
            i for i, node in enumerate(self.nodes)
            for type_ in node.types for extent in type_.dims if name in dims.symbols(extent)
        )  # fmt: skip


def _missing(node: Node) -> list[str]:
    """The symbols that regions of the node ask for and that no extent of their parameters is."""
    found: set[str] = set()
    for _, region in regions_of(node):
        extents = [extent for type_ in region.feeds for extent in type_.dims]
        told = {str(extent) for extent in extents}
        held = {name for extent in extents for name in dims.symbols(extent)}
        # Other late extents are born in the region itself.
        found |= {name for name in asked(region) - told if name in held or not is_late(dims.symbol(name))}
    return sorted(found)


def _told(node: Node, teller: Ref, names: Sequence[str]) -> Node:
    """The node with the teller as its last input; a loop hands it on as its last variable."""
    type_ = Type(dtypes.bool_, (*map(dims.symbol, names), 0))
    node = with_regions(node, lambda name, region: replace(region, feeds=(*region.feeds, type_)))
    if node.op == "_If":
        attrs = tuple((name, (*value, type_.dtype)) if name == "Tin" else (name, value) for name, value in node.attrs)
        return node.changed(inputs=(*node.inputs, teller), attrs=attrs)
    count = len(node.inputs)

    def widened(name: str, region: Step) -> Step:
        if name == "cond":
            return region
        feed = Node("_Feed", (), (("index", count),), (type_,))
        fetches = (*region.fetches[:count], Ref(len(region.nodes), 0), *region.fetches[count:])
        return replace(region, nodes=(*region.nodes, feed), fetches=fetches)

    node = with_regions(node, widened)
    more = {name: (*node.attr[name][:count], type_.dtype, *node.attr[name][count:]) for name in ("T", "Tout")}
    return node.changed(
        inputs=(*node.inputs, teller),
        attrs=tuple((name, more.get(name, value)) for name, value in node.attrs),
        types=(*node.types[:count], type_, *node.types[count:]),
    )
