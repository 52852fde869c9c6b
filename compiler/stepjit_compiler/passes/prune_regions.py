"""prune, inside regions: the branches and bodies of the graph's control flow as Steps inside nodes.

State goes through as values. A variable that a region reads comes in beside the region's parameters, with a flag that
says whether it holds anything (`_Held` looks at it where the variable is read); one that a region writes is a result,
with such a flag unless it held something before. Only what the results that are taken need is part of a region.
Constants and known extents are set down inside, so that what depends on them is known there.
"""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from stepjit_compiler import dims, opdef
from stepjit_compiler.ir import INLINE_BYTES, Ref, Step, Type
from stepjit_compiler.lowering import Update
from stepjit_compiler.passes.needed import BRANCHES, LOOPS
from stepjit_compiler.passes.prune import VARIABLES, Handle, Request, Translation
from stepjit_compiler.passes.prune_rows import known_extents, translate_rows
from stepjit_compiler.regions import first_born, has_effects
from stepjit_compiler.step_builder import StepBuilder
from stepjit_compiler.step_inference import NeedsShapeError
from stepjit_runtime import dtypes
from stepjit_runtime.errors import UNIMPLEMENTED, OpFailure


def translate_control(outer: Translation, op: Any) -> None:
    """Add the node of a branch or a loop of the graph, or what it stacked up, and note what it gives."""
    if op.type in BRANCHES:
        _branch(outer, op)
    elif op.type in LOOPS:
        loop = _Loop(outer, op)
        try:
            loop.translate()
        except (_RankChanges, NeedsShapeError) as change:
            loop.translate_any_rank(change)
    else:
        translate_rows(outer, op)


class _Extents(NamedTuple):
    """A parameter whose value follows from extents, where the region knows these; else it is input number `at`."""

    type: Type
    extents: tuple[Any, ...]
    at: int = -1


@dataclass
class _Passed:
    """What goes into a region: the node's inputs, and what the region's parameters and slots are among them."""

    inputs: list[Ref] = field(default_factory=list)
    parameters: list[int | Handle | np.ndarray | _Extents | None] = field(default_factory=list)
    """By parameter: the number of its input, the variable that it stands for, or its value (array, or extents).

    None for one that nothing reads.
    """
    slots: dict[int, tuple[int, int | None]] = field(default_factory=dict)
    """By slot: the numbers of the inputs that hold its value, and whether it is missing (None: it is not)."""

    def pass_slot(self, outer: Translation, slot: int, written: bool = False) -> None:
        if written and outer.surely_holds(slot):
            value, missing = outer._held(slot), None
        else:
            value, missing = outer.entering(slot)
        self.inputs.append(value)
        at = len(self.inputs) - 1
        if missing is not None:
            self.inputs.append(missing)
        self.slots[slot] = at, None if missing is None else at + 1

    def take_back(self, outer: Translation, slot: int, refs: Iterator[Ref]) -> None:
        """Let a variable hold what comes next of the node's results."""
        outer.take(slot, next(refs), None if self.slots[slot][1] is None else next(refs))


