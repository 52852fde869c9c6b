"""prune, inside regions: the branches and bodies of the graph's control flow as Steps inside nodes.

State goes through as values. A variable that a region reads comes in beside the region's parameters, with a flag that
says whether it holds anything (`_Held` looks at it where the variable is read); one that a region writes is a result.
Constants and known extents are set down inside, so that what depends on them is known there.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stepjit_compiler import dims, opdef
from stepjit_compiler.ir import INLINE_BYTES, Ref, Step, Type
from stepjit_compiler.lowering import Update
from stepjit_compiler.passes.prune import (
    BRANCHES,
    LOOPS,
    VARIABLES,
    Handle,
    Request,
    Translation,
    ops_of_region,
)
from stepjit_compiler.regions import first_born, has_effects
from stepjit_compiler.step_builder import StepBuilder
from stepjit_runtime import dtypes
from stepjit_runtime.errors import OpFailure


def translate_control(outer: Translation, op: Any) -> None:
    """Add the node of a branch or a loop of the graph, and note what it gives."""
    if op.type in BRANCHES:
        _branch(outer, op)
    else:
        _Loop(outer, op).translate()


@dataclass
class _Passed:
    """What goes into a region: the node's inputs, and what the region's parameters and slots are among them."""

    inputs: list[Ref] = field(default_factory=list)
    parameters: list[int | Handle | np.ndarray | tuple[Type, tuple[Any, ...]]] = field(default_factory=list)
    """By parameter: the number of its input, the variable that it stands for, or its value (array, or extents)."""
    slots: dict[int, tuple[int, int | None]] = field(default_factory=dict)
    """By slot: the numbers of the inputs that hold its value, and whether it is missing (None: it is not)."""

    def pass_slot(self, outer: Translation, slot: int) -> None:
        value, missing = outer.entering(slot)
        self.inputs.append(value)
        at = len(self.inputs) - 1
        if missing is not None:
            self.inputs.append(missing)
        self.slots[slot] = at, None if missing is None else at + 1


class _Inner(Translation):
    """The translation of one region."""

    def __init__(self, outer: Translation, region: Any, passed: _Passed, feeds: Sequence[Type]) -> None:
        self.outer, self.passed = outer, passed
        self._feeds = tuple(feeds)
        fed = dict.fromkeys(region.inputs, 0)
        request = Request(tuple(region.outputs), (), tuple(region.inputs), (), outer.request.variable_shape,
                          outer.request.shapes)  # fmt: skip
        super().__init__(request, fed, outer.ops, slots=outer.slots, streams=outer.streams)

    def __post_init__(self) -> None:
        self.builder = StepBuilder(self._feeds)
        self.state, self.numbers = self.outer.state, self.outer.numbers
        for tensor, what in zip(self.request.feeds, self.passed.parameters, strict=True):
            self.values[tensor] = self._parameter(what)

    def _parameter(self, what: Any) -> Ref | Handle:
        if isinstance(what, int):
            return self.builder.feed(what)
        if isinstance(what, np.ndarray):
            return self.builder.const(what, dtypes.as_dtype(what.dtype))
        if isinstance(what, Handle):
            return what
        type_, extents = what
        return self.builder.dims(extents if type_.dims else extents[0], type_.dtype)

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
            return self.current[slot], None
        value, missing = self.passed.slots[slot]
        return self.builder.feed(value), None if missing is None else self.builder.feed(missing)

    def take(self, slot: int, value: Ref) -> None:
        self.current[slot] = value

    def _held(self, slot: int) -> Ref:
        value, missing = self.entering(slot)
        if missing is None:
            return value
        origin, self.builder.origin = self.builder.origin, self.state[slot].origin
        name = self.ops[self.state[slot].origin].name.encode()
        held: Ref = self.builder.op("_Held", value, missing, variable=name)
        self.builder.origin = origin
        return held

    def _is_initialized(self, number: int, op: Any) -> Ref:
        _, missing = self.entering(self._slot_of(op))
        if missing is None:
            return self.builder.const(True, dtypes.bool_)
        found: Ref = self.builder.op("Equal", missing, self.builder.const(0, dtypes.int32))
        return found

    def region(self, written: Sequence[int]) -> Step:
        """The region; after its own results it gives those slots' values."""
        values = [self._value(tensor) for tensor in self.request.fetches]
        return self.builder.finish([*values, *map(self._held, written)], (), self.effects)


# --- Branches ---


