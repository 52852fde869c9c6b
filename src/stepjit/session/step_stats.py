"""What a traced run says to `RunMetadata.step_stats`: one record per op of the graph that was run.

A kernel computes many ops at once. Its time is shared out to them by their estimated work, one after the other, so that
the records of a step add up to the time that it took. Ops that became no code of their own (constants, variables,
reshapes, ...) have records without duration at the time at which their inputs were there. Ops that were computed when
the step was compiled have none, unless they are fetched: then they are the constants that they became.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from stepjit.session.trace import TracedCall
from stepjit_compiler import dims
from stepjit_runtime.dtypes import as_dtype
from stepjit_runtime.manifest import KernelText
from stepjit_runtime.trace import Event

ALLOCATOR = "cpu"
_STRING_BYTES = 24
"""What TensorFlow reports for each element of a string tensor."""
_VARIABLES = frozenset({"VariableV2", "Variable"})
_HANDLE_BYTES = 200


Member = tuple[Any, float, dict[int, int]]
"""A graph op in a kernel: its share of the kernel's time (of 1), and the bytes that it stores, by output."""


class Span(NamedTuple):
    """An op's part of a run of a kernel, in ticks; `stored`: bytes that it wrote to new memory, by output."""

    op: Any
    begin: int
    end: int
    stored: Mapping[int, int] = {}
    kernel: int = -1


def fill_step_stats(stats: Any, call: TracedCall) -> None:
    """Add the records of a traced run to a StepStats message, by device."""
    spans, folded = _in_order(call)
    writer = _Writer(stats, call, folded)
    for span, ready in spans:
        writer.write(span, ready)


def member_ops(call: TracedCall) -> list[list[Member]]:
    """By kernel: its graph ops in order."""
    owner = _owners(call.manifest.kernels)
    return [_members(call, number, kernel, owner) for number, kernel in enumerate(call.manifest.kernels)]


@dataclass
class _Share:
    op: Any
    last: int = 0
    work: int = 0
    stored: dict[int, int] = field(default_factory=dict)


def _owners(kernels: Sequence[KernelText]) -> dict[int, int]:
    """By node: the kernel that it is reported in. A node may be computed by several: then by the one that stores it."""
    found: dict[int, int] = {}
    for number, kernel in enumerate(kernels):
        for node in kernel.nodes:
            found.setdefault(node, number)
    for number, kernel in enumerate(kernels):
        for store in kernel.stores:
            found[kernel.nodes[store.op]] = number
    return found


def _members(
    call: TracedCall, number: int, kernel: KernelText, owner: Mapping[int, int]
) -> list[Member]:
    shares: dict[Any, _Share] = {}
    for place, origin in enumerate(kernel.origins):
        op = _op(call, origin)
        if op is None or owner.get(kernel.nodes[place]) != number:
            continue
        share = shares.setdefault(op, _Share(op))
        share.last = place
        share.work += call.number(kernel.work[place]) or 1
    for store in kernel.stores:
        op = _op(call, kernel.origins[store.op])
        if op in shares and store.buffer in ("arena", "output", "host"):
            shares[op].stored[store.output] = _bytes(call, store.dtype, store.dims)
    ordered = sorted(shares.values(), key=lambda share: share.last)
    total = sum(share.work for share in ordered) or 1
    return [(share.op, share.work / total, share.stored) for share in ordered]


def _op(call: TracedCall, origin: int) -> Any:
    ops = call.variant.ops
    return ops[origin] if 0 <= origin < len(ops) else None


def _bytes(call: TracedCall, dtype: str, extents: Sequence[str]) -> int:
    total = as_dtype(dtype).itemsize or _STRING_BYTES
    for extent in extents:
        total *= call.number(extent) or 0
    return total


def _spans(call: TracedCall, members: Sequence[Sequence[Member]]) -> Iterator[Span]:
    """Ops' parts of all runs of kernels, in order of time; neighbouring parts of one op are one."""
    held: Span | None = None
    for event in sorted(call.events, key=lambda event: event.begin):
        for span in _parts(event, members[event.kernel]):
            # The same kernel again is another trip of a loop.
            if held is not None and held.op is span.op and held.kernel < span.kernel:
                held = Span(span.op, held.begin, span.end, {**held.stored, **span.stored}, span.kernel)
                continue
            if held is not None:
                yield held
            held = span
    if held is not None:
        yield held


def _parts(event: Event, members: Iterable[Member]) -> Iterator[Span]:
    at, passed = event.begin, 0.0
    for op, share, stored in members:
        passed += share
        end = event.begin + round((event.end - event.begin) * min(1.0, passed))
        yield Span(op, at, end, stored, event.kernel)
        at = end


