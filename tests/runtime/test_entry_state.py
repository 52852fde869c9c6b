"""Entries of steps with variables and host ops; leaks and threads."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import pytest
from hand import (
    INCREMENT,
    A,
    Area,
    B,
    Buffer,
    C,
    Kernel,
    KernelFailed,
    Layout,
    Ref,
    Refused,
    Slot,
    Type,
    accumulate,
    callable_of,
    const,
    executable,
    failing,
    feed,
    host_plan,
    loop,
    multiply_add,
    node,
    plan_of,
    ramp,
    read,
    scalar_step,
    shape,
)

from stepjit_compiler import dims
from stepjit_compiler.ir import Node
from stepjit_runtime import abi, dtypes
from stepjit_runtime.resources import Resources
from stepjit_runtime.step_callable import reenter

f32, i32 = dtypes.float32, dtypes.int32


@pytest.fixture(scope="module")
def static() -> Any:
    return executable(*multiply_add(8))


# --- variables ---


def test_variables() -> None:
    resources = Resources()
    variable = resources.variable("v", f32, (8,))
    step = callable_of(executable(*accumulate(), resources, [variable]))
    assert reenter(step, (ramp(8),)) == abi.SLOT_UNINITIALISED
    variable.assign(ramp(8))
    result = step(ramp(8))
    np.testing.assert_array_equal(result, 2 * ramp(8))
    np.testing.assert_array_equal(variable.read(), 2 * ramp(8))
    result[:] = 0
    np.testing.assert_array_equal(variable.read(), 2 * ramp(8))
    variable.assign(ramp(3))
    assert reenter(step, (ramp(8),)) == abi.SLOT_LAYOUT
    variable.assign(ramp(8))
    for name, code in ("writers", abi.BUSY), ("readers", abi.BUSY), ("closed", abi.CLOSED):
        resources.record[name] = 1
        assert reenter(step, (ramp(8),)) == code
        resources.record[name] = 0
    np.testing.assert_array_equal(step(ramp(8)), 2 * ramp(8))


def test_a_written_slot_is_initialised_afterwards() -> None:
    type_ = Type(f32, (4,))
    ask = Node("_Initialized", (), (("slot", 0),), (Type(dtypes.bool_, ()),))
    plan = plan_of(
        [feed(0, type_), ask], [], {A: Buffer("feed", 0), B: Buffer("output", 0)}, [B], writes=[(0, A)],
        slots=[Slot("variable", type_, 1)], copies=[(A, Buffer("slot", 0))],
    )  # fmt: skip
    resources = Resources()
    variable = resources.variable("v", f32, (4,))
    step = callable_of(executable(plan, [], resources, [variable]))
    assert not variable.initialised
    assert step(ramp(4)) is np.False_
    assert variable.read().tolist() == [1, 2, 3, 4]
    assert step(ramp(4)) is np.True_


def test_a_reader_waits_for_writers_only() -> None:
    type_ = Type(f32, (4,))
    plan = plan_of(
        [read(0, type_)], [], {A: Buffer("slot", 0)}, [A], slots=[Slot("variable", type_, 1)],
        copies=[(A, Buffer("output", 0))],
    )  # fmt: skip
    resources = Resources()
    variable = resources.variable("v", f32, (4,))
    variable.assign(ramp(4))
    step = callable_of(executable(plan, [], resources, [variable]))
    resources.record["readers"] = 1
    assert step().tolist() == [1, 2, 3, 4]
    resources.record["writers"] = 1
    assert reenter(step, ()) == abi.BUSY


# --- host ops ---


def test_host_ops_get_the_fed_objects_and_return_theirs() -> None:
    plan, _ = host_plan([Type(f32, shape("s0_0")), Type(i32, ())], [Type(dtypes.string, shape("h1")), Type(i32, ())])
    ex, seen, made = executable(plan, []), [], []

    def host(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        seen[:] = arrays
        made[:] = [np.array([b"x"] * 3, object), np.array(5, np.int32)]
        return tuple(made)

    step = callable_of(ex, hosts=[host], layout=Layout(abi.PACK_LIST, (0, 1)))
    a = ramp(4)
    strings, number = step(a, 7)
    assert seen[0] is a
    assert (seen[1].shape, seen[1].dtype, int(seen[1])) == ((), np.int32, 7)
    assert strings is made[0]
    assert type(number) is np.int32
    assert number == 5
    scalar = np.array(9, np.int32)
    step(a, scalar)
    assert seen[1] is scalar
    assert ex.resources.record["pins"] == 0


def test_native_code_goes_on_with_extents_that_a_host_op_tells() -> None:
    """feed -> arena value -> host op -> h1 elements -> late area -> result of h1 elements."""
    n, h = dims.symbol("s0_0"), dims.symbol("h1")
    before, after = Type(f32, (n,)), Type(f32, (h,))
    nodes = [
        feed(0, before), node("Inc", [A], before), node("Host", [B], after, host=True), node("Inc", [C], after),
        node("Inc", [Ref(3, 0)], after),
    ]  # fmt: skip
    buffers = {
        A: Buffer("feed", 0), B: Buffer("arena", 0), C: Buffer("host", 0), Ref(3, 0): Buffer("arena", 1),
        Ref(4, 0): Buffer("output", 0),
    }  # fmt: skip
    kernels = [
        Kernel("loop", (1,), (A,), (B,)), Kernel("host", (2,), (B,), (C,)), Kernel("loop", (3,), (C,), (Ref(3, 0),)),
        Kernel("loop", (4,), (Ref(3, 0),), (Ref(4, 0),)),
    ]  # fmt: skip
    codes = [
        loop("k0", INCREMENT, 2, n, (A, B)), loop("k1", INCREMENT, 2, h, (C, Ref(3, 0))),
        loop("k2", INCREMENT, 2, h, (Ref(3, 0), Ref(4, 0))),
    ]  # fmt: skip
    bytes_ = (n * 4 + 63) // 64 * 64
    plan = plan_of(
        nodes, kernels, buffers, [Ref(4, 0)], areas=(Area(bytes_, 0),), arena_bytes=bytes_,
        late=((h * 4 + 63) // 64 * 64,), host_results=(C,),
    )  # fmt: skip

    def host(x: np.ndarray) -> tuple[np.ndarray]:
        return (x[x > 3].copy(),)

    step = callable_of(executable(plan, codes), hosts=[host])
    np.testing.assert_array_equal(step(ramp(6)), [6, 7, 8, 9])
    assert step(ramp(2)).shape == (0,)


@pytest.mark.parametrize("bad", [None, (), (1, 2, 3), [np.zeros(1, np.float32)]])
def test_a_host_op_that_answers_nonsense_is_an_error(bad: Any) -> None:
    plan, _ = host_plan([Type(f32, (4,))], [Type(f32, (4,))])
    ex = executable(plan, [])
    step = callable_of(ex, hosts=[lambda x: bad])
    with pytest.raises(SystemError, match="host op"):
        step(ramp(4))
    assert ex.resources.record["pins"] == 0


def test_what_a_host_op_raises_is_raised() -> None:
    plan, _ = host_plan([Type(f32, (4,))], [Type(f32, (4,))])
    step = callable_of(executable(plan, []), hosts=[lambda x: 1 / 0])
    with pytest.raises(ZeroDivisionError):
        step(ramp(4))


def test_string_constants_reach_host_ops_as_they_are() -> None:
    words = np.array([b"one", b"two"], object)
    nodes = [const(words, dtypes.string), node("Host", [A], Type(dtypes.int64, (2,)), host=True)]
    buffers = {A: Buffer("const", 0), B: Buffer("host", 0)}
    plan = plan_of(
        nodes, [Kernel("host", (1,), (A,), (B,))], buffers, [B, A], constants=(A,), host_results=(B,),
        copies=[(A, Buffer("output", 1))],
    )  # fmt: skip
    seen = []

    def host(x: np.ndarray) -> tuple[np.ndarray]:
        seen.append(x)
        return (np.array([len(each) for each in x]),)

    ex = executable(plan, [])
    lengths, out = callable_of(ex, hosts=[host], layout=Layout(abi.PACK_LIST, (0, 1)))()
    assert lengths.tolist() == [3, 3]
    assert out.tolist() == words.tolist()
    assert seen[0] is ex.constants[0]
    assert out is not ex.constants[0]


# --- many calls ---


def test_nothing_leaks(static: Any) -> None:
    a, layout = ramp(8), Layout(abi.PACK_LIST, (0, 0, -1))
    host, _ = host_plan([Type(f32, (4,)), Type(i32, ())], [Type(f32, (4,)), Type(i32, ())])
    failing_step, number = callable_of(failing()), scalar_step(dtypes.float32)
    hosted = callable_of(
        executable(host, []), hosts=[lambda x, y: (x.copy(), y.copy())], layout=Layout(abi.PACK_TUPLE, (0, 1))
    )
    raising = callable_of(executable(host, []), hosts=[lambda x, y: 1 / 0], layout=Layout(abi.PACK_NONE))
    listed, single = callable_of(static, layout=layout), callable_of(static)

    def once() -> None:
        listed(a, a)
        single(a, a)
        number(2.5)
        number(3)
        hosted(a[:4], 3)
        for step, args in (failing_step, (-3 * a,)), (raising, (a[:4], 3)), (single, (a, 1)), (number, (10**400,)):
            try:
                step(*args)
            except (KernelFailed, ZeroDivisionError, Refused):
                continue
            raise AssertionError

    for _ in range(100):
        once()
    watched = [np.dtype(np.float32), np.dtype(np.int32), a]
    counts, blocks = [sys.getrefcount(each) for each in watched], sys.getallocatedblocks()
    for _ in range(10_000):
        once()
    assert [sys.getrefcount(each) for each in watched] == counts
    assert sys.getallocatedblocks() - blocks < 200


@pytest.mark.parametrize("cost", [10, abi.RELEASE_NS + 1])
def test_eight_threads(cost: int) -> None:
    resources = Resources()
    variable = resources.variable("v", f32, (8,))
    variable.assign(np.zeros(8, np.float32))

    def slow(reason: int, args: tuple[Any, ...], names: Any) -> Any:
        assert reason & 255 == abi.BUSY
        while True:
            resources.wait(write=True)
            result = reenter(step, args)
            if type(result) is not int:
                return result

    step = callable_of(executable(*accumulate(cost), resources, [variable]), slow=slow)
    arena = callable_of(failing(cost))
    wrong: list[Any] = []

    def work(number: int) -> None:
        one = np.ones(8, np.float32)
        for _ in range(300):
            step(one)
            if arena(np.full(9 + number, number, np.float32))[0] != number + 1:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert variable.read().tolist() == [2400.0] * 8
    assert [resources.record[name] for name in ("readers", "writers", "pins")] == [0, 0, 0]
