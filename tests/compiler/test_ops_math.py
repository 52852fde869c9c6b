"""Arithmetic, reduction, product, activation, variable and optimizer ops: their references and shape rules."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from stepjit_compiler import opdef
from stepjit_compiler.interpret import interpret
from stepjit_compiler.ir import Ref, StepFailure, Type
from stepjit_compiler.lowering import Composite, Update
from stepjit_compiler.opdef import Call
from stepjit_compiler.step_builder import StepBuilder
from stepjit_runtime import dtypes
from stepjit_runtime.errors import INVALID_ARGUMENT, OUT_OF_RANGE, OpFailure

NAN, INF = np.nan, np.inf
SPECIAL = np.array([0.0, -0.0, 1.0, -1.5, NAN, INF, -INF, 0.3, 2.5, -0.5, 6.5, 1e-30], np.float32)


def run(name: str, *arrays: Any, **attrs: Any) -> Any:
    """The op on fed arrays, checked against its shape rule by the interpreter; small integer inputs are constants."""
    inputs = [np.asarray(array) for array in arrays]
    builder = StepBuilder([Type(dtypes.as_dtype(each.dtype), each.shape) for each in inputs])
    refs = [
        builder.const(each, dtypes.as_dtype(each.dtype)) if each.dtype == np.int32 and each.ndim < 2 else builder.feed(i)
        for i, each in enumerate(inputs)
    ]
    op = opdef.lookup(name)
    assert op is not None
    if isinstance(op.lower, Update):
        call = Call(name, {attr.name: attr.default for attr in op.attrs} | attrs, [])
        made: Any = op.lower.expand(builder, call, *refs)
    else:
        made = builder.op(name, *refs, **attrs)
    found = interpret(builder.finish([made] if isinstance(made, Ref) else list(made)), inputs)[0]
    return found[0] if len(found) == 1 else found


def failing(name: str, *arrays: Any, **attrs: Any) -> OpFailure:
    with pytest.raises((OpFailure, StepFailure)) as caught:
        run(name, *arrays, **attrs)
    error: Any = caught.value
    found: OpFailure = error.failure if isinstance(error, StepFailure) else error
    return found


def f32(*values: Any) -> np.ndarray:
    return np.array(values, np.float32)


def i32(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def feeding(*values: int) -> np.ndarray:
    """Integers that are fed, not constants: `run` takes int32 vectors for constants."""
    return np.array(values, np.int64)


# --- every op has what it needs ---


def test_every_op_has_a_meaning() -> None:
    stateful = {"VariableV2", "Variable", "VarHandleOp", "ReadVariableOp", "IsVariableInitialized", "VarIsInitializedOp"}
    lacking = [
        name
        for name, op in opdef.registered().items()
        if op.reference is None and not isinstance(op.lower, (Composite, Update)) and not op.stateful
    ]
    regions = {name for name in lacking if any("func" in attr.type for attr in opdef.registered()[name].attrs)}
    assert set(lacking) - stateful - regions <= {
        "NoOp", "ControlTrigger", "Const", "_Arg", "_RowExtents", "_ExtentsOfRow",
    }  # fmt: skip


# --- one value in, one out ---

UNARY: list[tuple[str, Callable[..., Any]]] = [
    ("Neg", np.negative), ("Abs", np.abs), ("Sign", np.sign), ("Square", np.square), ("Sqrt", np.sqrt),
    ("Rsqrt", lambda x: 1 / np.sqrt(x)), ("Reciprocal", lambda x: 1 / x), ("Exp", np.exp), ("Expm1", np.expm1),
    ("Log", np.log), ("Log1p", np.log1p), ("Sin", np.sin), ("Cos", np.cos), ("Tan", np.tan), ("Asin", np.arcsin),
    ("Acos", np.arccos), ("Atan", np.arctan), ("Sinh", np.sinh), ("Cosh", np.cosh), ("Tanh", np.tanh),
    ("Asinh", np.arcsinh), ("Acosh", np.arccosh), ("Atanh", np.arctanh), ("Sigmoid", lambda x: 1 / (1 + np.exp(-x))),
    ("Softplus", lambda x: np.logaddexp(x, 0)), ("Softsign", lambda x: x / (1 + np.abs(x))), ("Floor", np.floor),
    ("Ceil", np.ceil), ("Rint", np.rint), ("Round", np.rint), ("IsNan", np.isnan), ("IsInf", np.isinf),
    ("IsFinite", np.isfinite), ("Relu", lambda x: np.maximum(x, 0)), ("Relu6", lambda x: np.clip(x, 0, 6)),
    ("LeakyRelu", lambda x: np.where(x > 0, x, np.float32(0.2) * x)), ("Elu", lambda x: np.where(x < 0, np.expm1(x), x)),
    ("Selu", lambda x: np.where(x < 0, 1.7580993 * np.expm1(x), 1.050701 * x).astype(np.float32)),
    ("Erf", lambda x: np.array([math.erf(v) for v in x], np.float32)),
    ("Erfc", lambda x: np.array([math.erfc(v) for v in x], np.float32)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "function"), UNARY, ids=[name for name, _ in UNARY])
def test_unary(name: str, function: Callable[..., Any]) -> None:
    with np.errstate(all="ignore"):
        want = function(SPECIAL)
    np.testing.assert_allclose(run(name, SPECIAL), want, rtol=2e-6, atol=1e-9)
    empty = run(name, np.zeros((0, 3), np.float32))
    assert empty.shape == (0, 3)
    assert run(name, np.float32(0.5)).shape == ()


def test_rounding_and_negative_zero() -> None:
    assert run("Round", f32(0.5, 1.5, 2.5, -0.5)).tolist() == [0, 2, 2, 0]
    assert np.signbit(run("Neg", f32(0.0)))[0]
    assert np.signbit(run("Ceil", f32(-0.5)))[0]
    assert run("Abs", np.array([-128], np.int8)).tolist() == [-128]


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_rounds_once(dtype: Any) -> None:
    x = np.linspace(-3, 3, 50).astype(dtype)
    for name, function in (("Tanh", np.tanh), ("Exp", np.exp), ("Sigmoid", lambda v: 1 / (1 + np.exp(-v)))):
        found = run(name, x)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, function(x.astype(np.float32)).astype(dtype))


def test_special_functions() -> None:
    x = np.array([-0.9, -1e-9, 0.0, 0.5, 1.0, -1.0, 1.5])
    found = run("Erfinv", x)
    np.testing.assert_allclose([math.erf(v) for v in found[:4]], x[:4], rtol=1e-14)
    assert found[4:6].tolist() == [INF, -INF]
    assert np.isnan(found[6])
    np.testing.assert_allclose(run("Digamma", np.array([1.0, 2.0, -2.5])), [-0.5772156649015329, 0.42278433509846713, 1.1031566406452432], rtol=1e-13)
    np.testing.assert_array_equal(run("Lgamma", np.array([1.0, 0.0, -1.0, INF])), [0, INF, INF, INF])
    np.testing.assert_allclose(run("Igamma", np.array([1.0, 3.0]), np.array([2.0, 9.0])), [1 - math.exp(-2), 1 - math.exp(-9) * (1 + 9 + 40.5)], rtol=1e-13)
    np.testing.assert_allclose(run("Betainc", np.float64(2), np.float64(3), np.float64(0.5)), 0.6875, rtol=1e-13)
    np.testing.assert_allclose(run("Zeta", np.array([2.0, 4.0]), np.array([1.0, 1.0])), [math.pi**2 / 6, math.pi**4 / 90], rtol=1e-13)
    np.testing.assert_allclose(run("Polygamma", np.array([1.0]), np.array([1.0])), math.pi**2 / 6, rtol=1e-13)


# --- two values in ---

BINARY: list[tuple[str, Callable[..., Any]]] = [
    ("Add", np.add), ("AddV2", np.add), ("Sub", np.subtract), ("Mul", np.multiply), ("RealDiv", np.divide),
    ("Maximum", np.maximum), ("Minimum", np.minimum), ("Mod", np.fmod), ("Pow", np.power), ("Atan2", np.arctan2),
    ("SquaredDifference", lambda a, b: (a - b) ** 2), ("FloorDiv", lambda a, b: np.floor(a / b)),
    ("TruncateDiv", lambda a, b: np.trunc(a / b)), ("Less", np.less), ("GreaterEqual", np.greater_equal),
    ("Equal", np.equal), ("NotEqual", np.not_equal), ("DivNoNan", lambda a, b: np.where(b == 0, 0, a / b)),
    ("MulNoNan", lambda a, b: np.where(b == 0, 0, a * b)), ("Xdivy", lambda a, b: np.where(a == 0, 0, a / b)),
    ("Xlogy", lambda a, b: np.where(a == 0, 0, a * np.log(b))),
]  # fmt: skip


@pytest.mark.parametrize(("name", "function"), BINARY, ids=[name for name, _ in BINARY])
def test_binary(name: str, function: Callable[..., Any]) -> None:
    a, b = SPECIAL[:, None], SPECIAL
    with np.errstate(all="ignore"):
        want = function(a, b)
    np.testing.assert_allclose(run(name, a, b), want, rtol=2e-6)
    assert run(name, np.zeros((0, 1), np.float32), np.zeros(4, np.float32)).shape == (0, 4)


def test_incompatible_shapes() -> None:
    message = failing("Add", f32(1, 2, 3), f32(1, 2)).message
    assert "Incompatible shapes: [3] vs. [2]" in message
    assert "Dimensions must be equal, but are 3 and 2" in message
    assert run("Equal", f32(1, 2, 3), f32(1, 2), incompatible_shape_error=False).tolist() is False
    assert run("NotEqual", f32(1, 2, 3), f32(1, 2), incompatible_shape_error=False).tolist() is True


def test_integer_division() -> None:
    x, y = np.array([7, -7, 7, -7, -128], np.int8), np.array([2, 2, -2, -2, -1], np.int8)
    assert run("FloorDiv", x, y).tolist() == [3, -4, -4, 3, -128]
    assert run("Div", x, y).tolist() == [3, -3, -3, 3, -128]
    assert run("TruncateDiv", x, y).tolist() == [3, -3, -3, 3, -128]
    assert run("FloorMod", x, y).tolist() == [1, 1, -1, -1, 0]
    assert run("Mod", x.astype(np.int64), y.astype(np.int64)).tolist() == [1, -1, 1, -1, 0]
    assert run("FloorMod", f32(7, -7, 7, -7), f32(2, 2, -2, -2)).tolist() == [1, 1, -1, -1]
    for name in ("FloorDiv", "Div", "FloorMod", "Mod"):
        failure = failing(name, feeding(1, 2), feeding(1, 0))
        assert (failure.message, failure.code) == ("Integer division by zero", INVALID_ARGUMENT)
    assert run("FloorDiv", np.zeros((0, 2), np.int64), feeding(0, 0)).shape == (0, 2)


def test_integer_powers() -> None:
    assert run("Pow", np.array([100, -3], np.int8), np.array([3, 3], np.int8)).tolist() == [64, -27]
    assert "negative integer powers" in failing("Pow", feeding(1, 2), feeding(1, -1)).message


def test_integers_wrap() -> None:
    assert run("Add", np.array([127], np.int8), np.array([1], np.int8)).tolist() == [-128]
    assert run("Sub", np.array([0], np.uint8), np.array([1], np.uint8)).tolist() == [255]
    assert run("LeftShift", feeding(1, 1, 1), feeding(63, 64, -1)).tolist() == [-(2**63), -(2**63), 1]
    assert run("RightShift", feeding(-64, -64), feeding(2, 99)).tolist() == [-16, -1]
    assert run("Invert", np.array([12], np.uint8)).tolist() == [243]


def test_gradient_ops_of_zero_gradients() -> None:
    y, zero = f32(0, -1, INF), f32(0, 0, 0)
    for name in ("SqrtGrad", "RsqrtGrad", "ReciprocalGrad", "InvGrad"):
        assert run(name, y, zero).tolist() == [0, 0, 0]
    assert run("ReluGrad", f32(1, 2, 3, NAN), f32(NAN, INF, -1, -1))[:3].tolist() == [0, 2, 0]
    assert np.isnan(run("ReluGrad", f32(NAN), f32(-1)))[0]
    np.testing.assert_allclose(run("TanhGrad", f32(0.5, 2), f32(3, 4)), [2.25, -12])
    np.testing.assert_allclose(run("SigmoidGrad", f32(0.5, 2), f32(3, 4)), [0.75, -8])


def test_choices() -> None:
    low, high, x = np.float32(-1), np.float32(2), f32(NAN, 5, -5, 1)
    np.testing.assert_array_equal(run("ClipByValue", x, low, high), [NAN, 2, -1, 1])
    np.testing.assert_array_equal(run("ClipByValue", x, np.float32(NAN), high), [NAN, 2, -5, 1])
    np.testing.assert_array_equal(run("ClipByValue", x, np.float32(3), high), [NAN, 3, 3, 3])
    a, b = np.arange(6.0).reshape(2, 3), -np.arange(6.0).reshape(2, 3)
    rows = np.array([True, False])
    np.testing.assert_array_equal(run("Select", rows, a, b), [a[0], b[1]])
    np.testing.assert_array_equal(run("Select", np.array(False), a, b), b)
    np.testing.assert_array_equal(run("SelectV2", rows[:, None], a, np.float64(9)), [a[0], [9, 9, 9]])
    assert "Number of batches" in failing("Select", np.array([True] * 3), a, b).message


CASTS = [
    (f32(1.9, -1.9, 300.5, -300), np.int32, [1, -1, 300, -300]), (f32(NAN, INF, -INF, 3e9), np.int32, [-(2**31)] * 4),
    (f32(300.5, 70000), np.uint8, [44, 112]), (f32(3e9), np.uint32, [3000000000]),
    (np.array([1e19, -1.0]), np.uint64, [10**19, 2**64 - 1]), (feeding(2**32 + 5, -1), np.int32, [5, -1]),
    (feeding(0, 1, -5), np.bool_, [False, True, True]), (f32(0, -0.5, NAN), np.bool_, [False, True, True]),
    (np.array([1 + 2j], np.complex64), np.float32, [1.0]), (np.array([True, False]), np.float32, [1.0, 0.0]),
]  # fmt: skip


@pytest.mark.parametrize(("x", "target", "want"), CASTS)
def test_cast(x: np.ndarray, target: Any, want: list[Any]) -> None:
    found = run("Cast", x, SrcT=dtypes.as_dtype(x.dtype), DstT=dtypes.as_dtype(target))
    assert found.dtype == target
    assert found.tolist() == want


def test_float64_becomes_half_by_way_of_float32() -> None:
    x = np.array([1 + 2.0**-11 + 2.0**-40, 65520 - 1e-9, 2.0**-25 + 2.0**-60])
    found = run("Cast", x, SrcT=dtypes.float64, DstT=dtypes.float16)
    np.testing.assert_array_equal(found, np.array([1, np.inf, 0], np.float16))


def test_bitcast() -> None:
    pair = run("Bitcast", np.array([1.0, 2.0], np.float32), type=dtypes.uint16)
    assert pair.tolist() == [[0, 0x3F80], [0, 0x4000]]
    assert run("Bitcast", pair, type=dtypes.float32).tolist() == [1.0, 2.0]
    assert "Cannot bitcast" in failing("Bitcast", np.zeros((2, 3), np.uint8), type=dtypes.float32).message


# --- reductions ---

REDUCED: list[tuple[str, Callable[..., Any], Any, Any]] = [
    ("Sum", np.sum, 0, 0), ("Prod", np.prod, 1, 1), ("Mean", np.mean, NAN, 0), ("Max", np.max, -INF, -(2**31)),
    ("Min", np.min, INF, 2**31 - 1),
]  # fmt: skip


@pytest.mark.parametrize(("name", "function", "of_floats", "of_ints"), REDUCED, ids=[each[0] for each in REDUCED])
def test_reductions(name: str, function: Callable[..., Any], of_floats: Any, of_ints: Any) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    for axes in ((0,), (-1,), (0, 2), (2, 0, 1), ()):
        for keep in (False, True):
            found = run(name, x, i32(*axes), keep_dims=keep)
            np.testing.assert_allclose(found, function(x, axis=axes, keepdims=keep), rtol=1e-5)
    np.testing.assert_array_equal(run(name, np.zeros((2, 0), np.float32), i32(1)), [of_floats] * 2)
    np.testing.assert_array_equal(run(name, np.zeros((2, 0), np.int32), i32(1)), [of_ints] * 2)
    assert np.isnan(run(name, f32(1, NAN, 2), i32(0)))
    assert run(name, np.float32(5), np.zeros(0, np.int32)).tolist() == 5
    assert "Invalid reduction dimension" in failing(name, x, i32(3)).message


def test_reductions_of_integers() -> None:
    assert run("Mean", feeding(1, 2, 4), i32(0)).tolist() == 2
    assert run("Mean", feeding(-1, -2), i32(0)).tolist() == -1
    assert run("Mean", np.array([127, 127, 100], np.int8), i32(0)).tolist() == 118
    assert run("Sum", np.array([100, 100], np.int8), i32(0)).tolist() == -56
    assert run("Any", np.zeros((2, 0), bool), i32(1)).tolist() == [False, False]
    assert run("All", np.zeros((2, 0), bool), i32(1)).tolist() == [True, True]


def test_places_of_extremes() -> None:
    x = f32([NAN, 1, 2], [1, NAN, 2], [1, 2, NAN], [NAN, NAN, NAN], [2, 2, 1], [1, 1, 2])
    assert run("ArgMax", x, np.int32(1)).tolist() == [2, 2, 1, 0, 0, 2]
    assert run("ArgMin", x, np.int32(-1)).tolist() == [1, 0, 0, 0, 2, 0]
    assert run("ArgMax", x, np.int32(0), output_type=dtypes.int32).dtype == np.int32
    assert "Reduction axis 1 is empty in shape [2,0]" in failing("ArgMax", np.zeros((2, 0)), np.int32(1)).message
    assert "Expected dimension in the range [-2, 2), but got 2" in failing("ArgMax", x, np.int32(2)).message
    assert run("ArgMax", np.zeros((0, 2)), np.int32(1)).shape == (0,)


def test_scans() -> None:
    x = f32([1, 2, 3], [4, 5, 6])
    assert run("Cumsum", x, np.int32(1)).tolist() == [[1, 3, 6], [4, 9, 15]]
    assert run("Cumsum", x, np.int32(-1), exclusive=True, reverse=True).tolist() == [[5, 3, 0], [11, 6, 0]]
    assert run("Cumprod", x, np.int32(0), exclusive=True).tolist() == [[1, 1, 1], [1, 2, 3]]
    assert run("Cumsum", np.zeros((2, 0), np.float32), np.int32(1), exclusive=True).shape == (2, 0)
    assert "scan axis" in failing("Cumsum", x, np.int32(2)).message


# --- products ---


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_matmul(transpose_a: bool, transpose_b: bool) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(3, 4))
    left, right = (a.T if transpose_a else a), (b.T if transpose_b else b)
    np.testing.assert_allclose(run("MatMul", left, right, transpose_a=transpose_a, transpose_b=transpose_b), a @ b)
    batch = run("BatchMatMulV2", np.stack([left] * 3), right[None], adj_x=transpose_a, adj_y=transpose_b)
    np.testing.assert_allclose(batch, np.stack([a @ b] * 3))


def test_matmul_errors() -> None:
    a = np.zeros((2, 3))
    message = failing("MatMul", a, a).message
    assert "Matrix size-incompatible: In[0]: [2,3], In[1]: [2,3]" in message
    assert "Dimensions must be equal" in message
    assert "rank 2" in failing("MatMul", a, np.zeros(3)).message
    assert "must be the same" in failing("BatchMatMul", np.zeros((2, 2, 3)), np.zeros((1, 3, 2))).message
    assert run("MatMul", np.zeros((2, 0)), np.zeros((0, 3))).tolist() == [[0] * 3] * 2
    conjugated = run("BatchMatMulV2", np.array([[1j]]), np.array([[1j]]), adj_x=True)
    assert conjugated.tolist() == [[1]]


# --- neural networks ---


def test_bias() -> None:
    value, bias = np.zeros((2, 3, 4, 5), np.float32), np.arange(5, dtype=np.float32)
    assert run("BiasAdd", value, bias)[1, 2, 3].tolist() == bias.tolist()
    channels = run("BiasAdd", value, bias[:3], data_format=b"NCHW")
    assert channels[0, :, 1, 1].tolist() == [0, 1, 2]
    assert run("BiasAddGrad", value + 1, data_format=b"NCHW").tolist() == [40] * 3
    assert run("BiasAddGrad", value + 1).tolist() == [24] * 5
    assert "Must provide as many biases" in failing("BiasAdd", value, bias[:2]).message


def test_softmax_of_special_values() -> None:
    x = f32([NAN, 1, 2], [INF, 1, 2], [-INF, 0, 0], [-INF, -INF, -INF], [1000, 0, -1000])
    want = f32([NAN] * 3, [NAN] * 3, [0, 0.5, 0.5], [NAN] * 3, [1, 0, 0])
    np.testing.assert_allclose(run("Softmax", x), want)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(run("LogSoftmax", x)[:4], np.log(want)[:4], rtol=1e-6)
    assert run("LogSoftmax", x)[4].tolist() == [0, -1000, -2000]
    assert run("Softmax", np.zeros((0, 5))).shape == (0, 5)


def test_cross_entropies_agree() -> None:
    logits = np.random.default_rng(2).normal(size=(4, 3))
    labels = feeding(0, 2, 1, 1)
    dense = run("SoftmaxCrossEntropyWithLogits", logits, np.eye(3)[labels])
    sparse = run("SparseSoftmaxCrossEntropyWithLogits", logits, labels)
    for a, b in zip(dense, sparse):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    np.testing.assert_allclose(sparse[0], -np.log(run("Softmax", logits))[np.arange(4), labels], rtol=1e-12)
    loss, backprop = run("SoftmaxCrossEntropyWithLogits", logits[:, :1], np.eye(3)[labels])
    assert (loss.shape, backprop.shape) == ((4,), (4, 3))
    message = failing("SparseSoftmaxCrossEntropyWithLogits", logits, feeding(0, 9, 1, 1)).message
    assert "Received a label value of 9 which is outside the valid range of [0, 3)" in message


def test_top_k() -> None:
    values, indices = run("TopKV2", f32([1, 3, 3], [NAN, 1, 2]), np.int32(2))
    assert values[0].tolist() == [3, 3]
    assert indices.tolist() == [[1, 2], [0, 2]]
    assert "must have at least k columns" in failing("TopKV2", f32(1, 2), np.int32(3)).message
    found = run("InTopKV2", f32([1, 2, 3], [3, 2, 1], [NAN, 1, 2], [1, 1, 1]), feeding(2, 5, 1, 2), np.int64(1))
    assert found.tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    "name",
    ["Select", "BiasAdd", "BiasAddGrad", "L2Loss", "Softmax", "LogSoftmax", "SoftmaxCrossEntropyWithLogits",
     "SparseSoftmaxCrossEntropyWithLogits", "EuclideanNorm"],
)  # fmt: skip
def test_expansions_mean_the_same(name: str) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4, 5)).astype(np.float32)
    more: dict[str, tuple[Any, ...]] = {
        "Select": (x > 0, x, -x), "BiasAdd": (x, x[0]), "SoftmaxCrossEntropyWithLogits": (x, np.abs(x)),
        "SparseSoftmaxCrossEntropyWithLogits": (x, feeding(0, 4, 1, 2)), "EuclideanNorm": (x, i32(1)),
    }  # fmt: skip
    inputs = [np.asarray(each) for each in more.get(name, (x,))]
    want = run(name, *inputs)
    builder = StepBuilder([Type(dtypes.as_dtype(each.dtype), each.shape) for each in inputs])
    refs = [
        builder.const(each, dtypes.int32) if each.dtype == np.int32 else builder.feed(i)
        for i, each in enumerate(inputs)
    ]
    op = opdef.lookup(name)
    assert op is not None
    assert isinstance(op.lower, Composite)
    attrs = {attr.name: attr.default for attr in op.attrs}
    made = op.lower.expand(builder, Call(name, attrs, []), *refs)
    found = interpret(builder.finish([made] if isinstance(made, Ref) else list(made)), inputs)[0]
    for a, b in zip(found, want if isinstance(want, list) else [want]):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# --- variables and optimizers ---


def test_assignments() -> None:
    old, value = f32(1, 2), f32(10, 20)
    assert run("Assign", old, value).tolist() == [10, 20]
    assert run("AssignAdd", old, value).tolist() == [11, 22]
    assert run("AssignSubVariableOp", old, value).tolist() == [-9, -18]
    assert "must be the same size" in failing("AssignAdd", old, np.float32(1)).message
    assert run("CountUpTo", np.int64(2), limit=3).tolist() == 3
    failure = failing("CountUpTo", np.int64(3), limit=3)
    assert (failure.message, failure.code) == ("Reached limit of 3", OUT_OF_RANGE)


def test_rows() -> None:
    data, updates = np.zeros((3, 2), np.float32), f32([1, 2], [3, 4], [5, 6])
    indices = feeding(2, 0, 2)
    assert run("ScatterUpdate", data, indices, updates).tolist() == [[3, 4], [0, 0], [5, 6]]
    assert run("ScatterAdd", data, indices, updates).tolist() == [[3, 4], [0, 0], [6, 8]]
    assert run("ResourceScatterSub", data, indices, np.float32(1)).tolist() == [[-1, -1], [0, 0], [-2, -2]]
    assert run("ScatterMax", data, indices, -updates).tolist() == [[0, 0]] * 3
    assert run("ScatterAdd", data, feeding(), np.zeros((0, 2), np.float32)).tolist() == data.tolist()
    assert "indices[1] = 3 is not in [0, 3)" in failing("ScatterAdd", data, feeding(0, 3, 1), updates).message
    assert "indices[0,1] = -1 is not in" in failing("ScatterAdd", data, np.array([[0, -1]]), np.float32(1)).message
    assert "updates.shape" in failing("ScatterAdd", data, indices, updates[:2]).message


def _scalars(*values: float) -> list[np.float32]:
    return [np.float32(value) for value in values]


def _adam(var: Any, m: Any, v: Any, powers: Sequence[float], lr: float, b1: float, b2: float, eps: float, g: Any) -> Any:
    m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
    return var - lr * np.sqrt(1 - powers[1]) / (1 - powers[0]) * m / (np.sqrt(v) + eps), m, v


def test_optimizers() -> None:
    rng = np.random.default_rng(4)
    var, accum, v, g = (np.abs(rng.normal(size=(3, 2))).astype(np.float32) for _ in range(4))
    descent = run("ApplyGradientDescent", var, np.float32(0.1), g)
    np.testing.assert_allclose(descent, var - np.float32(0.1) * g, rtol=1e-6)
    np.testing.assert_allclose(
        run("ApplyMomentum", var, accum, np.float32(0.1), g, np.float32(0.9)),
        (var - 0.1 * (accum * 0.9 + g), accum * 0.9 + g), rtol=1e-5,
    )  # fmt: skip
    ahead = accum * 0.9 + g
    np.testing.assert_allclose(
        run("ApplyMomentum", var, accum, np.float32(0.1), g, np.float32(0.9), use_nesterov=True)[0],
        var - 0.1 * (g + 0.9 * ahead), rtol=1e-5,
    )  # fmt: skip
    found = run("ResourceApplyAdam", var, accum, v, *_scalars(0.9, 0.99, 0.01, 0.9, 0.99, 1e-7), g)
    for a, b in zip(found, _adam(var, accum, v, (0.9, 0.99), 0.01, 0.9, 0.99, 1e-7, g)):
        np.testing.assert_allclose(a, b, rtol=1e-4)
    new_var, new_accum = run("SparseApplyAdagrad", var, accum, np.float32(0.1), g[:1], feeding(2))
    np.testing.assert_allclose(new_accum[2], accum[2] + g[0] ** 2, rtol=1e-6)
    np.testing.assert_allclose(new_var[2], var[2] - 0.1 * g[0] / np.sqrt(new_accum[2]), rtol=1e-5)
    np.testing.assert_array_equal(new_var[:2], var[:2])
    assert "do not have the same shape" in failing("ApplyGradientDescent", var, np.float32(1), g[:2]).message