def _in_order(call: TracedCall) -> tuple[list[tuple[Span, int]], set[Any]]:
    """All spans with the times at which their inputs were there, those of ops without code among them; folded ops."""
    members = member_ops(call)
    spans = list(_spans(call, members))
    ends: dict[Any, int] = {}
    starts: dict[Any, int] = {}
    """By graph: the first of its ops; of a branch or a loop's body, nothing can be earlier."""
    for span in spans:
        ends[span.op] = max(span.end, ends.get(span.op, 0))
        starts.setdefault(span.op.graph, span.begin)
    starts[call.session.graph] = call.begin
    computed = {op for each in members for op, *_ in each}
    # Ops that would have run had a condition been another one.
    idle = {op for op in call.pruned.ops if op not in ends and (op in computed or op.graph not in starts)}
    folded = _folded(call, ends)
    fetched = {tensor.op for tensor in call.step.fetches}
    ready: dict[Any, int] = {}
    found: list[tuple[Span, int]] = []
    for op in call.pruned.ops:
        if op in idle:
            continue
        before = [tensor.op for tensor in op.inputs] + list(op.control_inputs)
        ready[op] = max([starts[op.graph], *(ends[each] for each in before if each in ends)])
        if op not in ends:
            ends[op] = ready[op]
            if op not in folded or op in fetched:
                found.append((Span(op, ends[op], ends[op]), ready[op]))
    found += [(span, min(ready.get(span.op, call.begin), span.begin)) for span in spans]
    place = {op: number for number, op in enumerate(call.pruned.ops)}
    found.sort(key=lambda each: (each[0].begin, each[0].end, place.get(each[0].op, -1)))
    return found, folded


def _folded(call: TracedCall, ran: Mapping[Any, int]) -> set[Any]:
    """Ops that no kernel computes, and whose inputs are all constants: they were computed by the compiler."""
    constant: set[Any] = set()
    found: set[Any] = set()
    for op in call.pruned.ops:
        if op.type == "Const":
            constant.add(op)
        elif op.inputs and op.outputs and op not in ran and all(tensor.op in constant for tensor in op.inputs):
            constant.add(op)
            if op.type != "PlaceholderWithDefault":
                found.add(op)
    return found


