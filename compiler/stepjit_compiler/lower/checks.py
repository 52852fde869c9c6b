"""Checks of indices that data brings, made before a kernel reads or writes anything by them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import reduce

from stepjit_compiler import dims
from stepjit_compiler.dims import Extent
from stepjit_compiler.ir import Type
from stepjit_compiler.lower.builder import Builder, Value
from stepjit_compiler.lower.index import LoopVar
from stepjit_compiler.lower.kernel_code import Failure
from stepjit_compiler.lower.point import Point
from stepjit_compiler.lowering import Check
from stepjit_compiler.passes.early_checks import checks_of
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType


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
    type_ = point.step.type(node.inputs[check.indices])
    number = len(point.failures)
    columns = ((check.indices, check.bound), *check.columns)
    with point.scope():
        loop = b.begin_loop(b.int64(0), point.extent(dims.product(type_.dims)), 1)
        at = point.var(LoopVar(loop.index))
        values = [b.convert(point.element(node.inputs[k], at), dtypes.int64) for k, _ in columns]
        bounds = [point.extent(bound) for _, bound in columns]
        kind = dtypes.int64 if check.negatives else dtypes.uint64
        outside = [_reaches(b, value, bound, kind) for value, bound in zip(values, bounds, strict=True)]
        bad = reduce(b.or_, outside)
        more = _more(point, check, type_, values)
        message = check.message if type_.dims else check.message.replace("{place}", "")
        point.failures.append(Failure(message, node.origin, check.code, tuple(name for name, _ in more)))
        fail_if(b, bad, (b.int64(number), loop.index, values[0], bounds[0], *(value for _, value in more)))
        b.end_loop(loop)


def _reaches(b: Builder, value: Value, bound: Value, kind: DType) -> Value:
    """value >= bound; what is negative is beyond all bounds where both are taken for unsigned."""
    return b.compare("ge", Value(value.ref, kind), Value(bound.ref, kind))


def _more(point: Point, check: Check, indices: Type, values: Sequence[Value]) -> list[tuple[str, Value]]:
    """The numbers that the message needs beside the usual ones, by what they are for."""
    found: list[tuple[str, Value]] = []
    if "{place}" in check.message:
        found += [("place", point.extent(extent)) for extent in indices.dims[1:]]
    if "{row}" in check.message:
        found += [("row", value) for value in values]
    if "{shape}" in check.message:
        found += [("shape", point.extent(extent)) for extent in check.shape]
    if "{left}" in check.message:
        found += [("left", point.b.sub(point.extent(check.shape[0]), values[0]))]
    return found


def fail_if(b: Builder, condition: Value, status: Sequence[Value]) -> None:
    """Return from the kernel with a failure where the condition holds; `status` are the numbers that tell it."""
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
