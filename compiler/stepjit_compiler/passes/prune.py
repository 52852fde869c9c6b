"""prune: from the user's graph to a Step.

Keeps the ancestors of the fetches, cut at the feeds, and turns state into values: a variable is read as what it held
when the step began or what the step wrote last, in the order of data, control edges and then creation.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from stepjit_compiler import opdef
from stepjit_compiler.dims import Shape
from stepjit_compiler.ir import Ref, Slot, Step, Type
from stepjit_compiler.lowering import Update
from stepjit_compiler.ops.control_v1 import V1
from stepjit_compiler.ops.tensor_array_v3 import ARRAYS
from stepjit_compiler.passes.prune_waits import Waits, waiting_ops
from stepjit_compiler.step_builder import NeedsShapeError, StepBuilder
from stepjit_runtime import dtypes
from stepjit_runtime.errors import FAILED_PRECONDITION, OpFailure


class GraphTensor(Protocol):
    """What the compiler sees of the front end's Tensor."""

    op: Any
    value_index: int


class GraphOp(Protocol):
    """What the compiler sees of the front end's Operation: type, edges and canonical attrs."""

    type: str
    name: str
    attrs: Mapping[str, Any]
    _id: int


@dataclass(frozen=True)
class Request:
    """What a step is asked to do, in terms of the user's graph."""

    fetches: tuple[Any, ...]
    """Tensors whose values are returned; none of them fed."""
    targets: tuple[Any, ...]
    """Operations to run."""
    feeds: tuple[Any, ...]
    feed_types: tuple[Type, ...]
    """Actual types of the feeds; unknown extents are symbols `s<feed>_<axis>`."""
    variable_shape: Callable[[Any], Shape | None] = lambda op: None
    """The shape that a variable of unknown static shape has now; None when it holds nothing."""
    shapes: Mapping[Any, tuple[Any, ...]] = field(default_factory=dict)
    """By op of which not even the ranks of the results follow from its inputs: shapes to go by (its host op checks)."""
    done: Collection[Any] = ()
    """Ops that ran in an earlier stage: what is needed of them is fed, or in `refs`."""
    refs: Mapping[Any, Any] = field(default_factory=dict)
    """By reference that an op in `done` returned: the op of the variable that it refers to."""


@dataclass(frozen=True)
class Pruned:
    """A Step and the graph ops it came from, by origin."""

    step: Step
    ops: tuple[Any, ...]
    type_of: Callable[[Any], Type | None] = lambda tensor: None
    """The type of a tensor of the graph over the step's symbols; None for what the step does not compute."""


class StepError(Exception):
    """An op of the graph can't be part of this step; `op` is the graph's."""

    def __init__(self, op: Any, failure: OpFailure) -> None:
        super().__init__(failure.message)
        self.op, self.failure = op, failure


@dataclass(frozen=True)
class Handle:
    """Stands for a variable where an op wants the variable itself; `value` is what to read, where a write gave it."""

    slot: int
    value: Ref | None = None


GIVEN = V1 | {"Placeholder", "PlaceholderV2"}
"""Ops that need not run where their values are given."""

VARIABLES = ("VariableV2", "Variable", "VarHandleOp")
BRANCHES = ("If", "StatelessIf")
LOOPS = ("While", "StatelessWhile", "_WhileStacked")


def prune(request: Request) -> Pruned:
    """The part of the graph that the request needs, as a Step; StepError when an op can't be built."""
    fed = {tensor: i for i, tensor in enumerate(request.feeds)}
    needed = _needed(request, fed)
    waits = waiting_ops(list(needed))
    ops = _ordered(*_structured(needed, fed), waits)
    if request.refs:
        ops.sort(key=lambda op: op.type not in VARIABLES)  # what refers to them does not tell that they come first
    translation = Translation(request, fed, ops)
    translation.translate_all(list(ops), Waits(ops, waits) if waits else None)
    return Pruned(translation.finish(), tuple(ops), translation.type_of)


def ops_of_step(fetches: Sequence[Any], targets: Sequence[Any], feeds: Sequence[Any]) -> list[Any]:
    """The graph's ops that such a step runs, in the order they were made."""
    request = Request(tuple(fetches), tuple(targets), tuple(feeds), ())
    return sorted(_needed(request, dict.fromkeys(feeds, 0)), key=lambda op: op._id)


