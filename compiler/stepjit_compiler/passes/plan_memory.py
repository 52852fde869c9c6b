"""plan memory: where every stored value lives.

A value that is fetched is computed into its result array, one that a variable takes is computed into the variable
where nothing needs the old value any more; the rest share one arena, placed greedily by size [Pisarchyk and Lee,
"Efficient memory management for deep neural net inference", 2020].
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from stepjit_compiler import dims, opdef
from stepjit_compiler.dims import Extent
from stepjit_compiler.ir import Ref, Step, Type
from stepjit_compiler.lowering import Elementwise, Reduction
from stepjit_compiler.passes.early_checks import failing
from stepjit_compiler.passes.fuse import root_of
from stepjit_compiler.plan import Area, Buffer, Kernel, Plan, most_born
from stepjit_compiler.regions import has_hosts
from stepjit_runtime import abi
from stepjit_runtime.cached_property import cached_property


def plan_memory(step: Step, kernels: Sequence[Kernel], region: bool = False, variables: int = 0) -> Plan:
    """Assign a buffer to every value that is stored.

    region: the step is one inside a node. Of a loop's body, the first `variables` outputs become its feeds.
    """
    return _Memory(step, tuple(kernels), region, variables).plan()


@dataclass
class _Life:
    """A value in the arena: from the kernel that makes it to the last that reads it."""

    ref: Ref
    first: int
    last: int
    bytes: Extent


@dataclass
class _Memory:
    step: Step
    kernels: tuple[Kernel, ...]
    region: bool
    variables: int
    buffers: dict[Ref, Buffer] = field(default_factory=dict)
    constants: list[Ref] = field(default_factory=list)
    copies: list[tuple[Ref, Buffer]] = field(default_factory=list)
    host_results: list[Ref] = field(default_factory=list)
    made_by: dict[Ref, int] = field(default_factory=dict)
    read_by: dict[Ref, list[int]] = field(default_factory=dict)
    changed_to: dict[Ref, Ref] = field(default_factory=dict)
    """By value that a scatter changes in place: what it becomes."""

    def plan(self) -> Plan:
        for k, kernel in enumerate(self.kernels):
            for ref in kernel.outputs:
                self.made_by[ref] = k
            for ref in kernel.inputs:
                self.read_by.setdefault(self.root(ref), []).append(k)
        self._sources()
        outputs = self.step.fetches
        self._slots(outputs)
        self._loop_variables(outputs)
        self._results(outputs)
        self._scattered(outputs)
        areas, total, late = self._arena()
        self._aliases()
        return Plan(
            self.step, self.kernels, self.buffers, tuple(areas), total, tuple(late), outputs,
            tuple(self.constants), tuple(self.copies), tuple(self.host_results),
        )  # fmt: skip

    def root(self, ref: Ref) -> Ref:
        return root_of(self.step, ref)

    def _sources(self) -> None:
        """Feeds, variables, constants and the results of host ops have their places already."""
        wanted = {self.root(ref) for kernel in self.kernels for ref in kernel.inputs}
        wanted |= {self.root(ref) for ref in self.step.fetches} | {self.root(ref) for _, ref in self.step.writes}
        for ref in sorted(wanted):
            node = self.step.nodes[ref.node]
            if node.op == "_Feed":
                self.buffers[ref] = Buffer("feed", node.attr["index"])
            elif node.op == "_Read":
                self.buffers[ref] = Buffer("slot", node.attr["slot"])
            elif node.op == "Const":
                self.buffers[ref] = Buffer("const", len(self.constants))
                self.constants.append(ref)
        grown = itertools.count()
        for kernel in self.kernels:
            if kernel.kind == "while":
                first = len(self.step.nodes[kernel.nodes[0]].inputs)
                rows = (ref for ref in kernel.outputs if ref.output >= first)
                self.buffers |= {ref: Buffer("grown", next(grown)) for ref in rows}
            if kernel.kind == "host":
                for k in range(len(self.step.nodes[kernel.nodes[0]].types)):
                    ref = Ref(kernel.nodes[0], k)
                    self.buffers[ref] = Buffer("host", len(self.host_results))
                    self.host_results.append(ref)

    def _slots(self, outputs: Sequence[Ref]) -> None:
        pending = []
        last_failing = max(failing(self.step, self.kernels), default=-1)
        for slot, ref in self.step.writes:
            root, target = self.root(ref), Buffer("slot", slot)
            made = self.made_by.get(root, -1)
            # A branch, a loop or an algorithm on many matrices may still fail when it has written.
            safe = made >= last_failing and (made < 0 or self.kernels[made].kind not in ("if", "while", "matrices"))
            if safe and root not in self.buffers and self._in_place(self._source("_Read", "slot", slot), root, outputs):
                self.buffers[root] = target
            elif self.buffers.get(root) != target:
                pending.append((ref, target))
        self.copies = pending

    def _loop_variables(self, outputs: Sequence[Ref]) -> None:
        """What a body computes takes the place of the loop variable that it becomes, where nothing needs that one."""
        for k, ref in enumerate(outputs[: self.variables]):
            root = self.root(ref)
            computed = root in self.made_by and root not in self.buffers
            if computed and self._in_place(self._source("_Feed", "index", k), root, outputs):
                self.buffers[root] = Buffer("feed", k)

    def _source(self, op: str, attr: str, number: int) -> Ref | None:
        found = (i for i, node in enumerate(self.step.nodes) if node.op == op and node.attr[attr] == number)
        i = next(found, -1)
        return Ref(i, 0) if i >= 0 else None

    def _in_place(self, before: Ref | None, root: Ref, outputs: Sequence[Ref]) -> bool:
        """Whether `root` may be computed into the place of `before`: nothing needs that value then or later."""
        if before is None:
            return True
        leaving = [self.root(ref) for ref in (*outputs, *(ref for _, ref in self.step.writes))]
        if before in leaving:
            return False
        made = self.made_by[root]
        readers = self.read_by.get(before, [])
        if any(k > made for k in readers):
            return False
        return made not in readers or self._aligned(self.kernels[made], before, root)

    def _aligned(self, kernel: Kernel, old: Ref, new: Ref) -> bool:
        """Whether the kernel reads each element of `old` only ahead of storing that same element of `new`."""
        if kernel.kind == "scatter":
            node = self.step.nodes[kernel.nodes[0]]
            return self.root(node.inputs[0]) == old and old not in map(self.root, node.inputs[1:])
        if kernel.kind not in ("loop", "product") or not _stores_last(self.step, kernel, new):
            return False
        for i in kernel.nodes:
            node = self.step.nodes[i]
            if old in map(self.root, node.inputs):
                op = opdef.lookup(node.op)
                same = node.types[0].dims == kernel.space and all(
                    self.step.type(ref).dims == kernel.space for ref in node.inputs if self.root(ref) == old
                )
                if op is None or not isinstance(op.lower, Elementwise) or not same:
                    return False
        return True

    def _results(self, outputs: Sequence[Ref]) -> None:
        copies = []
        for k, ref in enumerate(outputs):
            root = self.root(ref)
            if k < self.variables and self.buffers.get(root) == Buffer("feed", k):
                continue
            if root in self.buffers or root not in self.made_by or not self._sized(ref, root):
                whole = root in self.buffers and self.buffers[root].kind == "host" and root == ref
                if not whole or ref in outputs[:k] or self.region:
                    copies.append((ref, Buffer("output", k)))
            else:
                self.buffers[root] = Buffer("output", k)
        self.copies = copies + self._safe_order(self.copies)

    def _sized(self, ref: Ref, root: Ref) -> bool:
        """Whether the result array can be made when `root` is computed."""
        late = _late(self.step.type(ref))
        if late and not self._stays_in_python:
            return False
        return late <= _late(self.step.type(root))

    @cached_property
    def _stays_in_python(self) -> bool:
        """Whether the step keeps the interpreter's lock all the time, as it must to call Python."""
        return has_hosts(self.step)

    def _safe_order(self, pending: list[tuple[Ref, Buffer]]) -> list[tuple[Ref, Buffer]]:
        """Copies into slots, each after those that still read the slot's old value."""
        done: list[tuple[Ref, Buffer]] = []
        while pending:
            sources = [self.buffers.get(self.root(ref)) for ref, _ in pending]
            ready = [
                k
                for k, (_, target) in enumerate(pending)
                if not any(source == target for j, source in enumerate(sources) if j != k)
            ]
            if not ready:
                raise AssertionError("variables that take one another's values are parted by `part_swaps`")
            done.append(pending.pop(ready[0]))
        return done

    def _scattered(self, outputs: Sequence[Ref]) -> None:
        """A value whose last use is that some of its rows change is computed where the result is wanted."""
        leaving = {self.root(ref) for ref in (*outputs, *(ref for _, ref in self.step.writes))}
        for k in reversed(range(len(self.kernels))):
            kernel = self.kernels[k]
            if kernel.kind != "scatter" or not kernel.outputs:
                continue
            new, node = kernel.outputs[0], self.step.nodes[kernel.nodes[0]]
            old = self.root(node.inputs[0])
            made, target = self.made_by.get(old), self.buffers.get(new)
            only_here = self.read_by.get(old, []) == [k] and old not in map(self.root, node.inputs[1:])
            if made is None or old in self.buffers or old in leaving or not only_here:
                continue
            if self.kernels[made].kind not in ("loop", "scatter") or self.step.type(old) != self.step.type(new):
                continue
            if target is None:
                self.changed_to[old] = new
            elif target.kind == "slot" and self._may_start(target.number, old, made, outputs):
                self.buffers[old] = target

    def _may_start(self, slot: int, value: Ref, made: int, outputs: Sequence[Ref]) -> bool:
        """Whether what becomes a variable's new value may stand in its place already: nothing fails any more."""
        safe = made >= max(failing(self.step, self.kernels), default=-1)
        return safe and self._in_place(self._source("_Read", "slot", slot), value, outputs)

    # --- the arena ---

    def _arena(self) -> tuple[list[Area], Extent, list[Extent]]:
        lives = self._lives()
        most = most_born((self.step, kernel) for kernel in self.kernels)
        for life in lives:
            if _is_late(life.bytes) and dims.is_rising(life.bytes):
                life.bytes = dims.substitute(life.bytes, most)
        known = [life for life in lives if not _is_late(life.bytes)]
        areas: list[Area] = []
        static = sorted((x for x in known if isinstance(x.bytes, int)), key=lambda x: (-_int(x.bytes), x.ref))
        total: Extent = self._place_static(static, areas)
        total = self._place_symbolic([x for x in known if not isinstance(x.bytes, int)], areas, total)
        late: list[Extent] = []
        for life in lives:
            if _is_late(life.bytes):
                self.buffers[life.ref] = Buffer("arena", len(areas) + len(late))
                late.append(life.bytes)
        for old in reversed(self.changed_to):
            self.buffers[old] = self.buffers[self.changed_to[old]]
        return areas, total, late

    def _lives(self) -> list[_Life]:
        end = len(self.kernels)
        leaving = {self.root(ref) for ref, _ in self.copies}
        found = []
        begun = {self._final(old): self.made_by[old] for old in self.changed_to}
        for ref, made in self.made_by.items():
            if ref not in self.buffers and ref not in self.changed_to:
                made = min(made, begun.get(ref, made))
                last = end if ref in leaving else max(self.read_by.get(ref, [made]))
                found.append(_Life(ref, made, last, _round_up(self.step.type(ref).bytes)))
        return found

    def _final(self, ref: Ref) -> Ref:
        """What a value becomes by the last scatter that changes it in place."""
        while ref in self.changed_to:
            ref = self.changed_to[ref]
        return ref

    def _place_static(self, lives: Sequence[_Life], areas: list[Area]) -> int:
        placed: list[tuple[_Life, int]] = []
        for life in lives:
            size = _int(life.bytes)
            busy = sorted(
                (offset, offset + _int(other.bytes))
                for other, offset in placed
                if other.first <= life.last and life.first <= other.last
            )
            offset = 0
            for start, stop in busy:
                if offset + size <= start:
                    break
                offset = max(offset, stop)
            placed.append((life, offset))
            self.buffers[life.ref] = Buffer("arena", len(areas))
            areas.append(Area(size, offset))
        return max((offset + _int(life.bytes) for life, offset in placed), default=0)

    def _place_symbolic(self, lives: Sequence[_Life], areas: list[Area], start: Extent) -> Extent:
        """Values whose sizes are surely no larger than an area's share it, one after another."""
        shared: list[tuple[Extent, list[_Life]]] = []
        for life in sorted(lives, key=lambda x: (x.first, x.ref)):
            for size, members in shared:
                free = all(other.last < life.first or life.last < other.first for other in members)
                if free and dims.at_most(life.bytes, size):
                    members.append(life)
                    break
            else:
                shared.append((life.bytes, [life]))
        offset = start
        for size, members in shared:
            for life in members:
                self.buffers[life.ref] = Buffer("arena", len(areas))
                areas.append(Area(life.bytes, offset))
            offset = offset + size
        return offset

    def _aliases(self) -> None:
        """Values that are others' elements under another shape are found at the others' buffers."""
        for ref, _ in self.step.refs():
            root = self.root(ref)
            if root != ref and root in self.buffers:
                self.buffers[ref] = self.buffers[root]


