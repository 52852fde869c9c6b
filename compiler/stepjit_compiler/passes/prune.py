"""prune: from the user's graph to a Step.

Keeps the ancestors of the fetches, cut at the feeds, and turns state into values: a variable is read as what it held
when the step began or what the step wrote last, in the order of data, control edges and then creation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from stepjit_compiler import opdef
from stepjit_compiler.dims import Shape
from stepjit_compiler.ir import Ref, Slot, Step, Type
from stepjit_compiler.lowering import Update
from stepjit_compiler.ops.state import wrong_shape
from stepjit_compiler.ops.tensor_array_v3 import ARRAYS
from stepjit_compiler.passes.needed import (
    BRANCHES,
    LOOPS,
    ROWS,
    Regions,
    StepError,
    needed_for,
    ordered,
    structured_ops,
)
from stepjit_compiler.passes.prune_waits import Waits, waiting_ops
from stepjit_compiler.passes.views import PASSING, Views
from stepjit_compiler.step_builder import StepBuilder
from stepjit_compiler.step_inference import NeedsShapeError
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


@dataclass(frozen=True)
class Handle:
    """Stands for a variable where an op wants the variable itself; `value` is what to read, where a write gave it."""

    slot: int
    value: Ref | None = None


VARIABLES = ("VariableV2", "Variable", "VarHandleOp")


def prune(request: Request) -> Pruned:
    """The part of the graph that the request needs, as a Step; StepError when an op can't be built."""
    fed = {tensor: i for i, tensor in enumerate(request.feeds)}
    regions = Regions()
    needed = needed_for(regions, request.fetches, request.targets, fed, request.done, request.refs)
    waits = waiting_ops(list(needed.ops))
    ops = ordered(*structured_ops(needed.ops, fed), waits)
    if request.refs:
        ops.sort(key=lambda op: op.type not in VARIABLES)  # what refers to them does not tell that they come first
    translation = Translation(request, fed, ops, regions, needed.taken)
    translation.translate_all(list(ops), Waits(ops, waits) if waits else None)
    return Pruned(translation.finish(), tuple(ops), translation.type_of)


def ops_of_step(fetches: Sequence[Any], targets: Sequence[Any], feeds: Sequence[Any]) -> list[Any]:
    """The graph's ops that such a step runs, in the order they were made."""
    return sorted(needed_for(Regions(), fetches, targets, dict.fromkeys(feeds, 0)).ops, key=lambda op: op._id)


