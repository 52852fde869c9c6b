"""`run(options=, run_metadata=)` and callables that take them."""

from __future__ import annotations

import pickle
import threading
import time
from typing import Any

import numpy as np
import pytest
from blocking import GATE, sleep, wait

import stepjit.compat.v1 as tf

CPU0 = "/job:localhost/replica:0/task:0/device:CPU:0"
CPU1 = "/job:localhost/replica:0/task:0/device:CPU:1"


@pytest.fixture(autouse=True)
def graph() -> Any:
    GATE.reset(False)
    with tf.Graph().as_default() as g:
        yield g


def traced() -> Any:
    return tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)


def graphs() -> Any:
    return tf.RunOptions(output_partition_graphs=True)


# --- what is accepted ---


@pytest.mark.parametrize("other", [3, "text", {}, object(), tf.ConfigProto, tf.ConfigProto()])
def test_other_objects(other: Any) -> None:
    x = tf.placeholder(tf.float32, [])
    with tf.Session() as session:
        run = session.make_callable(x + 1, [x], accept_options=True)
        for call in (lambda **named: session.run(x + 1, {x: 1}, **named), lambda **named: run(1, **named)):
            with pytest.raises(TypeError, match=r"`options` must be a tf\.RunOptions"):
                call(options=other)
            with pytest.raises(TypeError, match=r"`run_metadata` must be a tf\.RunMetadata"):
                call(run_metadata=other)
            with pytest.raises(TypeError, match=r"`run_metadata` must be a tf\.RunMetadata"):
                call(options=traced(), run_metadata=other)
            assert call() == 2


def test_options_change_no_errors() -> None:
    x = tf.placeholder(tf.float32, [2], name="x")
    y = x + 1
    session, metadata = tf.Session(), tf.RunMetadata()
    wrong: list[tuple[Any, Any, type[Exception], str]] = [
        (y, {x: [1, 2, 3]}, ValueError, "Cannot feed value of shape"),
        (y, {}, tf.errors.InvalidArgumentError, "must feed a value for placeholder tensor 'x'"),
        ("nope:0", {}, ValueError, "does not exist"),
        (None, {}, TypeError, "Cannot be None"),
        (y, {"nope:0": 1}, TypeError, "Cannot interpret feed_dict key"),
        (y, [1], TypeError, "mapping"),
    ]
    for fetches, feeds, kind, text in wrong:
        for options in (None, tf.RunOptions(), traced(), graphs()):
            with pytest.raises(kind, match=text):
                session.run(fetches, feeds, options=options, run_metadata=metadata)
    session.close()
    with pytest.raises(RuntimeError, match="closed Session"):
        session.run([], options=traced())
    with tf.Session(graph=tf.Graph()) as empty, pytest.raises(RuntimeError, match="graph is empty"):
        empty.run([], run_metadata=metadata)


@pytest.mark.parametrize("pools", [0, 1, 2])
def test_thread_pools(pools: int) -> None:
    config = tf.ConfigProto()
    for _ in range(pools):
        config.session_inter_op_thread_pool.add(num_threads=1)
    t = tf.constant(1)
    with tf.Session(config=config) as session:
        for pool in (-2, -1, 0, 1, 2):
            options = tf.RunOptions(inter_op_thread_pool=pool)
            if -1 <= pool < max(1, pools):
                assert session.run(t, options=options) == 1
                continue
            with pytest.raises(tf.errors.InvalidArgumentError, match=f"Invalid inter_op_thread_pool: {pool}"):
                session.run(t, options=options)


# --- metadata ---


def test_metadata_is_of_the_last_step() -> None:
    t = tf.constant([1.0]) + 1
    with tf.Session() as session:
        metadata = tf.RunMetadata()
        session.run(t, options=graphs(), run_metadata=metadata)
        session.run(t, options=graphs(), run_metadata=metadata)
        assert len(metadata.partition_graphs) == 1
        assert not metadata.HasField("step_stats")
        session.run(t, options=traced(), run_metadata=metadata)
        assert metadata.HasField("step_stats")
        assert not metadata.partition_graphs
        session.run(t, run_metadata=metadata)
        assert metadata == tf.RunMetadata()


