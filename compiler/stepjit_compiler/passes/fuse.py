"""fuse: which nodes are computed together.

A group has a *space*, the shape that its loops run over. A member is *full* (its extents are the space) or a *row*
(it has lost the reduced axes). Groups are numbered in the order they will run, and a node may only join a group that
comes after the groups of all its inputs; so the groups always form an acyclic graph in that order, and one look at
the inputs decides. Group size is bounded, which keeps compile time linear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from stepjit_compiler import opdef
from stepjit_compiler.dims import Shape
from stepjit_compiler.ir import Node, Ref, Step
from stepjit_compiler.lower.matmul import Product, choose
from stepjit_compiler.lowering import (
    Alias,
    Assemble,
    Contraction,
    Control,
    Convolution,
    Distinct,
    Elementwise,
    Generate,
    Hits,
    Indexed,
    Matrices,
    Reduction,
    Scatter,
)
from stepjit_compiler.opdef import OpDef
from stepjit_compiler.passes.analyse import Facts
from stepjit_compiler.plan import Kernel
from stepjit_compiler.step_builder import StepBuilder
from stepjit_compiler.step_inference import StepCall

GROUP_NODES = 40
"""Members of a group, at most."""
GROUP_BUFFERS = 24
"""Values that a group reads, at most: more would not fit the registers that hold their addresses."""
STAGES = 4
"""Reductions of reductions within a group, at most."""

AxisMap = tuple["int | None", ...]
"""By axis of a value: the axis of the space it runs along, or None for extent 1."""


@dataclass
class Group:
    """A kernel in the making."""

    kind: str
    space: Shape
    members: list[int] = field(default_factory=list)
    axes: tuple[int, ...] | None = None
    """Axes that the group's reductions run over."""
    maps: dict[int, AxisMap] = field(default_factory=dict)
    stage: dict[int, int] = field(default_factory=dict)
    inputs: set[Ref] = field(default_factory=set)
    closed: bool = False

    def is_full(self, node: int) -> bool:
        return self.maps[node] == tuple(range(len(self.space)))

    def runs_along(self, mapped: AxisMap, axes: tuple[int, ...]) -> bool:
        """Whether a value with this map has an extent on one of the axes."""
        return any(axis is not None and self.space[axis] != 1 for axis in mapped if axis in axes)


def fuse(step: Step, facts: Facts) -> tuple[Kernel, ...]:
    """The step's kernels in the order that they run."""
    fusion = _Fusion(step, facts)
    for i in facts.order:
        fusion.place(i)
    return fusion.kernels()


WHOLE = ("host", "if", "while", "check", "random", "born")
"""Kinds of groups that run as they are, for more than what they store."""

SOURCES = ("_Feed", "_Read", "_Initialized", "Const", "_Dims")
"""Nodes that compute nothing: their values stand in a buffer when the step begins, or in the code."""