def _needed(
    request: Request, fed: Mapping[Any, int], members: frozenset[Any] | None = None
) -> dict[Any, None]:
    """The ops that run: backwards from the fetches and targets, stopping at fed tensors.

    members: of a region, the ops that others of it may have to wait for.
    """
    pending = [tensor.op for tensor in request.fetches if tensor not in fed] + list(request.targets)
    found: dict[Any, None] = dict.fromkeys(pending)
    # What waits for a placeholder that is fed waits for its value.
    given = {tensor.op for tensor in fed if tensor.op.type in GIVEN}
    while pending:
        op = pending.pop()
        before = [request.refs.get(tensor, tensor.op) for tensor in op.inputs if tensor not in fed]
        waits = [each for each in op.control_inputs if each not in given and (members is None or each in members)]
        for each in (*before, *waits):
            if each not in found and each not in request.done:
                found[each] = None
                pending.append(each)
    return found


def _structured(found: Mapping[Any, None], fed: Mapping[Any, int]) -> tuple[dict[Any, None], Mapping[Any, Any]]:
    """The ops with branches and loops of the older kind as one op each, and by op that is part of one: that one."""
    if not any(op.type in V1 for op in found):
        return dict(found), {}
    from stepjit_compiler.passes.structure import structured

    try:
        ops, holder = structured(found, fed)
    except OpFailure as failure:
        raise StepError(None, failure) from None
    return dict.fromkeys(ops), holder


def _ordered(
    found: Mapping[Any, None], holder: Mapping[Any, Any], last: frozenset[Any] = frozenset()
) -> list[Any]:
    """Topological order; of several possible next ops, the one made first, but those in `last` behind all others."""
    ops = sorted(found, key=lambda op: op._id)
    after: dict[Any, list[Any]] = {}
    waiting: dict[Any, int] = {}
    in_order = not last
    for op in ops:
        needed = [holder.get(each, each) for each in (*(t.op for t in op.inputs), *op.control_inputs)]
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


def ops_of_region(region: Any) -> list[Any]:
    """The ops that a region of the graph runs for its results, in order."""
    request = Request(tuple(region.outputs), (), tuple(region.inputs), ())
    fed = dict.fromkeys(region.inputs, 0)
    return _ordered(*_structured(_needed(request, fed, getattr(region, "members", None)), fed))