def _stores_last(step: Step, kernel: Kernel, new: Ref) -> bool:
    """Whether a kernel has read whatever it reads of a row when it stores that of `new`: in its last pass."""
    if kernel.axes is None:
        return True
    wide = [a for a, extent in enumerate(kernel.space) if extent != 1]
    last_axes = tuple(range(len(kernel.space) - len(kernel.axes), len(kernel.space)))
    if kernel.axes != last_axes or not wide or wide[-1] not in kernel.axes or step.type(new).dims != kernel.space:
        return False
    stage: dict[int, int] = {}
    for i in kernel.nodes:
        op = opdef.lookup(step.nodes[i].op)
        reduces = op is not None and isinstance(op.lower, Reduction)
        stage[i] = max((stage.get(ref.node, 0) for ref in step.nodes[i].inputs), default=0) + reduces
    return stage[new.node] == max(stage.values())


def _round_up(size: Extent) -> Extent:
    return (size + (abi.ALIGNMENT - 1)) // abi.ALIGNMENT * abi.ALIGNMENT


def _late(type_: Type) -> set[str]:
    """The extents born in mid-step that a result of the type can't be allocated without."""
    return {name for extent in type_.dims for name in dims.symbols(extent) if name.startswith("h")}


def _is_late(size: Extent) -> bool:
    return any(name.startswith("h") for name in dims.symbols(size))


def _int(extent: Extent) -> int:
    assert isinstance(extent, int)
    return extent