class _Writer:
    """Writes spans as NodeExecStats."""

    def __init__(self, stats: Any, call: TracedCall, folded: Collection[Any]) -> None:
        self._stats, self._call, self._folded = stats, call, folded
        self._devices: dict[str, Any] = {}
        self._allocations = 0
        self._shapes = _program_shapes(call)
        self._births = _births(call, self._shapes)

    def write(self, span: Span, ready: int) -> None:
        op, call = span.op, self._call
        node = self._device(op).node_stats.add()
        node.node_name = op.name
        node.timeline_label = _label(op, op in self._folded)
        begin, end = call.clock.epoch(span.begin), call.clock.epoch(span.end)
        scheduled = min(call.clock.epoch(ready), begin)
        # The difference of rounded times, so that what does not overlap does not when rounded.
        micros = end // 1000 - begin // 1000
        node.scheduled_micros, node.scheduled_nanos = scheduled // 1000, scheduled
        node.all_start_micros, node.all_start_nanos = begin // 1000, begin
        node.op_end_rel_micros = node.all_end_rel_micros = micros
        node.op_end_rel_nanos = node.all_end_rel_nanos = end - begin
        node.thread_id = call.thread
        for slot, tensor in enumerate(op.outputs):
            # Of what the compiler computed only fetches are left.
            if op not in self._folded or tensor in call.step.fetches:
                self._output(node, slot, tensor, span)
        self._memory(node, span, begin // 1000)

    def _device(self, op: Any) -> Any:
        name = self._call.session._placement.device_of(op)
        if name not in self._devices:
            self._devices[name] = self._stats.dev_stats.add(device=name)
        return self._devices[name]

    def _output(self, node: Any, slot: int, tensor: Any, span: Span) -> None:
        output = node.output.add(slot=slot)
        description = output.tensor_description
        dtype = tensor.dtype.base_dtype
        description.dtype = dtype.as_datatype_enum
        shape = self._shape(tensor)
        size = _HANDLE_BYTES if dtype.name == "resource" else dtype.itemsize or _STRING_BYTES
        if shape is None:
            description.shape.unknown_rank = True
        else:
            for extent in shape:
                description.shape.dim.add(size=-1 if extent is None else extent)
                size *= extent or 0
        allocation = description.allocation_description
        allocation.requested_bytes, allocation.allocator_name = size, ALLOCATOR
        if slot in span.stored:
            self._allocations += 1
            allocation.allocated_bytes, allocation.allocation_id = span.stored[slot], self._allocations

    def _memory(self, node: Any, span: Span, micros: int) -> None:
        """New memory that the op wrote to, and memory that outlives the step."""
        if span.stored:
            total = sum(span.stored.values())
            used = node.memory.add(allocator_name=ALLOCATOR, total_bytes=total, peak_bytes=total, live_bytes=total)
            for size in span.stored.values():
                used.allocation_records.add(alloc_micros=micros, alloc_bytes=size)
        node.memory_stats.SetInParent()
        if span.op.type == "Const" or span.op.type in _VARIABLES:
            kept = node.output[0].tensor_description.allocation_description.requested_bytes
            node.memory_stats.persistent_memory_size = kept

    def _shape(self, tensor: Any) -> list[int | None] | None:
        if tensor.dtype.base_dtype.name == "resource":
            return []
        type_ = self._call.pruned.type_of(tensor)
        if type_ is not None and -1 not in type_.dims:
            return [self._number(extent) for extent in type_.dims]
        if tensor in self._shapes:
            return [self._call.number(extent) for extent in self._shapes[tensor]]
        shape = _variable_shape(self._call, tensor.op) if tensor.dims is None else tensor.dims
        return None if shape is None else list(shape)

    def _number(self, extent: Any) -> int | None:
        known = self._births.get(str(extent))
        return _number(extent, self._call.extents | self._births) if known is None else known


def _number(extent: Any, values: Mapping[str, int]) -> int | None:
    try:
        return dims.evaluate(extent, values)
    except KeyError:
        return None


def _variable_shape(call: TracedCall, op: Any) -> tuple[int, ...] | None:
    """The shape now of a variable of any shape, given its op or one that returns it."""
    while op.type not in _VARIABLES and op.inputs:
        op = op.inputs[0].op
    for slot, variable in zip(call.manifest.slots, call.variant.executable.variables):
        if _op(call, slot.origin) is op and variable is not None:
            return variable.shape
    return None


def _births(call: TracedCall, shapes: Mapping[Any, tuple[str, ...]]) -> dict[str, int]:
    """Numbers of the extents born in mid-step, by the names that they have in the step as it was pruned.

    The program has other names for them, or knows their numbers.
    """
    found: dict[str, int] = {}
    for tensor, extents in shapes.items():
        type_ = call.pruned.type_of(tensor)
        if type_ is None or len(type_.dims) != len(extents):
            continue
        for here, there in zip(type_.dims, extents):
            number = call.number(there)
            if number is not None and not isinstance(here, int):
                found.setdefault(str(here), number)
    return found


def _program_shapes(call: TracedCall) -> dict[Any, tuple[str, ...]]:
    """The shapes that tensors have in the program: results of ops that Python runs, fetches, values in kernels."""
    found: dict[Any, tuple[str, ...]] = {}
    parts: dict[Any, tuple[str, ...]] = {}
    """Of ops that became other ops: the last shape that may be the result's."""
    manifest = call.manifest
    for host in manifest.hosts:
        op = _op(call, host.origin)
        if op is not None and op.type == host.op:
            found.update(zip(op.outputs, (out.dims for out in host.outputs)))
    for kernel in manifest.kernels:
        for origin, name, shape in zip(kernel.origins, kernel.ops, kernel.shapes):
            op = _op(call, origin)
            if op is None or not op.outputs:
                continue
            if op.type == name:
                found.setdefault(op.outputs[0], shape)
            elif _may_be(call.pruned.type_of(op.outputs[0]), shape):
                parts[op.outputs[0]] = shape
        for store in kernel.stores:
            op = _op(call, kernel.origins[store.op])
            if op is not None and op.type == kernel.ops[store.op] and store.output < len(op.outputs):
                found.setdefault(op.outputs[store.output], store.dims)
    for tensor, number in zip(call.step.fetches, manifest.fetches):
        found[tensor] = manifest.results[number].dims
    return parts | found


def _may_be(type_: Any, shape: Sequence[str]) -> bool:
    """Whether the shape has the rank and the known extents of the type."""
    return type_ is not None and len(type_.dims) == len(shape) and all(
        not isinstance(here, int) or str(here) == there for here, there in zip(type_.dims, shape)
    )


def _label(op: Any, folded: bool) -> str:
    """`name = OpType(input, other:1, ^control)`."""
    if folded:
        return f"{op.name} = Const()"
    inputs = [tensor.op.name + (f":{tensor.value_index}" if tensor.value_index else "") for tensor in op.inputs]
    inputs += [f"^{each.name}" for each in op.control_inputs]
    return f"{op.name} = {op.type}({', '.join(inputs)})"
