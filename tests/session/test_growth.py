"""Graphs that grow between runs: nothing is compiled anew, and ops that are made in a loop are pointed out."""

from __future__ import annotations

import logging
import threading
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf
from stepjit.session.growth import MANY_GROWTHS


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as made:
        yield made


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "tensorflow"]


def test_nothing_is_compiled_anew_when_the_graph_grows() -> None:
    x = tf.placeholder(tf.float32, [None])
    v = tf.Variable([1.0, 2.0])
    y, update = x * v, v.assign_add([1.0, 1.0])
    with tf.Session() as session:
        session.run(v.initializer)
        step = session.make_callable(y, [x])
        step([1, 1])
        session.run([y, update], {x: [1, 1]})
        before = session.compile_stats()
        for _ in range(10):
            tf.reduce_sum(tf.exp(y) * v)
            tf.Variable(3.0)
            step([1, 1])
            session.run([y, update], {x: [1, 1]})
        assert session.compile_stats() == before
        np.testing.assert_array_equal(step([1, 1]), [12, 13])


def test_a_loop_that_makes_ops_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    v = tf.Variable(0.0)
    with tf.Session() as session:
        session.run(v.initializer)
        for k in range(MANY_GROWTHS + 10):
            made = v.assign(float(k))  # the line that is told
            session.run(made)
            assert len(warnings_of(caplog)) == (k >= MANY_GROWTHS - 1)
    (text,) = warnings_of(caplog)
    line = test_a_loop_that_makes_ops_is_told_once.__code__.co_firstlineno + 5
    assert f"test_growth.py:{line}" in text and "finalize" in text
    assert f"'{made.op.name}'" not in text and "'Assign_" in text


def test_callables_made_in_a_loop_count_too(caplog: pytest.LogCaptureFixture) -> None:
    x = tf.placeholder(tf.float32, [2])
    with tf.Session() as session:
        for _ in range(MANY_GROWTHS):
            session.make_callable(x + 1.0, [x])
    assert len(warnings_of(caplog)) == 1


def test_each_session_tells_for_itself(caplog: pytest.LogCaptureFixture) -> None:
    sessions = [tf.Session(), tf.Session()]
    for _ in range(MANY_GROWTHS):
        made = tf.constant(1.0) + 1.0
        for session in sessions:
            session.run(made)
    assert len(warnings_of(caplog)) == 2


def test_building_and_running_in_turn_is_no_reason_to_warn(caplog: pytest.LogCaptureFixture) -> None:
    """As in a notebook: every cell adds ops and runs them, and a model is built in a loop before it runs."""
    namespace: dict[str, Any] = {"tf": tf, "session": tf.Session()}
    for k in range(3 * MANY_GROWTHS):
        exec(compile(f"a{k} = tf.constant({k}.0)\nassert session.run(a{k}) == {k}", f"<cell {k}>", "exec"), namespace)
    layer = tf.placeholder(tf.float32, [4])
    for _ in range(3 * MANY_GROWTHS):
        layer = tf.tanh(layer)
    for _ in range(3 * MANY_GROWTHS):
        namespace["session"].run(layer, {"Placeholder:0": np.zeros(4)})
        namespace["session"].run({"again": layer}, {"Placeholder:0": np.zeros(4)})
    assert warnings_of(caplog) == []


def test_finalize_makes_it_an_error(graph: tf.Graph, caplog: pytest.LogCaptureFixture) -> None:
    x = tf.placeholder(tf.float32, [])
    y = x + 1.0
    v = tf.Variable(1.0)
    with tf.Session() as session:
        graph.finalize()
        session.run(v.initializer)
        step = session.make_callable({"y": [y, v]}, [x])
        assert session.run(y, {x: 1}) == 2 and step(1)["y"] == [2, 1]
        for _ in range(MANY_GROWTHS + 1):
            with pytest.raises(RuntimeError, match=r"Graph is finalized and cannot be modified"):
                session.run(y * 2.0, {x: 1})
    assert warnings_of(caplog) == []


def test_threads_grow_the_graph_while_others_run(graph: tf.Graph, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "tensorflow")
    x = tf.placeholder(tf.float32, [3])
    base = x * 2.0
    wrong: list[Any] = []
    with tf.Session() as session:
        step = session.make_callable(base, [x])
        compiled = session.compile_stats().variants

        def grow(k: int) -> None:
            with graph.as_default():
                for j in range(8):
                    if session.run(base + float(100 * k + j), {x: [1, 1, 1]})[0] != 2 + 100 * k + j:
                        wrong.append((k, j))

        def call() -> None:
            for j in range(300):
                if step(np.full(3, j, np.float32))[0] != 2 * j:
                    wrong.append(j)

        threads = [threading.Thread(target=grow, args=(k,)) for k in range(3)]
        threads += [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not wrong
        assert session.compile_stats().variants == compiled + 24
