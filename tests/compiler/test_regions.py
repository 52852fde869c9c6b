"""Branches and loops: native code, Python's driving and the interpreter agree; what is written where, and what fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import Golden, golden_files, golden_input
from native_steps import Refused
from step_tools import outcome

from stepjit.session.host import host_function
from stepjit_compiler import dims, step_builder
from stepjit_compiler.compile import compile_step
from stepjit_compiler.interpret import interpret
from stepjit_compiler.ir import Ref, Step, Type
from stepjit_compiler.options import options
from stepjit_compiler.passes.analyse import analyse
from stepjit_compiler.passes.fuse import fuse
from stepjit_compiler.passes.plan_memory import plan_memory
from stepjit_compiler.passes.plan_regions import plan_regions
from stepjit_compiler.pipeline import simplified
from stepjit_compiler.plan_text import plan_text
from stepjit_compiler.step_builder import StepBuilder
from stepjit_compiler.step_text import literals, parse, to_text
from stepjit_compiler.verify import VerifyError, verify
from stepjit_compiler.verify_plan import verify_plan
from stepjit_runtime import dtypes, errors
from stepjit_runtime.cancellation import TimeLimit
from stepjit_runtime.errors import OpError
from stepjit_runtime.executable import Executable
from stepjit_runtime.manifest import Manifest
from stepjit_runtime.resources import Resources
from stepjit_runtime.step_callable import StepCallable

f32, i32, i64 = dtypes.float32, dtypes.int32, dtypes.int64
N = dims.symbol("s0_0")

Make = Callable[..., Any]


# --- Steps by hand ---


def region(types: Sequence[Type], make: Make, origin: int = -1) -> Step:
    """A step over parameters of those types that gives what `make(builder, *parameters)` returns."""
    b = StepBuilder(types)
    b.origin = origin
    found = make(b, *(b.feed(k) for k in range(len(types))))
    return b.finish([found] if isinstance(found, Ref) else list(found))


def if_(b: StepBuilder, condition: Ref, values: Sequence[Ref], then: Make, other: Make) -> tuple[Ref, ...]:
    types = [b.type(ref) for ref in values]
    branches = region(types, then), region(types, other)
    return b.emit("_If", [condition, *values], {
        "Tin": tuple(t.dtype for t in types), "Tout": tuple(t.dtype for t in branches[0].results()),
        "then": branches[0], "else": branches[1],
    })  # fmt: skip


def while_(
    b: StepBuilder, values: Sequence[Ref], cond: Make, body: Make, feeds: Sequence[Type] = (), origin: int = -1
) -> tuple[Ref, ...]:
    """A loop; with `feeds`, over types other than the values have at first."""
    types = list(feeds) or [b.type(ref) for ref in values]
    inner = region(types, body, origin)
    return b.emit("_While", values, {
        "T": tuple(t.dtype for t in types), "Tout": tuple(t.dtype for t in inner.results()),
        "cond": region(types, cond), "body": inner, "stacked": len(inner.fetches) - len(values),
    })  # fmt: skip


def number(b: StepBuilder, value: Any, dtype: dtypes.DType = i32) -> Ref:
    return b.const(value, dtype)


def step(types: Sequence[Type], make: Make) -> Step:
    return region(types, make)


# --- Steps run ---


class Failed(Exception):
    """A kernel's check failed: origin, text."""