class _Inner(Translation):
    """The translation of one region."""

    def __init__(
        self, outer: Translation, region: Any, outputs: Sequence[int], passed: _Passed, feeds: Sequence[Type]
    ) -> None:
        self.outer, self.passed = outer, passed
        self._feeds = tuple(feeds)
        needs = outer.regions.needs(region, outputs)
        fed = dict.fromkeys(region.inputs, 0)
        fetches = tuple(region.outputs[k] for k in outputs)
        request = Request(fetches, (), tuple(region.inputs), (), outer.request.variable_shape, outer.request.shapes)
        super().__init__(request, fed, outer.ops, outer.regions, needs.taken, slots=outer.slots, streams=outer.streams)
        self.translate_all(needs.ops)

    def __post_init__(self) -> None:
        self.builder = StepBuilder(self._feeds)
        self.state, self.numbers = self.outer.state, self.outer.numbers
        for tensor, what in zip(self.request.feeds, self.passed.parameters, strict=True):
            if what is not None:
                self.values[tensor] = self._parameter(what)

    def _parameter(self, what: Any) -> Ref | Handle:
        if isinstance(what, int):
            return self.builder.feed(what)
        if isinstance(what, np.ndarray):
            return self.builder.const(what, dtypes.as_dtype(what.dtype))
        if isinstance(what, Handle):
            return what
        told = {str(extent) for feed in self._feeds for extent in feed.dims}
        if any(not dims.symbols(extent) <= told for extent in what.extents):
            return self.builder.feed(what.at)
        return self.builder.dims(what.extents if what.type.dims else what.extents[0], what.type.dtype)

    def translate(self, number: int, op: Any) -> None:
        """As outside; but what can't be right only ends the step if the region is entered."""
        try:
            super().translate(number, op)
        except OpFailure as failure:
            self._set(op, self._failing(op, failure))

    def _failing(self, op: Any, failure: OpFailure) -> list[Ref]:
        shown: list[str] = []

        def place(match: re.Match[str]) -> str:
            if match[1] not in shown:
                shown.append(match[1])
            return f"{{{shown.index(match[1])}}}"

        message = re.sub(r"\{([^{}]+)\}", place, failure.message).encode()
        told = self.builder.dims([dims.parse(text) for text in shown])
        attrs = {
            "Tout": tuple(tensor.dtype.base_dtype for tensor in op.outputs),
            "shapes": tuple(tuple(tensor.dims or ()) for tensor in op.outputs),
            "message": message, "code": failure.code,
        }  # fmt: skip
        node = self.builder.add("_Fail", [told], attrs, self.effects[-1:])
        self.effects.append(node)
        return [Ref(node, k) for k in range(len(op.outputs))]

    def entering(self, slot: int) -> tuple[Ref, Ref | None]:
        if slot in self.current:
            return self.current[slot], self.unsure.get(slot)
        value, missing = self.passed.slots[slot]
        return self.builder.feed(value), None if missing is None else self.builder.feed(missing)

    def surely_holds(self, slot: int) -> bool:
        return self.entering(slot)[1] is None

    def take(self, slot: int, value: Ref, missing: Ref | None = None) -> None:
        self.current[slot] = value
        self.unsure.pop(slot, None)
        if missing is not None:
            self.unsure[slot] = missing

    def _held(self, slot: int) -> Ref:
        return self._checked(slot, *self.entering(slot))

    def _is_initialized(self, number: int, op: Any) -> Ref:
        return self._is_there(self.entering(self._slot_of(op))[1])

    def targets(self) -> list[int]:
        """The nodes that run even if nothing takes their results."""
        return [*self.effects, *self.guessed]

    def results(self) -> list[Ref]:
        return [self._value(tensor) for tensor in self.request.fetches]

    def written(self, slots: Sequence[int]) -> list[Ref]:
        """What these slots hold in the end, each with a flag if it came with one."""
        found: list[Ref] = []
        for slot in slots:
            value, missing = self.entering(slot)
            found.append(value)
            if self.passed.slots[slot][1] is not None:
                found.append(self.builder.const(0, dtypes.int32) if missing is None else missing)
        return found


# --- Branches ---


def _branch(outer: Translation, op: Any) -> None:
    branches, taken = (op.attrs["then_branch"], op.attrs["else_branch"]), outer.outputs_taken(op)
    read = set(outer.regions.read_by(op, taken))
    values = [outer.given(tensor) if k in read else None for k, tensor in enumerate(op.inputs)][1:]
    condition = _condition(outer, outer._value(op.inputs[0]))
    decided = _decided(outer.builder, condition)
    if decided is not None:
        _take_branch(outer, op, branches[0 if decided else 1], taken, values)
        return
    slots = _touched_by(outer, [(branch, taken) for branch in branches], values)
    passed = _Passed([value for value in values if isinstance(value, Ref)])
    _set_parameters(outer, passed, values)
    for slot in sorted(slots.touched):
        passed.pass_slot(outer, slot, slot in slots.written)
    feeds = [outer.builder.type(ref) for ref in passed.inputs]
    written = sorted(slots.written)
    steps = []
    for branch in branches:
        inner = _Inner(outer, branch, taken, passed, feeds)
        steps.append(inner.builder.finish([*inner.results(), *inner.written(written)], (), inner.targets()))
    attrs: dict[str, Any] = {
        "Tin": tuple(type_.dtype for type_ in feeds), "Tout": tuple(t.dtype for t in steps[0].results()),
        "then": steps[0], "else": steps[1],
    }  # fmt: skip
    if op in outer.request.shapes:
        attrs |= _told_shapes(outer.request.shapes[op], taken, steps[0].results())
    refs = iter(_add(outer, "_If", [condition, *passed.inputs], attrs, steps))
    outer.set_outputs(op, taken, refs)
    for slot in written:
        passed.take_back(outer, slot, refs)


_COMPARISONS = {
    "Equal": operator.eq, "NotEqual": operator.ne, "Less": operator.lt, "LessEqual": operator.le,
    "Greater": operator.gt, "GreaterEqual": operator.ge,
}  # fmt: skip


