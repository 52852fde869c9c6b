"""structure: the branches and loops of graphs from the wire, which are Switch, Merge, Enter and their kind, as regions.

Every value is in a *place*: the frames of loops that it was let into by Enter, and in each the sides of conditions that
it was switched to. A loop is all there is in one frame: its variables are the Merges that NextIteration leads back to.
A branch is what lies between the Switches and the Merges of one condition. What is in deeper places is left to the
regions, which are looked through in the same way when their turn comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stepjit_compiler.ops.control_v1 import BACK, ENTERS, EXITS, MERGES, SWITCHES, V1
from stepjit_compiler.passes.analyse import in_order
from stepjit_runtime.errors import OpFailure

Place = tuple[Any, ...]
"""Frame names and (condition, side) pairs, outermost first."""


@dataclass(eq=False)
class Region:
    """Part of the graph: `inputs` are tensors that stand for what goes in."""

    inputs: list[Any]
    outputs: list[Any]
    members: frozenset[Any]
    """The ops inside: what they wait for elsewhere has run when the region is entered."""


@dataclass(eq=False)
class Control:
    """A branch or a loop, to be looked at as an op of the graph; its outputs are the graph's own tensors."""

    type: str
    name: str
    inputs: list[Any]
    outputs: list[Any]
    attrs: dict[str, Any]
    _id: int
    graph: Any
    traceback_line: str = ""
    device: str = ""
    control_inputs: Sequence[Any] = ()
    members: list[Any] = field(default_factory=list)
    """The graph's ops that it stands for."""


class _Nothing:
    """Stands for the value behind a loop of a variable that nobody takes."""


def structured(found: Iterable[Any], fed: Mapping[Any, Any]) -> tuple[list[Any], dict[Any, Any]]:
    """The ops outside of branches and loops, with those as ops; and what stands for the ops that are no more.

    found: ops that a step, or a region, runs; fed: tensors whose values are given. OpFailure says what is no branch and
    no loop.
    """
    ops = list(found)
    if not any(op.type in V1 for op in ops):
        return ops, {}
    return _Structure(ops, fed).result()