def _branch(outer: Translation, op: Any) -> None:
    branches = op.attrs["then_branch"], op.attrs["else_branch"]
    handles = [outer.values[tensor] for tensor in op.inputs[1:]]
    touched, written = _touched_by(outer, branches, handles)
    passed = _Passed()
    for value in handles:
        if not isinstance(value, Handle):
            passed.inputs.append(value)
    _set_parameters(outer, passed, handles, known=True)
    for slot in sorted(touched):
        passed.pass_slot(outer, slot)
    feeds = [outer.builder.type(ref) for ref in passed.inputs]
    steps = []
    for branch in branches:
        inner = _Inner(outer, branch, passed, feeds)
        inner.translate_all(ops_of_region(branch))
        steps.append(inner.region(sorted(written)))
    condition = _condition(outer, outer._value(op.inputs[0]))
    attrs: dict[str, Any] = {
        "Tin": tuple(type_.dtype for type_ in feeds), "Tout": tuple(t.dtype for t in steps[0].results()),
        "then": steps[0], "else": steps[1],
    }  # fmt: skip
    if op in outer.request.shapes:
        attrs["_shapes"] = outer.request.shapes[op]
    refs = _add(outer, "_If", [condition, *passed.inputs], attrs, steps)
    outer._set(op, refs[: len(op.outputs)])
    for slot, ref in zip(sorted(written), refs[len(op.outputs) :], strict=True):
        outer.take(slot, ref)


def _condition(outer: Translation, ref: Ref) -> Ref:
    """TF's truth: numbers other than zero; of what is no scalar, that it has elements."""
    type_ = outer.builder.type(ref)
    if type_.dims:
        ref = outer.builder.op("Size", ref)
    elif type_.dtype is dtypes.bool_:
        return ref
    found: Ref = outer.builder.op("NotEqual", ref, outer.builder.const(0, outer.builder.type(ref).dtype))
    return found


def _set_parameters(outer: Translation, passed: _Passed, values: Sequence[Any], known: bool) -> None:
    """Note what each parameter is; with `known`, constants are set down inside."""
    plain = {str(e) for ref in passed.inputs for e in outer.builder.type(ref).dims if e is dims.symbol(str(e))}
    at = 0
    for value in values:
        if isinstance(value, Handle):
            passed.parameters.append(Handle(value.slot))
            continue
        found = _known(outer.builder, value, plain) if known else None
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
    return builder.type(ref), tuple(found.ravel())


def _add(outer: Translation, name: str, inputs: Sequence[Ref], attrs: Mapping[str, Any], steps: Any) -> list[Ref]:
    acts = any(map(has_effects, steps))
    node = outer.builder.add(name, inputs, attrs, outer.effects[-1:] if acts else ())
    if acts:
        outer.effects.append(node)
    return [Ref(node, k) for k in range(len(outer.builder.nodes[node].types))]


def _touched_by(outer: Translation, regions: Sequence[Any], values: Sequence[Any]) -> tuple[set[int], set[int]]:
    """The slots that the regions use, and those of them that they write; `values` is by parameter."""
    slots = [value.slot if isinstance(value, Handle) else None for value in values]
    touched: set[int] = set()
    written: set[int] = set()
    for region in regions:
        _touch(outer, region, slots, touched, written)
    return touched | written, written


def _touch(
    outer: Translation, region: Any, slots: Sequence[int | None], touched: set[int], written: set[int]
) -> None:
    known = {tensor: slot for tensor, slot in zip(region.inputs, slots, strict=True) if slot is not None}
    for op in ops_of_region(region):
        if op.type in VARIABLES:
            known[op.outputs[0]] = outer._slot(outer.number(op), op)
            continue
        mine = [known.get(tensor) for tensor in op.inputs]
        if op.type in BRANCHES or op.type in LOOPS:
            names = ("then_branch", "else_branch") if op.type in BRANCHES else ("cond", "body")
            for name in names:
                _touch(outer, op.attrs[name], mine[op.type in BRANCHES :], touched, written)
            continue
        touched.update(slot for slot in mine if slot is not None)
        definition = opdef.lookup(op.type)
        if definition is not None and isinstance(definition.lower, Update):
            changed = [slot for i in definition.lower.slots if (slot := mine[i]) is not None]
            written.update(changed)
            if changed and op.outputs and op.outputs[0].dtype._is_ref_dtype:
                known[op.outputs[0]] = changed[0]
    touched.update(known[tensor] for tensor in region.outputs if tensor in known)


# --- Loops ---