def _decided(builder: StepBuilder, ref: Ref) -> bool | None:
    """The value of a condition that compares ranks or static extents, None where it isn't known."""
    node = builder.nodes[ref.node]
    if node.op not in _COMPARISONS or builder.type(ref).dims:
        return None
    sides = [builder.known(each) for each in node.inputs if builder.type(each).dtype.is_integer]
    if len(sides) < 2 or not all(side is not None and isinstance(side[()], int) for side in sides):
        return None
    return bool(_COMPARISONS[node.op](*(side[()] for side in sides if side is not None)))


def _take_branch(
    outer: Translation, op: Any, branch: Any, taken: Sequence[int], values: Sequence[Ref | Handle | None]
) -> None:
    """Put the branch's ops in the place of the op: its ranks may depend on which one it is."""
    needs = outer.regions.needs(branch, taken)
    # Another op may have the same branch.
    for tensor in [tensor for each in needs.ops for tensor in each.outputs if tensor not in outer.fed]:
        outer.values.pop(tensor, None)
    for tensor, value in zip(branch.inputs, values, strict=True):
        if value is not None:
            outer.values[tensor] = value
    around, outer.taken = outer.taken, needs.taken
    outer.translate_all(needs.ops)
    outer.taken = around
    outer.set_outputs(op, taken, iter([outer._value(branch.outputs[k]) for k in taken]))


def _told_shapes(told: Sequence[Any], taken: Sequence[int], results: Sequence[Type]) -> dict[str, Any]:
    """Attrs: the shapes to go by of the node's results; which outputs of the graph's op they are; all shapes told."""
    rest = results[len(taken) :]
    of_slots = (tuple(extent if isinstance(extent, int) else None for extent in type_.dims) for type_ in rest)
    return {
        "_shapes": (*(told[k] for k in taken), *of_slots), "_taken": (*taken, *[-1] * len(rest)), "_told": tuple(told),
    }  # fmt: skip


def _condition(outer: Translation, ref: Ref) -> Ref:
    """TF's truth: numbers other than zero; of what is no scalar, that it has elements."""
    type_ = outer.builder.type(ref)
    if type_.dims:
        ref = outer.builder.op("Size", ref)
    elif type_.dtype is dtypes.bool_:
        return ref
    found: Ref = outer.builder.op("NotEqual", ref, outer.builder.const(0, outer.builder.type(ref).dtype))
    return found


def _set_parameters(outer: Translation, passed: _Passed, values: Sequence[Ref | Handle | None]) -> None:
    """Note what each parameter is; constants are set down inside."""
    plain = {str(e) for ref in passed.inputs for e in outer.builder.type(ref).dims if e is dims.symbol(str(e))}
    at = 0
    for value in values:
        if not isinstance(value, Ref):
            passed.parameters.append(None if value is None else Handle(value.slot))
            continue
        found = _known(outer.builder, value, plain)
        if isinstance(found, _Extents):
            found = found._replace(at=at)
        passed.parameters.append(at if found is None else found)
        at += 1


def _known(builder: StepBuilder, ref: Ref, symbols: set[str]) -> Any:
    """The value where it is a small constant, or follows from extents that the region knows."""
    node = builder.nodes[ref.node]
    if node.op == "Const":
        array: np.ndarray = node.attr["value"].array
        return array if array.dtype == object or array.nbytes <= INLINE_BYTES else None
    found = builder.known(ref) if builder.type(ref).dtype in (dtypes.int32, dtypes.int64) else None
    if found is None or found.ndim > 1 or any(not dims.symbols(extent) <= symbols for extent in found.ravel()):
        return None
    return _Extents(builder.type(ref), tuple(found.ravel()))


def _add(outer: Translation, name: str, inputs: Sequence[Ref], attrs: Mapping[str, Any], steps: Any) -> list[Ref]:
    acts = any(map(has_effects, steps))
    node = outer.builder.add(name, inputs, attrs, outer.effects[-1:] if acts else ())
    if acts:
        outer.effects.append(node)
    elif "_shapes" in attrs:
        outer.guessed.append(node)
    return [Ref(node, k) for k in range(len(outer.builder.nodes[node].types))]


@dataclass
class _Slots:
    """The slots that regions use, and those of them that they write."""

    touched: set[int] = field(default_factory=set)
    written: set[int] = field(default_factory=set)


def _touched_by(
    outer: Translation, regions: Sequence[tuple[Any, Iterable[int]]], values: Sequence[Any]
) -> _Slots:
    """Of regions and those of their outputs that are taken; `values` is by parameter."""
    slots = [value.slot if isinstance(value, Handle) else None for value in values]
    found = _Slots()
    for region, outputs in regions:
        _touch(outer, region, outputs, slots, found)
    found.touched |= found.written
    return found