class Native:
    """A step compiled and bound to a session of its own."""

    def __init__(self, step_: Step, slots: Sequence[np.ndarray | None] = ()) -> None:
        with options(verify=True):
            self.compiled = compile_step(step_)
        self.manifest = self.compiled.program.manifest
        assert Manifest.from_json(self.manifest.to_json()) == self.manifest
        self.resources = Resources()
        self.variables = [
            self.resources.variable(f"v{k}", slot.type.dtype, tuple(map(int, slot.type.dims)))  # type: ignore[arg-type]
            for k, slot in enumerate(step_.slots)
        ]
        for variable, value in zip(self.variables, slots):
            if value is not None:
                variable.assign(value)
        executable = Executable(self.compiled.linked, self.manifest, self.resources, self.variables)
        hosts = [
            host_function(host, [None] * 1000, self.resources, self.variables, self.manifest.slots)
            for host in self.manifest.hosts
        ]
        self.call = StepCallable(self.slow)
        self.call.attach(executable.context(self.slow, self.fail, hosts))

    @property
    def hosts(self) -> list[str]:
        return [host.op for host in self.manifest.hosts]

    def slow(self, reason: int, args: Any, names: Any) -> Any:
        raise Refused(reason & 255, reason >> 8)

    def fail(self, number: int, at: int, value: int, bound: int) -> Any:
        failure = self.manifest.failures[number]
        origin = self.compiled.origins[failure.origin] if failure.origin >= 0 else -1
        raise Failed(origin, failure.message.format(at=at, value=value, bound=bound))


def check(step_: Step, *arrays: Any, native: bool = True) -> Native:
    """Native code, Python's driving and the interpreter give the same; `native`: nothing is left to Python."""
    verify(step_)
    assert parse(to_text(step_), literals(step_)) == step_
    feeds = [np.asarray(array, t.dtype.np) for array, t in zip(arrays, step_.feeds, strict=True)]
    want, _ = interpret(step_, feeds)
    made = Native(step_)
    if native:
        assert not made.hosts
    before = step_builder.NATIVE_CONTROL
    step_builder.NATIVE_CONTROL = False
    try:
        b = StepBuilder(step_.feeds)
        from stepjit_compiler.passes.rebuild import rebuild

        driven = Native(rebuild(step_, b))
        assert {"_If", "_While"} & set(driven.hosts)
        found = driven.call(*feeds)
    finally:
        step_builder.NATIVE_CONTROL = before
    for got in (made.call(*feeds), made.call(*feeds), found):
        for g, w in zip(got, want, strict=True):
            assert (g.shape, g.dtype) == (w.shape, w.dtype)
            np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-6)
    return made


def below(limit: int) -> Make:
    return lambda b, i, *rest: b.op("Less", i, number(b, limit))


def next_of(b: StepBuilder, i: Ref) -> Ref:
    found: Ref = b.op("AddV2", i, number(b, 1))
    return found


# --- Branches ---


@pytest.mark.parametrize("condition", [True, False])
def test_branch(condition: bool) -> None:
    def make(b: StepBuilder, p: Ref, x: Ref) -> Any:
        return if_(b, p, [x], lambda b, x: [b.op("Exp", x), x], lambda b, x: [x, b.op("Neg", x)])

    check(step([Type(dtypes.bool_, ()), Type(f32, (N, 3))], make), condition, np.arange(6).reshape(2, 3))


def test_branches_of_other_shapes_are_driven_by_python() -> None:
    def make(b: StepBuilder, p: Ref, x: Ref) -> Any:
        twice = lambda b, x: b.op("ConcatV2", x, x, number(b, 0))  # noqa: E731
        (found,) = if_(b, p, [x], twice, lambda b, x: x)
        return found, b.op("Shape", found)

    made = step([Type(dtypes.bool_, ()), Type(f32, (N,))], make)
    for condition in (True, False):
        assert check(made, condition, [1, 2, 3], native=False).hosts == ["_If"]


def test_only_the_branch_that_is_taken_fails() -> None:
    def make(b: StepBuilder, p: Ref, x: Ref, i: Ref) -> Any:
        row = lambda b, x, i: b.op("GatherV2", x, i, number(b, 0))  # noqa: E731
        return if_(b, p, [x, i], row, lambda b, x, i: b.reduce("Sum", x, [0]))

    made = step([Type(dtypes.bool_, ()), Type(f32, (4, 2)), Type(i32, ())], make)
    native = Native(made)
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    np.testing.assert_array_equal(native.call(np.bool_(False), x, np.int32(9))[0], x.sum(0))
    np.testing.assert_array_equal(native.call(np.bool_(True), x, np.int32(3))[0], x[3])
    with pytest.raises(Failed, match=r"9 is not in \[0, 4\)"):
        native.call(np.bool_(True), x, np.int32(9))


