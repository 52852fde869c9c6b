"""expand: puts ops that are defined by other ops (`lowering.Composite`) in terms of those.

Nodes that come of an expansion carry the origin of the op they stand for, so errors and reports name the user's op.
"""

from __future__ import annotations

from collections.abc import Callable

from stepjit_compiler import opdef
from stepjit_compiler.ir import Node, Ref, Step
from stepjit_compiler.lowering import Composite
from stepjit_compiler.opdef import OpDef
from stepjit_compiler.passes.rebuild import rebuild
from stepjit_compiler.step_builder import CompositeError, StepBuilder


def expand_node(builder: StepBuilder, op: OpDef, node: Node) -> tuple[Ref, ...]:
    """The values that stand for the outputs of `node` in the builder; CompositeError when dtypes or ranks differ."""
    found = op.lower.expand(builder, builder.call(node), *node.inputs)
    refs = found if type(found) is tuple else (found,) if isinstance(found, Ref) else tuple(found)
    have = tuple(builder.type(ref) for ref in refs)
    if [(t.dtype, len(t.dims)) for t in have] != [(t.dtype, len(t.dims)) for t in node.types]:
        raise CompositeError(
            f"'{node.op}' is {', '.join(map(str, node.types))} but expands to {', '.join(map(str, have))}"
        )
    return refs


def expand(step: Step, wanted: Callable[[OpDef], bool] = lambda op: True) -> Step:
    """The step with composites whose definition is `wanted` expanded; other nodes are as they were."""
    return rebuild(step, _Expander(wanted, step))


class _Expander(StepBuilder):
    """Expands wanted composites as they are added, those inside others' expansions too."""

    def __init__(self, wanted: Callable[[OpDef], bool], step: Step) -> None:
        super().__init__(step.feeds, step.slots, step.names)
        self.wanted = wanted

    def region(self, region: Step) -> Step:
        return expand(region, self.wanted)

    def outputs(self, index: int) -> tuple[Ref, ...]:
        node = self.nodes[index]
        op = opdef.lookup(node.op)
        if op is not None and isinstance(op.lower, Composite) and self.wanted(op):
            return expand_node(self, op, node)
        return super().outputs(index)