class _Fusion:
    def __init__(self, step: Step, facts: Facts) -> None:
        self.step, self.facts = step, facts
        self.groups: list[Group] = []
        self.group_of: dict[int, int] = {}
        self.recent: dict[Shape, int] = {}
        """By space: the last loop group over it."""
        self.calls: dict[int, StepCall] = {}
        self.builder = reader_of(step)

    # --- one node ---

    def place(self, i: int) -> None:
        node = self.step.nodes[i]
        op = opdef.lookup(node.op)
        if node.op in SOURCES:
            if node.op == "_Dims":
                self._join(self._open("loop", node.types[0].dims), i, tuple(range(len(node.types[0].dims))))
            return
        if node.host:
            self._open("host", (), i)
            return
        assert op is not None
        if isinstance(op.lower, Alias):
            self._place_alias(i, op.lower)
        elif isinstance(op.lower, Elementwise):
            self._place_elementwise(i)
        elif isinstance(op.lower, Indexed):
            self._place_indexed(i, op.lower)
        elif isinstance(op.lower, Reduction):
            self._place_reduction(i, op)
        elif isinstance(op.lower, Contraction):
            self._place_contraction(i, op)
        elif isinstance(op.lower, Convolution):
            g = self._open("filter" if op.lower.of_filter else "product", node.types[0].dims)
            self.groups[g].closed = op.lower.of_filter
            self._join(g, i, tuple(range(len(node.types[0].dims))))
        elif isinstance(op.lower, Assemble):
            self._open("assemble", node.types[0].dims, i)
        elif isinstance(op.lower, Scatter):
            self._place_scatter(i)
        elif isinstance(op.lower, Control):
            self._open(op.lower.kind, (), i)
        elif isinstance(op.lower, Matrices):
            self._open("matrices", node.types[0].dims, i)
        elif isinstance(op.lower, Generate):
            self._open("random", node.types[0].dims, i)
        elif isinstance(op.lower, (Distinct, Hits)):
            self._open("distinct" if isinstance(op.lower, Distinct) else "hits", node.types[0].dims, i)
        else:
            raise AssertionError(f"no way to lower {node.op}")

    def _place_alias(self, i: int, lower: Alias) -> None:
        if lower.checks is not None:
            self._open("check", (), i)
            return
        # Only taking out or putting in extents of 1 keeps the axes apart, so only that goes on inside a group.
        source = self.step.nodes[i].inputs[0]
        group = self.group_of.get(source.node)
        if group is None or self.groups[group].kind != "loop":
            return
        source_map = self.groups[group].maps.get(source.node)
        if source_map is None or source.output:
            return
        mapped = _through_ones(self.step.type(source).dims, self.step.nodes[i].types[0].dims, source_map)
        if mapped is not None and not self.groups[group].closed:
            self._join(group, i, mapped)

    def _place_elementwise(self, i: int) -> None:
        space = self.step.nodes[i].types[0].dims
        full = tuple(range(len(space)))
        for g in self._candidates(i, strictly=False):
            group = self.groups[g]
            if group.kind in ("loop", "product") and group.space == space and self._aligned(group, i, full):
                self._join(g, i, full)
                return
            row = self._row_map(group, i)
            if group.kind == "loop" and row is not None:
                self._join(g, i, row)
                return
        self._join(self._open("loop", space), i, full)

    def _place_indexed(self, i: int, lower: Indexed) -> None:
        space = self.step.nodes[i].types[0].dims
        if lower.born is not None:
            self._open("born", space, i)
            return
        if len({t.dims for t in self.step.nodes[i].types}) > 1:
            self._open("split", space, i)
            return
        full = tuple(range(len(space)))
        for g in self._candidates(i, strictly=True):
            group = self.groups[g]
            if group.kind == "loop" and group.space == space and self._fits(group, i):
                self._join(g, i, full)
                return
        self._join(self._open("loop", space), i, full)

    def _place_reduction(self, i: int, op: OpDef) -> None:
        node = self.step.nodes[i]
        space = self.step.type(node.inputs[0]).dims
        axes = reduced_axes(op, self.call(i), len(space))
        assert axes is not None
        keep = bool(node.attr.get("keep_dims", False))
        row: AxisMap = tuple(None if a in axes else a for a in range(len(space)) if keep or a not in axes)
        for g in self._candidates(i, strictly=False):
            group = self.groups[g]
            if group.kind != "loop" or group.space != space or group.axes not in (None, axes):
                continue
            if not self._fits(group, i) or not self._operand_is_full(group, i):
                continue
            stage = self._stage(group, i) + 1
            if stage > 1 and not _row_kernel(space, axes):
                continue
            partial = (mapped for j, mapped in group.maps.items() if not group.is_full(j))
            if group.axes is None and any(group.runs_along(mapped, axes) for mapped in partial):
                continue  # these would be taken for rows
            if stage <= STAGES:
                group.axes = axes
                self._join(g, i, row, stage)
                return
        g = self._open("loop", space)
        self.groups[g].axes = axes
        self._join(g, i, row, 1)

    def _place_contraction(self, i: int, op: OpDef) -> None:
        node = self.step.nodes[i]
        g = self._open(choose(product_of(self.step, i, self.call(i))), node.types[0].dims)
        group = self.groups[g]
        group.kind = "product" if group.kind == "generated" else "blas"
        group.closed = group.kind == "blas"
        self._join(g, i, tuple(range(len(group.space))))

    def _place_scatter(self, i: int) -> None:
        node = self.step.nodes[i]
        self._open("scatter", self.step.type(node.inputs[2]).dims, i)

    # --- which group ---

    def _candidates(self, i: int, strictly: bool) -> list[int]:
        """Groups that node i may join, best first: those of its inputs, then the last one over the same space."""
        node = self.step.nodes[i]
        inputs = {g for ref in node.inputs if (g := self._group(ref)) is not None}
        inputs |= {self.group_of[j] for j in node.after if j in self.group_of}
        first = max(inputs, default=-1) + strictly
        found = [g for g in sorted(inputs, reverse=True) if g >= first]
        space = self.step.type(node.inputs[0]).dims if node.inputs else ()
        for shape in (node.types[0].dims, space):
            recent = self.recent.get(shape)
            if recent is not None and recent >= first and recent not in found:
                found.append(recent)
        return [g for g in found if not self.groups[g].closed and len(self.groups[g].members) < GROUP_NODES]

    def _group(self, ref: Ref) -> int | None:
        """The group that computes a value; through aliases that are no members."""
        node = ref.node
        while node not in self.group_of:
            found = self.step.nodes[node]
            if found.op in SOURCES or not found.inputs:
                return None
            node = found.inputs[0].node
        return self.group_of[node]

    def _aligned(self, group: Group, i: int, mapped: AxisMap) -> bool:
        """Whether every operand that is a member runs along the same axes as node i at its place."""
        for ref in self.step.nodes[i].inputs:
            if ref.node in group.maps:
                operand, dims_ = group.maps[ref.node], self.step.type(ref).dims
                skip = len(mapped) - len(operand)
                for a, axis in enumerate(operand):
                    if axis is not None and dims_[a] != 1 and axis != mapped[a + skip]:
                        return False
            elif self._group(ref) is not None and self.groups[self._group(ref) or 0] is group:
                return False  # through an alias that changes the axes
        if group.kind == "product" and self._stage(group, i):
            return False
        if group.axes is not None and not _row_kernel(group.space, group.axes) and self._stage(group, i):
            return False
        return self._fits(group, i)

    def _row_map(self, group: Group, i: int) -> AxisMap | None:
        """How node i runs along the group's rows: from operands that are rows of it; None when it does not."""
        node = self.step.nodes[i]
        own = node.types[0].dims
        mapped: list[int | None] = [None] * len(own)
        seen = False
        for ref in node.inputs:
            if ref.node not in group.maps:
                if self._group(ref) is not None and self.groups[self._group(ref) or 0] is group:
                    return None
                continue
            operand = group.maps[ref.node]
            if group.is_full(ref.node) and group.space:
                return None
            seen = True
            skip = len(own) - len(operand)
            for a, axis in enumerate(operand):
                if axis is not None:
                    if mapped[a + skip] not in (None, axis):
                        return None
                    mapped[a + skip] = axis
        along = [axis for axis in mapped if axis is not None]
        if len(set(along)) < len(along):
            return None  # rows against columns of one another
        if not seen or any(own[a] != (1 if axis is None else group.space[axis]) for a, axis in enumerate(mapped)):
            return None  # it is stretched along an axis that the rows do not have
        if group.runs_along(tuple(mapped), group.axes or ()):
            return None  # all of the space with extents of 1 put in: no row
        return tuple(mapped) if self._fits(group, i) else None

    def _operand_is_full(self, group: Group, i: int) -> bool:
        ref = self.step.nodes[i].inputs[0]
        if ref.node in group.maps:
            return group.is_full(ref.node)
        g = self._group(ref)
        return g is None or self.groups[g] is not group

    def _fits(self, group: Group, i: int) -> bool:
        new = {ref for ref in self.step.nodes[i].inputs if ref.node not in group.maps}
        return len(group.inputs | new) <= GROUP_BUFFERS

    def _stage(self, group: Group, i: int) -> int:
        """How many reductions of the group lie before node i."""
        return max((group.stage.get(ref.node, 0) for ref in self.step.nodes[i].inputs), default=0)

    # --- changing groups ---

    def _open(self, kind: str, space: Shape, only: int | None = None) -> int:
        """A new group; with `only`, one that nothing else joins."""
        self.groups.append(Group(kind, space))
        g = len(self.groups) - 1
        if only is not None:
            self.groups[g].closed = True
            self.groups[g].members.append(only)
            self.group_of[only] = g
        elif kind == "loop":
            self.recent[space] = g
        return g

    def _join(self, g: int, i: int, mapped: AxisMap, stage: int | None = None) -> None:
        group = self.groups[g]
        group.stage[i] = self._stage(group, i) if stage is None else stage
        group.maps[i] = mapped
        group.members.append(i)
        group.inputs |= {ref for ref in _loaded(self.step.nodes[i]) if ref.node not in group.maps}
        self.group_of[i] = g

    # --- the result ---

    def call(self, i: int) -> StepCall:
        if i not in self.calls:
            self.calls[i] = self.builder.call(self.step.nodes[i])
        return self.calls[i]

    def kernels(self) -> tuple[Kernel, ...]:
        stored = self._stored()
        found = []
        for group in self.groups:
            whole = group.kind in ("if", "distinct", "hits")
            outputs = tuple(ref for i in group.members for ref in self._outputs(i) if ref in stored or whole)
            if not outputs and group.kind not in WHOLE:
                continue
            nodes = _needed_for(self.step, group, outputs)
            inputs = _inputs(self.step, nodes)
            name = "_".join(dict.fromkeys(self.step.nodes[i].op for i in nodes[-3:]))
            axes = group.axes if any(group.stage.get(i, 0) for i in nodes) else None
            maps = tuple((i, group.maps[i]) for i in nodes if i in group.maps)
            found.append(Kernel(group.kind, nodes, inputs, outputs, name, group.space, axes, maps))
        return tuple(found)

    def _outputs(self, i: int) -> list[Ref]:
        return [Ref(i, k) for k in range(len(self.step.nodes[i].types))]

    def _stored(self) -> set[Ref]:
        """Values that something outside their own group reads."""
        stored = {root_of(self.step, ref) for ref in self.facts.wanted}
        for i, node in enumerate(self.step.nodes):
            own = self.group_of.get(i)
            if own is None:
                continue
            for ref in _loaded(node):
                root = root_of(self.step, ref)
                inline = self.step.nodes[root.node].op == "_Dims" and self.groups[own].kind in ("loop", "product")
                if self.group_of.get(ref.node) != own and not inline:
                    stored.add(root)
        return stored