def _touch(
    outer: Translation, region: Any, outputs: Iterable[int], slots: Sequence[int | None], found: _Slots
) -> None:
    known = {tensor: slot for tensor, slot in zip(region.inputs, slots, strict=True) if slot is not None}
    outputs = list(outputs)
    needs = outer.regions.needs(region, outputs)
    for op in needs.ops:
        if op.type in VARIABLES:
            known[op.outputs[0]] = outer._slot(outer.number(op), op)
            continue
        mine = [known.get(tensor) for tensor in op.inputs]
        if op.type in BRANCHES or op.type in LOOPS:
            taken = needs.taken.get(op, range(len(op.outputs)))
            for inner, numbers in outer.regions.inside(op, taken):
                _touch(outer, inner, numbers, mine[op.type in BRANCHES :], found)
            continue
        found.touched.update(slot for slot in mine if slot is not None)
        definition = opdef.lookup(op.type)
        if definition is not None and isinstance(definition.lower, Update):
            changed = [slot for i in definition.lower.slots if (slot := mine[i]) is not None]
            found.written.update(changed)
            if changed and op.outputs and op.outputs[0].dtype._is_ref_dtype:
                known[op.outputs[0]] = changed[0]
    found.touched.update(known[region.outputs[k]] for k in outputs if region.outputs[k] in known)


# --- Loops ---


class _RankChanges(Exception):
    """A loop variable has another rank after a trip than before it."""


