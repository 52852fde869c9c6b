"""Native code against the ops' references: every family of elementwise, reduction, product and expanded ops.

Many ops share one step, so that a family costs one compile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from runtime.hand import callable_of
from step_tools import SPECIAL

from stepjit_compiler import dims
from stepjit_compiler.compile import compile_step
from stepjit_compiler.interpret import interpret
from stepjit_compiler.ir import Ref, Step, Type
from stepjit_compiler.step_builder import StepBuilder
from stepjit_runtime import abi, dtypes
from stepjit_runtime.dtypes import DType
from stepjit_runtime.executable import Executable, Layout
from stepjit_runtime.resources import Resources

FLOATS = [dtypes.float32, dtypes.float64]
INTEGERS = [dtypes.int32, dtypes.int64, dtypes.int8, dtypes.uint8]
VALUES = [*SPECIAL, 0.3, -0.3, 0.99, 2.5, -0.5, 100.0, -100.0, 6.5]


def values(dtype: DType, *shape: int, seed: int = 0) -> np.ndarray:
    """Floats with the special ones among them, integers with the extremes."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape))
    if dtype.is_bool:
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.is_integer:
        pool: Any = [0, 1, 2, 7, 100, dtype.max, dtype.min, dtype.max - 3]
        return np.array(pool, dtype.np)[rng.integers(0, len(pool), size)].reshape(shape)
    return np.array(VALUES, dtype.np)[rng.integers(0, len(VALUES), size)].reshape(shape)


def agree(builder: StepBuilder, refs: Sequence[Any], arrays: Sequence[np.ndarray], labels: Sequence[str]) -> None:
    """The step's results by the interpreter and by native code are the same, but for rounding."""
    flat = [ref for made in refs for ref in ([made] if isinstance(made, Ref) else made)]
    names = [
        label for label, made in zip(labels, refs) for _ in ([made] if isinstance(made, Ref) else made)
    ]
    step = builder.finish(flat)
    wanted = interpret(step, list(arrays))[0]
    for name, got, want in zip(names, native(step, arrays), wanted, strict=True):
        assert got.dtype == want.dtype, name
        if want.dtype.kind == "f":
            close = {"rtol": 2e-5, "atol": 1e-6} if want.dtype == np.float32 else {"rtol": 1e-11, "atol": 1e-13}
            np.testing.assert_allclose(got, want, err_msg=name, **close)
        else:
            np.testing.assert_array_equal(got, want, err_msg=name)


