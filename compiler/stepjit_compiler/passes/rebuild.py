"""Builds a Step anew, node by node, through a builder that may put other nodes in their place."""

from __future__ import annotations

from collections.abc import Sequence

from stepjit_compiler import dims, opdef, regions
from stepjit_compiler.dims import Dim, Extent
from stepjit_compiler.ir import Node, Ref, Step, StepFailure
from stepjit_compiler.lowering import Composite
from stepjit_compiler.step_builder import SOURCES, StepBuilder
from stepjit_compiler.step_inference import is_late
from stepjit_runtime.errors import OpFailure

_IDLE = SOURCES | {"Const"}


def rebuild(step: Step, builder: StepBuilder) -> Step:
    """The step built again in `builder`, which has the step's feeds, slots and names but no nodes yet.

    Raises StepFailure with the origin of a node that can't be built.
    """
    # A region whose parameters' extents are no longer known finds out anew what it assumes of them.
    told = {name for type_ in builder.feeds for extent in type_.dims for name in dims.symbols(extent)}
    builder.assume([check for check in step.checks if dims.symbols(check.a) | dims.symbols(check.b) <= told])
    outputs: list[tuple[Ref, ...]] = []
    replaced: list[tuple[int, ...]] = []
    """By node: the nodes that now do its work, for `after` and targets."""
    late = _LateExtents(builder)
    orders = {j for node in step.nodes for j in node.after} | set(step.targets)
    for i, node in enumerate(step.nodes):
        inputs = tuple([outputs[n][k] for n, k in node.inputs])
        after = tuple(dict.fromkeys(j for before in node.after for j in replaced[before])) if node.after else ()
        builder.after = after
        start = len(builder.nodes)
        try:
            if node.op in regions.CONTROL:
                node = _with_regions(step, node, builder, inputs, late)
            index = builder.copy(late.renamed(node), inputs, after)
            refs = builder.outputs(index)
        except OpFailure as failure:
            raise StepFailure(node.origin, failure) from None
        outputs.append(refs)
        late.note(node, refs)
        replaced.append(_workers(builder, index, refs, start) if i in orders else ())
    fetches = [outputs[n][k] for n, k in step.fetches]
    writes = [(slot, outputs[n][k]) for slot, (n, k) in step.writes]
    targets = list(dict.fromkeys(j for target in step.targets for j in replaced[target]))
    return builder.finish(fetches, writes, targets)


def _with_regions(
    step: Step, node: Node, builder: StepBuilder, inputs: Sequence[Ref], late: _LateExtents
) -> Node:
    """The node with its regions built again, for the types that its inputs have now."""
    old, new = [step.type(ref) for ref in node.inputs], [builder.resolved(builder.type(ref)) for ref in inputs]
    feeds = regions.parameters(node, old, new)
    held = {name for type_ in old for extent in type_.dims for name in dims.symbols(extent)}
    names = {name: dims.symbol(name) for name in held} | late.names
    names = {name: builder.resolve(extent) for name, extent in names.items()}
    return regions.with_regions(node, lambda name, each: builder.region(regions.retyped(each, feeds, names)))


def _workers(builder: StepBuilder, index: int, refs: tuple[Ref, ...], start: int) -> tuple[int, ...]:
    """The nodes that do the work of node `index`: those of `refs`, and those with effects added since `start`."""
    found = {ref.node for ref in refs}
    found |= {j for j in (index, *range(start, len(builder.nodes))) if _has_effect(builder.nodes[j])}
    return tuple(j for j in sorted(found) if builder.nodes[j].op not in _IDLE)


def _has_effect(node: Node) -> bool:
    op = opdef.lookup(node.op)
    if op is None or (isinstance(op.lower, Composite) and not node.host):
        return False
    return regions.has_effect(node) or not node.types


class _LateExtents:
    """Extents born in mid-step have new names in the new step."""

    def __init__(self, builder: StepBuilder) -> None:
        self.builder = builder
        self.names: dict[str, Extent] = {}

    def note(self, node: Node, refs: tuple[Ref, ...]) -> None:
        for old, ref in zip(node.types, refs):
            for extent, new in zip(old.dims, self.builder.type(ref).dims):
                if isinstance(extent, Dim) and is_late(extent) and str(extent)[1:].isdigit():
                    self.names.setdefault(str(extent), new)

    def renamed(self, node: Node) -> Node:
        if not self.names or node.op != "_Dims":
            return node
        flat = tuple(e.substitute(self.names) if isinstance(e, Dim) else e for e in node.attr["dims"])
        return Node(node.op, (), (("dims", flat),), node.types, (), node.origin)
