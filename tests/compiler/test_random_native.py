"""Native random numbers against the references: dtypes, sizes around those of vectors and groups, symbols, failures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from native_steps import Failed

from stepjit_compiler import dims
from stepjit_compiler.compile import compile_step
from stepjit_compiler.interpret import interpret
from stepjit_compiler.ir import Slot, Step, Type
from stepjit_compiler.options import options
from stepjit_compiler.step_builder import StepBuilder
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType
from stepjit_runtime.executable import Executable
from stepjit_runtime.random_stream import RandomStream
from stepjit_runtime.resources import Resources
from stepjit_runtime.step_callable import StepCallable

SIZES = (0, 1, 3, 4, 5, 8, 31, 32, 33, 1023)
SEEDS = (123 | 5 << 32, 456 | 9 << 40)


class Case:
    """One random op as a step over given feeds, with a stream for the interpreter and one for native code."""

    def __init__(self, op: str, feeds: Sequence[Type], make_inputs: Any, stateful: bool, **attrs: Any) -> None:
        slots = [Slot("stream", Type(dtypes.int64, ()), -1)] if stateful else []
        builder = StepBuilder(feeds, slots)
        inputs = make_inputs(builder, *[builder.feed(j) for j in range(len(feeds))])
        if stateful:
            attrs = {"seed": 0, "seed2": 0, "_slot": 0, **attrs}
        node = builder.op(op, *inputs, **attrs)
        self.step: Step = builder.finish([node], (), [node.node])
        self.streams = [RandomStream(*SEEDS) for _ in range(2)]

    def want(self, *arrays: np.ndarray) -> np.ndarray:
        return interpret(self.step, arrays, (), {0: self.streams[0]})[0][0]

    def native(self) -> StepCallable:
        with options(verify=True):
            compiled = compile_step(self.step)
        manifest = compiled.program.manifest
        assert not manifest.hosts
        assert "random" in {kernel.kind for kernel in manifest.kernels}

        def fail(*facts: int) -> None:
            raise Failed(*facts)

        slots = manifest.slots
        executable = Executable(
            compiled.linked, manifest, Resources(), [None] * len(slots), dict.fromkeys(range(len(slots)), self.streams[1])
        )
        call = StepCallable(fail)
        call.attach(executable.context(fail, fail))
        return call

    def compare(self, *arrays: np.ndarray, times: int = 2, ulps: int = 0) -> None:
        call = self.native()
        for _ in range(times):
            (got,), want = call(*arrays), self.want(*arrays)
            got = np.asarray(got)
            assert (got.shape, got.dtype) == (want.shape, want.dtype)
            if ulps:
                np.testing.assert_array_max_ulp(got, want, ulps)
            else:
                np.testing.assert_array_equal(got, want)
        assert self.streams[0].take(0) == self.streams[1].take(0)


def sized(*extents: int) -> Any:
    return lambda builder, *feeds: [builder.const(list(extents), dtypes.int32), *feeds]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64], ids=str)
def test_uniforms(dtype: DType, size: int) -> None:
    Case("RandomUniform", [], sized(size), True, dtype=dtype).compare()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64], ids=str)
def test_normals(dtype: DType, size: int) -> None:
    # float64 functions are right to a unit or two in the last place, float32 ones are glibc's.
    Case("RandomStandardNormal", [], sized(size), True, dtype=dtype).compare(ulps=0 if dtype is dtypes.float32 else 4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64], ids=str)
def test_truncated_normals(dtype: DType, size: int) -> None:
    Case("TruncatedNormal", [], sized(size), True, dtype=dtype).compare(ulps=1 if dtype is dtypes.float32 else 4)


def test_single_normals_do_not_differ() -> None:
    case = Case("RandomStandardNormal", [], sized(100_000), True, dtype=dtypes.float32)
    (got,) = case.native()()
    assert np.count_nonzero(got != case.want()) == 0


@pytest.mark.parametrize("op", ["StatelessRandomUniform", "StatelessRandomNormal", "StatelessTruncatedNormal"])
@pytest.mark.parametrize("seed_dtype", [dtypes.int32, dtypes.int64], ids=str)
def test_stateless_floats(op: str, seed_dtype: DType) -> None:
    case = Case(op, [Type(seed_dtype, (2,))], sized(3, 7), False, dtype=dtypes.float32)
    for seed in ((0, 0), (5, -9), (-1, 2**31 - 1)):
        case.compare(np.array(seed, seed_dtype.np), times=1, ulps=0 if op.endswith("Uniform") else 1)


@pytest.mark.parametrize("dtype", [dtypes.int32, dtypes.int64, dtypes.uint32, dtypes.uint64], ids=str)
def test_stateless_integers_of_all_bits(dtype: DType) -> None:
    case = Case("StatelessRandomUniformFullInt", [Type(dtypes.int64, (2,))], sized(37), False, dtype=dtype)
    case.compare(np.array([7, -3]), times=1)


BOUNDS = [(-5, 100), (0, 64), (0, 2**31 - 1), (-(2**31), 2**31 - 1), (7, 8), (-(2**31), 0), (0, 3)]


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
@pytest.mark.parametrize("dtype", [dtypes.int32, dtypes.int64], ids=str)
def test_integers_between_known_bounds(dtype: DType, bounds: tuple[int, int]) -> None:
    def inputs(builder: StepBuilder) -> list[Any]:
        return [builder.const([67], dtypes.int32), *(builder.const(each, dtype) for each in bounds)]

    Case("RandomUniformInt", [], inputs, True).compare()


@pytest.mark.parametrize("op", ["RandomUniformInt", "StatelessRandomUniformInt"])
@pytest.mark.parametrize("dtype", [dtypes.int32, dtypes.int64], ids=str)
def test_integers_between_fed_bounds(op: str, dtype: DType) -> None:
    stateful = op.startswith("Random")

    def inputs(builder: StepBuilder, low: Any, high: Any) -> list[Any]:
        seed = [] if stateful else [builder.const([1, 2], dtypes.int64)]
        return [builder.const([45], dtypes.int32), *seed, low, high]

    case = Case(op, [Type(dtype, ())] * 2, inputs, stateful)
    wide = [(-(2**63), 2**63 - 1), (-(2**40), 3)] if dtype is dtypes.int64 else []
    for low, high in [*BOUNDS, *wide]:
        case.compare(np.array(low, dtype.np), np.array(high, dtype.np), times=1)
    with pytest.raises(Failed) as failed:
        case.native()(np.array(3, dtype.np), np.array(-3, dtype.np))
    assert failed.value.args[1:3] == (3, -3)


def test_no_integers_need_no_bounds() -> None:
    rows = dims.symbol("s0_0")

    def inputs(builder: StepBuilder, x: Any, low: Any, high: Any) -> list[Any]:
        return [builder.dims((rows,)), low, high]

    case = Case("RandomUniformInt", [Type(dtypes.float32, (rows,)), *[Type(dtypes.int32, ())] * 2], inputs, True)
    bound = np.int32(3).reshape(())
    call = case.native()
    assert np.asarray(call(np.zeros(0, np.float32), bound, bound)[0]).shape == (0,)
    with pytest.raises(Failed):
        call(np.zeros(2, np.float32), bound, bound)


@pytest.mark.parametrize("op", ["RandomUniform", "RandomStandardNormal", "TruncatedNormal"])
def test_unknown_extents(op: str) -> None:
    rows = dims.symbol("s0_0")
    case = Case(
        op, [Type(dtypes.float32, (rows, 3))], lambda builder, x: [builder.dims((rows, 3))], True, dtype=dtypes.float32
    )
    call = case.native()
    for n in (0, 2, 5, 21, 341, 7):
        feed = np.zeros((n, 3), np.float32)
        np.testing.assert_array_max_ulp(np.asarray(call(feed)[0]), case.want(feed), 1)


def test_what_reads_the_numbers_sees_one_draw() -> None:
    slots = [Slot("stream", Type(dtypes.int64, ()), -1)]
    builder = StepBuilder([], slots)
    drawn = builder.op("RandomUniform", builder.const([6, 5], dtypes.int32), dtype=dtypes.float32, _slot=0)
    total = builder.reduce("Sum", builder.op("Square", drawn), [1])
    step = builder.finish([drawn, total], (), [drawn.node])
    stream = RandomStream(1, 2)
    compiled = compile_step(step)
    executable = Executable(compiled.linked, compiled.program.manifest, Resources(), [None], {0: stream})
    call = StepCallable(lambda *facts: None)
    call.attach(executable.context(lambda *facts: None, lambda *facts: None))
    numbers, sums = call()
    np.testing.assert_allclose(sums, np.square(numbers).sum(1), rtol=1e-6)
    assert stream.take(0) == 30 * 256


def test_a_stream_moves_on_where_nobody_takes_the_numbers() -> None:
    slots = [Slot("stream", Type(dtypes.int64, ()), -1)]
    builder = StepBuilder([], slots)
    drawn = builder.op("RandomStandardNormal", builder.const([10], dtypes.int32), dtype=dtypes.float32, _slot=0)
    step = builder.finish([], (), [drawn.node])
    stream = RandomStream(1, 2)
    compiled = compile_step(step)
    executable = Executable(compiled.linked, compiled.program.manifest, Resources(), [None], {0: stream})
    call = StepCallable(lambda *facts: None)
    call.attach(executable.context(lambda *facts: None, lambda *facts: None))
    assert call() == []
    assert stream.take(0) == 2560


@pytest.mark.parametrize("shape", [(0,), (1,), (2, 3), (5,), (13, 2), (33, 1, 4), (130,), (4, 0)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8, np.bool_])
def test_shuffled_rows(dtype: Any, shape: tuple[int, ...]) -> None:
    rows = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    case = Case("RandomShuffle", [Type(dtypes.as_dtype(rows.dtype), shape)], lambda builder, x: [x], True)
    case.compare(rows)


def test_shuffled_rows_of_unknown_number() -> None:
    rows = dims.symbol("s0_0")
    case = Case("RandomShuffle", [Type(dtypes.float32, (rows, 3))], lambda builder, x: [x], True)
    call = case.native()
    for n in (0, 2, 3, 31, 64, 5):
        feed = np.arange(n * 3, dtype=np.float32).reshape(n, 3)
        np.testing.assert_array_equal(np.asarray(call(feed)[0]), case.want(feed))


@pytest.mark.parametrize("samples", [1, 7, 8, 131])
@pytest.mark.parametrize("out", [dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64], ids=str)
def test_poissons(out: DType, samples: int) -> None:
    rates = np.array([0, 0.3, 9.999, 10, 57.5, 3e4, -2, np.nan, np.inf, 1e300])
    case = Case("RandomPoissonV2", [Type(dtypes.float64, (10,))], sized(samples), True, dtype=out)
    case.compare(rates, times=2 if samples == 1 else 1)


def test_poissons_of_one_rate_and_of_unknown_extents() -> None:
    Case("RandomPoissonV2", [Type(dtypes.float32, ())], sized(3, 41), True, dtype=dtypes.int32).compare(np.float32(11.5))
    rows = dims.symbol("s0_0")
    case = Case("RandomPoissonV2", [Type(dtypes.float64, (rows, 2))], sized(3), True, dtype=dtypes.float64)
    call = case.native()
    for n in (0, 2, 5, 16):
        rates = np.linspace(1, 30, 2 * n).reshape(n, 2)
        np.testing.assert_array_equal(np.asarray(call(rates)[0]), case.want(rates))


@pytest.mark.parametrize(("classes", "samples"), [(1, 9), (2, 3), (64, 33), (65, 33), (1000, 17)])
def test_many_classes_and_samples(classes: int, samples: int) -> None:
    logits = np.random.RandomState(classes).randn(3, classes).astype(np.float32)

    def inputs(builder: StepBuilder, x: Any) -> list[Any]:
        return [x, builder.const(samples, dtypes.int32)]

    case = Case("Multinomial", [Type(dtypes.float32, (3, classes))], inputs, True, output_dtype=dtypes.int64)
    case.compare(logits)


LOGITS = [
    [[0.1, 0.9, -2], [5, 5, 5]], [[0.0]], np.zeros((0, 3)), [[-np.inf, 0, np.nan, 2]], [[np.inf, -np.inf]],
    np.random.RandomState(0).randn(7, 33) * 4,
]  # fmt: skip


@pytest.mark.parametrize("k", range(len(LOGITS)))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("samples", [0, 1, 9])
def test_classes(dtype: Any, k: int, samples: int) -> None:
    logits = np.asarray(LOGITS[k], dtype)

    def inputs(builder: StepBuilder, x: Any) -> list[Any]:
        return [x, builder.const(samples, dtypes.int32)]

    type_ = Type(dtypes.as_dtype(logits.dtype), logits.shape)
    Case("Multinomial", [type_], inputs, True, output_dtype=dtypes.int32).compare(logits)


def test_stateless_classes_of_unknown_rows() -> None:
    rows = dims.symbol("s0_0")

    def inputs(builder: StepBuilder, x: Any, seed: Any) -> list[Any]:
        return [x, builder.const(5, dtypes.int32), seed]

    case = Case(
        "StatelessMultinomial", [Type(dtypes.float32, (rows, 4)), Type(dtypes.int32, (2,))], inputs, False,
        output_dtype=dtypes.int64,
    )  # fmt: skip
    for n in (0, 2, 6):
        case.compare(np.random.RandomState(n).randn(n, 4).astype(np.float32), np.int32([3, -4]), times=1)


ALPHAS = [3.0, [0.5, 3.0, 1.0], [[0.01, 100.0], [1.0, 0.99]], [-1.0, np.nan, 0.0, 2.0], [1.0], [0.3]]


@pytest.mark.parametrize("k", range(len(ALPHAS)))
@pytest.mark.parametrize("samples", [(), (1,), (67,), (3, 5), (0,)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gammas(dtype: Any, samples: tuple[int, ...], k: int) -> None:
    alphas = np.asarray(ALPHAS[k], dtype)

    def inputs(builder: StepBuilder, alpha: Any) -> list[Any]:
        return [builder.const(np.array(samples, np.int32), dtypes.int32), alpha]

    case = Case("RandomGamma", [Type(dtypes.as_dtype(alphas.dtype), alphas.shape)], inputs, True)
    call = case.native()
    for _ in range(2):
        got, want = np.asarray(call(alphas)[0]), case.want(alphas)
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-6 if dtype is np.float32 else 1e-12, atol=1e-300)
    assert case.streams[0].take(0) == case.streams[1].take(0)


def test_gammas_of_a_known_shape() -> None:
    def inputs(builder: StepBuilder) -> list[Any]:
        return [builder.const([21], dtypes.int32), builder.const(2.5, dtypes.float32)]

    case = Case("RandomGamma", [], inputs, True)
    np.testing.assert_allclose(np.asarray(case.native()()[0]), case.want(), rtol=1e-6)
