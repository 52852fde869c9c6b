"""Entries: what they take, what they refuse, and what they return."""

from __future__ import annotations

import gc
import sys
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hand import (
    INCREMENT,
    A,
    Area,
    B,
    Buffer,
    C,
    Check,
    Kernel,
    KernelCode,
    KernelFailed,
    Layout,
    Refused,
    Type,
    callable_of,
    const,
    executable,
    failing,
    feed,
    loop,
    multiply_add,
    node,
    plan_of,
    ramp,
    scalar_step,
    shape,
)

from stepjit_compiler import dims
from stepjit_compiler.lower.entry_extents import Extents
from stepjit_runtime import abi, dtypes
from stepjit_runtime.step_callable import reenter

f32, i32 = dtypes.float32, dtypes.int32


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
