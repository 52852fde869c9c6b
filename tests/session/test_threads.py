"""Many threads on one session: first calls, callables, closing under way, and leaving by Ctrl-C."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from interrupts import ctrl_c_after

import stepjit.compat.v1 as tf

ENDED = (tf.errors.CancelledError, RuntimeError)


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as made:
        yield made


class Task(threading.Thread):
    """A call in a thread of its own, and what came of it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.call, self.result, self.error = call, None, None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.call()
        except BaseException as error:
            self.error = error

    def ended(self) -> Task:
        """The task, which has ended."""
        self.join(30)
        assert not self.is_alive(), "the thread hangs"
        return self


def together(count: int, call: Callable[[int], Any]) -> list[Any]:
    """What `call(k)` gives in each of so many threads that begin at the same time."""
    barrier = threading.Barrier(count)

    def begin(k: int) -> Any:
        barrier.wait(20)
        return call(k)

    with ThreadPoolExecutor(count) as pool:
        return [future.result(60) for future in [pool.submit(begin, k) for k in range(count)]]


# --- first calls ---


def test_first_runs_at_the_same_time_compile_once() -> None:
    x = tf.placeholder(tf.float32, [None])
    y = tf.reduce_sum(tf.tanh(x) * 3.25)
    with tf.Session() as session:
        results = together(8, lambda k: session.run(y, {x: np.zeros(5)}))
        assert results == [0.0] * 8
        stats = session.compile_stats()
        assert (stats.steps, stats.variants) == (1, 1)
        together(8, lambda k: session.run(y, {x: np.zeros(9)}))
        assert session.compile_stats() == stats


def test_callables_made_at_the_same_time_compile_once() -> None:
    x = tf.placeholder(tf.float32, [None])
    y = tf.exp(x) - 1.75
    with tf.Session() as session:
        made = together(8, lambda k: session.make_callable([y, x], [x]))
        results = together(8, lambda k: made[k](np.full(k + 2, 0.0)))
        assert [len(result[0]) for result in results] == [k + 2 for k in range(8)]
        assert session.compile_stats().variants == 1


def test_sessions_that_compile_the_same_at_the_same_time() -> None:
    x = tf.placeholder(tf.float32, [3])
    y = tf.tanh(x) * 0.123
    sessions = [tf.Session() for _ in range(6)]
    assert together(6, lambda k: sessions[k].run(y, {x: [0, 0, 0]}).tolist()) == [[0.0] * 3] * 6
    assert sum(session.compile_stats().compiled for session in sessions) <= 1


def test_other_steps_run_while_one_is_compiled() -> None:
    x = tf.placeholder(tf.float32, [4, 4])
    deep = x
    for k in range(150):
        deep = tf.tanh(tf.matmul(deep, deep) + float(k))
    small = x + 1.0
    with tf.Session() as session:
        step = session.make_callable(small, [x])
        step(np.zeros((4, 4)))
        task = Task(lambda: session.run(deep, {x: np.zeros((4, 4))}))
        count = 0
        while task.is_alive() and count < 100_000:
            step(np.zeros((4, 4), np.float32))
            count += 1
        assert task.ended().error is None
        assert count > 10


# --- results ---


def test_threads_do_not_mix_their_values() -> None:
    x = tf.placeholder(tf.float32, [None])
    big = tf.placeholder(tf.float32, [None, 64])
    y, z = tf.tanh(x) * 2.0, tf.matmul(big, big, transpose_a=True)
    with tf.Session() as session:
        step, product = session.make_callable([y, {"x": x * 2}], [x]), session.make_callable(z, [big])

        def work(k: int) -> int:
            wrong = 0
            for j in range(60):
                value = np.full(k + 1 + j % 3, k / 8, np.float32)
                got = step(value)
                wrong += not np.allclose(got[0], np.tanh(value) * 2, atol=1e-6) or got[1]["x"].shape != value.shape
                rows = np.full((k + 1, 64), k, np.float32)
                wrong += not np.all(product(rows) == (k + 1) * k * k)
            return wrong

        assert together(6, work) == [0] * 6