class _Structure:
    def __init__(self, ops: list[Any], fed: Mapping[Any, Any]) -> None:
        self.ops, self.fed = ops, fed
        self.inside = set(ops)
        self.places: dict[Any, Place] = {}
        self.joined: dict[Any, dict[Any, int]] = {}
        """By op and condition: how many branches of that condition lie one after another on the way to it."""
        for op in self._forwards():
            self.places[op] = self._place(op)
            self.joined[op] = self._joined(op)

    def result(self) -> tuple[list[Any], dict[Any, Any]]:
        loops, branches = self._loops(), self._branches()
        made = [*loops, *branches]
        holder = {op: control for control in made for op in control.members}
        top = [op for op in self.ops if not self.places[op] and op.type not in V1]
        for control in made:
            before = dict.fromkeys(each for op in control.members for each in op.control_inputs)
            control.control_inputs = [op for op in before if op in self.inside and not self.places[op]]
        return [*top, *made], holder

    # --- places ---

    def _before(self, op: Any) -> list[Any]:
        data = [tensor.op for tensor in op.inputs if tensor not in self.fed]
        return [each for each in (*data, *op.control_inputs) if each in self.inside]

    def _forwards(self) -> list[Any]:
        """The ops, each after those it needs but for what comes around from the trip before."""
        before = {op: self._before(op) for op in self.ops}
        for op in self.ops:
            if op.type in MERGES:
                before[op] = [each for each in before[op] if each.type not in BACK]
        try:
            return in_order(before, lambda op: op._id)
        except ValueError:
            raise OpFailure("The graph has a cycle that is no loop") from None

    def _place(self, op: Any) -> Place:
        """Where the op runs: as deep as what it needs."""
        places = [self._place_of(tensor) for tensor in op.inputs]
        places += [self.places.get(each, ()) for each in op.control_inputs]
        if op.type in MERGES:
            if any(tensor.op.type in BACK for tensor in op.inputs):
                return self._place_of(op.inputs[0])
            sides = [place for place in places[: len(op.inputs)] if place]
            # One input may come from outside: a value that a branch hands on.
            return max(sides, key=len)[:-1] if sides else ()
        return max(places, key=len, default=())

    def _joined(self, op: Any) -> dict[Any, int]:
        counts: dict[Any, int] = {}
        for each in self._before(op):
            for condition, count in self.joined.get(each, {}).items():
                counts[condition] = max(count, counts.get(condition, 0))
        if self._joins(op):
            condition = self._condition(op)
            counts[condition] = counts.get(condition, 0) + 1
        return counts

    def _joins(self, op: Any) -> bool:
        """Whether it is a branch's end outside of all others."""
        return op.type in MERGES and not self.places[op] and not any(t.op.type in BACK for t in op.inputs)

    def _root(self, tensor: Any) -> Any:
        """What a condition is, through the copies that were made of it."""
        while tensor.op.type == "Identity" and tensor not in self.fed:
            tensor = tensor.op.inputs[0]
        return tensor

    def _place_of(self, tensor: Any) -> Place:
        if tensor in self.fed or tensor.op not in self.places:
            return ()
        place, kind = self.places[tensor.op], tensor.op.type
        if kind in ENTERS:
            return (*place, tensor.op.attrs["frame_name"])
        if kind in EXITS:
            return place[: _last_frame(place)]
        if kind in SWITCHES and not self._ends_trip(tensor.op):
            return (*place, (self._root(tensor.op.inputs[1]), tensor.value_index))
        return place

    def _ends_trip(self, switch: Any) -> bool:
        """Whether it is a loop's: between the condition and the body."""
        return bool(switch.inputs[1].op.type == "LoopCond")

    # --- loops ---

    def _loops(self) -> list[Control]:
        frames: dict[Any, list[Any]] = {}
        for op in self.ops:
            if op.type in ENTERS and not self.places[op]:
                frames.setdefault(op.attrs["frame_name"], []).append(op)
        return [self._loop(name, enters) for name, enters in frames.items()]

    def _loop(self, name: bytes, enters: list[Any]) -> Control:
        here = [op for op in self.ops if self.places[op] == (name,)]
        merges = {op.inputs[0].op: op for op in here if op.type in MERGES and op.inputs[0].op in enters}
        conditions = [op for op in here if op.type == "LoopCond"]
        if len(conditions) != 1:
            raise OpFailure(f"The loop '{name.decode()}' has {len(conditions)} conditions")
        variables = [enter for enter in enters if enter in merges]
        steady = [enter for enter in enters if enter not in merges]
        fixed = [enter.outputs[0] for enter in steady]
        switches = {op.inputs[0].op: op for op in here if op.type in SWITCHES and self._ends_trip(op)}
        inside, after, following = [], [], []
        for enter in variables:
            merge = merges[enter]
            switch = switches.get(merge)
            inside.append(switch.outputs[1] if switch else _Nothing())
            following.append(next(t for t in merge.inputs if t.op.type in BACK).op.inputs[0])
            left = [op for op in here if switch and op.type in EXITS and op.inputs[0] is switch.outputs[0]]
            after.append([op.outputs[0] for op in left] or [_Nothing()])
        heads = [merges[enter].outputs[0] for enter in variables]
        exits = [tensor.op for tensors in after for tensor in tensors if not isinstance(tensor, _Nothing)]
        members = frozenset(op for op in self.ops if self.places[op][:1] == (name,))
        attrs = {
            "cond": Region([*heads, *fixed], [conditions[0].inputs[0]], members),
            "body": Region([*inside, *fixed], [*following, *fixed], members),
        }
        outputs = [tensors[0] for tensors in after] + [_Nothing() for _ in steady]
        op = variables[0] if variables else enters[0]
        return Control("While", op.name, [enter.inputs[0] for enter in (*variables, *steady)], outputs, attrs,
                       max(each._id for each in enters), op.graph, op.traceback_line,
                       members=[*enters, *exits])  # fmt: skip

    # --- branches ---

    def _branches(self) -> list[Control]:
        """A branch for all that one condition joins, but what needs the results of it is another one."""
        found: dict[Any, list[Any]] = {}
        for op in self.ops:
            if self._joins(op):
                condition = self._condition(op)
                found.setdefault((condition, self.joined[op][condition]), []).append(op)
        return [self._branch(condition, turn, merges) for (condition, turn), merges in found.items()]

    def _condition(self, merge: Any) -> Any:
        found = {place[0][0] for tensor in merge.inputs if (place := self._place_of(tensor))}
        if len(found) != 1 or len(merge.inputs) != 2:
            raise OpFailure(f"'{merge.name}' does not join the two sides of a condition")
        return found.pop()

    def _branch(self, condition: Any, turn: int, merges: list[Any]) -> Control:
        switches = [
            op for op in self.ops
            if op.type in SWITCHES and not self.places[op] and self._root(op.inputs[1]) is condition
            and self.joined[op].get(condition, 0) < turn
        ]  # fmt: skip
        sides: list[Region] = []
        for side in (0, 1):
            results = [self._side(merge, side) for merge in merges]
            members = frozenset(op for op in self.ops if self.places[op][:1] == ((condition, side),))
            sides.append(Region([switch.outputs[side] for switch in switches], results, members))
        op = merges[0]
        return Control("If", op.name, [condition, *(switch.inputs[0] for switch in switches)],
                       [merge.outputs[0] for merge in merges], {"then_branch": sides[1], "else_branch": sides[0]},
                       max(each._id for each in merges), op.graph, op.traceback_line,
                       members=[*switches, *merges])  # fmt: skip

    def _side(self, merge: Any, side: int) -> Any:
        """The merge's input from that side of the condition."""
        known = [place[0][1] if (place := self._place_of(tensor)) else None for tensor in merge.inputs]
        if side in known:
            return merge.inputs[known.index(side)]
        return merge.inputs[1 - known.index(1 - side)]


def _last_frame(place: Place) -> int:
    return max(k for k, each in enumerate(place) if not isinstance(each, tuple))
