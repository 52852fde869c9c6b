"""Entries: what they take, what they refuse, and what they return."""

from __future__ import annotations

import gc
import sys
import threading
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hand import (
    ADD,
    Area,
    Buffer,
    Check,
    Failure,
    Kernel,
    KernelCode,
    KernelFailed,
    Layout,
    Ref,
    Refused,
    Slot,
    Type,
    callable_of,
    const,
    executable,
    feed,
    loop,
    multiply_add,
    node,
    plan_of,
    read,
    shape,
)

from stepjit_compiler import dims
from stepjit_compiler.ir import Node
from stepjit_compiler.lower.entry_extents import Extents
from stepjit_runtime import abi, dtypes
from stepjit_runtime.resources import Resources
from stepjit_runtime.step_callable import reenter

f32, i32 = dtypes.float32, dtypes.int32
A, B, C = Ref(0, 0), Ref(1, 0), Ref(2, 0)
INCREMENT = """  %a = getelementptr float, ptr %p0, i64 %i
  %av = load float, ptr %a
  %r = fadd float %av, 1.0
  %o = getelementptr float, ptr %p1, i64 %i
  store float %r, ptr %o"""


def ramp(*extents: int) -> np.ndarray:
    return np.arange(np.prod(extents, dtype=int), dtype=np.float32).reshape(extents) + 1


@pytest.fixture(scope="module")
def static() -> Any:
    return executable(*multiply_add(8))


@pytest.fixture(scope="module")
def symbolic() -> Any:
    return executable(*multiply_add(None, 3, None))


# --- feeds ---


def test_computes_and_returns_a_fresh_array(static: Any) -> None:
    step, a = callable_of(static), ramp(8)
    result = step(a, a)
    assert type(result) is np.ndarray
    assert result.dtype is np.dtype(np.float32)
    np.testing.assert_array_equal(result, a * a + a)
    assert result.flags.owndata
    assert step(a, a) is not result


@pytest.mark.parametrize("extents", [(2, 3, 5), (0, 3, 7), (7, 3, 0), (64, 3, 33)])
def test_unknown_extents(symbolic: Any, extents: tuple[int, ...]) -> None:
    a = ramp(*extents) % 50
    np.testing.assert_array_equal(callable_of(symbolic)(a, a), a * a + a)


@pytest.mark.parametrize(
    "value",
    [
        ramp(8).astype(np.float64), ramp(9), ramp(2, 4), ramp(16)[::2], ramp(8).astype(">f4"), [1.0] * 8, None, 3.0,
        ramp(8).view(np.recarray), np.frombuffer(b"x" + ramp(8).tobytes(), np.uint8)[1:].view(np.float32),
        np.array(1, np.float32),
    ],
)  # fmt: skip
def test_feeds_that_do_not_fit_are_refused(static: Any, value: Any) -> None:
    step = callable_of(static)
    for args, number in ((value, ramp(8)), 0), ((ramp(8), value), 1):
        with pytest.raises(Refused) as refused:
            step(*args)
        assert (refused.value.code, refused.value.number) == (abi.FEED, number)
        assert refused.value.values[number] is value


def test_extent_one_and_unequal_symbols_are_refused(symbolic: Any) -> None:
    step = callable_of(symbolic)
    with pytest.raises(Refused) as refused:
        step(ramp(1, 3, 2), ramp(1, 3, 2))
    assert (refused.value.code, refused.value.number) == (abi.FEED, 0)
    with pytest.raises(Refused) as refused:
        step(ramp(2, 3, 2), ramp(2, 3, 4))
    assert (refused.value.code, refused.value.number) == (abi.CHECK, 1)


def test_arguments_by_count_and_name(static: Any) -> None:
    step, a = callable_of(static), ramp(8)
    for args in (), (a,), (a, a, a):
        with pytest.raises(Refused) as refused:
            step(*args)
        assert (refused.value.code, refused.value.values, refused.value.names) == (abi.ARGUMENTS, args, None)
    with pytest.raises(Refused) as refused:
        step(a, a, options=5)
    assert refused.value.code == abi.ARGUMENTS
    assert refused.value.values == (a, a, 5) or refused.value.values[2] == 5
    assert refused.value.names == ("options",)


def test_an_equal_dtype_that_is_another_object_fits(static: Any) -> None:
    import pickle

    other = pickle.loads(pickle.dumps(np.dtype(np.float32)))
    a = np.frombuffer(ramp(8).tobytes(), other)
    np.testing.assert_array_equal(callable_of(static)(a, a), ramp(8) * ramp(8) + ramp(8))


