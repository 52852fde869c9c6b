"""What of a graph runs: backwards from what is asked for; through branches and loops output by output."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stepjit_compiler.ops.control_v1 import V1
from stepjit_runtime.errors import OpFailure

GIVEN = V1 | {"Placeholder", "PlaceholderV2"}
"""Ops that need not run where their values are given."""

BRANCHES = ("If", "StatelessIf")
LOOPS = ("While", "StatelessWhile", "_WhileStacked")
ROWS = frozenset(("_RowExtents", "_ExtentsOfRow", "_RowsTogether", "_RowsApart"))
"""What gradients make of that which loops stack up."""
_HOLDERS = frozenset((*BRANCHES, *LOOPS))


class StepError(Exception):
    """An op of the graph can't be part of this step; `op` is the graph's."""

    def __init__(self, op: Any, failure: OpFailure) -> None:
        super().__init__(failure.message)
        self.op, self.failure = op, failure


@dataclass(frozen=True)
class Needed:
    """What runs of a graph, or of a region."""

    ops: dict[Any, None]
    taken: dict[Any, set[int]]
    """By op that holds regions: the numbers of the outputs that somebody takes."""
    reached: set[Any]
    """The fed tensors that are read."""


@dataclass(frozen=True)
class RegionNeeds:
    """What some outputs of a region need."""

    ops: list[Any]
    """In the order in which they run."""
    taken: dict[Any, set[int]]
    parameters: frozenset[int]
    """The numbers of the region's parameters that are read."""


@dataclass
class Regions:
    """What the outputs of regions need, found out once each."""

    _known: dict[tuple[int, frozenset[int]], RegionNeeds] = field(default_factory=dict)
    _kept: list[Any] = field(default_factory=list)

    def needs(self, region: Any, outputs: Iterable[int] | None = None) -> RegionNeeds:
        """Those of the outputs with these numbers, or of all."""
        numbers = frozenset(range(len(region.outputs)) if outputs is None else outputs)
        found = self._known.get((id(region), numbers))
        if found is None:
            fed = {tensor: k for k, tensor in enumerate(region.inputs)}
            results = [region.outputs[k] for k in sorted(numbers)]
            needed = needed_for(self, results, (), fed, members=getattr(region, "members", None))
            ops = ordered(*structured_ops(needed.ops, fed))
            found = RegionNeeds(ops, needed.taken, frozenset(fed[tensor] for tensor in needed.reached))
            self._known[id(region), numbers] = found
            self._kept.append(region)
        return found

    def read_by(self, op: Any, taken: Collection[int]) -> list[int]:
        """The numbers of the inputs that a branch or a loop reads for these of its outputs."""
        if op.type in BRANCHES:
            sides = (op.attrs["then_branch"], op.attrs["else_branch"])
            return [0, *(1 + k for k in sorted(set().union(*(self.needs(side, taken).parameters for side in sides))))]
        return sorted(self.live(op, taken))

    def inside(self, op: Any, taken: Collection[int]) -> list[tuple[Any, list[int]]]:
        """The regions of a branch or a loop, and the numbers of those of their outputs that are needed."""
        if op.type in BRANCHES:
            return [(op.attrs[name], sorted(taken)) for name in ("then_branch", "else_branch")]
        numbers = sorted({*self.live(op, taken), *(k for k in taken if k >= len(op.inputs))})
        return [(op.attrs["cond"], [0]), (op.attrs["body"], numbers)]

    def live(self, op: Any, taken: Collection[int]) -> frozenset[int]:
        """The variables of a loop that its condition and these of its outputs depend on, in whatever trip."""
        count, body = len(op.inputs), op.attrs["body"]
        stacked = {k for k in taken if k >= count}
        found = frozenset(k for k in taken if k < count) | self.needs(op.attrs["cond"]).parameters
        while True:
            more = found | self.needs(body, found | stacked).parameters
            if more == found:
                return found
            found = more


def needed_for(
    regions: Regions,
    fetches: Iterable[Any],
    targets: Iterable[Any],
    fed: Mapping[Any, Any],
    done: Collection[Any] = (),
    refs: Mapping[Any, Any] = {},
    members: frozenset[Any] | None = None,
) -> Needed:
    """The ops that run: backwards from the fetches and targets, stopping at fed tensors.

    done, refs: as in `Request`. members: of a region, the ops that others of it may have to wait for.
    """
    found = Needed({}, {}, set())
    pending: list[Any] = []
    # What waits for a placeholder that is fed waits for its value.
    given = {tensor.op for tensor in fed if tensor.op.type in GIVEN}

    def run(op: Any) -> None:
        if op not in found.ops and op not in done:
            found.ops[op] = None
            pending.append(op)

    def take(tensor: Any) -> None:
        if tensor in fed:
            found.reached.add(tensor)
            return
        op = refs.get(tensor, tensor.op)
        if op.type not in _HOLDERS or op in done:
            run(op)
            return
        outputs = found.taken.setdefault(op, set())
        if tensor.value_index not in outputs:
            outputs.add(tensor.value_index)
            found.ops[op] = None
            pending.append(op)

    def wait(op: Any) -> None:
        if op.type in _HOLDERS and op not in done:
            found.taken.setdefault(op, set()).update(range(len(op.outputs)))
        run(op)

    for tensor in fetches:
        take(tensor)
    for op in targets:
        wait(op)
    while pending:
        op = pending.pop()
        inputs = op.inputs
        if op in found.taken:
            inputs = [inputs[k] for k in regions.read_by(op, found.taken[op])]
        for tensor in inputs:
            take(tensor)
        for each in op.control_inputs:
            if each not in given and (members is None or each in members):
                wait(each)
    return found


def structured_ops(found: Mapping[Any, None], fed: Mapping[Any, Any]) -> tuple[dict[Any, None], Mapping[Any, Any]]:
    """The ops with branches and loops of the older kind as one op each, and by op that is part of one: that one."""
    if not any(op.type in V1 for op in found):
        return dict(found), {}
    from stepjit_compiler.passes.structure import structured

    try:
        ops, holder = structured(found, fed)
    except OpFailure as failure:
        raise StepError(None, failure) from None
    return dict.fromkeys(ops), holder


def ordered(found: Mapping[Any, None], holder: Mapping[Any, Any], last: frozenset[Any] = frozenset()) -> list[Any]:
    """Topological order; of several possible next ops, the one made first, but those in `last` behind all others."""
    ops = sorted(found, key=lambda op: op._id)
    after: dict[Any, list[Any]] = {}
    waiting: dict[Any, int] = {}
    in_order = not last
    for op in ops:
        needed: Sequence[Any] = [holder.get(each, each) for each in (*(t.op for t in op.inputs), *op.control_inputs)]
        before = {each for each in needed if each in found}
        in_order = in_order and all(each._id < op._id for each in before)
        waiting[op] = len(before)
        for each in before:
            after.setdefault(each, []).append(op)
    if in_order:
        return ops
    ready = [(op in last, op._id, op) for op in ops if not waiting[op]]
    heapq.heapify(ready)
    result = []
    while ready:
        _, _, op = heapq.heappop(ready)
        result.append(op)
        for each in after.get(op, ()):
            waiting[each] -= 1
            if not waiting[each]:
                heapq.heappush(ready, (each in last, each._id, each))
    if len(result) < len(ops):
        stuck = next(op for op in ops if waiting[op])
        raise StepError(stuck, OpFailure(f"The graph has a cycle through '{stuck.name}'"))
    return result
