"""Steps put together by hand, with kernels written as IR text, for the tests of what runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepjit_compiler import dims, native
from stepjit_compiler.ir import Check, Literal, Node, Ref, Slot, Step, Type
from stepjit_compiler.lower.entry import emit_entry
from stepjit_compiler.lower.kernel_code import Failure, KernelCode
from stepjit_compiler.lower.manifest import manifest_of
from stepjit_compiler.plan import Area, Buffer, Kernel, Plan
from stepjit_runtime import abi, dtypes
from stepjit_runtime.executable import Executable, Layout, Program
from stepjit_runtime.link import link
from stepjit_runtime.resources import Resources
from stepjit_runtime.step_callable import StepCallable

f32, f64, i32, i64, bool_ = dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64, dtypes.bool_


def shape(*extents: Any) -> tuple[Any, ...]:
    return tuple(dims.parse(e) if isinstance(e, str) else e for e in extents)


def feed(index: int, type_: Type) -> Node:
    return Node("_Feed", (), (("index", index),), (type_,))


def read(slot: int, type_: Type) -> Node:
    return Node("_Read", (), (("slot", slot),), (type_,))


def const(value: np.ndarray, dtype: dtypes.DType) -> Node:
    return Node("Const", (), (("dtype", dtype), ("value", Literal(value))), (Type(dtype, value.shape),))


def node(op: str, inputs: Sequence[Ref], *types: Type, host: bool = False) -> Node:
    return Node(op, tuple(inputs), (), types, host=host)


def loop(symbol: str, body: str, pointers: int, size: Any, params: Sequence[Any], cost: Any = 10) -> KernelCode:
    """A kernel that runs `body` for %i below its last parameter; pointers are %p0, %p1, ..."""
    args = ", ".join([f"ptr %p{k}" for k in range(pointers)] + ["i64 %n"] * (not isinstance(size, int)))
    n = size if isinstance(size, int) else "%n"
    text = f"""define internal void @{symbol}({args}) {{
entry:
  %any = icmp sgt i64 {n}, 0
  br i1 %any, label %loop, label %done
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %loop ]
{body}
  %i1 = add i64 %i, 1
  %end = icmp eq i64 %i1, {n}
  br i1 %end, label %done, label %loop
done:
  ret void
}}
"""
    return KernelCode(symbol, text, (*params, *(() if isinstance(size, int) else (size,))), cost=cost)


MULTIPLY_ADD = """  %a = getelementptr float, ptr %p0, i64 %i
  %av = load float, ptr %a
  %b = getelementptr float, ptr %p1, i64 %i
  %bv = load float, ptr %b
  %m = fmul contract float %av, %bv
  %r = fadd contract float %m, %av
  %o = getelementptr float, ptr %p2, i64 %i
  store float %r, ptr %o"""

ADD = MULTIPLY_ADD.replace("fmul contract float %av, %bv", "fadd float %bv, 0.0")


def plan_of(
    nodes: Sequence[Node],
    kernels: Sequence[Kernel],
    buffers: dict[Ref, Buffer],
    fetches: Sequence[Ref],
    **more: Any,
) -> Plan:
    """A plan; feeds follow from the `_Feed` nodes."""
    feeds = sorted((n.attr["index"], n.types[0]) for n in nodes if n.op == "_Feed")
    step = Step(
        tuple(nodes), tuple(t for _, t in feeds), tuple(fetches), writes=tuple(more.pop("writes", ())),
        slots=tuple(more.pop("slots", ())), checks=tuple(more.pop("checks", ())),
    )  # fmt: skip
    full = {
        "areas": (), "arena_bytes": 0, "late": (), "outputs": tuple(dict.fromkeys(fetches)), "constants": (),
        "copies": (), "host_results": (),
    }  # fmt: skip
    return Plan(step, tuple(kernels), buffers, **{**full, **more})


class Refused(Exception):
    """Native code did not take a call: the reason's code and number."""

    def __init__(self, reason: int, args: tuple[Any, ...], names: Any) -> None:
        super().__init__(reason & 255, reason >> 8)
        self.code, self.number, self.values, self.names = reason & 255, reason >> 8, args, names


def refuse(reason: int, args: tuple[Any, ...], names: Any) -> Any:
    raise Refused(reason, args, names)


class KernelFailed(Exception):
    """What `fail` of these tests raises: (failure, at, value, bound)."""


def fail(*numbers: int) -> Any:
    raise KernelFailed(*numbers)


def program(plan: Plan, codes: Sequence[KernelCode]) -> Program:
    text = emit_entry(plan, codes)
    return Program(native.compile_module(text), manifest_of(plan, codes, text))


def executable(
    plan: Plan, codes: Sequence[KernelCode], resources: Resources | None = None, variables: Sequence[Any] = ()
) -> Executable:
    made = program(plan, codes)
    linked = link(made.object_code, made.manifest.imports)
    return Executable(linked, made.manifest, resources or Resources(), variables)


def callable_of(
    *executables: Executable,
    slow: Callable[..., Any] = refuse,
    hosts: Sequence[Any] = (),
    layout: Layout | None = None,
) -> StepCallable:
    step = StepCallable(slow)
    for each in executables:
        single = layout or Layout(abi.PACK_SINGLE, (0,))
        step.attach(each.context(slow, fail, hosts, single))
    return step


def multiply_add(*extents: Any, cost: Any = 10) -> tuple[Plan, list[KernelCode]]:
    """f32 a * b + a over feeds of those extents (symbols of the second feed are its own)."""
    a = Type(f32, shape(*(f"s0_{k}" if e is None else e for k, e in enumerate(extents))))
    b = Type(f32, shape(*(f"s1_{k}" if e is None else e for k, e in enumerate(extents))))
    nodes = [feed(0, a), feed(1, b), node("MulAdd", [Ref(0, 0), Ref(1, 0)], a)]
    refs = (Ref(0, 0), Ref(1, 0), Ref(2, 0))
    buffers = {refs[0]: Buffer("feed", 0), refs[1]: Buffer("feed", 1), refs[2]: Buffer("output", 0)}
    checks = [
        Check("eq", x, y, "Incompatible shapes", 2)
        for x, y in zip(a.dims, b.dims, strict=True)
        if not isinstance(x, int)
    ]
    kernel = Kernel("loop", (2,), refs[:2], refs[2:])
    code = loop("k0", MULTIPLY_ADD, 3, a.size, refs, cost)
    return plan_of(nodes, [kernel], buffers, [refs[2]], checks=checks), [code]


__all__ = [
    "ADD", "MULTIPLY_ADD", "Area", "Buffer", "Check", "Failure", "Kernel", "KernelCode", "KernelFailed", "Layout", "Ref",
    "Refused", "Resources", "Slot", "StepCallable", "Type", "callable_of", "const", "executable", "fail", "feed",
    "loop", "multiply_add", "node", "plan_of", "program", "read", "refuse", "shape",
]  # fmt: skip