def native(step: Step, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    compiled = compile_step(step)
    manifest = compiled.program.manifest
    assert not manifest.hosts, "an op of these runs on the host"
    executable = Executable(compiled.linked, manifest, Resources(), [])
    run = callable_of(executable, layout=Layout(abi.PACK_LIST, manifest.fetches))
    return [np.asarray(each) for each in run(*arrays)]


def symbolic(shape: Sequence[int], feed: int) -> tuple[Any, ...]:
    return tuple(dims.symbol(f"s{feed}_{axis}") for axis in range(len(shape)))


UNARY = ["Neg", "Abs", "Sign", "Square", "Sqrt", "Rsqrt", "Reciprocal", "Exp", "Expm1", "Log", "Log1p", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Tanh", "Asinh", "Acosh", "Atanh", "Sigmoid", "Softplus", "Softsign", "Floor", "Ceil", "Rint", "Round", "IsNan", "IsInf", "IsFinite", "Erf", "Erfc", "Relu", "Relu6", "LeakyRelu", "Elu", "Selu"]

BINARY = ["AddV2", "Sub", "Mul", "Div", "RealDiv", "FloorDiv", "TruncateDiv", "FloorMod", "Mod", "DivNoNan", "MulNoNan", "Xdivy", "Xlogy", "Xlog1py", "Pow", "Maximum", "Minimum", "SquaredDifference", "Atan2", "Less", "LessEqual", "Greater", "GreaterEqual", "Equal", "NotEqual"]

GRADIENTS = ["TanhGrad", "SigmoidGrad", "SqrtGrad", "RsqrtGrad", "ReciprocalGrad", "SoftplusGrad", "SoftsignGrad", "ReluGrad", "Relu6Grad", "LeakyReluGrad", "EluGrad", "SeluGrad", "ApproximateEqual"]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("static", [True, False])
def test_unary(dtype: DType, static: bool) -> None:
    x = values(dtype, 3, 37)
    builder = StepBuilder([Type(dtype, x.shape if static else symbolic(x.shape, 0))])
    agree(builder, [builder.op(name, builder.feed(0)) for name in UNARY], [x], UNARY)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_binary(dtype: DType) -> None:
    x, y = values(dtype, 5, 37), values(dtype, 37, seed=1)
    builder = StepBuilder([Type(dtype, (5, 37)), Type(dtype, (37,))])
    agree(builder, [builder.op(name, builder.feed(0), builder.feed(1)) for name in BINARY], [x, y], BINARY)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_gradients_of_values(dtype: DType) -> None:
    x, y = values(dtype, 200), values(dtype, 200, seed=1)
    builder = StepBuilder([Type(dtype, (200,))] * 2)
    agree(builder, [builder.op(name, builder.feed(0), builder.feed(1)) for name in GRADIENTS], [x, y], GRADIENTS)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integers(dtype: DType) -> None:
    x, y = values(dtype, 70), values(dtype, 70, seed=1)
    builder = StepBuilder([Type(dtype, (70,))] * 2)
    a, b = builder.feed(0), builder.feed(1)
    names = ["AddV2", "Sub", "Mul", "Maximum", "Minimum", "Less", "GreaterEqual", "Equal", "BitwiseAnd", "BitwiseXor",
             "LeftShift", "RightShift"]  # fmt: skip
    refs = [builder.op(name, a, b) for name in names]
    for divisor in (3, 1) if dtype.is_unsigned else (3, -1, -3):
        for name in ("Div", "FloorDiv", "TruncateDiv", "FloorMod"):
            names.append(f"{name} by {divisor}")
            refs.append(builder.op(name, a, builder.const(divisor, dtype)))
    one = ["Invert", "PopulationCount", *([] if dtype.is_unsigned else ["Neg", "Abs", "Sign", "Square"])]
    agree(builder, refs + [builder.op(name, a) for name in one], [x, y], names + one)


@pytest.mark.parametrize("source", [*FLOATS, *INTEGERS, dtypes.bool_, dtypes.uint32, dtypes.uint64], ids=str)
def test_casts(source: DType) -> None:
    x = values(source, 50)
    targets = [*FLOATS, *INTEGERS, dtypes.bool_, dtypes.int16, dtypes.uint16, dtypes.uint32, dtypes.uint64]
    builder = StepBuilder([Type(source, (50,))])
    refs = [builder.op("Cast", builder.feed(0), SrcT=source, DstT=target) for target in targets]
    agree(builder, refs, [x], [target.name for target in targets])


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.int32], ids=str)
@pytest.mark.parametrize("axes", [(), (0,), (1,), (2,), (0, 2), (1, 2), (0, 1, 2)], ids=str)
def test_reductions(axes: tuple[int, ...], dtype: DType, static: bool) -> None:
    x = np.random.default_rng(0).normal(size=(3, 5, 37)) * 2
    x = x.astype(dtype.np)
    builder = StepBuilder([Type(dtype, x.shape if static else symbolic(x.shape, 0))])
    feed = builder.feed(0)
    names = ["Sum", "Max", "Min", "Mean"]
    refs = [builder.reduce(name, feed, axes, keep) for name in names for keep in (False, True)]
    labels = [name for name in names for _ in range(2)]
    if len(axes) == 1:
        for name in ("ArgMax", "ArgMin"):
            refs.append(builder.op(name, feed, builder.dims(axes[0])))
            labels.append(name)
    agree(builder, refs, [x], labels)


