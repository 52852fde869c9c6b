"""How much a kernel has to do, for reports: floating-point operations, estimated work, and bytes that it must move.

Floating-point operations are counted from the ops' definitions: a matrix product of m x k by k x n is 2 m n k, a
reduction one per element that it takes in, an elementwise op one per element of its result; an elementary function
(exp, tanh, 1/sqrt) counts as the arithmetic instructions that its definition gives as `cost`. Moving and converting
values, and arithmetic of integers, count nothing. All numbers are extents: ints, or expressions of the step's symbols.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from stepjit_compiler import dims, opdef
from stepjit_compiler.dims import Extent
from stepjit_compiler.ir import Node, Ref, Step
from stepjit_compiler.lowering import Alias, Assemble, Contraction, Elementwise, Indexed, Reduction, Scatter
from stepjit_compiler.passes.fuse import root_of
from stepjit_compiler.plan import Kernel

ELEMENTARY = 8.0
"""From this cost on an elementwise op counts as its cost rather than as one operation."""

REGIONS = ("if", "while")
"""Kernels of which only the kernels in them read and write."""

MOVES = frozenset({"Bitcast", "Cast", "OnesLike", "Select", "SelectV2", "Where", "ZerosLike", "_Copy"})
"""Elementwise ops that compute nothing."""


def flops(step: Step, node: Node) -> Extent:
    """Floating-point operations of one node."""
    op = opdef.lookup(node.op)
    ins = [step.type(ref) for ref in node.inputs]
    if op is None or not any(type_.dtype.is_floating or type_.dtype.is_complex for type_ in (*ins, *node.types)):
        return 0
    special = _SPECIAL.get(node.op)
    if special is not None:
        return special(step, node)
    lower = op.lower
    if isinstance(lower, Contraction):
        return _product(step, node)
    if isinstance(lower, Reduction):
        return ins[0].size
    if isinstance(lower, Scatter):
        return ins[-1].size
    if isinstance(lower, Elementwise) and node.op not in MOVES:
        each = round(lower.cost) if lower.cost >= ELEMENTARY else min(1, round(lower.cost))
        return node.types[0].size * each
    return 0


def work(step: Step, node: Node) -> Extent:
    """Arithmetic instructions and moves of one node, roughly: what a kernel's time is shared out by."""
    op = opdef.lookup(node.op)
    lower = op.lower if op is not None else None
    if isinstance(lower, Alias) or not node.types:
        return 0
    if isinstance(lower, Elementwise):
        return node.types[0].size * max(1, round(lower.cost))
    moved: Extent = sum((type_.size for type_ in node.types), start=0)
    return moved + flops(step, node)


def bytes_read(step: Step, kernel: Kernel, loaded: Container[object] | None = None) -> Extent:
    """Bytes of the kernel's inputs; of one that is only looked into at computed places, no more than is taken.

    loaded: the values that its code has pointers to; others were known when it was compiled.
    """
    total: Extent = 0
    for ref in kernel.inputs if kernel.kind not in REGIONS else ():
        if loaded is None or root_of(step, ref) in loaded:
            total = total + _taken(step, kernel, ref)
    return total


def bytes_written(step: Step, kernel: Kernel) -> Extent:
    """Bytes of the values that the kernel stores; of rows changed in place, those of the rows."""
    total: Extent = 0
    for ref in kernel.outputs if kernel.kind not in REGIONS else ():
        node = step.nodes[ref.node]
        op = opdef.lookup(node.op)
        rows = kernel.kind == "scatter" and op is not None and isinstance(op.lower, Scatter)
        total = total + (step.type(node.inputs[-1]) if rows else step.type(ref)).bytes
    return total


def _taken(step: Step, kernel: Kernel, ref: Ref) -> Extent:
    type_ = step.type(ref)
    if kernel.kind == "scatter":
        node = step.nodes[kernel.nodes[-1]]
        return step.type(node.inputs[-1]).bytes if node.inputs and ref == node.inputs[0] else type_.bytes
    readers = [step.nodes[i] for i in kernel.nodes if ref in step.nodes[i].inputs]
    picked: Extent = 0
    for node in readers:
        op = opdef.lookup(node.op)
        if kernel.kind == "host" or op is None or not isinstance(op.lower, (Indexed, Assemble)):
            return type_.bytes
        if ref != node.inputs[0]:
            return type_.bytes
        picked = picked + node.types[0].size * type_.dtype.size
    return dims.minimum(type_.bytes, picked) if readers else type_.bytes


def _product(step: Step, node: Node) -> Extent:
    """2 m n k, for each matrix of a batch: twice the result's elements times the axis that is summed over."""
    op = opdef.lookup(node.op)
    a = step.type(node.inputs[0]).dims
    if op is None or not isinstance(op.lower, Contraction) or len(a) < 2:
        return 0
    attr = node.attr
    flipped = attr.get("transpose_a") or attr.get("adj_x")
    return 2 * node.types[0].size * (a[-2] if flipped else a[-1])


def _sums(step: Step, node: Node) -> Extent:
    return node.types[0].size * max(0, len(node.inputs) - 1)


def _convolution(step: Step, node: Node) -> Extent:
    """2 x elements of the result x filter elements that each takes in."""
    result, taps = node.types[0], step.type(node.inputs[1]).dims
    return 2 * result.size * dims.product(taps[:-1])


def _filter_gradient(step: Step, node: Node) -> Extent:
    """2 x elements of the gradient x the filter's places and channels."""
    return 2 * step.type(node.inputs[1]).size * dims.product(node.types[0].dims[:-1])


_SPECIAL: dict[str, Callable[[Step, Node], Extent]] = {
    "AddN": _sums,
    "Conv2D": _convolution,
    "Conv3D": _convolution,
    "_Conv": _convolution,
    "_ConvFilter": _filter_gradient,
}
"""Ops whose count their lowering does not tell."""