class _Loop:
    """A loop of the graph: variables that change, then what does not, then the slots that it touches."""

    def __init__(self, outer: Translation, op: Any) -> None:
        self.outer, self.op = outer, op
        self.cond, self.body = op.attrs["cond"], op.attrs["body"]
        self.count = len(op.inputs)
        self.taken = outer.outputs_taken(op)
        self.live = outer.regions.live(op, self.taken)
        self.stacked = [k for k in self.taken if k >= self.count]
        self.values = [outer.given(tensor) if k in self.live else None for k, tensor in enumerate(op.inputs)]
        outputs, parameters_ = self.body.outputs, self.body.inputs
        may_change = [k for k in sorted(self.live) if not isinstance(self.values[k], Handle)]
        self.changing = [k for k in may_change if outputs[k] is not parameters_[k]]
        slots = _touched_by(outer, outer.regions.inside(op, self.taken), self.values)
        self.written, self.touched = sorted(slots.written), sorted(slots.touched)
        if not self.written and not self._may_end():
            # What waits for the loop must go on waiting: nothing may be taken for its own initial value.
            self.changing = may_change
        self.results = [*self.changing, *self.stacked]
        self.known_rows: dict[int, Any] = {}
        """By stacked output: what it is in all trips, where the shapes of the loop's inputs tell."""
        self.passed = self._pass()

    def _may_end(self) -> bool:
        """Whether the condition reads anything that a trip changes."""
        read = self.outer.regions.needs(self.cond).parameters
        return any(k in read for k in self.changing)

    def _pass(self) -> _Passed:
        outer, passed = self.outer, _Passed()
        steady = [k for k in range(self.count) if k not in self.changing]
        fixed = [self.values[k] for k in steady]
        passed.inputs = [value for value in fixed if isinstance(value, Ref)]
        _set_parameters(outer, passed, fixed)
        of_steady = dict(zip(steady, passed.parameters))
        # Variables come first among the node's inputs.
        first = _Passed([self._value(k) for k in self.changing])
        for slot in self.written:
            first.pass_slot(outer, slot, True)
        shift = len(first.inputs)
        passed.inputs, passed.slots = first.inputs + passed.inputs, first.slots
        moved = {k: _moved(what, shift) for k, what in of_steady.items()}
        passed.parameters = [self.changing.index(k) if k in self.changing else moved[k] for k in range(self.count)]
        for slot in self.touched:
            if slot not in self.written:
                passed.pass_slot(outer, slot)
        return passed

    def _value(self, k: int) -> Ref:
        value = self.values[k]
        assert isinstance(value, Ref)
        return value

    def translate(self) -> None:
        outer, op = self.outer, self.op
        types = [outer.builder.type(ref) for ref in self.passed.inputs]
        body = self._settled(types)
        inner = _Inner(outer, self.cond, (0,), self.passed, body.feeds)
        cond = inner.builder.finish(inner.results(), (), inner.targets())
        attrs = {
            "T": tuple(t.dtype for t in types), "Tout": tuple(t.dtype for t in body.results()),
            "body": body, "cond": cond, "stacked": len(self.stacked) - len(self.known_rows),
        }  # fmt: skip
        refs = _add(outer, "_While", self.passed.inputs, attrs, (body, cond))
        outer.set_outputs(op, [k for k in self.stacked if k not in self.known_rows], iter(refs[len(types) :]))
        for k, extents in self.known_rows.items():
            outer.set_outputs(op, [k], iter([outer.builder.dims(extents)]))
        in_order = iter(refs)
        outer.set_outputs(op, self.changing, in_order)
        for slot in self.written:
            self.passed.take_back(outer, slot, in_order)
        kept = [k for k in self.live if k not in self.changing]
        outer.values.update({op.outputs[k]: self.values[k] for k in kept if op.outputs[k] not in outer.values})

    def translate_any_rank(self, change: _RankChanges | NeedsShapeError) -> None:
        """Add the loop as one that Python drives, whose regions are compiled for the ranks that come up."""
        outer, op = self.outer, self.op
        if self.touched or self.stacked:
            if isinstance(change, NeedsShapeError):
                raise change  # trips may give one rank
            text = "variables in the loop" if self.touched else "gradients"
            raise OpFailure(f"{change}: as the rank changes, there can be no {text}", UNIMPLEMENTED)
        told = outer.request.shapes.get(op)
        if told is None:
            error = NeedsShapeError(outer.number(op), str(change))
            error.op = op
            raise error
        live = sorted(self.live)
        inputs = [self._value(k) for k in live]
        types = tuple(outer.builder.type(ref).dtype for ref in inputs)
        attrs: dict[str, Any] = {"T": types, "Tout": types, "live": tuple(live)}
        attrs |= _told_shapes(told, live, ())
        node = outer.builder.add("_WhileAnyRank", inputs, attrs, outer.effects[-1:])
        outer.effects.append(node)
        outer.set_outputs(op, live, (Ref(node, n) for n in range(len(live))))

    def _settled(self, types: list[Type]) -> Step:
        """The body over types that hold in every trip: extents that change become symbols of its own."""
        free: set[tuple[int, int]] = set()
        while True:
            feeds = _with_free(types, free)
            body = self._body(feeds, types)
            results = body.results()
            if self._shape_arrays(types, results):
                continue
            before = len(free)
            for v, (feed, result) in enumerate(zip(feeds, results)):
                if feed.dtype is not result.dtype or len(feed.dims) != len(result.dims):
                    raise _RankChanges(f"a loop variable is {feed} before a trip and {result} after it")
                differ = (a for a, (m, n) in enumerate(zip(feed.dims, result.dims)) if m != n)
                free.update((v, a) for a in differ)
            if len(free) == before:
                return body

    def _shape_arrays(self, types: list[Type], results: Sequence[Type]) -> bool:
        """Whether arrays without elements were given the columns that the body gives them."""
        b, found = self.outer.builder, False
        known = {name for type_ in types for extent in type_.dims for name in dims.symbols(extent)}
        for v, result in enumerate(results[: len(types)]):
            node = b.nodes[self.passed.inputs[v].node]
            tells = 0 not in result.dims[1:] and all(dims.symbols(extent) <= known for extent in result.dims)
            if node.op == "_NoElements" and tells:
                zero = b.const(b"" if result.dtype is dtypes.string else 0, result.dtype)
                self.passed.inputs[v] = b.op("Fill", b.dims(result.dims), zero)
                types[v], found = result, True
        return found

    def _body(self, feeds: Sequence[Type], types: Sequence[Type]) -> Step:
        inner = _Inner(self.outer, self.body, self.results, self.passed, feeds)
        found, count = inner.results(), len(self.changing)
        values = [*found[:count], *inner.written(self.written)]
        values += [inner.builder.feed(number) for number in range(len(values), len(feeds))]
        rows = dict(zip(self.stacked, found[count:]))
        self.known_rows = known_extents(inner.builder, self.body, rows, types)
        stacked = [ref for k, ref in rows.items() if k not in self.known_rows]
        return inner.builder.finish([*values, *stacked], (), inner.targets())


def _moved(what: Any, shift: int) -> Any:
    """A parameter, when so many inputs came before its own."""
    if isinstance(what, _Extents):
        return what._replace(at=what.at + shift)
    return what + shift if isinstance(what, int) else what


def _with_free(types: Sequence[Type], free: set[tuple[int, int]]) -> list[Type]:
    numbers = itertools.count(first_born(types) + 1)
    return [
        Type(type_.dtype, tuple(
            dims.symbol(f"h{next(numbers)}") if (v, a) in free else extent for a, extent in enumerate(type_.dims)
        ))
        for v, type_ in enumerate(types)
    ]  # fmt: skip
