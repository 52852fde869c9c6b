"""Traced programs: the same results, what they write down, and that other programs are as they were; counts of work."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from native_steps import build

from stepjit_compiler.compile import compile_step
from stepjit_compiler.ir import Step
from stepjit_compiler.options import options
from stepjit_compiler.peak import peak
from stepjit_compiler.pipeline import run_passes
from stepjit_runtime import dtypes, trace
from stepjit_runtime.executable import Executable
from stepjit_runtime.manifest import Manifest
from stepjit_runtime.resources import Resources
from stepjit_runtime.step_callable import StepCallable
from stepjit_runtime.trace import TraceBuffer


def refuse(*args: Any) -> Any:
    raise AssertionError(args)


def executable(step: Step, traced: bool) -> Executable:
    with options(verify=True):
        compiled = compile_step(step, traced)
    return Executable(compiled.linked, compiled.program.manifest, Resources(), [None] * len(step.slots))


def traced_callable(step: Step, hosts: Any = ()) -> tuple[StepCallable, TraceBuffer, Manifest]:
    found = executable(step, True)
    buffer = TraceBuffer(len(found.manifest.kernels))
    call = StepCallable(refuse)
    call.attach(found.context(refuse, refuse, hosts, trace=buffer))
    return call, buffer, found.manifest


def array(*shape: int) -> np.ndarray:
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def two_layers(b: Any, x: Any, w: Any, v: Any) -> Any:
    return b.op("MatMul", b.op("Tanh", b.op("MatMul", x, w)), v)


def test_each_kernel_is_written_down_in_order() -> None:
    x, w, v = array(8, 16), array(16, 16), array(16, 4)
    call, buffer, manifest = traced_callable(build([x, w, v], two_layers, symbolic=True))
    [got] = call(x, w, v)
    np.testing.assert_allclose(got, np.tanh(x @ w) @ v, rtol=1e-4, atol=1e-5)
    events = list(buffer.events())
    assert [event.kernel for event in events] == list(range(len(manifest.kernels)))
    times = [buffer.begin, *(time for event in events for time in (event.begin, event.end)), buffer.end]
    assert times == sorted(times)
    assert buffer.totals() == [(1, event.end - event.begin) for event in events]


def test_clear_forgets_a_call() -> None:
    x = array(8)
    call, buffer, _ = traced_callable(build([x], lambda b, x: b.op("Exp", x), symbolic=False))
    call(x)
    call(x)
    assert buffer.totals()[0][0] == 2
    buffer.clear()
    assert (list(buffer.events()), buffer.end, buffer.totals()[0]) == ([], 0, (0, 0))
    call(x)
    assert len(list(buffer.events())) == 1


def test_results_are_those_of_the_step_that_is_not_traced() -> None:
    x = array(5, 7)
    step = build([x], lambda b, x: b.op("Sum", b.op("Exp", x), b.const(np.array(1, np.int32), dtypes.int32)), symbolic=True)
    call, _, _ = traced_callable(step)
    other = StepCallable(refuse)
    other.attach(executable(step, False).context(refuse, refuse))
    assert call(x)[0].tobytes() == other(x)[0].tobytes()


def test_a_step_that_is_not_traced_has_no_clock_in_its_code() -> None:
    step = build([array(8)], lambda b, x: b.op("Exp", x), symbolic=False)
    plain, traced = run_passes(step).text, run_passes(step, traced=True).text
    assert "sj_clock" not in plain and "sj_traced" not in plain
    assert traced.count("call i64 @sj_clock") == 4  # two returns
    assert compile_step(step).key != compile_step(step, traced=True).key


def test_a_traced_program_asks_for_a_buffer() -> None:
    found = executable(build([array(8)], lambda b, x: b.op("Exp", x), symbolic=False), True)
    with pytest.raises(ValueError, match="trace buffer"):
        found.context(refuse, refuse)
    assert Manifest.from_json(found.manifest.to_json()).traced


def test_events_beyond_the_room_are_counted() -> None:
    x = array(8)
    found = executable(build([x], lambda b, x: b.op("Exp", x), symbolic=False), True)
    buffer = TraceBuffer(1, most_events=2)
    room = 2 + 16
    call = StepCallable(refuse)
    call.attach(found.context(refuse, refuse, trace=buffer))
    for _ in range(room + 5):
        call(x)
    assert (len(list(buffer.events())), buffer.lost, buffer.totals()[0][0]) == (room, 5, room + 5)


def test_extents_that_host_ops_tell_are_written_down() -> None:
    x = np.array([3, 5, 3], np.int32)
    step = build([x], lambda b, x: b.op("Square", b.op("ListDiff", x, b.const([5], dtypes.int32))[0]), symbolic=True)
    call, buffer, manifest = traced_callable(step, [lambda x, _: (x[x != 5], np.flatnonzero(x != 5).astype(np.int32))])
    np.testing.assert_array_equal(call(x)[0], [9, 9])
    extent = manifest.hosts[0].outputs[0].dims[0]
    assert buffer.extents()[extent] == 2
    assert [event.kernel for event in buffer.events()] == [0, 1]


def test_the_clock_goes_with_the_system_s() -> None:
    import time

    before = time.time_ns()
    clock = trace.clock()
    after = time.time_ns()
    assert before <= clock.epoch_ns <= after
    assert 0.01 < clock.ns < 100
    assert clock.epoch(clock.ticks + round(1e6 / clock.ns)) == pytest.approx(clock.epoch_ns + 1e6, abs=1000)


def test_tracing_costs_nanoseconds() -> None:
    assert 0 <= trace.cost().inside < 1000
    assert 0 <= trace.cost().outside < 1000


# --- Work ---


def kernels(step: Step) -> Any:
    return compile_step(step).program.manifest.kernels


@pytest.mark.parametrize(
    ("shapes", "make", "flops"),
    [
        ([(8, 16), (16, 4)], lambda b, x, y: b.op("MatMul", x, y), 2 * 8 * 16 * 4),
        ([(16, 8), (4, 16)], lambda b, x, y: b.op("MatMul", x, y, transpose_a=True, transpose_b=True), 2 * 8 * 16 * 4),
        ([(3, 8, 16), (3, 16, 4)], lambda b, x, y: b.op("BatchMatMulV2", x, y), 3 * 2 * 8 * 16 * 4),
        ([(8, 4), (8, 4)], lambda b, x, y: b.op("Mul", b.op("AddV2", x, y), y), 64),
        ([(8, 4), (1, 4)], lambda b, x, y: b.op("AddV2", x, y), 32),
        ([(8, 4)], lambda b, x: b.op("Exp", x), 15 * 32),
        ([(8, 4)], lambda b, x: b.op("Sum", x, b.const(np.array(1, np.int32), dtypes.int32)), 32),
        ([(8, 4)], lambda b, x: b.op("Transpose", x, b.const(np.array([1, 0], np.int32), dtypes.int32)), 0),
    ],
)
def test_operations_are_counted(shapes: Any, make: Any, flops: int) -> None:
    found = kernels(build([array(*shape) for shape in shapes], make, symbolic=False))
    assert sum(int(each) for kernel in found for each in kernel.flops) == flops


def test_integers_are_no_floating_point_operations() -> None:
    x = np.arange(8, dtype=np.int32)
    assert kernels(build([x], lambda b, x: b.op("AddV2", x, x), symbolic=False))[0].flops == ("0",)


def test_bytes_are_those_of_what_is_read_and_stored() -> None:
    step = build([array(8, 16), array(16, 4)], lambda b, x, y: b.op("Relu", b.op("MatMul", x, y)), symbolic=True)
    [kernel] = kernels(step)
    assert (kernel.reads, kernel.writes) == ("64*s0_0+256", "16*s0_0")
    assert [(store.op, store.output, store.dtype, store.buffer) for store in kernel.stores] == [
        (1, 0, "float32", "output")
    ]


def test_of_a_table_only_the_rows_that_are_taken_count() -> None:
    table, rows = array(1000, 4), np.array([1, 2, 3], np.int32)
    axis = np.array(0, np.int32)
    step = build([table, rows], lambda b, t, r: b.op("GatherV2", t, r, b.const(axis, dtypes.int32)), symbolic=False)
    [kernel] = kernels(step)
    assert int(kernel.reads) == 3 * 4 * 4 + 3 * 4
    assert int(kernel.writes) == 3 * 4 * 4


def test_the_machine_s_limits() -> None:
    found = peak()
    assert found is peak()
    assert 1e8 < found.flops < 1e13
    assert all(1e8 < speed < 1e13 for _, speed in found.bandwidths)
    assert found.bandwidth(1) == found.bandwidths[0][1]
    assert found.bandwidth(1 << 40) == found.bandwidths[-1][1]
    assert found.seconds(1000, 0, 8) == pytest.approx(2 * found.seconds(1000, 0))