def test_what_a_branch_assumes_of_extents_is_checked_in_it() -> None:
    types = [Type(dtypes.bool_, ()), Type(f32, (dims.symbol("s1_0"),)), Type(f32, (dims.symbol("s2_0"),))]

    def make(b: StepBuilder, p: Ref, x: Ref, y: Ref) -> Any:
        return if_(b, p, [x, y], lambda b, x, y: b.reduce("Sum", b.op("AddV2", x, y), [0]),
                   lambda b, x, y: b.reduce("Sum", x, [0]))  # fmt: skip

    made = step(types, make)
    check(made, True, [1, 2, 3], [4, 5, 6])
    native = Native(made)
    three, two = np.ones(3, np.float32), np.ones(2, np.float32)
    assert native.call(np.bool_(False), three, two)[0] == 3
    with pytest.raises(Failed, match=r"Incompatible shapes: \[3\] vs. \[2\]"):
        native.call(np.bool_(True), three, two)


# --- Loops ---


@pytest.mark.parametrize("trips", [0, 1, 2, 7])
def test_loop_of_numbers(trips: int) -> None:
    def make(b: StepBuilder, n: Ref, x: Ref) -> Any:
        return while_(
            b, [number(b, 0), x, x, n],
            lambda b, i, x, y, n: b.op("Less", i, n),
            lambda b, i, x, y, n: [next_of(b, i), y, b.op("AddV2", x, y), n],
        )  # fmt: skip

    check(step([Type(i32, ()), Type(f32, ())], make), trips, 1.5)


@pytest.mark.parametrize("shape", [(4,), (300,), (N, 5), (N, 200)])
@pytest.mark.parametrize("trips", [0, 1, 2, 5])
def test_variables_of_all_kinds(shape: dims.Shape, trips: int) -> None:
    """In place, changing places, handed on, crossed over, constant, twice the same."""

    def body(b: StepBuilder, i: Ref, x: Ref, y: Ref, z: Ref, u: Ref, v: Ref, w: Ref) -> Any:
        more = b.op("AddV2", x, number(b, 1, f32))
        return [next_of(b, i), more, b.op("ReverseV2", y, number(b, [0])), z, v, u, more]

    def make(b: StepBuilder, x: Ref, y: Ref) -> Any:
        return while_(b, [number(b, 0), x, x, y, x, y, y], below(trips), body)

    types = [Type(f32, shape), Type(f32, shape)]
    extents = [3 if isinstance(extent, dims.Dim) else extent for extent in shape]
    x = np.arange(np.prod(extents), dtype=np.float32).reshape(extents)
    check(step(types, make), x, -x)


@pytest.mark.parametrize("trips", [0, 1, 9, 1000])
def test_stacked_rows(trips: int) -> None:
    """Extents that are only known behind the loop, fetched and computed with."""

    def body(b: StepBuilder, i: Ref, x: Ref) -> Any:
        y = b.op("Mul", x, number(b, 1.01, f32))
        return [next_of(b, i), y, y, i]

    def make(b: StepBuilder, x: Ref) -> Any:
        _, last, rows, numbers = while_(b, [number(b, 0), x], below(trips), body)
        count = b.op("Shape", rows)
        return [rows, numbers, b.reduce("Sum", rows, [0]), b.op("Neg", rows), count, last]

    check(step([Type(f32, (N, 3))], make), np.ones((2, 3)))


