"""Traced runs: which ops `step_stats` tells of, when they ran, and what it says of their results."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf
from stepjit.session.trace import traced_run

CPU0 = "/job:localhost/replica:0/task:0/device:CPU:0"


@pytest.fixture
def session() -> Iterator[Any]:
    with tf.Graph().as_default(), tf.Session() as found:
        yield found


def traced(session: Any, fetches: Any, feeds: Any = None) -> tuple[Any, Any]:
    """What a run gives, and its step_stats."""
    metadata = tf.RunMetadata()
    options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    result = session.run(fetches, feeds, options=options, run_metadata=metadata)
    return result, metadata.step_stats


def nodes_of(stats: Any) -> dict[str, Any]:
    return {node.node_name: node for device in stats.dev_stats for node in device.node_stats}


def shape_of(node: Any, slot: int = 0) -> list[int]:
    return [dim.size for dim in node.output[slot].tensor_description.shape.dim]


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def test_every_op_of_a_fused_kernel_has_its_record(session: Any) -> None:
    x = tf.placeholder(tf.float32, [4, 8], name="x")
    tf.nn.relu(tf.add(tf.matmul(x, ones(8, 2), name="product"), 1.0, name="sum"), name="result")
    value, stats = traced(session, "result:0", {x: ones(4, 8)})
    np.testing.assert_array_equal(value, np.full((4, 2), 9, np.float32))
    assert [device.device for device in stats.dev_stats] == [CPU0]
    nodes = nodes_of(stats)
    labels = {name: nodes[name].timeline_label for name in ("product", "sum", "result")}
    assert labels == {
        "product": "product = MatMul(x, product/b)", "sum": "sum = AddV2(product, sum/y)",
        "result": "result = Relu(sum)",
    }  # fmt: skip
    assert "x" not in nodes
    assert nodes["sum/y"].timeline_label == "sum/y = Const()"
    assert shape_of(nodes["sum"]) == [4, 2]
    description = nodes["result"].output[0].tensor_description
    assert (description.dtype, description.allocation_description.requested_bytes) == (1, 32)
    assert description.allocation_description.allocator_name == "cpu"
    # Only the last of them is stored.
    assert description.allocation_description.allocated_bytes == 32
    assert nodes["result"].memory[0].total_bytes == 32
    assert not nodes["product"].memory


def test_times_are_in_order_and_within_the_run(session: Any) -> None:
    x = tf.placeholder(tf.float32, [64, 64])
    y = x
    for _ in range(4):
        y = tf.reduce_sum(tf.matmul(y, y), 0, keepdims=True) + x
    traced(session, y, {x: ones(64, 64)})
    before = time.time_ns()
    _, stats = traced(session, y, {x: ones(64, 64)})
    after = time.time_ns()
    end = 0
    for node in sorted(nodes_of(stats).values(), key=lambda node: (node.all_start_nanos, node.all_end_rel_nanos)):
        start = node.all_start_nanos
        assert before <= node.scheduled_nanos <= start
        assert start >= end or node.all_end_rel_nanos == 0
        end = start + node.all_end_rel_nanos
        assert end <= after
        assert 0 == node.op_start_rel_micros <= node.op_end_rel_micros <= node.all_end_rel_micros
        assert node.all_start_micros == start // 1000
        assert node.all_start_micros + node.all_end_rel_micros == end // 1000
        assert node.thread_id == threading.get_native_id()


def test_an_op_starts_when_its_inputs_are_there(session: Any) -> None:
    x = tf.placeholder(tf.float32, [3, 3])
    a = tf.matmul(x, x, name="a")
    b = tf.transpose(tf.matmul(a, a, name="b"), name="c")
    _, stats = traced(session, tf.unique(tf.reshape(b, [-1], name="d"), name="e"), {x: ones(3, 3)})
    nodes = nodes_of(stats)
    for before, node in ("ab", "bc", "cd", "de"):
        end = nodes[before].all_start_nanos + nodes[before].all_end_rel_nanos
        assert nodes[node].scheduled_nanos >= end or nodes[node].all_start_nanos >= end
        assert nodes[node].all_start_nanos >= nodes[before].all_start_nanos


def test_shapes_that_only_the_run_tells(session: Any) -> None:
    x = tf.placeholder(tf.float32, [None, 3])
    flat = tf.reshape(tf.multiply(x, 2.0, name="twice"), [-1], name="flat")
    kept, _ = tf.unique(flat, name="kept")
    tf.reshape(tf.square(kept, name="square"), [-1, 1], name="column")
    _, stats = traced(session, "column:0", {x: [[1, 2, 1], [4, 4, 2]]})
    nodes = nodes_of(stats)
    shapes = {name: shape_of(nodes[name]) for name in ("twice", "flat", "square", "column")}
    assert shapes == {"twice": [2, 3], "flat": [6], "square": [3], "column": [3, 1]}
    assert [shape_of(nodes["kept"], slot) for slot in (0, 1)] == [[3], [6]]
    assert [output.slot for output in nodes["kept"].output] == [0, 1]


def test_shapes_of_what_was_folded_and_of_variables(session: Any) -> None:
    x = tf.placeholder(tf.float32, [None], name="x")
    kept = tf.unique(tf.constant([3.0, 1.0, 3.0]))[0]
    tf.add(tf.multiply(kept, x, name="product"), 1.0, name="sum")
    _, stats = traced(session, "sum:0", {x: ones(2)})
    nodes = nodes_of(stats)
    assert [shape_of(nodes[name]) for name in ("product", "sum")] == [[2], [2]]
    segments = tf.unsorted_segment_sum(ones(3), tf.unique([5, 5, 7])[1], tf.size(kept), name="segments")
    _, stats = traced(session, tf.add(tf.exp(segments * x, name="exp"), 1.0), {x: ones(2)})
    assert shape_of(nodes_of(stats)["exp"]) == [2]
    v = tf.Variable(ones(3), validate_shape=False, name="v")
    _, stats = traced(session, tf.assign(v, ones(2, 2), validate_shape=False, name="new"))
    nodes = nodes_of(stats)
    assert [shape_of(nodes[name]) for name in ("v", "new")] == [[2, 2], [2, 2]]


def test_constants_that_were_folded_did_not_run(session: Any) -> None:
    a = tf.constant(2.0, name="a")
    b = tf.add(a, a, name="b")
    c = tf.multiply(b, a, name="c")
    x = tf.placeholder(tf.float32, [], name="x")
    (_, value), stats = traced(session, [tf.add(b, x, name="d"), c], {x: 1.0})
    assert value == 8
    labels = {name: node.timeline_label for name, node in nodes_of(stats).items()}
    assert labels == {"a": "a = Const()", "c": "c = Const()", "d": "d = AddV2(b, x)"}


def test_only_what_ran_appears(session: Any) -> None:
    x = tf.placeholder(tf.float32, [2], name="x")
    middle = tf.exp(x, name="middle")
    last = tf.negative(middle, name="last")
    tf.sin(middle, name="elsewhere")
    assert set(nodes_of(traced(session, last, {x: ones(2)})[1])) == {"middle", "last"}
    assert set(nodes_of(traced(session, last, {middle: ones(2)})[1])) == {"last"}


def test_a_training_step(session: Any) -> None:
    v = tf.Variable(ones(4), name="v")
    r = tf.get_variable("r", initializer=ones(4), use_resource=True)
    loss = tf.reduce_sum(tf.square(v * r), name="loss")
    step = tf.train.GradientDescentOptimizer(0.1).minimize(loss, name="step")
    session.run(tf.global_variables_initializer())
    before = session.run(loss)
    (found, _), stats = traced(session, [loss, step])
    assert found == before > session.run(loss)
    nodes = nodes_of(stats)
    assert {"v", "r", "loss", "step"} <= nodes.keys()
    assert nodes["v"].memory_stats.persistent_memory_size == 16
    updates = [node for node in nodes.values() if "ApplyGradientDescent(" in node.timeline_label]
    assert len(updates) == 2
    assert nodes["step"].timeline_label.startswith("step = NoOp(^")


def test_ops_that_python_runs(session: Any) -> None:
    words = tf.placeholder(tf.string, [None], name="words")
    x = tf.placeholder(tf.float16, [2], name="x")
    halves = tf.add(x, x, name="halves")
    joined = tf.identity(words, name="same")
    (got, text), stats = traced(session, [halves, joined], {x: [1, 2], words: ["a", "bc", "d"]})
    np.testing.assert_array_equal(got, [2, 4])
    assert text.tolist() == [b"a", b"bc", b"d"]
    nodes = nodes_of(stats)
    assert nodes["halves"].all_end_rel_nanos > 0
    assert nodes["halves"].output[0].tensor_description.dtype == 19
    assert nodes["same"].output[0].tensor_description.dtype == 7
    assert nodes["same"].output[0].tensor_description.allocation_description.requested_bytes == 72


def test_queues(session: Any) -> None:
    queue = tf.FIFOQueue(2, tf.float32, shapes=[[2]])
    session.run(queue.enqueue(ones(2)))
    value, stats = traced(session, tf.multiply(queue.dequeue(name="take"), 3.0, name="triple"))
    np.testing.assert_array_equal(value, [3, 3])
    nodes = nodes_of(stats)
    assert nodes["take"].all_end_rel_nanos > 0 and shape_of(nodes["triple"]) == [2]


def test_structures_of_fetches(session: Any) -> None:
    x = tf.placeholder(tf.float32, [2], name="x")
    value, stats = traced(session, {"a": [tf.exp(x, name="e")], "b": x}, {x: [0, 0]})
    np.testing.assert_array_equal(value["a"][0], [1, 1])
    np.testing.assert_array_equal(value["b"], [0, 0])
    assert set(nodes_of(stats)) == {"e"}


def test_what_is_handed_back_is_no_step(session: Any) -> None:
    x = tf.placeholder(tf.float32, [2])
    metadata = tf.RunMetadata()
    options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    np.testing.assert_array_equal(session.run(x, {x: [1, 2]}, options=options, run_metadata=metadata), [1, 2])
    assert not metadata.HasField("step_stats")


def test_a_callable_with_options(session: Any) -> None:
    x = tf.placeholder(tf.float32, [2])
    call = session.make_callable(tf.exp(x, name="e"), [x], accept_options=True)
    metadata = tf.RunMetadata()
    call(ones(2), options=tf.RunOptions(trace_level=tf.RunOptions.SOFTWARE_TRACE), run_metadata=metadata)
    assert "e" in nodes_of(metadata.step_stats)


def test_a_failed_step_tells_nothing(session: Any) -> None:
    x = tf.placeholder(tf.float32, [2])
    index = tf.placeholder(tf.int32, [1])
    with pytest.raises(tf.errors.InvalidArgumentError, match="not in"):
        traced(session, tf.gather(tf.exp(x), index), {x: ones(2), index: [7]})
    with pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized"):
        traced(session, tf.Variable(1.0) + 1.0)
    assert nodes_of(traced(session, tf.gather(tf.exp(x, name="e"), index), {x: ones(2), index: [1]})[1])["e"]


def test_each_device_has_its_own_records() -> None:
    with tf.Graph().as_default(), tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as session:
        with tf.device("/cpu:1"):
            x = tf.placeholder(tf.float32, [2])
            a = tf.exp(tf.identity(x, name="p"), name="a")
        _, stats = traced(session, tf.negative(a, name="b"), {x: ones(2)})
        found = {device.device: {node.node_name for node in device.node_stats} for device in stats.dev_stats}
    assert found[CPU0] == {"b"}
    assert {"a", "p"} <= found[CPU0[:-1] + "1"]


def test_a_second_run_compiles_nothing_and_other_runs_stay_as_they_are(session: Any) -> None:
    x = tf.placeholder(tf.float32, [None])
    y = tf.exp(x) * 2
    session.run(y, {x: ones(3)})
    traced(session, y, {x: ones(3)})
    before = session.compile_stats()
    for n in (3, 5):
        value, stats = traced(session, y, {x: ones(n)})
        np.testing.assert_allclose(value, session.run(y, {x: ones(n)}))
        assert len(nodes_of(stats)) > 0
    after = session.compile_stats()
    assert (after.variants, after.compiled) == (before.variants, before.compiled)
    assert after.steps == 1


def test_threads_trace_one_step_at_a_time_each(session: Any) -> None:
    x = tf.placeholder(tf.float32, [None, 4], name="x")
    y = tf.reduce_sum(tf.matmul(x, ones(4, 4)), name="y")
    traced(session, y, {x: ones(2, 4)})
    failures: list[Any] = []

    def work(n: int) -> None:
        try:
            for _ in range(20):
                result, [call] = traced_run(session, y, {x: ones(n, 4)})
                assert result == 16 * n
                assert call.extents["s0_0"] == n
                assert [event.kernel for event in call.events] == list(range(len(call.manifest.kernels)))
                assert call.thread == threading.get_native_id()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in (2, 3, 5, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_memory_of_temporaries(session: Any) -> None:
    x = tf.placeholder(tf.float32, [None, 64])
    y = tf.reduce_sum(tf.matmul(tf.matmul(x, ones(64, 64)), ones(64, 64)))
    _, [call] = traced_run(session, y, {x: ones(32, 64)})
    assert call.arena_bytes is not None and call.arena_bytes >= 32 * 64 * 4


def test_a_closed_session(session: Any) -> None:
    x = tf.placeholder_with_default(1.0, [])
    traced(session, x + 1)
    session.close()
    with pytest.raises(RuntimeError, match="closed"):
        traced(session, x + 1)


# --- Branches and loops ---


def test_a_loop_and_what_runs_in_it(session: Any) -> None:
    x = tf.placeholder(tf.float32, [None, 4], name="x")
    _, y = tf.while_loop(
        lambda i, y: i < 3, lambda i, y: (i + 1, tf.tanh(tf.matmul(y, ones(4, 4), name="inner"))), [0, x]
    )
    _, stats = traced(session, tf.add(y, 1.0, name="after"), {x: ones(5, 4)})
    records = [node for device in stats.dev_stats for node in device.node_stats]
    [inner] = {node.node_name for node in records if "inner = MatMul" in node.timeline_label}
    trips = [node for node in records if node.node_name == inner]
    assert len(trips) == 3
    assert shape_of(trips[0]) == [5, 4]
    [loop] = [node for node in records if " = While(" in node.timeline_label]
    start, end = loop.all_start_nanos, loop.all_start_nanos + loop.all_end_rel_nanos
    assert all(start <= node.all_start_nanos and node.all_start_nanos + node.all_end_rel_nanos <= end for node in trips)
    assert nodes_of(stats)["after"].all_start_nanos >= end


def test_a_branch_that_is_not_taken_does_not_appear(session: Any) -> None:
    x = tf.placeholder(tf.float32, [4])
    y = tf.cond(
        tf.reduce_sum(x) > 0, lambda: tf.exp(tf.identity(x), name="yes"), lambda: tf.sin(tf.identity(x), name="no")
    )
    for value, taken, other in ((1, "Exp", "Sin"), (-1, "Sin", "Exp")):
        _, stats = traced(session, y, {x: value * ones(4)})
        labels = [node.timeline_label for node in nodes_of(stats).values()]
        assert any(f"= {taken}(" in label for label in labels)
        assert not any(f"= {other}(" in label for label in labels)


def test_extents_that_a_loop_tells(session: Any) -> None:
    x = tf.placeholder(tf.float32, [])
    _, y = tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * x), [0, tf.constant(1.0)])
    _, stats = traced(session, tf.gradients(y, x), {x: 2.0})
    outputs = [output for node in nodes_of(stats).values() for output in node.output]
    assert not any(dim.size < 0 for output in outputs for dim in output.tensor_description.shape.dim)


def test_of_a_long_loop_the_first_trips_are_kept_and_all_that_is_around_it(session: Any) -> None:
    n = tf.placeholder(tf.int32, [], name="n")
    _, y = tf.while_loop(lambda i, y: i < n, lambda i, y: (i + 1, tf.sin(y)), [0, ones(4)])
    _, [call] = traced_run(session, tf.add(y, 1.0, name="after"), {n: 40_000})
    assert call.lost > 0
    assert max(runs for runs, _ in call.totals) >= 40_000
    depths = [call.manifest.kernels[event.kernel].depth for event in call.events]
    assert depths.count(0) == sum(kernel.depth == 0 for kernel in call.manifest.kernels)
    assert [event.kernel for event in call.events][-1] == len(call.manifest.kernels) - 1
