"""`Session(config=)`: what is accepted, what has effects, and what is refused."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pytest
from blocking import GATE, wait

import stepjit.compat.v1 as tf
from stepjit.proto import MESSAGES
from stepjit_runtime import blas


@pytest.fixture(autouse=True)
def graph() -> Any:
    GATE.reset(False)
    with tf.Graph().as_default() as g:
        yield g


def every_field() -> Any:
    """A config with all that has no effect, and little else."""
    config = tf.ConfigProto(
        device_count={"CPU": 1, "GPU": 4, "XYZ": 2, "cpu": 3},
        inter_op_parallelism_threads=3,
        use_per_session_threads=True,
        placement_period=2,
        device_filters=["/job:ps"],
        isolate_session_state=True,
        share_cluster_devices_in_session=True,
    )
    config.session_inter_op_thread_pool.add(num_threads=2, global_name="pool")
    config.gpu_options.per_process_gpu_memory_fraction = 0.5
    config.gpu_options.experimental.virtual_devices.add(memory_limit_mb=[1.0, 2.0])
    config.pluggable_device_options.allow_growth = True
    config.rpc_options.compression_algorithm = "gzip"
    config.cluster_def.job.add(name="ps").tasks[0] = "host:1"
    config.experimental.executor_type = "x"
    config.experimental.coordination_config.service_type = "y"
    config.experimental.session_metadata.name = "model"
    graph = config.graph_options
    graph.enable_recv_scheduling = graph.enable_bfloat16_sendrecv = True
    graph.timeline_step = 3
    graph.rewrite_options.constant_folding = MESSAGES["RewriterConfig"].OFF
    graph.optimizer_options.opt_level = tf.OptimizerOptions.L0
    graph.optimizer_options.global_jit_level = tf.OptimizerOptions.ON_2
    return config


def test_fields_without_effect() -> None:
    c = tf.add(tf.placeholder_with_default(np.float32([1, 2]), [None]), 1.0)
    with tf.Session(config=every_field()) as session:
        assert session.run(c).tolist() == [2, 3]


@pytest.mark.parametrize("value", [3, "text", b"", {}, object(), tf.ConfigProto])
def test_what_is_no_config(value: Any) -> None:
    for kind in (tf.Session, tf.InteractiveSession):
        with pytest.raises(TypeError, match=r"must be a tf\.ConfigProto"):
            kind(config=value)


def test_another_message_is_no_config() -> None:
    with pytest.raises(TypeError, match=r"must be a tf\.ConfigProto, but got 'RunOptions'"):
        tf.Session(config=tf.RunOptions())


def test_a_config_in_the_place_of_the_target() -> None:
    with pytest.raises(TypeError, match=r"must be a string, but got 'ConfigProto'.*Session\(config=config\)"):
        tf.Session(tf.ConfigProto())
    with pytest.raises(TypeError, match=r"must be a string, but got 'int'\.$"):
        tf.Session(3)
    with pytest.raises(TypeError, match=r"must be a tf\.Graph"):
        tf.Session(graph=3)


@pytest.mark.parametrize("target", ["made_up", "grpc://host:1234", b"local"])
def test_targets_elsewhere(target: Any) -> None:
    start = time.monotonic()
    with pytest.raises(tf.errors.NotFoundError, match="No session factory registered") as error:
        tf.Session(target)
    assert time.monotonic() - start < 10
    assert (target if isinstance(target, str) else target.decode()) in error.value.message
    assert error.value.error_code == tf.errors.NOT_FOUND


@pytest.mark.parametrize(("target", "told"), [("", b""), (b"", b""), (None, None)])
def test_the_target_here(target: Any, told: bytes | None) -> None:
    assert tf.Session(target).sess_str == told


def test_a_config_is_copied() -> None:
    config = tf.ConfigProto(device_count={"CPU": 2})
    session = tf.Session(config=config)
    config.device_count["CPU"] = 5
    config.operation_timeout_in_ms = 1
    config.graph_options.infer_shapes = True
    tf.constant([1.0])
    assert len(session.list_devices()) == 2
    assert "_output_shapes" not in session.graph_def.node[0].attr


def test_shapes_in_the_graph_def() -> None:
    tf.placeholder(tf.float32, [None, 2])
    config = tf.ConfigProto(graph_options=tf.GraphOptions(infer_shapes=True))
    (shape,) = tf.Session(config=config).graph_def.node[0].attr["_output_shapes"].list.shape
    assert [dim.size for dim in shape.dim] == [-1, 2]


@pytest.mark.parametrize(("asked", "threads"), [(0, None), (1, 1), (10**6, os.cpu_count())])
def test_threads_of_blas(asked: int, threads: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    monkeypatch.setattr(blas, "set_threads", found.append)
    tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=asked))
    assert found == ([] if threads is None else [threads])


def test_no_cpu() -> None:
    for count in (0, -1):
        with pytest.raises(tf.errors.NotFoundError, match="No CPU devices"):
            tf.Session(config=tf.ConfigProto(device_count={"CPU": count}))


# --- time limits ---


def test_a_limit_for_all_steps() -> None:
    x = tf.placeholder(tf.float32, [])
    blocked, free = wait(), x + 1
    with tf.Session(config=tf.ConfigProto(operation_timeout_in_ms=150)) as session:
        waiting, adding = session.make_callable(blocked), session.make_callable(free, [x])
        for run in (lambda: session.run(blocked), waiting, lambda: session.run([free, blocked], {x: 1})):
            start = time.monotonic()
            with pytest.raises(tf.errors.DeadlineExceededError, match="Timed out") as error:
                run()
            assert 0.14 < time.monotonic() - start < 5
            assert error.value.op is None
            assert error.value.error_code == 4
        assert session.run(free, {x: 1}) == adding(1.0) == 2
        assert GATE.waiting == GATE.passed == 0
        GATE.reset(True)
        assert session.run(blocked) == waiting() == 7


def test_a_step_without_options_of_its_own_has_the_limit() -> None:
    blocked = wait()
    with tf.Session(config=tf.ConfigProto(operation_timeout_in_ms=150)) as session:
        session.run(tf.constant(1))
        for options in (tf.RunOptions(), tf.RunOptions(timeout_in_ms=-1)):
            start = time.monotonic()
            with pytest.raises(tf.errors.DeadlineExceededError):
                session.run(blocked, options=options)
            assert time.monotonic() - start < 5


def test_own_options_go_before_the_config() -> None:
    blocked = wait()
    with tf.Session(config=tf.ConfigProto(operation_timeout_in_ms=20)) as session:
        start = time.monotonic()
        with pytest.raises(tf.errors.DeadlineExceededError):
            session.run(blocked, options=tf.RunOptions(timeout_in_ms=200))
        assert time.monotonic() - start > 0.19


def test_partial_runs_have_the_limit() -> None:
    x, late = tf.placeholder(tf.float32, []), tf.placeholder(tf.float32, [])
    y = x + 1
    with tf.control_dependencies([late + 1]):
        blocked = wait()
    with tf.Session(config=tf.ConfigProto(operation_timeout_in_ms=150)) as session:
        handle = session.partial_run_setup([y, blocked], [x, late])
        assert session.partial_run(handle, y, {x: 1}) == 2
        with pytest.raises(tf.errors.DeadlineExceededError, match="Timed out"):
            session.partial_run(handle, blocked, {late: 1})


def test_compiling_is_no_part_of_the_step() -> None:
    x = tf.placeholder(tf.float32, [None])
    y = x
    for _ in range(400):
        y = tf.sin(y) * 1.5
    GATE.reset(True)
    with tf.control_dependencies([y]):
        out = wait()
    with tf.Session(config=tf.ConfigProto(operation_timeout_in_ms=100)) as session:
        assert session.run(out, {x: [1.0]}) == 7


def test_callables_with_a_limit_say_what_they_are() -> None:
    x = tf.placeholder(tf.float32, [2])
    with tf.Session(config=tf.ConfigProto(operation_timeout_in_ms=1000)) as session:
        run = session.make_callable(x + 1, [x])
        assert run([1, 2]).tolist() == [2, 3]
        assert run.explain().programs
        assert "callable" in repr(run)


# --- costs ---


def test_costs_every_other_step() -> None:
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    y = tf.matmul(x, tf.constant(np.eye(2, dtype=np.float32)), name="y")
    config = tf.ConfigProto(graph_options=tf.GraphOptions(build_cost_model=2, build_cost_model_after=1))
    with tf.Session(config=config) as session:
        found = []
        for _ in range(5):
            metadata = tf.RunMetadata()
            session.run(y, {x: np.ones((3, 2))}, run_metadata=metadata)
            found.append([node.name for node in metadata.cost_graph.node])
        assert [bool(names) for names in found] == [False, False, True, False, True]
        assert "y" in found[2]
        node = next(node for node in metadata.cost_graph.node if node.name == "y")
        assert node.device == "/job:localhost/replica:0/task:0/device:CPU:0"
        assert node.is_final
        (output,) = node.output_info
        assert output.dtype == tf.float32.as_datatype_enum
        assert [dim.size for dim in output.shape.dim] == [3, 2]
        assert output.size == 24
        # x is fed, so only the constant is computed.
        (edge,) = node.input_info
        assert metadata.cost_graph.node[edge.preceding_node].name == y.op.inputs[1].op.name


def test_costs_count_steps_of_each_kind() -> None:
    a, b = tf.constant(1.0, name="a") + 1, tf.constant(2.0, name="b") + 1
    config = tf.ConfigProto(graph_options=tf.GraphOptions(build_cost_model=2))
    with tf.Session(config=config) as session:
        session.run(a)
        metadata = tf.RunMetadata()
        session.run(b, run_metadata=metadata)
        assert not metadata.cost_graph.node
        session.run(a, run_metadata=metadata)
        assert metadata.cost_graph.node
