"""Checks of indices that data brings, made before a kernel reads or writes anything by them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from stepjit_compiler import dims
from stepjit_compiler.dims import Extent
from stepjit_compiler.lower.builder import Builder, Value
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
        fail_if(b, outside, (b.int64(number), loop.index, value, bound))
        b.end_loop(loop)


def fail_if(b: Builder, condition: Value, status: Sequence[Value]) -> None:
    """Return from the kernel with a failure where the condition holds; `status` are the four numbers that tell it."""
    bad, good = b.label("bad"), b.label("good")
    b.branch_if(condition, bad, good, unlikely=True)
    b.start(bad)
    for k, part in enumerate(status):
        b.store(part, b.offset(Value("%status", None), dtypes.int64, b.int64(k)))
    b.raw("ret i1 true")
    b.start(good)


def emit_assumptions(point: Point) -> Extent:
    """A region's checks of extents: return with a failure where one does not hold."""
    b = point.b
    for check in point.step.checks:
        message, shown = _with_places(check.message)
        number = len(point.failures)
        point.failures.append(Failure(message, check.origin))
        a, c = point.extent(check.a), point.extent(check.b)
        if check.holds == "divides":
            zero = b.int64(0)
            divisor = b.select(b.compare("eq", c, zero), b.int64(1), c)
            fails = b.or_(b.compare("ne", b.rem(a, divisor), zero), b.compare("eq", c, zero))
        else:
            fails = b.compare("ne" if check.holds == "eq" else "lt", a, c)
        told = [point.extent(extent) for extent in shown] + [b.int64(0)] * (3 - len(shown))
        fail_if(b, fails, (b.int64(number), *told))
    return 0


def _with_places(message: str) -> tuple[str, list[Extent]]:
    """The message with its first three extents as the numbers that a failure carries, and these extents."""
    shown: list[Extent] = []

    def place(match: re.Match[str]) -> str:
        extent = dims.parse(match[1])
        if extent not in shown:
            shown.append(extent)
        at = shown.index(extent)
        return ("{at}", "{value}", "{bound}")[at] if at < 3 else "?"

    return re.sub(r"\{([^{}]+)\}", place, message), shown[:3]
