"""Kernels and memory plans as text, for dumps, golden files and people."""

from __future__ import annotations

from collections.abc import Sequence

from stepjit_compiler.ir import Ref, Step
from stepjit_compiler.plan import Kernel, Plan
from stepjit_compiler.regions import regions_of


def kernels_text(step: Step, kernels: Sequence[Kernel]) -> str:
    """One paragraph a kernel: what it is, what it reads, computes and stores."""
    lines = []
    for number, kernel in enumerate(kernels):
        space = ",".join(map(str, kernel.space))
        reduced = "" if kernel.axes is None else f" reduce {list(kernel.axes)}"
        lines.append(f"k{number} {kernel.kind} [{space}]{reduced}")
        lines.append(f"  reads  {_refs(kernel.inputs)}")
        lines.extend(f"  %{i} = {step.nodes[i].op} {_refs(step.nodes[i].inputs)}" for i in kernel.nodes)
        lines.append(f"  stores {_refs(kernel.outputs)}")
    return "\n".join(lines) + "\n"


def plan_text(plan: Plan) -> str:
    """Every stored value with its buffer, then the arena and what is copied at the end."""
    lines = []
    for ref, type_ in plan.step.refs():
        buffer = plan.buffers.get(ref)
        if buffer is not None:
            lines.append(f"{_refs([ref])} {type_} in {buffer.kind} {buffer.number}")
    for number, area in enumerate(plan.areas):
        lines.append(f"area {number}: {area.bytes} bytes at {area.offset}")
    lines.extend(f"late area {len(plan.areas) + k}: {size} bytes" for k, size in enumerate(plan.late))
    lines.append(f"arena: {plan.arena_bytes} bytes")
    lines.extend(f"copy {_refs([ref])} to {buffer.kind} {buffer.number}" for ref, buffer in plan.copies)
    for node, regions in plan.regions.items():
        for region, (name, _) in zip(regions, _in_order(plan.step, node), strict=True):
            text = kernels_text(region.step, region.kernels) + plan_text(region)
            lines += [f"{name} of %{node}:", *("  " + line for line in text.splitlines())]
    return "\n".join(lines) + "\n"


def _in_order(step: Step, node: int) -> list[tuple[str, Step]]:
    """The regions as plans have them: what runs first comes first."""
    order = ("then", "else", "cond", "body")
    return sorted(regions_of(step.nodes[node]), key=lambda each: order.index(each[0]))


def _refs(refs: Sequence[Ref]) -> str:
    return " ".join(f"%{ref.node}" + (f":{ref.output}" if ref.output else "") for ref in refs)