class _Loop:
    """A loop of the graph: variables that change, then what does not, then the slots that it touches."""

    def __init__(self, outer: Translation, op: Any) -> None:
        self.outer, self.op = outer, op
        self.cond, self.body = op.attrs["cond"], op.attrs["body"]
        self.count = len(op.inputs)
        self.values = [outer.values[tensor] for tensor in op.inputs]
        outputs, parameters_ = self.body.outputs, self.body.inputs
        self.changing = [
            k for k in range(self.count) if outputs[k] is not parameters_[k] and not isinstance(self.values[k], Handle)
        ]
        touched, self.written = _touched_by(outer, (self.cond, self.body), self.values)
        self.touched = sorted(touched)
        if not self.written and not self._may_end():
            # What waits for the loop must go on waiting: nothing may be taken for its own initial value.
            self.changing = [k for k in range(self.count) if not isinstance(self.values[k], Handle)]
        self.passed = self._pass()

    def _may_end(self) -> bool:
        """Whether the condition reads anything that a trip changes."""
        read = {self.cond.outputs[0], *(tensor for op in ops_of_region(self.cond) for tensor in op.inputs)}
        return any(self.cond.inputs[k] in read for k in self.changing)

    def _pass(self) -> _Passed:
        outer, passed = self.outer, _Passed()
        steady = [k for k in range(self.count) if k not in self.changing]
        fixed = [self.values[k] for k in steady]
        passed.inputs = [value for value in fixed if not isinstance(value, Handle)]
        _set_parameters(outer, passed, fixed, known=True)
        of_steady = dict(zip(steady, passed.parameters))
        # Variables come first among the node's inputs.
        first = [self._value(k) for k in self.changing] + [outer._held(slot) for slot in sorted(self.written)]
        shift = len(first)
        passed.inputs = first + passed.inputs
        moved = {k: what + shift if isinstance(what, int) else what for k, what in of_steady.items()}
        passed.parameters = [self.changing.index(k) if k in self.changing else moved[k] for k in range(self.count)]
        for number, slot in enumerate(sorted(self.written)):
            passed.slots[slot] = len(self.changing) + number, None
        for slot in self.touched:
            if slot not in self.written:
                passed.pass_slot(outer, slot)
        return passed

    def _value(self, k: int) -> Ref:
        value = self.values[k]
        assert not isinstance(value, Handle)
        return value

    def translate(self) -> None:
        outer, op = self.outer, self.op
        types = [outer.builder.type(ref) for ref in self.passed.inputs]
        body = self._settled(types)
        inner = _Inner(outer, self.cond, self.passed, body.feeds)
        inner.translate_all(ops_of_region(self.cond))
        cond = inner.region(())
        stacked = len(self.body.outputs) - self.count
        attrs = {
            "T": tuple(t.dtype for t in types), "Tout": tuple(t.dtype for t in body.results()),
            "body": body, "cond": cond, "stacked": stacked,
        }  # fmt: skip
        refs = _add(outer, "_While", self.passed.inputs, attrs, (body, cond))
        outer._set(op, [*self._finals(refs), *refs[len(types) :]])
        for number, slot in enumerate(sorted(self.written)):
            outer.take(slot, refs[len(self.changing) + number])

    def _finals(self, refs: Sequence[Ref]) -> list[Any]:
        return [refs[self.changing.index(k)] if k in self.changing else self.values[k] for k in range(self.count)]

    def _settled(self, types: list[Type]) -> Step:
        """The body over types that hold in every trip: extents that change become symbols of its own."""
        free: set[tuple[int, int]] = set()
        while True:
            feeds = _with_free(types, free)
            body = self._body(feeds)
            results = body.results()
            if self._shape_arrays(types, results):
                continue
            before = len(free)
            for v, (feed, result) in enumerate(zip(feeds, results)):
                if feed.dtype is not result.dtype or len(feed.dims) != len(result.dims):
                    raise OpFailure(f"a loop variable is {feed} before a trip and {result} after it")
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

    def _body(self, feeds: Sequence[Type]) -> Step:
        inner = _Inner(self.outer, self.body, self.passed, feeds)
        inner.translate_all(ops_of_region(self.body))
        values = [inner._value(self.body.outputs[k]) for k in self.changing]
        values += [inner._held(slot) for slot in sorted(self.written)]
        values += [inner.builder.feed(number) for number in range(len(values), len(feeds))]
        values += [inner._value(tensor) for tensor in self.body.outputs[self.count :]]
        return inner.builder.finish(values, (), inner.effects)


def _with_free(types: Sequence[Type], free: set[tuple[int, int]]) -> list[Type]:
    numbers = itertools.count(first_born(types) + 1)
    return [
        Type(type_.dtype, tuple(
            dims.symbol(f"h{next(numbers)}") if (v, a) in free else extent for a, extent in enumerate(type_.dims)
        ))
        for v, type_ in enumerate(types)
    ]  # fmt: skip