def test_reductions_of_special_values_and_of_nothing() -> None:
    x = values(dtypes.float32, 20, 7)
    builder = StepBuilder([Type(dtypes.float32, x.shape), Type(dtypes.float32, (3, 0)), Type(dtypes.bool_, (6, 9))])
    names = ["Max", "Min", "Sum", "Mean"]
    refs = [builder.reduce(name, builder.feed(k), [axis]) for name in names for k, axis in ((0, 0), (0, 1), (1, 1))]
    refs += [builder.reduce("Prod", builder.feed(1), [axis]) for axis in (0, 1)]
    refs += [builder.op(name, builder.feed(0), builder.dims(1)) for name in ("ArgMax", "ArgMin")]
    refs += [builder.reduce(name, builder.feed(2), [axis]) for name in ("Any", "All") for axis in (0, 1)]
    labels = [name for name in names for _ in range(3)] + ["Prod", "Prod", "ArgMax", "ArgMin", "Any", "Any", "All", "All"]
    arrays = [x, np.zeros((3, 0), np.float32), values(dtypes.bool_, 6, 9)]
    agree(builder, refs, arrays, labels)


@pytest.mark.parametrize("static", [True, False])
def test_choices_and_rows(static: bool) -> None:
    arrays = [values(dtypes.bool_, 6), values(dtypes.float32, 6, 9), values(dtypes.float32, 6, 9, seed=1)]
    types = [dtypes.bool_, dtypes.float32, dtypes.float32]
    builder = StepBuilder(
        [Type(t, a.shape if static else symbolic(a.shape, i)) for i, (t, a) in enumerate(zip(types, arrays))]
    )
    rows, x, y = (builder.feed(i) for i in range(3))
    low, high = builder.const(-1, dtypes.float32), builder.const(2, dtypes.float32)
    refs = [builder.op("Select", rows, x, y), builder.op("ClipByValue", x, low, high),
            builder.op("SelectV2", builder.op("Less", x, y), x, low)]  # fmt: skip
    agree(builder, refs, arrays, ["Select", "ClipByValue", "SelectV2"])


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 9), (3, 300), (0, 4)], ids=str)
def test_softmax_family(shape: tuple[int, ...], static: bool) -> None:
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32) * 5
    arrays = [x, np.abs(x)] if len(shape) == 2 else [x]
    builder = StepBuilder([Type(dtypes.float32, shape if static else symbolic(shape, i)) for i in range(len(arrays))])
    names = ["Softmax", "LogSoftmax", "L2Loss"]
    refs = [builder.op(name, builder.feed(0)) for name in names]
    if len(shape) == 2:
        names += ["SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits"]
        refs.append(builder.op(names[3], builder.feed(0), builder.feed(1)))
        labels = builder.const(np.arange(shape[0]) % shape[1], dtypes.int64)
        refs.append(builder.op(names[4], builder.feed(0), labels))
    agree(builder, refs, arrays, names)


@pytest.mark.parametrize("layout", [b"NHWC", b"NCHW"])
def test_bias(layout: bytes) -> None:
    x = np.random.default_rng(1).normal(size=(2, 4, 3, 4)).astype(np.float32)
    builder = StepBuilder([Type(dtypes.float32, x.shape), Type(dtypes.float32, (4,))])
    refs = [builder.op("BiasAdd", builder.feed(0), builder.feed(1), data_format=layout),
            builder.op("BiasAddGrad", builder.feed(0), data_format=layout)]  # fmt: skip
    agree(builder, refs, [x, np.arange(4, dtype=np.float32)], ["BiasAdd", "BiasAddGrad"])


@pytest.mark.parametrize("kind", ["update", "add", "sub", "mul", "div", "min", "max"])
def test_scattered_rows(kind: str) -> None:
    data, updates = values(dtypes.float32, 5, 9), values(dtypes.float32, 4, 9, seed=1)
    builder = StepBuilder([Type(dtypes.float32, (5, 9)), Type(dtypes.float32, (4, 9))])
    indices = builder.const([3, 0, 3, 1], dtypes.int64)
    rows = builder.op("_ScatterRows", builder.feed(0), indices, builder.feed(1), kind=kind.encode())
    one = builder.const(2.5, dtypes.float32)
    agree(
        builder, [rows, builder.op("_ScatterRows", builder.feed(0), indices, one, kind=kind.encode())],
        [data, updates], ["rows", "a scalar"],
    )  # fmt: skip
