"""Partial runs over time: threads, blocking ops, limits, ends of handles and sessions."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

IA = tf.errors.InvalidArgumentError


@pytest.fixture
def session() -> Any:
    with tf.Graph().as_default(), tf.Session() as found:
        yield found


def placeholders(count: int, shape: Any = ()) -> list[Any]:
    return [tf.placeholder(tf.float32, shape) for _ in range(count)]


def test_unfinished_handles_go_with_the_session() -> None:
    with tf.Graph().as_default():
        session = tf.Session()
        p, q = placeholders(2, [1000])
        session.partial_run(session.partial_run_setup([p * 2, p + q], [p, q]), "mul:0", {p: np.ones(1000)})
        runs = weakref.ref(session._partial_runs())
        session.close()
    gc.collect()
    assert runs() is None


def test_finished_handles_are_let_go(session: tf.Session) -> None:
    p, q = placeholders(2)
    a, b = p + 1, p * q
    for _ in range(20):
        run = session.partial_run_setup([a, b], [p, q])
        session.partial_run(run, a, {p: 1})
        session.partial_run(run, b, {q: 1})
        assert session.partial_run(run, []) == []
        with pytest.raises(IA, match="Must run 'setup'"):
            session.partial_run(run, b)
    assert not session._partial_runs()._runs


def test_interactive_session() -> None:
    with tf.Graph().as_default():
        session = tf.InteractiveSession()
        try:
            p, q = placeholders(2)
            total, product = p + q, p * q
            run = session.partial_run_setup([total, product], [p, q])
            assert session.partial_run(run, total, {p: 2, q: 3}) == 5 and session.partial_run(run, product) == 6
        finally:
            session.close()


def test_graph_grows_between_calls(session: tf.Session) -> None:
    p, q = placeholders(2)
    run = session.partial_run_setup([p + 1, p * q], [p, q])
    session.partial_run(run, "add:0", {p: 1})
    tf.constant(7.0)
    assert session.partial_run(run, "mul:0", {q: 2}) == 2


def test_threads_on_one_handle(session: tf.Session) -> None:
    ps = placeholders(16)
    v = tf.get_variable("v", initializer=0.0)
    session.run(v.initializer)
    outs = []
    for p in ps:
        with tf.control_dependencies([tf.assign_add(v, 1.0)]):
            outs.append(p * 2.0)
    run = session.partial_run_setup(outs, ps)
    found: dict[int, Any] = {}
    errors: list[BaseException] = []

    def work(k: int) -> None:
        try:
            found[k] = session.partial_run(run, outs[k], {ps[k]: k})
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors and found == {k: 2.0 * k for k in range(16)}
    assert session.run(v) == 16


def test_one_feed_is_taken_by_one_thread(session: tf.Session) -> None:
    p, q = placeholders(2)
    total = p + q
    for _ in range(10):
        run = session.partial_run_setup([total, q * 2], [p, q])
        outcomes = []

        def work(run: str = run, outcomes: list[Any] = outcomes) -> None:
            try:
                outcomes.append(session.partial_run(run, [], {p: 1}))
            except IA as error:
                outcomes.append("already been fed" in str(error))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(map(str, outcomes)) == ["True"] * 3 + ["[]"]
        assert session.partial_run(run, total, {q: 1}) == 2


def test_what_blocks_runs_when_it_is_asked_for(session: tf.Session) -> None:
    queue = tf.FIFOQueue(1, tf.float32, shapes=[()])
    p = tf.placeholder(tf.float32, [])
    taken, double = queue.dequeue() + 0.0, p * 2
    run = session.partial_run_setup([double, taken], [p])
    assert session.partial_run(run, double, {p: 4}) == 8
    session.run(queue.enqueue(7.0))
    assert session.partial_run(run, taken) == 7


@pytest.mark.parametrize("in_setup", [False, True])
def test_time_limit_of_the_session(in_setup: bool) -> None:
    config = tf.ConfigProto(operation_timeout_in_ms=50)
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        queue = tf.FIFOQueue(1, tf.float32, shapes=[()])
        taken, fine = queue.dequeue(), tf.constant(1.0) + 1
        run = session.partial_run_setup([taken.op, fine] if in_setup else [taken, fine])
        with pytest.raises(tf.errors.DeadlineExceededError):
            session.partial_run(run, fine if in_setup else taken)
        assert session.run(fine) == 2


def test_close_ends_what_blocks() -> None:
    with tf.Graph().as_default():
        session = tf.Session()
        taken = tf.FIFOQueue(1, tf.float32, shapes=[()]).dequeue()
        run = session.partial_run_setup(taken)
        errors: list[BaseException] = []

        def work() -> None:
            try:
                session.partial_run(run, taken)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.1)
        session.close()
        thread.join(30)
        assert not thread.is_alive() and isinstance(errors[0], (tf.errors.CancelledError, RuntimeError))


def test_loops_and_branches_in_stages(session: tf.Session) -> None:
    p, n = tf.placeholder(tf.float32, []), tf.placeholder(tf.int32, [])
    double = p * 2
    branch = tf.cond(n > 2, lambda: double + 1, lambda: double - 1)
    total = tf.while_loop(lambda i, x: i < n, lambda i, x: (i + 1, x + branch), [0, double])[1]
    fetches = [double, branch, total, tf.gradients(total * double, [p])[0]]
    want = session.run(fetches, {p: 1, n: 3})
    run = session.partial_run_setup(fetches, [p, n])
    found = [session.partial_run(run, double, {p: 1}), session.partial_run(run, branch, {n: 3})]
    found += session.partial_run(run, fetches[2:])
    np.testing.assert_allclose(found, want)