def test_read_only_feeds_fit(static: Any) -> None:
    a = ramp(8)
    a.flags.writeable = False
    np.testing.assert_array_equal(callable_of(static)(a, a), a * a + a)


def scalar_step(dtype: dtypes.DType) -> Any:
    type_ = Type(dtype, ())
    plan = plan_of([feed(0, type_)], [], {A: Buffer("feed", 0)}, [A], copies=[(A, Buffer("output", 0))])
    return callable_of(executable(plan, []))


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        (dtypes.float32, [1.5, -1, 3, True + 0, np.float32(2.5), 1e300, float("nan"), -0.0, 2**64],
         [True, np.float64(1.0), "x", 10**400, np.int32(1), 1j]),
        (dtypes.float64, [1.5, -1, 2**60 + 1, np.float64(2.5)], [True, np.float32(1.0), 10**400]),
        (dtypes.int32, [0, -1, 2**31 - 1, -(2**31), np.int32(7)], [2**31, -(2**31) - 1, 1.0, True, np.int64(1), 2**70]),
        (dtypes.int64, [2**63 - 1, -(2**63), -1], [2**63, 0.5, np.int32(1)]),
        (dtypes.int8, [-128, 127], [128, -129]),
        (dtypes.uint8, [0, 255, np.uint8(3)], [-1, 256]),
        (dtypes.uint32, [2**32 - 1], [2**32, -1]),
        (dtypes.uint64, [2**63 - 1, np.uint64(2**64 - 1)], [-1, 2**64]),
        (dtypes.bool_, [True, False, np.True_], [1, 0, 1.0]),
    ],
)  # fmt: skip
def test_scalars_are_unboxed(dtype: dtypes.DType, good: list[Any], bad: list[Any]) -> None:
    step = scalar_step(dtype)
    with np.errstate(all="ignore"):
        for value in [*good, np.array(good[0], dtype.np)]:
            result = step(value)
            assert type(result) is dtype.np.type
            expected = np.asarray(value, dtype.np)
            assert result.tobytes() == expected.tobytes()
    for value in bad:
        with pytest.raises(Refused) as refused:
            step(value)
        assert (refused.value.code, refused.value.number) == (abi.FEED, 0)


@pytest.mark.parametrize("dtype", [np.complex64, np.float16, ml_dtypes.bfloat16])
def test_dtypes_that_native_code_only_carries(dtype: Any) -> None:
    ours = dtypes.as_dtype(dtype)
    type_ = Type(ours, shape("s0_0"))
    plan = plan_of([feed(0, type_)], [], {A: Buffer("feed", 0)}, [A], copies=[(A, Buffer("output", 0))])
    step = callable_of(executable(plan, []))
    a = np.arange(5).astype(dtype)
    result = step(a)
    assert result.dtype == a.dtype
    assert result is not a
    np.testing.assert_array_equal(result, a)
    with pytest.raises(Refused):
        step(np.arange(5, dtype=np.float32))


def test_string_feeds_pass_in_reentry_only() -> None:
    type_ = Type(dtypes.string, shape("s0_0"))
    plan = plan_of([feed(0, type_)], [], {A: Buffer("feed", 0)}, [A], copies=[(A, Buffer("output", 0))])
    step = callable_of(executable(plan, []))
    word = b"never seen before " * 3
    strings = np.array([word, b"b"], object)
    with pytest.raises(Refused):
        step(strings)
    before = sys.getrefcount(word)
    result = reenter(step, (strings,))
    assert result.tolist() == [word, b"b"]
    assert result is not strings
    assert sys.getrefcount(word) == before + 1
    del result
    assert sys.getrefcount(word) == before


def test_reentry_tells_the_reason(static: Any) -> None:
    step = callable_of(static)
    assert reenter(step, (ramp(8), ramp(9))) == abi.FEED | 1 << 8
    assert reenter(step, ()) == abi.ARGUMENTS
    assert reenter(step, (ramp(8), ramp(8)))[0] == 2


# --- extents ---


def number_step(*extents: Any) -> Any:
    """i64[...] of the given expressions over s0_0, s0_1."""
    type_, out = Type(f32, shape("s0_0", "s0_1")), Type(dtypes.int64, (len(extents),))
    nodes = [feed(0, type_), node("Numbers", [A], out)]
    body = "\n".join(
        f"  %p{k} = getelementptr i64, ptr %out, i64 {k}\n  store i64 %x{k}, ptr %p{k}" for k in range(len(extents))
    )
    args = ", ".join(f"i64 %x{k}" for k in range(len(extents)))
    code = KernelCode(
        "k0", f"define internal void @k0(ptr %out, {args}) {{\n{body}\n  ret void\n}}\n", (B, *shape(*extents))
    )
    kernel = Kernel("loop", (1,), (), (B,))
    return callable_of(executable(plan_of(nodes, [kernel], {B: Buffer("output", 0)}, [B]), [code]))