def _needed_for(step: Step, group: Group, outputs: Sequence[Ref]) -> tuple[int, ...]:
    """The members that the outputs need, in order."""
    wanted = {ref.node for ref in outputs}
    if group.kind in WHOLE:
        return tuple(group.members)
    members = set(group.members)
    for i in reversed(group.members):
        if i in wanted:
            wanted.update(ref.node for ref in _loaded(step.nodes[i]) if ref.node in members)
    return tuple(i for i in group.members if i in wanted)


def _inputs(step: Step, nodes: Sequence[int]) -> tuple[Ref, ...]:
    inside = set(nodes)
    return tuple(dict.fromkeys(ref for i in nodes for ref in _loaded(step.nodes[i]) if ref.node not in inside))


def _loaded(node: Node) -> tuple[Ref, ...]:
    """The inputs whose elements a node takes; others only tell the shape of an alias, or of random numbers."""
    op = opdef.lookup(node.op)
    if op is None or node.host:
        return node.inputs
    if isinstance(op.lower, Generate) and not op.lower.chooses:
        return node.inputs[1:]
    is_alias = isinstance(op.lower, Alias) and op.lower.checks is None
    return node.inputs[:1] if is_alias else node.inputs


def root_of(step: Step, ref: Ref) -> Ref:
    """The value whose elements `ref` has: through aliases, back to what computes them."""
    while True:
        node = step.nodes[ref.node]
        op = opdef.lookup(node.op)
        if op is None or node.host or not isinstance(op.lower, Alias):
            return ref
        ref = node.inputs[0]