@pytest.mark.parametrize("after_python", [False, True])
def test_a_read_sees_a_whole_value(after_python: bool) -> None:
    v = tf.Variable(np.zeros(1_000_000), use_resource=True)
    up = v.assign_add(np.ones(1_000_000))
    with tf.control_dependencies([tf.py_func(lambda: None, [], [])] if after_python else []):
        whole = v.read_value()
    with tf.Session() as session:
        session.run(v.initializer)
        read, write = session.make_callable(whole), session.make_callable(up.op)
        stop = threading.Event()
        writer = Task(lambda: [write() for _ in iter(stop.is_set, True)])
        values = [read() for _ in range(60)]
        stop.set()
        assert writer.ended().error is None
    firsts = [value[0] for value in values]
    assert all(np.all(value == value[0]) for value in values) and firsts == sorted(firsts)


def test_no_update_is_lost() -> None:
    v, big = tf.Variable(0, dtype=tf.int64), tf.Variable(np.zeros(50_000))
    up = tf.group(tf.assign_add(v, 1, use_locking=True), tf.assign_add(big, np.ones(50_000), use_locking=True))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        together(6, lambda k: [session.run(up) for _ in range(50)])
        assert session.run(v) == 300 and np.all(session.run(big) == 300)


def test_defaults_are_each_threads_own(graph: tf.Graph) -> None:
    t = tf.constant(3.0)
    with tf.Session() as session, session.as_default():
        step = session.make_callable(t)
        assert Task(tf.get_default_session).ended().result is None
        assert Task(tf.get_default_graph).ended().result is not graph
        assert isinstance(Task(t.eval).ended().error, ValueError)
        assert Task(step).ended().result == 3 and Task(lambda: session.run(t)).ended().result == 3

        def inside() -> Any:
            with session.as_default():
                return t.eval()

        assert Task(inside).ended().result == 3


# --- closing ---


def test_close_ends_what_runs_and_waits() -> None:
    x = tf.placeholder(tf.float32, [300, 300])
    long = x
    for _ in range(30):
        long = tf.matmul(long, x)
    v = tf.Variable(np.zeros(100_000))
    up = v.assign_add(np.ones(100_000))
    queue = tf.FIFOQueue(2, tf.float32, shapes=[[]])
    take, rows = queue.dequeue(), np.zeros((300, 300), np.float32)
    forever = tf.while_loop(lambda i: i >= 0, lambda i: i * 0, [0])
    slow = tf.py_func(lambda: time.sleep(0.05) or 1.0, [], tf.float64)
    for _ in range(3):
        session = tf.Session()
        session.run(v.initializer)
        step = session.make_callable(long, [x])
        step(rows)
        session.run([up, slow])

        def repeat(call: Callable[[], Any]) -> None:
            while True:
                call()

        works: list[Callable[[], Any]] = [
            lambda step=step: step(rows), lambda session=session: session.run(up),
            lambda session=session: session.run([slow, v]), lambda session=session: session.run(take),
            lambda session=session: session.run(forever),
        ]  # fmt: skip
        tasks = [Task(lambda work=work: repeat(work)) for work in works]
        time.sleep(0.2)
        session.close()
        for task in tasks:
            error = task.ended().error
            assert isinstance(error, ENDED), error
            assert "clos" in str(error) or "cancelled" in str(error)
        with pytest.raises(RuntimeError, match="Attempted to use a closed Session"):
            session.run(v)
        with pytest.raises(ENDED, match="closed"):
            step(rows)


def test_close_while_it_compiles() -> None:
    x = tf.placeholder(tf.float32, [None, 4])
    y = x
    for k in range(20):
        y = tf.tanh(tf.cumsum(y) + float(k))
    for wait in (0.0, 0.01, 0.03, 0.1):
        session = tf.Session()
        task = Task(lambda session=session: session.run(y + wait, {x: np.zeros((2, 4))}))
        time.sleep(wait)
        session.close()
        error = task.ended().error
        assert error is None or (isinstance(error, ENDED) and "closed" in str(error)), error