def test_loops_in_branches_in_loops() -> None:
    def inner(b: StepBuilder, x: Ref, n: Ref) -> Any:
        return while_(b, [number(b, 0), x, n], lambda b, j, x, n: b.op("Less", j, n),
                      lambda b, j, x, n: [next_of(b, j), b.op("AddV2", x, x), n, x])[1:4:2]  # fmt: skip

    def body(b: StepBuilder, i: Ref, x: Ref) -> Any:
        odd = b.op("Equal", b.op("FloorMod", i, number(b, 2)), number(b, 1))

        def then(b: StepBuilder, x: Ref, i: Ref) -> Any:
            y, rows = inner(b, x, i)
            return b.op("AddV2", y, b.reduce("Sum", rows, [0]))

        (y,) = if_(b, odd, [x, i], then, lambda b, x, i: b.op("Mul", x, number(b, 0.5, f32)))
        return [next_of(b, i), y, y]

    def make(b: StepBuilder, x: Ref) -> Any:
        return while_(b, [number(b, 0), x], below(6), body)

    check(step([Type(f32, (N,))], make), [1.0, 2.0, 3.0])
    check(step([Type(f32, (100, 9))], make), np.ones((100, 9)))


def test_shapes_that_change_are_driven_by_python() -> None:
    def make(b: StepBuilder, x: Ref) -> Any:
        free = [Type(i32, ()), Type(f32, (dims.symbol("h1"),))]
        _, y, = while_(b, [number(b, 0), x], below(4),
                       lambda b, i, x: [next_of(b, i), b.op("ConcatV2", x, x, number(b, 0))], free)  # fmt: skip
        return y, b.reduce("Sum", y, [0])

    assert check(step([Type(f32, (N,))], make), [1, 2, 3], native=False).hosts == ["_While"]


def test_python_in_the_loop() -> None:
    """Ops of which only running tells the shapes, in native loops: their results are let go trip by trip."""

    def body(b: StepBuilder, i: Ref, x: Ref) -> Any:
        found = b.op("Unique", b.op("Cast", x, DstT=i32))[0]
        return [next_of(b, i), b.op("AddV2", x, b.op("Cast", b.op("Size", found), DstT=f32)), b.op("Size", found)]

    def make(b: StepBuilder, x: Ref) -> Any:
        return while_(b, [number(b, 0), x], below(20), body)

    assert "_While" not in check(step([Type(f32, (N,))], make), [1, 2, 2, 5], native=False).hosts


def test_failure_in_a_trip_names_its_op() -> None:
    def body(b: StepBuilder, i: Ref, x: Ref, total: Ref) -> Any:
        b.origin = 77
        row = b.op("GatherV2", x, i, number(b, 0))
        return [next_of(b, i), x, b.op("AddV2", total, row)]

    def make(b: StepBuilder, x: Ref) -> Any:
        return while_(b, [number(b, 0), x, number(b, 0.0, f32)], below(10), body)

    made = step([Type(f32, (N,))], make)
    check(made, np.arange(12))
    with pytest.raises(Failed) as caught:
        Native(made).call(np.arange(5, dtype=np.float32))
    assert caught.value.args == (77, "indices = 5 is not in [0, 5)")


def test_failing_loop_changes_no_variable() -> None:
    b = StepBuilder([Type(f32, (N,))])
    b.slots.append(step_builder.Slot("variable", Type(f32, ()), 5))
    x = b.feed(0)

    def body(b: StepBuilder, i: Ref, v: Ref, x: Ref) -> Any:
        return [next_of(b, i), b.op("AddV2", v, b.op("GatherV2", x, i, number(b, 0))), x]

    found = while_(b, [number(b, 0), b.read(0), x], below(4), body)
    native = Native(b.finish([found[0]], [(0, found[1])]), [np.float32(10)])
    with pytest.raises(Failed):
        native.call(np.ones(3, np.float32))
    assert native.variables[0].read() == 10
    native.call(np.ones(4, np.float32))
    assert native.variables[0].read() == 14