def test_metadata_of_nothing() -> None:
    a = tf.constant(1.0)
    with tf.Session() as session:
        fed: Any = {a: 2.0}
        for fetches, feeds in (([], {}), ({}, None), (a, fed), ([a, ()], fed)):
            metadata = tf.RunMetadata()
            metadata.partition_graphs.add()
            session.run(fetches, feeds, options=graphs(), run_metadata=metadata)
            assert metadata == tf.RunMetadata()


def test_a_step_that_fails_leaves_the_metadata() -> None:
    x = tf.placeholder(tf.float32, [], name="x")
    metadata = tf.RunMetadata()
    metadata.partition_graphs.add()
    with tf.Session() as session, pytest.raises(tf.errors.InvalidArgumentError):
        session.run(x + 1, options=graphs(), run_metadata=metadata)
    assert len(metadata.partition_graphs) == 1


def test_options_are_read_at_once() -> None:
    t, options, before = tf.constant(1), traced(), traced()
    with tf.Session() as session:
        assert session.run(t, options=options) == 1
    assert options == before


# --- partition graphs ---


def test_the_graph_of_a_step() -> None:
    x = tf.placeholder(tf.float32, [2], name="x")
    y = tf.add(x, 1.0, name="y")
    with tf.control_dependencies([tf.no_op(name="before")]):
        z = tf.multiply(y, y, name="z")
    tf.subtract(z, 3.0, name="not_needed")
    with tf.Session() as session:
        metadata = tf.RunMetadata()
        session.run([z, y], {x: [1, 2]}, options=graphs(), run_metadata=metadata)
    (found,) = metadata.partition_graphs
    nodes = {node.name: node for node in found.node}
    assert set(nodes) == {"_arg_x_0_0", "y/y", "y", "before", "z", "_retval_z_0_0", "_retval_y_0_1"}
    assert list(nodes["y"].input) == ["_arg_x_0_0", "y/y"]
    assert list(nodes["z"].input) == ["y", "y", "^before"]
    assert list(nodes["_retval_z_0_0"].input) == ["z"]
    assert nodes["_retval_y_0_1"].attr["index"].i == 1
    assert {node.device for node in found.node} == {CPU0}
    assert nodes["y"].attr["T"].type == tf.float32.as_datatype_enum


def test_the_graph_of_a_step_with_a_loop() -> None:
    x = tf.placeholder(tf.float32, [], name="x")
    out = tf.while_loop(lambda y: y < 10.0, lambda y: tf.cond(y > 5.0, lambda: y + 3, lambda: y * 2), [x])
    with tf.Session() as session:
        metadata = tf.RunMetadata()
        assert session.run(out, {x: 1}, options=graphs(), run_metadata=metadata) == 11
    (found,) = metadata.partition_graphs
    functions = {function.signature.name for function in found.library.function}
    used = {attr.func.name for node in found.node for attr in node.attr.values() if attr.HasField("func")}
    assert used
    assert used <= functions


def test_a_step_on_two_devices() -> None:
    with tf.device("/cpu:0"):
        b = tf.split(tf.placeholder(tf.float32, [4], name="p"), 2, name="a")[1]
        before = tf.no_op(name="before")
    with tf.device("/cpu:1"), tf.control_dependencies([before]):
        c = tf.add(b, b, name="c")
        d = tf.add(b, c, name="d")
    with tf.Session(config=tf.ConfigProto(device_count={"CPU": 3})) as session:
        metadata = tf.RunMetadata()
        session.run(d, {"p:0": [1, 2, 3, 4]}, options=graphs(), run_metadata=metadata)
    first, second = metadata.partition_graphs
    assert {node.device for node in first.node} == {CPU0}
    assert {node.device for node in second.node} == {CPU1}
    for found in (first, second):
        names = {node.name for node in found.node}
        assert len(names) == len(found.node)
        used = {name.removeprefix("^").partition(":")[0] for node in found.node for name in node.input}
        assert used <= names
    sent = [node for each in (first, second) for node in each.node if node.op == "_Send"]
    received = [node for each in (first, second) for node in each.node if node.op == "_Recv"]
    assert len(sent) == len(received) == 3  # b once, the control edge, and d back
    assert {node.attr["tensor_name"].s for node in sent} == {node.attr["tensor_name"].s for node in received}
    assert "a:1" in [node.input[0] for node in sent]


# --- time limits ---


