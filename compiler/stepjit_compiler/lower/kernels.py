"""lower: every kernel of a plan to an internal IR function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from stepjit_compiler import dims, opdef
from stepjit_compiler.dims import Dim, Extent
from stepjit_compiler.lower.checks import emit_assumptions, emit_checks
from stepjit_compiler.lower.convolutions import emit_convolution, emit_filter, is_convolution
from stepjit_compiler.lower.distinct import emit_distinct
from stepjit_compiler.lower.hits import emit_hits
from stepjit_compiler.lower.kernel_code import KernelCode, Stream
from stepjit_compiler.lower.loops import LoopNest
from stepjit_compiler.lower.moves import emit_assemble, emit_scatter
from stepjit_compiler.lower.point import Point
from stepjit_compiler.lower.products import emit_blas_product, emit_generated_product
from stepjit_compiler.lower.random_kernels import emit_random
from stepjit_compiler.lower.small_matrices import emit_matrices
from stepjit_compiler.lowering import Convolution, Elementwise, Generate, Indexed
from stepjit_compiler.passes.fuse import reader_of
from stepjit_compiler.plan import Kernel, Plan
from stepjit_compiler.step_builder import StepBuilder

ELEMENTS_PER_NS = 8
"""Simple operations per nanosecond, for estimates of cost."""
INLINE_LINES = 200
"""Kernels of regions up to this length become part of the code around them."""


def lower(plan: Plan) -> tuple[KernelCode, ...]:
    """The plan's kernels as IR functions, in order; kernels that Python runs have none and are left out."""
    readers = {id(each): reader_of(each.step) for each in plan.plans()}
    return tuple(
        _lower_kernel(each, kernel, number, readers[id(each)], inline=each is not plan)
        for number, (each, kernel) in enumerate(plan.walk())
        if kernel.kind != "host"
    )


def _lower_kernel(plan: Plan, kernel: Kernel, number: int, reader: StepBuilder, inline: bool) -> KernelCode:
    point = Point(plan, kernel, reader)
    emit_checks(point)
    scratch = _EMIT[kernel.kind](point)
    return _function(point, f"k{number}_{_identifier(kernel.name)}", scratch, _cost(plan, kernel), inline)


def _emit_loop(point: Point) -> Extent:
    nest = LoopNest(point)
    nest.emit()
    return nest.scratch


def _emit_split(point: Point) -> Extent:
    """An op with outputs of different shapes: a nest for each."""
    whole = point.kernel
    for ref in whole.outputs:
        space = point.step.type(ref).dims
        maps = ((ref.node, tuple(range(len(space)))),)
        point.kernel = replace(whole, space=space, maps=maps, outputs=(ref,))
        with point.scope():
            LoopNest(point).emit()
    point.kernel = whole
    return 0


_EMIT: dict[str, Callable[[Point], Extent]] = {
    "loop": _emit_loop,
    "split": _emit_split,
    "product": lambda point: (emit_convolution if is_convolution(point) else emit_generated_product)(point),
    "filter": emit_filter,
    "blas": emit_blas_product,
    "assemble": emit_assemble,
    "scatter": emit_scatter,
    "random": emit_random,
    "matrices": emit_matrices,
    "distinct": emit_distinct,
    "hits": emit_hits,
    "born": _emit_split,
    "check": lambda point: 0,
    "assume": emit_assumptions,
}


def _function(point: Point, symbol: str, scratch: Extent, cost: Extent, inline: bool) -> KernelCode:
    written = {point.plan.buffers[ref] for ref in point.kernel.outputs}
    params = ["ptr noalias %status"] if point.failures else []
    for key, value in point.params.items():
        if isinstance(key, Dim):
            params.append(f"i64 {value.ref}")
        elif isinstance(key, Stream):
            params.append(f"ptr {value.ref}")
        else:
            params.append(f"ptr noalias {'' if key in written else 'readonly '}{value.ref}")
    if scratch != 0:
        params.append("ptr noalias %scratch")
    if point.failures:
        point.b.raw("ret i1 false")
    else:
        point.b.raw("ret void")
    kind = "i1" if point.failures else "void"
    # In a loop, what stays in registers from kernel to kernel is worth more than a call.
    inlined = " alwaysinline" if inline and len(point.b.lines) <= INLINE_LINES else ""
    head = f"define internal {kind} @{symbol}({', '.join(params)}) nounwind{inlined} {{\nentry:\n"
    text = head + "\n".join([*point.allocas, *point.b.lines]) + "\n}\n"
    declarations = frozenset(point.b.intrinsics) | frozenset(getattr(point.b, "externals", ()))
    return KernelCode(symbol, text, tuple(point.param_refs), declarations, tuple(point.failures), cost, scratch)


def _cost(plan: Plan, kernel: Kernel) -> Extent:
    """Nanoseconds, roughly."""
    step = plan.step
    work: Extent = 0
    for i in kernel.nodes:
        node = step.nodes[i]
        op = opdef.lookup(node.op)
        lower_ = op.lower if op else None
        each = lower_.cost if isinstance(lower_, (Elementwise, Indexed, Generate)) else 1.0
        if isinstance(lower_, Convolution):
            grad = step.type(node.inputs[1]) if lower_.of_filter else node.types[0]
            weights = node.types[0] if lower_.of_filter else step.type(node.inputs[1])
            work = work + grad.size * (weights.size // weights.dims[-1]) // 2
        elif kernel.kind in ("product", "blas") and i == kernel.nodes[0]:
            inner = step.type(node.inputs[0]).size
            columns = node.types[0].dims[-1]
            work = work + inner * columns // 2
        elif kernel.kind == "matrices":
            matrices = step.type(node.inputs[0]).dims
            work = work + dims.product(matrices) * matrices[-1]
        elif kernel.kind == "loop":
            work = work + dims.product(kernel.space) * max(int(each), 1)
        else:
            work = work + sum((type_.size for type_ in node.types), start=0) * max(int(each), 1)
    return 5 + work // ELEMENTS_PER_NS


def _identifier(name: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in name)[:48]


