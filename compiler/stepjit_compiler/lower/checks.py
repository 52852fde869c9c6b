"""Checks of indices that data brings, made before a kernel reads or writes anything by them."""

from __future__ import annotations

from stepjit_compiler import dims
from stepjit_compiler.lower.builder import Value
from stepjit_compiler.lower.index import LoopVar
from stepjit_compiler.lower.kernel_code import Failure
from stepjit_compiler.lower.point import Point
from stepjit_compiler.lowering import Check
from stepjit_compiler.passes.early_checks import checks_of
from stepjit_runtime import dtypes


def emit_checks(point: Point) -> None:
    """For every op of the kernel that is indexed by data: return with a failure at the first bad index."""
    kernels = point.plan.kernels
    earlier = {i for kernel in kernels if kernel.kind == "check" and kernel is not point.kernel for i in kernel.nodes}
    for i in point.kernel.nodes:
        if i not in earlier:
            for check in checks_of(point.step, point.reader, i):
                _emit_check(point, i, check)


def _emit_check(point: Point, i: int, check: Check) -> None:
    b, node = point.b, point.step.nodes[i]
    ref = node.inputs[check.indices]
    type_ = point.step.type(ref)
    number = len(point.failures)
    point.failures.append(Failure(check.message, node.origin, check.code))
    bound = point.extent(check.bound)
    size = dims.product(type_.dims)
    with point.scope():
        loop = b.begin_loop(b.int64(0), point.extent(size), 1)
        value = b.convert(point.element(ref, point.var(LoopVar(loop.index))), dtypes.int64)
        unsigned = Value(value.ref, dtypes.uint64)
        outside = b.compare("ge", unsigned, Value(bound.ref, dtypes.uint64))
        bad, good = b.label("bad"), b.label("good")
        b.branch_if(outside, bad, good, unlikely=True)
        b.start(bad)
        for k, part in enumerate((b.int64(number), loop.index, value, bound)):
            b.store(part, b.offset(Value("%status", None), dtypes.int64, b.int64(k)))
        b.raw("ret i1 true")
        b.start(good)
        b.end_loop(loop)