@dataclass
class Translation:
    """A graph's ops put into a Step, one after another."""

    request: Request
    fed: Mapping[Any, int]
    ops: list[Any]
    """By origin: the graph's op. Those of regions come after the step's own."""
    builder: StepBuilder = field(init=False)
    values: dict[Any, Ref | Handle] = field(default_factory=dict)
    slots: dict[Any, int] = field(default_factory=dict)
    current: dict[int, Ref] = field(default_factory=dict)
    """By slot: what the step wrote last."""
    by_host: set[int] = field(default_factory=set)
    """Slots that Python writes when all else is done: native code can't change their shape, or their dtype's values."""
    effects: list[int] = field(default_factory=list)
    """Nodes with effects on the host, in order."""
    state: list[Slot] = field(init=False)
    """The step's slots."""
    streams: dict[Any, int] = field(default_factory=dict)
    """By op that draws random numbers: its slot."""
    numbers: dict[Any, int] = field(init=False)
    """By graph op: its number among `ops`."""

    def __post_init__(self) -> None:
        self.builder = StepBuilder(self.request.feed_types, names=[op.name for op in self.ops])
        self.state, self.numbers = self.builder.slots, {op: number for number, op in enumerate(self.ops)}
        for tensor, index in self.fed.items():
            self.values[tensor] = self.builder.feed(index)

    def translate_all(self, ops: Sequence[Any], waits: Waits | None = None) -> None:
        """Translate ops that are in order; StepError names the one that can't be built."""
        done: dict[Any, None] = {}
        for op in ops:
            self.builder.origin = number = self.number(op)
            try:
                if waits is not None and op in waits.parted:
                    waits.translate(self, op, done)
                else:
                    self.translate(number, op)
                done[op] = None
            except OpFailure as failure:
                raise StepError(op, failure) from None
            except NeedsShapeError as error:
                error.op = error.op or op
                raise

    def number(self, op: Any) -> int:
        """The op's origin."""
        if op not in self.numbers:
            self.numbers[op] = len(self.ops)
            self.ops.append(op)
        return self.numbers[op]

    def translate(self, number: int, op: Any) -> None:
        if op.type in ("Placeholder", "PlaceholderV2"):
            raise OpFailure(missing_feed(op))
        if op.type in VARIABLES:
            handle = Handle(self._slot(number, op))
            self._set(op, [handle])
            self.values.update({tensor: handle for tensor, variable in self.request.refs.items() if variable is op})
        elif op.type in ("NoOp", "ControlTrigger"):
            return
        elif op.type in ("IsVariableInitialized", "VarIsInitializedOp"):
            self._set(op, [self._is_initialized(number, op)])
        elif op.type == "ReadVariableOp" or op.type == "PlaceholderWithDefault":
            self._set(op, [self._value(op.inputs[0])])
        elif op.type in BRANCHES or op.type in LOOPS:
            from stepjit_compiler.passes.prune_regions import translate_control

            translate_control(self, op)
        elif op.type in ARRAYS:
            from stepjit_compiler.passes.prune_arrays import translate_array

            translate_array(self, op)
        else:
            self._translate_op(number, op)

    def _translate_op(self, number: int, op: Any) -> None:
        definition = opdef.lookup(op.type)
        if definition is None:
            raise OpFailure(f"Op type not registered '{op.type}' in this binary")
        if isinstance(definition.lower, Update):
            self._update(op, definition)
            return
        attrs = {name: value for name, value in op.attrs.items() if name in definition.attr}
        if "token" in attrs:
            attrs["token"] = b""  # it only means something here and now: whoever runs the program knows it
        if op in self.request.shapes:
            attrs["_shapes"] = self.request.shapes[op]
        if "seed2" in definition.attr and definition.stateful:
            attrs["_slot"] = self._stream(number, op)
        inputs = [self._value(tensor) for tensor in op.inputs]
        if op.type == "Identity" and self.builder.type(inputs[0]).dtype is not op.attrs["T"].base_dtype:
            self._set(op, inputs)  # a TensorArray, whose flow the graph takes for a float
            return
        after = self.effects[-1:] if definition.stateful else ()
        node = self.builder.add(op.type, inputs, attrs, after)
        if definition.stateful:
            self.effects.append(node)
        self._set(op, [Ref(node, k) for k in range(len(self.builder.nodes[node].types))])

    def _stream(self, number: int, op: Any) -> int:
        if op not in self.streams:
            self.state.append(Slot("stream", Type(dtypes.int64, ()), number))
            self.streams[op] = len(self.state) - 1
        return self.streams[op]

    def _update(self, op: Any, definition: opdef.OpDef) -> None:
        """An op that changes variables: compute the new values and note them."""
        update = definition.lower
        handles = [self.values[op.inputs[i]] for i in update.slots]
        for handle in handles:
            if not isinstance(handle, Handle):
                raise OpFailure(f"'{op.type}' needs a variable, but its input is fed or computed")
        slots = [handle.slot for handle in handles if isinstance(handle, Handle)]
        refs = [
            self._old_value(tensor, op, i in update.slots)
            for i, tensor in enumerate(op.inputs)
        ]
        call = opdef.Call(op.type, op.attrs, [])
        new = update.expand(self.builder, call, *refs)
        for slot, value in zip(slots, new, strict=True):
            self._write(op, slot, value)
        if op.outputs:
            result = update.result(self.builder, call, *refs) if update.result else new[0]
            refers = not update.result and op.outputs[0].dtype._is_ref_dtype
            self._set(op, [Handle(slots[0], result) if refers else result])

    def _old_value(self, tensor: Any, op: Any, is_slot: bool) -> Ref | None:
        # A plain assignment does not read what it replaces, so the variable need not hold anything.
        if is_slot and op.type in ("Assign", "AssignVariableOp"):
            return None
        handle = self.values[tensor]
        return self._held(handle.slot) if is_slot and isinstance(handle, Handle) else self._value(tensor)

    def _write(self, op: Any, slot: int, value: Ref) -> None:
        have, new = self.state[slot].type, self.builder.type(value)
        if have.dtype is not new.dtype:
            raise OpFailure(f"Assign of {new.dtype.name} to a variable of {have.dtype.name}")
        if _static(have) and have.dims != new.dims and not self._may_reshape(op, have, new):
            if len(have.dims) == len(new.dims):
                self.take(slot, self.builder.op("_FitsVariable", value, shape=have.dims))
                return
            shapes = f"{opdef.show(have.dims)} rhs shape= {opdef.show(new.dims)}"
            raise OpFailure(f"Assign requires shapes of both tensors to match. lhs shape= {shapes}")
        self.take(slot, value)

    def take(self, slot: int, value: Ref) -> None:
        """From here on the variable holds that value."""
        have, new = self.state[slot].type, self.builder.type(value)
        if not _static(have) or have.dims != new.dims or not opdef_native(have):
            self.by_host.add(slot)
        self.current[slot] = value

    def entering(self, slot: int) -> tuple[Ref, Ref | None]:
        """(value, missing) of a variable for a region: `missing`, unless it is None, says that there is no value."""
        if slot in self.current:
            return self.current[slot], None
        origin = self.state[slot].origin
        if self.state[slot].type.dims == (-1,):
            raise OpFailure(f"Attempting to use uninitialized value {self.ops[origin].name}", FAILED_PRECONDITION)
        missing = self.builder.op("LogicalNot", self.builder.initialized(slot, origin))
        return self.builder.read(slot, origin), self.builder.op("Cast", missing, DstT=dtypes.int32)

    def _may_reshape(self, op: Any, have: Type, new: Type) -> bool:
        if op.attrs.get("validate_shape") is False or not opdef_native(have):
            return True
        variable = self.ops[self.state[self._slot_of(op)].origin]
        shape = variable.attrs.get("shape")
        return (shape is None or None in shape) and op.type == "AssignVariableOp"

    def _slot_of(self, op: Any) -> int:
        handle = self.values[op.inputs[0]]
        assert isinstance(handle, Handle)
        return handle.slot

    def type_of(self, tensor: Any) -> Type | None:
        """The type of a tensor's value; of a variable's handle, the variable's."""
        value = self.values.get(tensor)
        if isinstance(value, Handle):
            return self.state[value.slot].type
        return None if value is None else self.builder.type(value)

    def _slot(self, number: int, op: Any) -> int:
        key = (op.attrs.get("container", b""), op.attrs.get("shared_name") or op.name.encode())
        if key not in self.slots:
            # An assignment without `validate_shape` may have given it another shape than it was made for.
            declared, shape = op.attrs.get("shape"), self.request.variable_shape(op)
            if shape is None and declared is not None and None not in declared:
                shape = declared
            # Unknown and empty as yet: rank 0 stands in; nothing may read it before it is assigned.
            type_ = Type(op.attrs["dtype"].base_dtype, (-1,) if shape is None else tuple(shape))
            self.state.append(Slot("variable", type_, number))
            self.slots[key] = len(self.state) - 1
        return self.slots[key]

    def _value(self, tensor: Any) -> Ref:
        value = self.values[tensor]
        if not isinstance(value, Handle):
            return value
        return self._held(value.slot) if value.value is None else value.value

    def _held(self, slot: int) -> Ref:
        """What a variable holds now."""
        if slot in self.current:
            return self.current[slot]
        origin = self.state[slot].origin
        if self.state[slot].type.dims == (-1,):
            raise OpFailure(f"Attempting to use uninitialized value {self.ops[origin].name}", FAILED_PRECONDITION)
        return self.builder.read(slot, origin)

    def _is_initialized(self, number: int, op: Any) -> Ref:
        slot = self._slot_of(op)
        if slot in self.current:
            return self.builder.const(True, dtypes.bool_)
        return self.builder.initialized(slot, number)

    def _set(self, op: Any, refs: Sequence[Ref | Handle]) -> None:
        for tensor, ref in zip(op.outputs, refs):
            self.values.setdefault(tensor, ref)

    def finish(self) -> Step:
        fetches = [self._value(tensor) for tensor in self.request.fetches]
        native = [(slot, value) for slot, value in sorted(self.current.items()) if slot not in self.by_host]
        for slot in sorted(self.by_host):
            self.builder.origin = self.state[slot].origin
            node = self.builder.add("_AssignAny", [self.current[slot]], {"slot": slot}, self.effects[-1:])
            self.effects.append(node)
        self.builder.names = [op.name for op in self.ops]
        # A random op was asked for even when nothing reads it: its stream moves on.
        return self.builder.finish(fetches, native, [*self.effects, *self._asked_for()])

    def _asked_for(self) -> Iterator[int]:
        """Nodes of ops that are to run though nobody takes their values: they may fail."""
        for op in self.request.targets:
            for tensor in op.outputs[:1]:
                value = self.values.get(tensor)
                if isinstance(value, Ref):
                    yield value.node


def _static(type_: Type) -> bool:
    return all(isinstance(extent, int) and extent >= 0 for extent in type_.dims)


def opdef_native(type_: Type) -> bool:
    return type_.dtype in opdef.NATIVE


def missing_feed(op: Any) -> str:
    """TF's words for a placeholder that is needed but not fed."""
    shape = op.attrs.get("shape")
    names = {"float32": "float", "float64": "double", "float16": "half"}
    text = f"You must feed a value for placeholder tensor '{op.name}' with dtype "
    text += names.get(op.attrs["dtype"].name, op.attrs["dtype"].name)
    return text if shape is None else f"{text} and shape {opdef.show(shape)}"