def reduced_axes(op: OpDef, call: StepCall, rank: int) -> tuple[int, ...] | None:
    """The axes that a reduction runs over, ascending; None when they aren't known."""
    lower = op.lower
    if lower.axes is not None:
        axes = lower.axes(call)
    else:
        known = call.known(1)
        axes = None if known is None else [int(a) for a in known.ravel()]
    return None if axes is None else tuple(sorted({a % rank if rank else 0 for a in axes}))


def product_of(step: Step, i: int, call: StepCall) -> Product:
    """The matrix product that contraction node i is (of the last two axes)."""
    node = step.nodes[i]
    op = opdef.lookup(node.op)
    assert op is not None
    transpose_a, transpose_b = op.lower.plan(call)
    a, b = (step.type(ref).dims for ref in node.inputs[:2])
    m, k = (a[-1], a[-2]) if transpose_a else (a[-2], a[-1])
    n = b[-2] if transpose_b else b[-1]
    return Product(node.types[0].dtype, m, n, k, transpose_a, transpose_b)


def _row_kernel(space: Shape, axes: tuple[int, ...]) -> bool:
    """Whether the reduced axes are the last ones: then a row is read again and again while it is in cache."""
    return axes == tuple(range(len(space) - len(axes), len(space)))


def _through_ones(old: Shape, new: Shape, mapped: AxisMap) -> AxisMap | None:
    """The axis map after extents of 1 were taken out or put in; None when the reshape does more."""
    axes = [(extent, axis) for extent, axis in zip(old, mapped, strict=True) if extent != 1]
    if [extent for extent, _ in axes] != [extent for extent in new if extent != 1]:
        return None
    rest = iter(axes)
    return tuple(None if extent == 1 else next(rest)[1] for extent in new)


def reader_of(step: Step) -> StepBuilder:
    """A builder that holds the step's nodes, to ask it for calls."""
    builder = StepBuilder(step.feeds, step.slots, step.names)
    builder.nodes = list(step.nodes)
    return builder