def test_a_row_costs_a_row() -> None:
    """A buffer that a loop writes row by row is copied once, not in every trip."""

    def make_of(rows: int) -> Step:
        def body(b: StepBuilder, i: Ref, x: Ref) -> Any:
            row = b.op("Fill", number(b, [1, 4]), b.op("Cast", i, DstT=f32))
            at = b.op("ExpandDims", i, number(b, 0))
            return [next_of(b, i), b.op("_ScatterRows", x, at, row, kind=b"add")]

        def make(b: StepBuilder, x: Ref) -> Any:
            return while_(b, [number(b, 0), x], below(500), body)[1]

        return step([Type(f32, (rows, 4))], make)

    check(make_of(500), np.ones((500, 4)))
    call, x = Native(make_of(100_000)).call, np.zeros((100_000, 4), np.float32)
    begin = time.perf_counter()
    call(x)
    assert time.perf_counter() - begin < 0.2  # 500 copies take a second; one a millisecond


# --- How loops end from outside ---


def endless() -> Native:
    def make(b: StepBuilder, x: Ref) -> Any:
        return while_(b, [number(b, 0), x], lambda b, i, x: b.op("GreaterEqual", x, number(b, 0.0, f32)),
                      lambda b, i, x: [next_of(b, i), b.op("Mul", x, number(b, 0.5, f32))])  # fmt: skip

    return Native(step([Type(f32, ())], make))


def test_time_limit() -> None:
    begin = time.perf_counter()
    with pytest.raises(errors.DeadlineExceededError) as caught, TimeLimit(0.1):
        endless().call(np.float32(1))
    assert caught.value.op is None
    assert time.perf_counter() - begin < 5


def test_close_ends_the_loop() -> None:
    native, raised = endless(), []

    def run() -> None:
        try:
            native.call(np.float32(1))
        except OpError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(0.05)
    assert thread.is_alive()
    native.resources.close()
    thread.join(10)
    assert [type(error) for error in raised] == [errors.CancelledError]


def test_two_threads_in_one_loop() -> None:
    def make(b: StepBuilder, x: Ref) -> Any:
        return while_(b, [number(b, 0), x], below(20_000),
                      lambda b, i, x: [next_of(b, i), b.op("AddV2", x, number(b, 1.0, f32))])[1]  # fmt: skip

    native = Native(step([Type(f32, (500,))], make))
    found: list[float] = []
    threads = [
        threading.Thread(target=lambda k=k: found.append(native.call(np.full(500, k, np.float32))[0][0]))
        for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [20_000, 20_001, 20_002, 20_003]


# --- Passes ---


@pytest.mark.parametrize("path", golden_files("regions"), ids=lambda path: path.stem)
def test_simplified(path: Path, golden: Golden) -> None:
    golden.check(path, lambda text: to_text(simplified(parse(text))))


@pytest.mark.parametrize("path", golden_files("regions"), ids=lambda path: path.stem)
def test_simplified_means_the_same(path: Path) -> None:
    given = parse(golden_input(path))
    verify(given)
    found = simplified(given)
    verify(found)
    assert outcome(found) == outcome(given)
    assert to_text(simplified(found)) == to_text(found)


@pytest.mark.parametrize("path", golden_files("region_plans"), ids=lambda path: path.stem)
def test_plan(path: Path, golden: Golden) -> None:
    def run(text: str) -> str:
        given = parse(text)
        verify(given)
        plan = plan_regions(plan_memory(given, fuse(given, analyse(given))))
        verify_plan(plan)
        return plan_text(plan)

    golden.check(path, run)


def test_wrong_regions_are_found() -> None:
    text = golden_input(next(path for path in golden_files("regions") if path.stem == "loop_invariants"))
    for old, new, what in (
        ("    fetch %6, %8, %10, %3, %4, %11", "    fetch %8, %6, %10, %3, %4, %11", "does not give the loop's variables"),
        ("    feed 4 : i32[]\n    %0 = _Feed {index=0} : i32[]\n    %1 = _Feed {index=4} : i32[]", None, "in 'cond'"),
        ("    %2 = Less %0, %1 {T=i32} : bool[]", "    %2 = AddV2 %0, %1 {T=i32} : i32[]", "is no bool"),
    ):
        broken = text.replace(old, new if new is not None else old.replace("index=4", "index=1"))
        assert broken != text
        with pytest.raises(VerifyError, match=what):
            verify(parse(broken))