def test_extents_are_evaluated_as_python_would() -> None:
    texts = [
        "s0_0", "s0_0*s0_1+3", "2*s0_0-s0_1", "floordiv(s0_0,s0_1)", "mod(s0_0,s0_1)", "floordiv(s0_0-s0_1,3)",
        "mod(s0_0-s0_1,3)", "min(s0_0,s0_1)", "max(s0_0,s0_1)", "floordiv(s0_0,3)", "mod(s0_1-2*s0_0,5)",
        "floordiv(s0_0*s0_1,s0_0-s0_1)", "min(max(s0_0,4),2*s0_1)*s0_0",
    ]  # fmt: skip
    step = number_step(*texts)
    for rows, columns in ((5, 3), (3, 5), (0, 4), (4, 0), (7, 7), (2, 100)):
        values = {"s0_0": rows, "s0_1": columns}
        expected = [dims.evaluate(dims.parse(text), values) for text in texts]
        assert step(np.zeros((rows, columns), np.float32)).tolist() == expected, (rows, columns)


@pytest.mark.parametrize(
    ("holds", "b", "good", "bad"),
    [("eq", 4, [4], [0, 3]), ("ge", 4, [4, 5], [0, 3]), ("divides", 4, [0, 4, 8], [3, 5]), ("divides", 0, [], [4])],
)
def test_checks(holds: str, b: int, good: list[int], bad: list[int]) -> None:
    plan, codes = multiply_add(None)
    check = Check(holds, dims.symbol("s0_0"), b, "", 0)
    step = callable_of(
        executable(plan_of(plan.step.nodes, plan.kernels, dict(plan.buffers), [C], checks=[check]), codes)
    )
    for extent in good:
        assert len(step(ramp(extent), ramp(extent))) == extent
    for extent in bad:
        assert reenter(step, (ramp(extent), ramp(extent))) == abi.CHECK


def test_an_extent_is_computed_once() -> None:
    from stepjit_compiler.lower.builder import Builder, Value

    b = Builder("v")
    extents = Extents(b)
    extents.bind("s0_0", Value("%n", dtypes.int64))
    first = extents.number(dims.parse("s0_0*s0_0"))
    assert extents.number(dims.parse("s0_0*s0_0")) is first
    assert len(b.lines) == 1


# --- results ---


def two_results() -> Any:
    """f32[4] a + 1, f32 sum-like scalar (the first element + 1)."""
    type_, scalar = Type(f32, (4,)), Type(f32, ())
    nodes = [feed(0, type_), node("Inc", [A], type_), node("First", [A], scalar)]
    buffers = {A: Buffer("feed", 0), B: Buffer("output", 0), C: Buffer("output", 1)}
    kernels = [Kernel("loop", (1,), (A,), (B,)), Kernel("loop", (2,), (A,), (C,))]
    codes = [loop("k0", INCREMENT, 2, 4, (A, B)), loop("k1", INCREMENT, 2, 1, (A, C))]
    return executable(plan_of(nodes, kernels, buffers, [B, C]), codes)


def test_layouts() -> None:
    ex, a = two_results(), ramp(4)
    results = callable_of(ex, layout=Layout(abi.PACK_LIST, (0, 1, -1, 0)))(a)
    assert type(results) is list
    assert results[0].tolist() == [2, 3, 4, 5]
    assert results[0] is results[3]
    assert type(results[1]) is np.float32
    assert results[1] == 2
    assert results[2] is None
    assert type(callable_of(ex, layout=Layout(abi.PACK_TUPLE, (1,)))(a)) is tuple
    assert callable_of(ex, layout=Layout(abi.PACK_TUPLE))(a) == ()
    assert callable_of(ex, layout=Layout(abi.PACK_NONE))(a) is None
    assert callable_of(ex, layout=Layout(abi.PACK_SINGLE, (1,)))(a) == 2
    assert callable_of(ex, layout=Layout(abi.PACK_SINGLE, (-1,)))(a) is None
    with pytest.raises(ValueError, match="2 results"):
        callable_of(ex, layout=Layout(abi.PACK_LIST, (2,)))


def test_a_lone_result_in_every_layout(static: Any) -> None:
    a = ramp(8)
    assert callable_of(static, layout=Layout(abi.PACK_SINGLE, (-1,)))(a, a) is None
    assert callable_of(static, layout=Layout(abi.PACK_LIST, (0, 0)))(a, a)[1][0] == 2