@pytest.mark.parametrize("how", ["run", "callable", "traced"])
def test_a_limit_for_one_step(how: str) -> None:
    t = wait("slow")
    metadata = tf.RunMetadata()
    metadata.partition_graphs.add()
    with tf.Session() as session:
        call: Any = lambda options: session.run(t, options=options, run_metadata=metadata)  # noqa: E731
        if how == "callable":
            made = session.make_callable(t, accept_options=True)
            call = lambda options: made(options=options, run_metadata=metadata)  # noqa: E731
        options = tf.RunOptions(timeout_in_ms=60, trace_level=3 if how == "traced" else 0)
        start = time.monotonic()
        with pytest.raises(tf.errors.DeadlineExceededError, match="Timed out") as error:
            call(options)
        assert 0.05 < time.monotonic() - start < 5
        assert error.value.op is None
        assert error.value.node_def is None
        assert error.value.error_code == tf.errors.DEADLINE_EXCEEDED == 4
        assert len(metadata.partition_graphs) == 1
        # What the step waited for is given up, and the session goes on.
        assert GATE.waiting == GATE.passed == 0
        GATE.reset(True)
        assert call(tf.RunOptions(timeout_in_ms=5000)) == 7
        assert GATE.passed == 1


@pytest.mark.parametrize("body", [tf.sin, tf.lgamma], ids=["native", "host"])
@pytest.mark.parametrize("options", [tf.RunOptions(timeout_in_ms=40), tf.RunOptions(timeout_in_ms=40, trace_level=3)],
                         ids=["plain", "traced"])  # fmt: skip
def test_limits_end_loops(body: Any, options: Any) -> None:
    limit = tf.placeholder(tf.int32, [])
    _, out = tf.while_loop(lambda i, x: i < limit, lambda i, x: (i + 1, body(x)), [0, tf.fill([10], 0.5)])
    with tf.Session() as session:
        start = time.monotonic()
        with pytest.raises(tf.errors.DeadlineExceededError, match="Timed out") as error:
            session.run(out, {limit: 10**9}, options=options)
        assert time.monotonic() - start < 10
        assert error.value.op is None
        assert session.run(out, {limit: 0}, options=options).tolist() == [0.5] * 10


@pytest.mark.parametrize("milliseconds", [0, -5])
def test_no_limit(milliseconds: int) -> None:
    t = wait()
    timer = threading.Timer(0.1, GATE.reset, [True])
    timer.start()
    with tf.Session() as session:
        assert session.run(t, options=tf.RunOptions(timeout_in_ms=milliseconds)) == 7
    timer.join()


def test_a_step_that_comes_out_late_has_failed() -> None:
    v = tf.Variable(0.0)
    with tf.control_dependencies([sleep(0.1)]):
        bump = tf.assign_add(v, 1.0)
    with tf.Session() as session:
        session.run(v.initializer)
        with pytest.raises(tf.errors.DeadlineExceededError, match="Timed out") as error:
            session.run(bump, options=tf.RunOptions(timeout_in_ms=20))
        assert error.value.op is None
        assert session.run(bump, options=tf.RunOptions(timeout_in_ms=5000)) == session.run(v)


def test_limits_are_of_one_thread() -> None:
    t, found = wait(), []
    with tf.Session() as session:
        other = threading.Thread(target=lambda: found.append(session.run(t)))
        other.start()
        with pytest.raises(tf.errors.DeadlineExceededError):
            session.run(t, options=tf.RunOptions(timeout_in_ms=50))
        assert GATE.waiting == 1
        GATE.reset(True)
        other.join(10)
        assert found == [7]


# --- callables ---


def test_callables_with_options() -> None:
    x = tf.placeholder(tf.float32, [])
    with tf.Session() as session:
        run = session.make_callable({"y": x + 1}, [x], accept_options=True)
        metadata = tf.RunMetadata()
        assert run(1.0) == {"y": 2}
        assert run(1.0, options=traced(), run_metadata=metadata) == {"y": 2}
        assert metadata.HasField("step_stats")
        assert run(1.0, run_metadata=metadata) == {"y": 2}
        assert metadata == tf.RunMetadata()
        assert run(1.0, 9.0, options=traced()) == {"y": 2}  # one too many is left over
        with pytest.raises(tf.errors.InvalidArgumentError, match="must feed"):
            run(options=traced())
        with pytest.raises(TypeError):
            run(1.0, other=3)
        assert run.explain().programs