@dataclass
class Translation:
    """A graph's ops put into a Step, one after another."""

    request: Request
    fed: Mapping[Any, int]
    ops: list[Any]
    """By origin: the graph's op. Those of regions come after the step's own."""
    regions: Regions
    taken: Mapping[Any, Collection[int]]
    """By op that holds regions: the numbers of the outputs that somebody takes; all of them where it isn't there."""
    builder: StepBuilder = field(init=False)
    values: dict[Any, Ref | Handle] = field(default_factory=dict)
    slots: dict[Any, int] = field(default_factory=dict)
    current: dict[int, Ref] = field(default_factory=dict)
    """By slot: what the step wrote last."""
    unsure: dict[int, Ref] = field(default_factory=dict)
    """By slot in `current` that may hold nothing still, as a region may not have written it: whether it does not."""
    by_host: set[int] = field(default_factory=set)
    """Slots that Python writes when all else is done: native code can't change their shape, or their dtype's values."""
    effects: list[int] = field(default_factory=list)
    """Nodes with effects on the host, in order."""
    guessed: list[int] = field(default_factory=list)
    """Nodes that were told the shapes of their results: they are to run, if only for whether these are right."""
    state: list[Slot] = field(init=False)
    """The step's slots."""
    streams: dict[Any, int] = field(default_factory=dict)
    """By op that draws random numbers: its slot."""
    numbers: dict[Any, int] = field(init=False)
    """By graph op: its number among `ops`."""
    views: Views = field(default_factory=Views)

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
            self.views.begin(op)
            try:
                if waits is not None and op in waits.parted:
                    waits.translate(self, op, done)
                else:
                    self.translate(number, op)
                done[op] = None
                self.views.end(op)
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
        elif op.type in BRANCHES or op.type in LOOPS or op.type in ROWS:
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
        elif "_shapes" in attrs:
            self.guessed.append(node)
        self._set(op, [Ref(node, k) for k in range(len(self.builder.nodes[node].types))])
        if op.type in PASSING and op.outputs[0] not in self.fed:
            self._note_view(op.outputs[0], op.inputs[0])

    def _note_view(self, tensor: Any, source: Any) -> None:
        """Where the source is a variable's own memory, so is the tensor."""
        value = self.values[source]
        if isinstance(value, Handle) and source.dtype._is_ref_dtype:
            self.views.add(tensor, value.slot, newest=value.value is None)
        elif source in self.views.slots:
            self.views.add(tensor, self.views.slots[source], newest=False)

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
            resource = op.type == "AssignVariableOp"
            if len(have.dims) == len(new.dims):
                self.take(slot, self.builder.op("_FitsVariable", value, shape=have.dims, resource=resource))
                return
            raise OpFailure(wrong_shape(resource, have.dims, new.dims))
        self.take(slot, value)

    def take(self, slot: int, value: Ref, missing: Ref | None = None) -> None:
        """From here on the variable holds that value; nothing still, where `missing` is not zero."""
        have, new = self.state[slot].type, self.builder.type(value)
        if not _static(have) or have.dims != new.dims or not opdef_native(have) or missing is not None:
            self.by_host.add(slot)
        self.current[slot] = value
        self.views.write(slot, value)
        self.unsure.pop(slot, None)
        if missing is not None:
            self.unsure[slot] = missing

    def entering(self, slot: int) -> tuple[Ref, Ref | None]:
        """(value, missing) of a variable for a region: `missing`, unless it is None, says that there is no value."""
        if slot in self.current:
            return self.current[slot], self.unsure.get(slot)
        self._check_shape_known(slot)
        builder, origin = self.builder, self.state[slot].origin
        missing = builder.op("LogicalNot", builder.initialized(slot, origin))
        return builder.read(slot, origin, unsure=True), builder.op("Cast", missing, DstT=dtypes.int32)

    def _check_shape_known(self, slot: int) -> None:
        """FailedPrecondition for a variable of which no shape is known as it never held anything."""
        if self.state[slot].type.dims == (-1,):
            name = self.ops[self.state[slot].origin].name
            raise OpFailure(f"Attempting to use uninitialized value {name}", FAILED_PRECONDITION)

    def surely_holds(self, slot: int) -> bool:
        """Whether the variable holds something, whatever happened in the step so far."""
        if slot in self.current:
            return slot not in self.unsure
        return self.request.variable_shape(self.ops[self.state[slot].origin]) is not None

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
            return self.views.value(tensor, value) if tensor in self.views.slots else value
        return self._held(value.slot) if value.value is None else value.value

    def given(self, tensor: Any) -> Ref | Handle:
        """What a region gets for an input: the variable itself, or a value."""
        value = self.values[tensor]
        return value if isinstance(value, Handle) else self._value(tensor)

    def _in_the_end(self, tensor: Any) -> Ref:
        """What a fetch gives: of a variable, what it holds after the step."""
        value = self.values[tensor]
        if isinstance(value, Handle) or tensor not in self.views.slots:
            return self._value(tensor)
        return self._held(self.views.slots[tensor]) if self.views.is_outdated(tensor) else value

    def _held(self, slot: int) -> Ref:
        """What a variable holds now."""
        if slot in self.current:
            return self._checked(slot, self.current[slot], self.unsure.get(slot))
        self._check_shape_known(slot)
        return self.builder.read(slot, self.state[slot].origin)

    def _checked(self, slot: int, value: Ref, missing: Ref | None) -> Ref:
        if missing is None:
            return value
        origin, self.builder.origin = self.builder.origin, self.state[slot].origin
        name = self.ops[self.state[slot].origin].name.encode()
        held: Ref = self.builder.op("_Held", value, missing, variable=name)
        self.builder.origin = origin
        return held

    def _is_initialized(self, number: int, op: Any) -> Ref:
        slot = self._slot_of(op)
        if slot not in self.current:
            return self.builder.initialized(slot, number)
        return self._is_there(self.unsure.get(slot))

    def _is_there(self, missing: Ref | None) -> Ref:
        if missing is None:
            return self.builder.const(True, dtypes.bool_)
        found: Ref = self.builder.op("Equal", missing, self.builder.const(0, dtypes.int32))
        return found

    def outputs_taken(self, op: Any) -> list[int]:
        """The numbers of the outputs of an op with regions that are wanted of it."""
        taken = self.taken.get(op)
        return list(range(len(op.outputs))) if taken is None else sorted(taken)

    def set_outputs(self, op: Any, numbers: Sequence[int], refs: Iterator[Ref]) -> None:
        """Let the outputs with these numbers be what comes next."""
        for k in numbers:
            self.values.setdefault(op.outputs[k], next(refs))

    def _set(self, op: Any, refs: Sequence[Ref | Handle]) -> None:
        for tensor, ref in zip(op.outputs, refs):
            self.values.setdefault(tensor, ref)

    def finish(self) -> Step:
        fetches = list(map(self._fetched, self.request.fetches))
        native = [(slot, value) for slot, value in sorted(self.current.items()) if slot not in self.by_host]
        for slot in sorted(self.by_host):
            self.builder.origin = self.state[slot].origin
            missing = self.unsure.get(slot)
            name, inputs = ("_AssignAny", [self.current[slot]])
            if missing is not None:
                name, inputs = "_AssignHeld", [self.current[slot], missing]
            self.effects.append(self.builder.add(name, inputs, {"slot": slot}, self.effects[-1:]))
        self.builder.names = [op.name for op in self.ops]
        # A random op was asked for even when nothing reads it: its stream moves on.
        return self.builder.finish(fetches, native, [*self.effects, *self.guessed, *self._asked_for()])

    def _fetched(self, tensor: Any) -> Ref:
        try:
            return self._in_the_end(tensor)
        except OpFailure as failure:
            raise StepError(tensor.op, failure) from None

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
