"""Sessions across processes: a session made and run before a fork goes on in the children, whatever other threads do."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf
from stepjit_runtime.cached_property import cached_property

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


FORKS = int(os.environ.get("STEPJIT_TEST_FORKS", "100"))


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as made:
        yield made


def in_child(work: Callable[[], Any], seconds: int = 60) -> str:
    """What the work gives in a forked child, as text; the test fails when the child hangs, telling where, or dies."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        faulthandler.register(signal.SIGUSR1, writing)
        text = "nothing"
        try:
            text = f"{work()}"
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        finally:
            os.write(writing, text.encode()[:4000])
            os._exit(0)
    os.close(writing)
    try:
        # In small steps: a machine that stands still for a while makes one of them late, not the child.
        hangs = not any(select.select([reading], [], [], 1)[0] for _ in range(seconds))
        if hangs:
            os.kill(child, signal.SIGUSR1)
            select.select([reading], [], [], 10)
        text = os.read(reading, 4000).decode()
        if hangs:
            os.kill(child, signal.SIGKILL)
    finally:
        os.close(reading)
        status = os.waitpid(child, 0)[1]
    assert not hangs, f"a child hangs after {seconds} s:\n{text}"
    assert os.waitstatus_to_exitcode(status) == 0
    return text


@contextmanager
def busy(*works: Callable[[], Any]) -> Iterator[None]:
    """Threads that repeat each work until the block ends."""
    stop = threading.Event()
    failed: list[BaseException] = []

    def repeat(work: Callable[[], Any]) -> None:
        try:
            while not stop.is_set():
                work()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=repeat, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert not failed, failed


def test_children_go_on_while_other_threads_run_and_compile() -> None:
    size = 200
    x = tf.placeholder(tf.float32, [None, size])
    w = tf.Variable(np.eye(size, dtype=np.float32))
    y = tf.matmul(x, w)
    update = w.assign(w * 1.0)
    fresh = iter(range(1, 100_000))
    compiled: list[Any] = []
    session = tf.Session()
    session.run(w.initializer)
    rows = np.ones((64, size), np.float32)
    product = session.make_callable(y, [x])
    product(rows)

    def compiles() -> None:
        with session.graph.as_default():
            compiled.append(session.run(tf.constant(2.0) * float(next(fresh))))

    def child(turn: int) -> str:
        session.run(update)
        right = np.array_equal(product(rows), rows)
        if turn % 10 == 0:
            with session.graph.as_default():
                more = tf.reduce_sum(y) * float(os.getpid())
            right &= bool(session.run(more, {x: rows}) == np.float32(rows.size) * np.float32(os.getpid()))
        session.close()
        return "right" if right else "wrong"

    session.run(update)
    with busy(lambda: product(rows), lambda: session.run(update), compiles):
        for turn in range(FORKS):
            assert in_child(partial(child, turn)) == "right"
    assert len(compiled) > 1
    session.close()


def test_no_variable_is_half_written_in_a_child() -> None:
    w = tf.Variable(np.zeros(1_000_000))
    update = tf.assign_add(w, np.ones(1_000_000))
    session = tf.Session()
    session.run(w.initializer)
    run, read = session.make_callable(update.op), session.make_callable(w)
    run()
    with busy(run):
        for _ in range(15):
            time.sleep(0.003)
            assert in_child(lambda: len(np.unique(read()))) == "1"
    session.close()


def test_a_value_under_way_in_another_thread_is_computed_anew_in_a_child() -> None:
    started, go_on = threading.Event(), threading.Event()

    class Slow:
        def __init__(self, waits: bool) -> None:
            self.waits = waits

        @cached_property
        def value(self) -> int:
            if self.waits:
                started.set()
                go_on.wait(60)
            return 7

    slow = Slow(True)
    thread = threading.Thread(target=lambda: slow.value)
    thread.start()
    assert started.wait(20)
    try:
        assert in_child(lambda: Slow(False).value) == "7"
    finally:
        go_on.set()
        thread.join(20)
    assert slow.__dict__["value"] == slow.value == 7


def test_reading_variables_while_the_process_forks_leaves_writers_free() -> None:
    v = tf.Variable(np.zeros(1000))
    update = tf.assign_add(v, np.ones(1000))
    session = tf.Session()
    session.run(v.initializer)
    with busy(lambda: session._resources.variable(v.op.name, v.dtype.base_dtype, (1000,)).read()):
        for _ in range(40):
            assert in_child(lambda: session.run(update)[0]) == "1.0"
    assert session.run(update)[0] == 1
    session.close()


def test_a_wait_in_the_parent_does_not_keep_a_child_from_closing() -> None:
    queue = tf.FIFOQueue(3, tf.int32, shapes=[[]])
    take, put = queue.dequeue(), queue.enqueue(7)
    session = tf.Session()
    results: list[Any] = []
    waiting = threading.Thread(target=lambda: results.append(session.run(take)))
    waiting.start()
    time.sleep(0.1)

    def child() -> Any:
        session.run(put)
        value = session.run(take)
        session.close()
        return value

    for _ in range(5):
        assert in_child(child) == "7"
    session.run(put)
    waiting.join(20)
    assert results == [7]
    session.close()


def test_children_of_children() -> None:
    v = tf.Variable(1.0)
    double = tf.assign(v, v * 2)
    session = tf.Session()
    session.run(v.initializer)
    session.run(double)

    def child() -> Any:
        return [float(session.run(double)), in_child(lambda: float(session.run(double)))]

    assert in_child(child) == "[4.0, '8.0']"
    assert session.run(v) == 2


_step: Any = None


def _call(value: float) -> float:
    return float(_step(value))


def _call_given(step: Any, value: float, results: Any) -> None:
    results.put(float(step(value)))


def test_a_pool_of_forked_workers() -> None:
    global _step
    x = tf.placeholder(tf.float32, [])
    with tf.Session() as session:
        _step = session.make_callable(x * 2 + 1, [x])
        with multiprocessing.get_context("fork").Pool(3) as pool:
            assert pool.map(_call, range(20)) == [2.0 * k + 1 for k in range(20)]
    _step = None


def test_spawned_workers_get_callables_by_pickling() -> None:
    x = tf.placeholder(tf.float32, [])
    v = tf.Variable(3.0)
    context = multiprocessing.get_context("spawn")
    with tf.Session() as session:
        session.run(v.initializer)
        step = session.make_callable(x * v, [x])
        results = context.Queue()
        worker = context.Process(target=_call_given, args=(step, 5.0, results))
        worker.start()
        assert results.get(timeout=60) == 15
        worker.join(30)
        assert worker.exitcode == 0
