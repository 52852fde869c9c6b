"""The manifest of a lowered step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from stepjit_compiler import work
from stepjit_compiler.dims import Extent
from stepjit_compiler.ir import Literal, Node, Ref, Step, Type
from stepjit_compiler.lower.entry_module import imports
from stepjit_compiler.lower.kernel_code import KernelCode
from stepjit_compiler.plan import Kernel, Plan
from stepjit_compiler.step_text import literals, to_text
from stepjit_runtime.manifest import CheckText, FailureText, HostOp, KernelText, Manifest, SlotText, StoreText, TypeText


def manifest_of(plan: Plan, kernels: Sequence[KernelCode], text: str, traced: bool = False) -> Manifest:
    """What the program of a plan says about itself; `text` is the module's IR, `kernels` as given to `emit_entry`."""
    step = plan.step
    reads = {node.attr["slot"] for node in step.nodes if node.op == "_Read"}
    writes = {slot for slot, _ in step.writes}
    cost: Extent = 0
    for code in kernels:
        cost = cost + code.cost
    counts = Counter(kernel.kind for kernel in plan.kernels)
    return Manifest(
        feeds=tuple(_type(type_) for type_ in step.feeds),
        results=tuple(_type(step.type(ref)) for ref in plan.outputs),
        fetches=tuple(range(len(plan.outputs))),
        slots=tuple(
            SlotText(slot.kind, slot.type.dtype.name, _dims(slot.type), slot.origin, k in reads, k in writes)
            for k, slot in enumerate(step.slots)
        ),
        constants=tuple(_constant(each.step.nodes[ref.node]) for each in plan.plans() for ref in each.constants),
        imports=tuple(imports(text)),
        checks=tuple(CheckText(c.holds, str(c.a), str(c.b), c.message, c.origin) for c in step.checks),
        failures=tuple(FailureText(f.message, f.origin, f.code, f.more) for code in kernels for f in code.failures),
        hosts=tuple(
            _host(each, each.step.nodes[kernel.nodes[0]]) for each, kernel in plan.walk() if kernel.kind == "host"
        ),
        arena=str(plan.arena_bytes),
        cost=str(cost),
        counts={"nodes": len(step.nodes), **{f"kernels.{kind}": n for kind, n in sorted(counts.items())}},
        kernels=_kernels(plan, kernels),
        stacks=sum(1 for _ in plan.stacks()),
        traced=traced,
    )  # fmt: skip


def _kernels(plan: Plan, codes: Sequence[KernelCode]) -> tuple[KernelText, ...]:
    native = (kernel for _, kernel in plan.walk() if kernel.kind != "host")
    own = {id(kernel): code for kernel, code in zip(native, codes, strict=True)}
    first = dict(zip(map(id, plan.plans()), accumulate((len(each.step.nodes) for each in plan.plans()), initial=0)))
    return tuple(
        _kernel(each, kernel, own.get(id(kernel)), _cost(each, kernel, own), first[id(each)], depth)
        for depth, each, kernel in plan.nested()
    )


def _cost(plan: Plan, kernel: Kernel, codes: Mapping[int, KernelCode]) -> str:
    """Nanoseconds; of a loop, those of one trip; nothing is known of Python's."""
    if kernel.kind not in ("if", "while"):
        return str(codes[id(kernel)].cost) if id(kernel) in codes else ""
    inner = [each for region in plan.regions[kernel.nodes[0]] for _, each in region.walk()]
    return str(sum((codes[id(each)].cost for each in inner if id(each) in codes), start=0))


def _kernel(
    plan: Plan, kernel: Kernel, code: KernelCode | None, cost: str, first_node: int, depth: int
) -> KernelText:
    nodes = [plan.step.nodes[i] for i in kernel.nodes]
    types = [plan.step.type(ref) for ref in kernel.outputs] or [type_ for node in nodes for type_ in node.types]
    space = kernel.space or (types[0].dims if types else ())
    ops, origins = tuple(node.op for node in nodes), tuple(node.origin for node in nodes)
    return KernelText(
        kernel.kind,
        ops,
        origins,
        tuple(map(str, space)),
        cost,
        kernel.name,
        flops=tuple(str(work.flops(plan.step, node)) for node in nodes),
        work=tuple(str(work.work(plan.step, node)) for node in nodes),
        stores=tuple(_store(plan, kernel, ref) for ref in kernel.outputs if ref.node in kernel.nodes),
        reads=str(work.bytes_read(plan.step, kernel, None if code is None else code.params)),
        writes=str(work.bytes_written(plan.step, kernel)),
        nodes=tuple(first_node + i for i in kernel.nodes),
        depth=depth,
        shapes=tuple(_dims(node.types[0]) if node.types else () for node in nodes),
    )


def _store(plan: Plan, kernel: Kernel, ref: Ref) -> StoreText:
    type_, buffer = plan.step.type(ref), plan.buffers.get(ref)
    kind = buffer.kind if buffer is not None else ""
    return StoreText(kernel.nodes.index(ref.node), ref.output, type_.dtype.name, _dims(type_), kind)


def _type(type_: Type) -> TypeText:
    return TypeText(type_.dtype.name, _dims(type_))


def _dims(type_: Type) -> tuple[str, ...]:
    return tuple(map(str, type_.dims))


def _constant(node: Node) -> np.ndarray:
    value = node.attr["value"]
    return value.array if isinstance(value, Literal) else np.asarray(value)


def _attr(value: Any) -> Any:
    if isinstance(value, Step):
        return {"text": to_text(value), "literals": literals(value)}
    return value.array if isinstance(value, Literal) else value


def _host(plan: Plan, node: Node) -> HostOp:
    attrs = {name: _attr(value) for name, value in node.attrs}
    inputs = tuple(_type(plan.step.type(ref)) for ref in node.inputs)
    return HostOp(node.op, attrs, inputs, tuple(map(_type, node.types)), node.origin)