def test_callables_without_feeds_take_options_by_position() -> None:
    t = tf.constant(1.0) + 1
    with tf.Session() as session:
        run, metadata = session.make_callable(t, accept_options=True), tf.RunMetadata()
        assert run(graphs(), metadata) == 2
        assert metadata.partition_graphs
        assert run(graphs(), run_metadata=metadata) == 2
        for wrong in ((1,), (None, 3), (graphs(), metadata, 1)):
            with pytest.raises(TypeError):
                run(*wrong)
        with pytest.raises(TypeError):
            run(graphs(), options=graphs())
        assert run() == run(None, None) == 2


def test_callables_that_take_no_options() -> None:
    t = tf.constant(1.0) + 1
    with tf.Session() as session:
        run = session.make_callable(t)
        for named in ({"options": traced()}, {"run_metadata": tf.RunMetadata()}):
            with pytest.raises(TypeError):
                run(**named)


def test_callables_with_options_pickle() -> None:
    x = tf.placeholder(tf.float32, [None], name="x")
    with tf.Session() as session:
        run = session.make_callable(x + 1, [x], accept_options=True)
        again = pickle.loads(pickle.dumps(run))
        metadata = tf.RunMetadata()
        assert again([1, 2], options=graphs(), run_metadata=metadata).tolist() == [2, 3]
        assert len(metadata.partition_graphs) == 1
        assert repr(again).startswith("<stepjit callable")


def test_a_closed_session() -> None:
    t = tf.constant(1.0) + 1
    session = tf.Session()
    run = session.make_callable(t, accept_options=True)
    session.close()
    with pytest.raises((RuntimeError, tf.errors.CancelledError), match="closed"):
        run(options=traced())


# --- results ---


@pytest.mark.parametrize("options", [None, tf.RunOptions(), traced(), graphs()], ids=["none", "plain", "traced", "graphs"])
def test_results_are_those_of_a_plain_run(options: Any) -> None:
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    v = tf.Variable([1.0, 2.0])
    bump = tf.assign_add(v, [1.0, 1.0])
    with tf.Session() as session:
        session.run(v.initializer)
        metadata = tf.RunMetadata()
        out = session.run({"a": [x * 2, x], "n": bump.op, "v": (bump,)}, {x: [[1, 2]]}, options, metadata)
        assert out["a"][0].tolist() == [[2, 4]]
        assert out["a"][1].tolist() == [[1, 2]]
        assert out["n"] is None
        assert out["v"][0].tolist() == [2, 3]
        assert np.array_equal(session.run(v, options=options), [2, 3])


def test_running_out_of_memory() -> None:
    tall, wide = tf.placeholder(tf.float32, [None, 1]), tf.placeholder(tf.float32, [1, None])
    shape = tf.placeholder(tf.int32, [None], name="shape")
    native, host = tall + wide, tf.zeros(shape)
    rows = np.zeros((1 << 23, 1), np.float32)
    with tf.Session() as session:
        for fetch, feeds in ((native, {tall: rows, wide: rows.T}), (host, {shape: [1 << 30, 1 << 24]})):
            for _ in range(3):
                with pytest.raises(tf.errors.ResourceExhaustedError, match=r"OOM when allocating.*Unable to allocate"):
                    session.run(fetch, feeds)
        assert session.run(native, {tall: [[1]], wide: [[2, 3]]}).tolist() == [[3, 4]]


def test_what_a_session_holds_is_told_when_memory_runs_out() -> None:
    v = tf.Variable(np.zeros(1000, np.float32), name="held")
    big = tf.zeros(tf.placeholder(tf.int32, [2], name="shape"))
    with tf.Session() as session:
        session.run(v.initializer)
        options = tf.RunOptions(report_tensor_allocations_upon_oom=True)
        with pytest.raises(tf.errors.ResourceExhaustedError, match=r"(?s)OOM when allocating.*\n  4000 bytes in variable held"):
            session.run(big, {"shape:0": [1 << 30, 1 << 24]}, options=options)
        assert session.run(big, {"shape:0": [1, 2]}, options=options).tolist() == [[0, 0]]
