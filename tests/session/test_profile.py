"""`stepjit.profile`: what it counts, what it prints, and what it takes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import stepjit
import stepjit.compat.v1 as tf
from stepjit.profiling import Profile


@pytest.fixture
def session() -> Iterator[Any]:
    with tf.Graph().as_default(), tf.Session() as found:
        yield found


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def layer(session: Any, rows: int | None = 16) -> Any:
    x = tf.placeholder(tf.float32, [rows, 32], name="x")
    w = tf.placeholder(tf.float32, [32, 8], name="w")
    return session.make_callable(tf.nn.relu(tf.matmul(x, w, name="product") + 1.0, name="result"), [x, w])


def test_a_kernel_by_its_numbers(session: Any) -> None:
    found = stepjit.profile(layer(session), ones(16, 32), ones(32, 8), repeats=5, show=False)
    [kernel] = found.kernels
    assert (kernel.number, kernel.kind, kernel.calls, kernel.is_host) == (0, "product", 1, False)
    assert kernel.name == "MatMul AddV2 Relu"
    assert {"product", "result"} <= set(kernel.ops)
    assert kernel.flops == 2 * 16 * 32 * 8 + 2 * 16 * 8
    assert kernel.bytes_read == 4 * (16 * 32 + 32 * 8)
    assert kernel.bytes_written == 4 * 16 * 8
    assert kernel.seconds > 0 and kernel.peak is not None and kernel.peak > 0
    assert kernel.flops_per_second == pytest.approx(kernel.flops / kernel.seconds)
    assert kernel.bytes_per_second == pytest.approx((kernel.bytes_read + kernel.bytes_written) / kernel.seconds)
    assert found.repeats == 5
    assert kernel.share + found.overhead_seconds / (kernel.seconds + found.overhead_seconds) == pytest.approx(1)


def test_extents_of_the_run(session: Any) -> None:
    call = layer(session, None)
    counts = [stepjit.profile(call, ones(n, 32), ones(32, 8), repeats=1, show=False).kernels[0].flops for n in (4, 8)]
    assert counts == [2 * 4 * 32 * 8 + 64, 2 * 8 * 32 * 8 + 128]


def test_by_op(session: Any) -> None:
    found = stepjit.profile(layer(session), ones(16, 32), ones(32, 8), repeats=3, show=False)
    ops = {op.type: op for op in found.ops}
    assert set(ops) == {"MatMul", "AddV2", "Relu"}
    assert ops["MatMul"].flops == 2 * 16 * 32 * 8
    assert ops["MatMul"].count == 1 and not ops["MatMul"].is_host
    assert sum(op.seconds for op in found.ops) == pytest.approx(sum(kernel.seconds for kernel in found.kernels))
    assert [op.seconds for op in found.ops] == sorted((op.seconds for op in found.ops), reverse=True)


def test_kernels_and_overhead_make_up_the_step(session: Any) -> None:
    x = tf.placeholder(tf.float32, [256, 256])
    call = session.make_callable(tf.reduce_sum(tf.matmul(tf.tanh(tf.matmul(x, x)), x), 0), [x])
    found = stepjit.profile(call, ones(256, 256), repeats=11, show=False)
    parts = sum(kernel.seconds for kernel in found.kernels) + found.overhead_seconds
    assert parts == pytest.approx(found.seconds, rel=0.1)
    assert found.arena_bytes is not None and found.arena_bytes > 0


def test_ops_that_python_runs_are_marked(session: Any) -> None:
    x = tf.placeholder(tf.float32, [None])
    call = session.make_callable(tf.square(tf.unique(x)[0]), [x])
    found = stepjit.profile(call, np.array([1, 2, 1], np.float32), repeats=2, show=False)
    assert [kernel.is_host for kernel in found.kernels] == [True, False]
    assert found.kernels[1].flops == 2
    assert found.kernels[0].peak is None
    host_line = str(found).splitlines()[1]
    assert "Unique" in host_line and "host" in host_line


def test_the_step_runs_in_earnest(session: Any) -> None:
    v = tf.Variable(0.0)
    session.run(tf.global_variables_initializer())
    stepjit.profile(session.make_callable(tf.assign_add(v, 1.0)), repeats=7, show=False)
    assert session.run(v) == 7


def test_kernels_in_loops_are_counted_apart(session: Any) -> None:
    x = tf.placeholder(tf.float32, [4])
    _, y = tf.while_loop(lambda i, y: i < 5, lambda i, y: (i + 1, tf.exp(-y)), [0, x])
    found = stepjit.profile(session.make_callable(y, [x]), ones(4), repeats=5, show=False)
    [loop] = [kernel for kernel in found.kernels if kernel.kind == "while"]
    [body] = [kernel for kernel in found.kernels if "Exp" in kernel.name]
    assert (loop.depth, loop.calls, loop.flops, loop.bytes_read) == (0, 1, 0, 0)
    assert (body.depth, body.calls, body.flops) == (1, 5, 5 * 4 * 16)
    parts = sum(kernel.seconds for kernel in found.kernels) + found.overhead_seconds
    assert parts == pytest.approx(found.seconds, rel=0.2)
    [line] = [line for line in str(found).splitlines() if "Exp" in line]
    assert line.startswith("  k")


def test_plain_text_in_a_pipe(session: Any) -> None:
    file = io.StringIO()
    found = stepjit.profile(layer(session), ones(16, 32), ones(32, 8), repeats=3, file=file)
    text = file.getvalue()
    assert text == f"{found}\n"
    head, kernel, overhead, summary = text.splitlines()
    assert " ".join(head.split()) == "kernel time share calls read written FLOP GB/s GFLOP/s peak where ops"
    assert kernel.startswith("k0 MatMul AddV2 Relu ") and " 8.4 k " in kernel
    assert overhead.startswith("call overhead")
    assert "a step, mean of 3 runs: 1 kernel" in summary
    assert "\x1b" not in text


def test_a_table_for_each_way_of_counting(session: Any, capsys: pytest.CaptureFixture[str]) -> None:
    stepjit.profile(layer(session), ones(16, 32), ones(32, 8), repeats=1, by="op")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["op", "type", "ops", "time", "share", "FLOP", "where"]
    assert {line.split()[0] for line in lines[1:4]} == {"MatMul", "AddV2", "Relu"}


def test_colours_on_a_terminal(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm-256color")
    file = Terminal()
    stepjit.profile(layer(session), ones(16, 32), ones(32, 8), repeats=1, file=file)
    assert "MatMul AddV2 Relu" in file.getvalue() and "call overhead" in file.getvalue()


def test_structures_and_options(session: Any) -> None:
    x = tf.placeholder(tf.float32, [4])
    nested = session.make_callable({"a": [tf.exp(x)]}, [x])
    assert stepjit.profile(nested, ones(4), repeats=1, show=False).kernels[0].name == "Exp"
    options = session.make_callable(tf.exp(x), [x], accept_options=True)
    assert stepjit.profile(options, ones(4), repeats=1, show=False).kernels[0].name == "Exp"
    assert stepjit.profile(session.make_callable(x, [x]), ones(4), repeats=1, show=False).kernels == ()


def test_what_it_does_not_take(session: Any) -> None:
    call = layer(session)
    with pytest.raises(TypeError, match="make_callable"):
        stepjit.profile(len, [])
    with pytest.raises(ValueError, match="repeats"):
        stepjit.profile(call, ones(16, 32), ones(32, 8), repeats=0)
    with pytest.raises(ValueError, match="kernel, op"):
        stepjit.profile(call, ones(16, 32), ones(32, 8), by="line")
    with pytest.raises(ValueError, match="shape"):
        stepjit.profile(call, ones(3, 32), ones(32, 8))
    session.close()
    with pytest.raises(RuntimeError, match="closed"):
        stepjit.profile(call, ones(16, 32), ones(32, 8))


def test_a_profile_is_a_record(session: Any) -> None:
    found = stepjit.profile(layer(session), ones(16, 32), ones(32, 8), repeats=1, show=False)
    assert isinstance(found, Profile)
    assert found.by == "kernel"
