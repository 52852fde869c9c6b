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


# --- steps that several files test with ---

A, B, C = Ref(0, 0), Ref(1, 0), Ref(2, 0)
INCREMENT = """  %a = getelementptr float, ptr %p0, i64 %i
  %av = load float, ptr %a
  %r = fadd float %av, 1.0
  %o = getelementptr float, ptr %p1, i64 %i
  store float %r, ptr %o"""


def ramp(*extents: int) -> np.ndarray:
    return np.arange(np.prod(extents, dtype=int), dtype=np.float32).reshape(extents) + 1


def scalar_step(dtype: dtypes.DType) -> Any:
    type_ = Type(dtype, ())
    plan = plan_of([feed(0, type_)], [], {A: Buffer("feed", 0)}, [A], copies=[(A, Buffer("output", 0))])
    return callable_of(executable(plan, []))


def failing(cost: int = 0) -> Any:
    """f32[s] a + 1, but fails as number 2 of the step when the first element is negative."""
    size = dims.symbol("s0_0")
    type_ = Type(f32, (size,))
    nodes = [feed(0, type_), node("Inc", [A], type_), node("Inc", [B], type_)]
    buffers = {A: Buffer("feed", 0), B: Buffer("arena", 0), C: Buffer("output", 0)}
    text = """define internal i1 @k1(ptr %status, ptr %p0, ptr %p1, i64 %n) {
  %x = load float, ptr %p0
  %bad = fcmp olt float %x, 0.0
  br i1 %bad, label %no, label %yes
no:
  store i64 1, ptr %status
  %s1 = getelementptr i64, ptr %status, i64 1
  store i64 7, ptr %s1
  %s2 = getelementptr i64, ptr %status, i64 2
  store i64 -8, ptr %s2
  %s3 = getelementptr i64, ptr %status, i64 3
  store i64 %n, ptr %s3
  ret i1 true
yes:
  store float %x, ptr %p1
  ret i1 false
}
"""
    first = loop("k0", INCREMENT, 2, size, (A, B), cost=cost)
    quiet = first.text.replace("define internal void", "define internal i1").replace(
        "(ptr %p0", "(ptr %status, ptr %p0"
    )
    codes = [
        KernelCode(
            "k0", quiet.replace("ret void", "ret i1 false"), first.params, failures=(Failure("zero", 1),), cost=cost
        ),
        KernelCode("k1", text, (B, C, size), failures=(Failure("one", 2), Failure("two", 2))),
    ]
    bytes_ = (size * 4 + 63) // 64 * 64
    kernels = [Kernel("loop", (1,), (A,), (B,)), Kernel("loop", (2,), (B,), (C,))]
    return executable(plan_of(nodes, kernels, buffers, [C], areas=(Area(bytes_, 0),), arena_bytes=bytes_), codes)


def accumulate(cost: int = 10) -> Any:
    """variable += feed; returns the new value."""
    type_ = Type(f32, (8,))
    nodes = [feed(0, type_), read(0, type_), node("Add", [A, B], type_)]
    buffers = {A: Buffer("feed", 0), B: Buffer("slot", 0), C: Buffer("slot", 0)}
    kernel = Kernel("loop", (2,), (A, B), (C,))
    code = loop("k0", ADD, 3, 8, (A, B, C), cost)
    return plan_of(
        nodes, [kernel], buffers, [C], writes=[(0, C)], slots=[Slot("variable", type_, 1)],
        copies=[(C, Buffer("output", 0))],
    ), [code]  # fmt: skip


def host_plan(in_types: list[Type], out_types: list[Type]) -> tuple[Any, list[Ref]]:
    """One host op over feeds; all outputs are fetched."""
    feeds = [feed(k, t) for k, t in enumerate(in_types)]
    n = len(feeds)
    op = node("Host", [Ref(k, 0) for k in range(n)], *out_types, host=True)
    results = [Ref(n, k) for k in range(len(out_types))]
    buffers = {Ref(k, 0): Buffer("feed", k) for k in range(n)} | {r: Buffer("host", k) for k, r in enumerate(results)}
    kernel = Kernel("host", (n,), tuple(Ref(k, 0) for k in range(n)), tuple(results))
    return plan_of([*feeds, op], [kernel], buffers, results, host_results=tuple(results)), results


__all__ = [
    "ADD",
    "INCREMENT",
    "MULTIPLY_ADD",
    "A",
    "Area",
    "B",
    "Buffer",
    "C",
    "Check",
    "Failure",
    "Kernel",
    "KernelCode",
    "KernelFailed",
    "Layout",
    "Ref",
    "Refused",
    "Resources",
    "Slot",
    "StepCallable",
    "Type",
    "accumulate",
    "callable_of",
    "const",
    "executable",
    "fail",
    "failing",
    "feed",
    "host_plan",
    "loop",
    "multiply_add",
    "node",
    "plan_of",
    "program",
    "ramp",
    "read",
    "refuse",
    "scalar_step",
    "shape",
]  # fmt: skip