def test_constants_and_reshaped_values_are_copied_out() -> None:
    value = np.arange(6, dtype=np.float32)
    nodes = [const(value, f32), node("Reshape", [A], Type(f32, (2, 3)))]
    buffers = {A: Buffer("const", 0), B: Buffer("const", 0)}
    plan = plan_of(
        nodes, [], buffers, [A, B], constants=(A,), copies=[(A, Buffer("output", 0)), (B, Buffer("output", 1))]
    )
    ex = executable(plan, [])
    step = callable_of(ex, layout=Layout(abi.PACK_LIST, (0, 1)))
    flat, square = step()
    flat[:] = 9
    assert square.tolist() == value.reshape(2, 3).tolist()
    assert step()[0].tolist() == value.tolist()


# --- memory ---


def chain(size: Any, scratch: Any = 0) -> Any:
    """a + 1 + 1 through the arena."""
    type_ = Type(f32, (size,))
    nodes = [feed(0, type_), node("Inc", [A], type_), node("Inc", [B], type_)]
    buffers = {A: Buffer("feed", 0), B: Buffer("arena", 0), C: Buffer("output", 0)}
    kernels = [Kernel("loop", (1,), (A,), (B,)), Kernel("loop", (2,), (B,), (C,))]
    codes = [loop("k0", INCREMENT, 2, size, (A, B)), loop("k1", INCREMENT, 2, size, (B, C))]
    if scratch:
        text = codes[0].text.replace("%n)", "%n, ptr %scratch)") if not isinstance(size, int) else codes[0].text
        text = text.replace("ptr %p1)", "ptr %p1, ptr %scratch)")
        text = text.replace("%any =", "store i64 -1, ptr %scratch, align 64\n  %any =")
        codes[0] = KernelCode("k0", text, codes[0].params, scratch=scratch)
    bytes_ = (size * 4 + 63) // 64 * 64
    return executable(plan_of(nodes, kernels, buffers, [C], areas=(Area(bytes_, 0),), arena_bytes=bytes_), codes)


@pytest.mark.parametrize("size", [16, 8192, 100_000])
@pytest.mark.parametrize("scratch", [0, 64, 100_000])
def test_static_arenas(size: int, scratch: int) -> None:
    ex = chain(size, scratch)
    a = ramp(size)
    for _ in range(3):
        np.testing.assert_array_equal(callable_of(ex)(a), a + 2)
    assert (ex.arena_bytes > 0) == (4 * size + scratch > abi.STACK_BYTES)


def test_symbolic_arenas_grow() -> None:
    ex = chain(dims.symbol("s0_0"), dims.parse("8*s0_0+8"))
    step = callable_of(ex)
    for size in (0, 5, 1000, 17, 100_000, 2):
        np.testing.assert_array_equal(step(ramp(size)), ramp(size) + 2)
    assert 1_200_000 < ex.arena_bytes < 1_210_000


def test_code_and_arena_live_as_long_as_the_callable() -> None:
    step = callable_of(chain(100_000))
    gc.collect()
    np.testing.assert_array_equal(step(ramp(100_000)), ramp(100_000) + 2)


# --- failures ---


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


@pytest.mark.parametrize("cost", [0, abi.RELEASE_NS + 1])
def test_kernel_failures(cost: int) -> None:
    ex = failing(cost)
    step = callable_of(ex)
    assert [f.message for f in ex.manifest.failures] == ["zero", "one", "two"]
    for _ in range(3):
        with pytest.raises(KernelFailed) as failed:
            step(np.full(5, -3, np.float32))
        assert failed.value.args == (2, 7, -8, 5)
        assert step(ramp(5))[0] == 2
    assert ex.arena_bytes > 0


# --- variables ---


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


def host_plan(in_types: list[Type], out_types: list[Type]) -> tuple[Any, list[Ref]]:
    """One host op over feeds; all outputs are fetched."""
    feeds = [feed(k, t) for k, t in enumerate(in_types)]
    n = len(feeds)
    op = node("Host", [Ref(k, 0) for k in range(n)], *out_types, host=True)
    results = [Ref(n, k) for k in range(len(out_types))]
    buffers = {Ref(k, 0): Buffer("feed", k) for k in range(n)} | {r: Buffer("host", k) for k, r in enumerate(results)}
    kernel = Kernel("host", (n,), tuple(Ref(k, 0) for k in range(n)), tuple(results))
    return plan_of([*feeds, op], [kernel], buffers, results, host_results=tuple(results)), results


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
