"""Every kind of kernel against the interpreter, with extents as numbers and as symbols."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from native_steps import Failed, build, check, native

from stepjit_compiler.ir import Ref
from stepjit_compiler.step_builder import StepBuilder
from stepjit_runtime.dtypes import float32, int32, int64

Case = tuple[list[Any], Callable[..., Any]]
CASES: dict[str, Case] = {}


def F(*shape: int) -> Any:  # noqa: N802 - a table's shorthand
    return shape


def I(high: int, *shape: int) -> Any:  # noqa: E743, N802
    return (high, shape, np.int32)


def L(high: int, *shape: int) -> Any:  # noqa: N802
    return (high, shape, np.int64)


def case(name: str, *feeds: Any) -> Callable[[Callable[..., Any]], None]:
    def register(make: Callable[..., Any]) -> None:
        CASES[name] = (list(feeds), make)

    return register


def arrays(name: str, feeds: list[Any]) -> list[np.ndarray]:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    made = []
    for feed in feeds:
        if len(feed) == 3 and feed[2] in (np.int32, np.int64):
            made.append(rng.integers(0, feed[0], feed[1]).astype(feed[2]))
        else:
            made.append(rng.standard_normal(feed).astype(np.float32))
    return made


for axes in ([0], [1], [0, 1], []):
    for op in ("Sum", "Max", "Mean", "Prod"):

        def _reduce(b: StepBuilder, x: Ref, op: str = op, axes: list[int] = axes) -> list[Ref]:
            return [b.op(op, x, b.const(axes, int32), keep_dims=keep) for keep in (False, True)]

        CASES[f"{op}_{axes}"] = ([F(7, 33)], _reduce)
case("sum_middle", F(5, 7, 3))(lambda b, x: b.reduce("Sum", x, [1]))
case("sum_outside", F(5, 7, 13))(lambda b, x: b.reduce("Sum", x, [0, 2]))
case("sum_ends", F(4, 5, 6, 7))(lambda b, x: b.reduce("Sum", b.op("Square", x), [0, 3]))
case("argmax_last", F(5, 70))(lambda b, x: b.op("ArgMax", x, b.const(1, int32)))
case("argmax_first", F(50, 7))(lambda b, x: b.op("ArgMin", x, b.const(0, int32)))
case("center", F(5, 70))(lambda b, x: b.op("Sub", x, b.reduce("Max", x, [1], True)))
case("softmax", F(5, 1000))(lambda b, x: b.op("Softmax", x))
case("log_softmax", F(9, 10))(lambda b, x: b.op("LogSoftmax", x))
case("cross_entropy", F(6, 10), F(6, 10))(lambda b, x, y: list(b.op("SoftmaxCrossEntropyWithLogits", x, y)))
case("sparse_cross_entropy", F(6, 10), L(10, 6))(
    lambda b, x, y: list(b.op("SparseSoftmaxCrossEntropyWithLogits", x, y))
)
case("dense", F(6, 17), F(17, 64), F(64))(
    lambda b, x, w, c: b.op("Relu", b.op("BiasAdd", b.op("MatMul", x, w), c))
)
case("dense_kept", F(6, 17), F(17, 64), F(64))(lambda b, x, w, c: _dense_kept(b, x, w, c))
case("matmul_narrow", F(33, 20), F(20, 1))(lambda b, x, w: b.op("MatMul", x, w))
case("matmul_transposed_b", F(6, 17), F(64, 17))(lambda b, x, w: b.op("MatMul", x, w, transpose_b=True))
case("matmul_transposed_a", F(17, 6), F(17, 9))(lambda b, x, w: b.op("MatMul", x, w, transpose_a=True))
case("matmul_large", F(130, 200), F(200, 190))(lambda b, x, w: b.op("Tanh", b.op("MatMul", x, w)))
case("batch_matmul", F(3, 6, 17), F(3, 17, 5))(lambda b, x, w: b.op("BatchMatMulV2", x, w))
case("batch_matmul_broadcast", F(3, 6, 17), F(17, 5))(lambda b, x, w: b.op("BatchMatMulV2", x, w))
case("transpose", F(6, 17))(lambda b, x: b.op("Exp", b.op("Transpose", x, b.const([1, 0], int32))))
case("transpose_3", F(6, 5, 17))(lambda b, x: b.op("Transpose", x, b.const([2, 0, 1], int32)))
case("concat", F(6, 17), F(6, 3))(lambda b, x, y: b.op("ConcatV2", x, y, b.const(1, int32)))
case("concat_first", F(6, 17), F(3, 17))(lambda b, x, y: b.op("ConcatV2", x, y, b.const(0, int32)))
case("pack", F(6, 6), F(6, 6))(lambda b, x, y: [b.op("Pack", x, y, axis=a) for a in (0, 1, 2)])
case("unpack", F(6, 3))(lambda b, x: list(b.op("Unpack", x, num=3, axis=1)))
case("split", F(6, 18))(lambda b, x: list(b.op("Split", b.const(1, int32), x, num_split=3)))
case("split_uneven", F(6, 18))(
    lambda b, x: list(b.op("SplitV", x, b.const([3, 15], int32), b.const(1, int32), num_split=2))
)
case("gather", F(50, 16), I(50, 5))(lambda b, x, i: b.op("Tanh", b.op("GatherV2", x, i, b.const(0, int32))))
case("gather_columns", F(5, 16), I(16, 4))(lambda b, x, i: b.op("GatherV2", x, i, b.const(1, int32)))
case("one_hot", I(9, 5))(
    lambda b, i: b.op("OneHot", i, b.const(7, int32), b.const(1.0, float32), b.const(0.0, float32))
)
case("pad", F(6, 17))(lambda b, x: b.op("Pad", x, b.const([[1, 2], [0, 3]], int32)))
case("tile", F(6, 17))(lambda b, x: b.op("Tile", x, b.const([2, 3], int32)))
case("reverse", F(6, 17))(lambda b, x: b.op("ReverseV2", x, b.const([1], int32)))
case("slice", F(6, 17))(lambda b, x: b.op("Slice", x, b.const([0, 2], int32), b.const([-1, 5], int32)))
case("scatter", F(20, 16), I(20, 5), F(5, 16))(lambda b, x, i, u: b.op("_ScatterRows", x, i, u, kind=b"sub"))
case("broadcast", F(6, 10), F(10), F(6, 1), F())(
    lambda b, x, y, z, w: b.op("Mul", b.op("Add", b.op("Mul", x, w), y), z)
)
case("broadcast_rows_and_columns", F(1, 10), F(6, 1))(lambda b, x, y: b.op("Sub", b.op("Exp", x), y))
case("reshape", F(6, 10))(lambda b, x: b.op("Exp", b.op("Reshape", b.op("Neg", x), b.const([-1, 5], int32))))
case("scalar", F(), F())(lambda b, x, y: b.op("Mul", b.op("Exp", x), y))
case("shape", F(6, 10))(lambda b, x: [b.op("Shape", x), b.op("Size", x)])
case("to_int", F(6, 10))(lambda b, x: b.op("Cast", b.op("Mul", x, b.const(9.0, float32)), DstT=int32))
case("less", F(6, 10))(lambda b, x: b.op("Less", x, b.const(0.0, float32)))
case("select", F(6, 10), F(6, 10))(lambda b, x, y: b.op("SelectV2", b.op("Less", x, y), x, y))
case("bias_gradient", F(60, 10))(lambda b, x: b.op("BiasAddGrad", x))
case("same_twice", F(6, 10))(lambda b, x: [x, b.op("Neg", x), x])
case("int64", L(100, 9), L(100, 9))(lambda b, x, y: [b.op("Add", x, y), b.op("Mul", x, b.const(3, int64))])
case("layer_norm", F(12, 96), F(96), F(96))(lambda b, x, g, c: _layer_norm(b, x, g, c))
case("extents_of_1_around_rows", F(5, 3), F(3))(lambda b, x, y: _ones_around(b, x, y))
case("ones_before_rows", F(5, 3))(lambda b, x: _ones_before(b, x))
case("row_stretched", F(5, 1), F(1, 3))(
    lambda b, x, y: b.op("Maximum", b.op("Sqrt", b.reduce("Sum", b.op("Square", x), [0], True)), y)
)
case("rows_against_columns", F(2, 5))(
    lambda b, x: b.op("Sub", b.reduce("Min", x, [1]), b.reduce("Sum", x, [1], True))
)
case("two_heads", F(12, 96))(lambda b, x: _two_heads(b, x))


def _dense_kept(b: StepBuilder, x: Ref, w: Ref, c: Ref) -> list[Ref]:
    before = b.op("BiasAdd", b.op("MatMul", x, w), c)
    return [before, b.op("Tanh", before), b.reduce("Sum", before, [0])]


def _layer_norm(b: StepBuilder, x: Ref, gain: Ref, bias: Ref) -> Ref:
    centred = b.op("Sub", x, b.reduce("Mean", x, [1], True))
    variance = b.reduce("Mean", b.op("Square", centred), [1], True)
    scale = b.op("Rsqrt", b.op("Add", variance, b.const(1e-5, float32)))
    found: Ref = b.op("Add", b.op("Mul", b.op("Mul", centred, scale), gain), bias)
    return found


def _ones_around(b: StepBuilder, x: Ref, y: Ref) -> list[Ref]:
    wide = b.op("ExpandDims", b.op("AddV2", y, x), b.const(-1, int32))
    return [b.op("LogSoftmax", x), b.reduce("Sum", x, [0, 1], True), wide, b.op("Relu", wide)]


def _ones_before(b: StepBuilder, x: Ref) -> list[Ref]:
    wide = b.op("Square", b.op("ExpandDims", b.op("Cos", x), b.const(0, int32)))
    return [wide, b.op("LogSoftmax", x), b.op("Mul", x, wide)]


def _two_heads(b: StepBuilder, x: Ref) -> list[Ref]:
    e = b.op("Exp", x)
    rows, columns = b.reduce("Sum", e, [1]), b.reduce("Sum", e, [0])
    return [rows, columns, b.op("Log", rows), b.op("RealDiv", e, b.reduce("Max", e, [0, 1], True))]


@pytest.mark.parametrize("symbolic", [False, True], ids=["numbers", "symbols"])
@pytest.mark.parametrize("name", CASES)
def test_kernel(name: str, symbolic: bool) -> None:
    feeds, make = CASES[name]
    check(arrays(name, feeds), make, symbolic, rtol=1e-4)


@pytest.mark.parametrize("extent", [0, 2, 3, 8, 17])
def test_rows_of_any_number_use_one_program(extent: int) -> None:
    step = build([np.zeros((5, 10), np.float32)], lambda b, x: [b.op("Softmax", x), b.reduce("Sum", x, [0])], True)
    x = np.random.default_rng(0).standard_normal((extent, 10)).astype(np.float32)
    softmax, total = native(step)(x)
    want = np.exp(x - x.max(1, keepdims=True)) if extent else x
    np.testing.assert_allclose(softmax, want / want.sum(1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(total, x.sum(0), rtol=1e-5, atol=1e-5)


def test_special_values_survive() -> None:
    x = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-40, -1e-40, 3e38, -3e38, 1.0], np.float32)
    for op in ("Relu", "Exp", "Log", "Tanh", "Sigmoid", "Sqrt", "Abs", "Sign", "Neg", "Floor", "Round", "Square"):
        got = native(build([x], lambda b, v, op=op: b.op(op, v), False))(x)[0]
        with np.errstate(all="ignore"):
            from stepjit_compiler.interpret import interpret

            want = interpret(build([x], lambda b, v, op=op: b.op(op, v), False), [x], [])[0][0]
        np.testing.assert_allclose(got, want, rtol=1e-6, err_msg=op)
        np.testing.assert_array_equal(np.signbit(got[~np.isnan(want)]), np.signbit(want[~np.isnan(want)]), err_msg=op)
    for op in ("Maximum", "Minimum", "Add"):
        y = np.roll(x, 1)
        got = native(build([x, y], lambda b, v, w, op=op: b.op(op, v, w), False))(x, y)[0]
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(got, getattr(np, op.lower())(x, y), err_msg=op)


@pytest.mark.parametrize("shape", [(200_001,), (100_001, 2), (5, 40_003)])
@pytest.mark.parametrize("symbolic", [False, True])
def test_long_sums_keep_their_digits(shape: tuple[int, ...], symbolic: bool) -> None:
    x = np.random.default_rng(0).random(shape, np.float32)
    for axes in ([0], [len(shape) - 1], list(range(len(shape)))):
        step = build([x], lambda b, v, axes=axes: b.reduce("Sum", v, axes), symbolic)
        want = x.astype(np.float64).sum(tuple(set(axes)))
        np.testing.assert_allclose(native(step)(x)[0], want, rtol=1e-6)


def test_index_out_of_range_is_told() -> None:
    data, bad = np.zeros((4, 3), np.float32), np.array([1, 7, 2], np.int32)
    call = native(build([data, bad], lambda b, x, i: b.op("GatherV2", x, i, b.const(0, int32)), False))
    with pytest.raises(Failed) as failure:
        call(data, bad)
    assert failure.value.args[1:] == (1, 7, 4)
    assert call(data, np.array([1, 3, 2], np.int32))[0].shape == (3, 3)