def test_several_threads_close() -> None:
    v = tf.Variable(np.zeros(10_000))
    for _ in range(10):
        session = tf.Session()
        session.run(v.initializer)
        together(4, lambda k, session=session: session.close())
        with pytest.raises(RuntimeError):
            session.run(v)


def test_reset_ends_every_session() -> None:
    t = tf.constant(1.0) + 1.0
    queue = tf.FIFOQueue(2, tf.float32, shapes=[[]])
    take = queue.dequeue()
    sessions = [tf.Session(), tf.Session()]
    waiting = Task(lambda: sessions[0].run(take))
    step = sessions[1].make_callable(t)
    assert step() == 2
    time.sleep(0.1)
    tf.Session.reset("", ["some container"])
    assert isinstance(waiting.ended().error, tf.errors.CancelledError)
    for call in (step, lambda: sessions[0].run(t), lambda: sessions[1].run([])):
        with pytest.raises(tf.errors.CancelledError, match="Session has been closed"):
            call()
    with tf.Session() as session:
        assert session.run(t) == 2
    with pytest.raises(tf.errors.NotFoundError, match="No session factory"):
        tf.Session.reset("made_up")


# --- Ctrl-C ---


def _last(call: Callable[[], Any]) -> None:
    call()
    time.sleep(10)


def interrupted(call: Callable[[], Any], seconds: float) -> float:
    """Seconds that the call took to end by a KeyboardInterrupt that comes after so many."""
    started = time.monotonic()
    with ctrl_c_after(seconds), pytest.raises(KeyboardInterrupt):
        _last(call)
    return time.monotonic() - started


def test_ctrl_c_leaves_a_wait() -> None:
    queue = tf.FIFOQueue(1, tf.float32, shapes=[[]])
    put, take = queue.enqueue(1.0), queue.dequeue()
    with tf.Session() as session:
        assert interrupted(lambda: session.run(take), 0.1) < 5
        session.run(put)
        assert interrupted(lambda: session.run(put), 0.1) < 5
        assert session.run(take) == 1 and session.run(queue.size()) == 0


def test_ctrl_c_leaves_a_loop() -> None:
    v = tf.Variable(1.0)
    forever = tf.while_loop(lambda i: i >= 0, lambda i: i * 0, [0])
    with tf.control_dependencies([forever]):
        update = v.assign(2.0)
    with tf.Session() as session:
        session.run(v.initializer)
        for _ in range(2):
            assert interrupted(lambda: session.run([forever, update]), 0.2) < 5
            assert session.run(v) == 1


def test_ctrl_c_after_a_long_step() -> None:
    x = tf.placeholder(tf.float32, [700, 700])
    y = x
    for _ in range(8):
        y = tf.matmul(y, x)
    with tf.Session() as session:
        step = session.make_callable(y, [x])
        rows = np.eye(700, dtype=np.float32)
        step(rows)
        started = time.monotonic()
        step(rows)
        assert interrupted(lambda: step(rows), (time.monotonic() - started) / 3) < 5
        assert np.array_equal(step(rows), rows)


def test_ctrl_c_while_it_compiles() -> None:
    x = tf.placeholder(tf.float32, [None, 6])
    with tf.Session() as session:
        for number, seconds in enumerate((0.002, 0.01, 0.03, 0.06, 0.1)):
            y = x
            for k in range(15):
                y = tf.tanh(tf.cumsum(y) + float(k + 100 * number))
            # Python drops an exception that comes while it frees something.
            with suppress(KeyboardInterrupt), ctrl_c_after(seconds):
                session.run(y, {x: np.zeros((2, 6))})
            assert session.run(y, {x: np.zeros((2, 6))}).shape == (2, 6)
            assert session.run(x * float(number), {x: np.zeros((3, 6))}).shape == (3, 6)


def test_ctrl_c_in_a_python_function() -> None:
    sleep = tf.py_func(lambda: time.sleep(20), [], [])
    with tf.Session() as session:
        assert interrupted(lambda: session.run(sleep), 0.1) < 5
        assert session.run(tf.constant(1)) == 1
