"""How sessions begin and end: closing, deletion, the interpreter's exit, memory, default sessions."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as made:
        yield made


def memory() -> int:
    """kB of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


def use_a_session() -> list[weakref.ref[Any]]:
    """Make, use and drop a graph with a session; weak references to all."""
    with tf.Graph().as_default() as graph:
        x, v = tf.placeholder(tf.float32, [3]), tf.Variable([1.0, 2.0, 3.0])
        y, update = x * v, v.assign_add(x)
        script = tf.py_func(lambda value: value, [y], tf.float32)
        session = tf.Session()
        session.run(v.initializer)
        step, nested = session.make_callable(y, [x]), session.make_callable({"a": [y]}, [x])
        step([1, 2, 3])
        nested([1, 2, 3])
        session.run([update, {"y": y}], {x: [1, 2, 3]})
        session.run(script, {x: [1, 2, 3]})
        return [weakref.ref(each) for each in (session, graph, step, nested, v)]


# --- deletion ---


def test_what_is_dropped_is_collected() -> None:
    gone = use_a_session()
    gc.collect()
    assert [each() for each in gone] == [None] * len(gone)


def test_a_session_that_ran_nothing_goes_at_once() -> None:
    tf.constant(1.0)
    gc.disable()
    try:
        session = tf.Session()
        gone = weakref.ref(session)
        del session
        assert gone() is None
        session = tf.Session()
        session.close()
        gone = weakref.ref(session)
        del session
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not tell")
def test_sessions_leave_nothing_in_memory() -> None:
    for _ in range(40):
        use_a_session()
    gc.collect()
    before = memory()
    for _ in range(150):
        use_a_session()
    gc.collect()
    assert memory() - before < 4_000


def test_a_callable_keeps_its_session() -> None:
    v = tf.Variable(4.0)
    session = tf.Session()
    session.run(v.initializer)
    step, nested = session.make_callable(v), session.make_callable([[v]])
    del session
    gc.collect()
    assert step() == 4 and nested() == [[4]]


def test_deletion_frees_what_variables_held() -> None:
    v = tf.Variable(np.zeros(3_000_000))
    session = tf.Session()
    session.run(v.initializer)
    held = weakref.ref(session._resources)
    del session
    gc.collect()
    assert held() is None


def test_failed_making_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    for arguments in ({"target": 3}, {"graph": 3}, {"config": 3}, {"target": "nowhere"}):
        for kind in (tf.Session, tf.InteractiveSession):
            with pytest.raises((TypeError, tf.errors.NotFoundError)):
                kind(**arguments)
    gc.collect()
    assert tf.get_default_session() is None
    assert capfd.readouterr().err == ""


AT_EXIT = {
    "a session": "",
    "an interactive session": "tf.InteractiveSession()\n",
    "blocks that never end": "session.__enter__(); tf.Graph().as_default().__enter__()\n",
    "a callable": "import builtins; builtins.kept = session.make_callable({'y': y}); builtins.kept()\n",
    "a thread that waits": (
        "q = tf.FIFOQueue(1, tf.float32, shapes=[[]]); take = q.dequeue()\n"
        "import threading, time\n"
        "def wait():\n    try: session.run(take)\n    except Exception: pass\n"
        "threading.Thread(target=wait, daemon=True).start(); time.sleep(0.1)\n"
    ),
    "a cycle": "class C: pass\nc = C(); c.me = c; c.session = session; c.step = session.make_callable(y); del session\n",
    "what atexit runs": "import atexit; atexit.register(lambda: print(session.run(y)))\n",
    "a module that goes": "import sys; sys.modules['kept'] = session\n",
}


@pytest.mark.parametrize("name", AT_EXIT)
def test_exit_is_quiet(name: str) -> None:
    program = (
        "import stepjit.compat.v1 as tf\n"
        "v = tf.Variable([1., 2.]); y = v * 2.\n"
        "session = tf.Session(); session.run(v.initializer); session.run(y)\n" + AT_EXIT[name]
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("[2. 4.]\n" if name == "what atexit runs" else "")


# --- closing ---


def test_use_after_close() -> None:
    x = tf.placeholder(tf.float32, [])
    v = tf.Variable(1.0)
    session = tf.Session()
    session.run(v.initializer)
    steps = [session.make_callable(v), session.make_callable(x + v, [x]), session.make_callable({"v": v})]
    session.close()
    session.close()
    calls = [
        lambda: session.run([]), lambda: session.run("no such thing"), lambda: session.run(v, {x: "?"}),
        lambda: v.eval(session=session), lambda: session.make_callable(v), lambda: session.partial_run_setup([v], [x]),
        lambda: session.list_devices(), steps[0], lambda: steps[1](1.0), lambda: steps[1](), steps[2],
    ]  # fmt: skip
    for call in calls:
        with pytest.raises((RuntimeError, tf.errors.CancelledError), match="closed"):
            call()
    with session, pytest.raises(RuntimeError, match="Attempted to use a closed Session"):
        v.eval()


def test_state_is_each_sessions_own() -> None:
    v = tf.Variable(1.0)
    up = v.assign_add(1.0)
    first, second = tf.Session(), tf.Session()
    first.run(v.initializer)
    assert first.run(up) == 2
    with pytest.raises(tf.errors.FailedPreconditionError):
        second.run(v)
    second.run(v.initializer)
    first.close()
    assert second.run(up) == 2


# --- default sessions ---


def test_interactive_sessions(caplog: pytest.LogCaptureFixture) -> None:
    t = tf.constant(3.0)
    first = tf.InteractiveSession()
    assert t.eval() == 3 and not caplog.records
    second = tf.InteractiveSession()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and "An interactive session is already active" in record.getMessage()
    assert tf.get_default_session() is second
    first.close()
    assert tf.get_default_session() is second
    first.close()
    second.close()
    assert tf.get_default_session() is None
    gone = [weakref.ref(first), weakref.ref(second)]
    del first, second
    gc.collect()
    assert [each() for each in gone] == [None, None]
    caplog.clear()
    tf.InteractiveSession().close()
    assert not caplog.records


def test_an_interactive_session_needs_no_name() -> None:
    t = tf.constant(3.0)
    tf.InteractiveSession()
    gc.collect()
    assert t.eval() == 3
    tf.get_default_session().close()


def test_an_interactive_session_has_a_graph(graph: tf.Graph) -> None:
    other = tf.Graph()
    session = tf.InteractiveSession(graph=other, config=tf.ConfigProto())
    assert tf.get_default_graph() is other
    assert tf.constant(2.0).eval() == 2
    with pytest.raises((TypeError, AttributeError)):
        session.__enter__()  # type: ignore[attr-defined]
    session.close()
    assert tf.get_default_graph() is graph


def test_an_interactive_session_ends_with_its_thread_or_in_another(graph: tf.Graph) -> None:
    gone: list[Any] = []
    thread = threading.Thread(target=lambda: gone.append(weakref.ref(tf.InteractiveSession(graph=tf.Graph()))))
    thread.start()
    thread.join()
    gc.collect()
    assert gone[0]() is None
    session = tf.InteractiveSession(graph=tf.Graph())
    closing = threading.Thread(target=session.close)
    closing.start()
    closing.join()
    assert tf.get_default_session() is None and tf.get_default_graph() is graph


def test_a_session_is_entered_once() -> None:
    t = tf.constant(1.0)
    with tf.Session() as session:
        with pytest.raises(RuntimeError, match="Session context managers are not re-entrant"):
            session.__enter__()
        with session.as_default() as inner, session.as_default():
            assert inner is session and t.eval() == 1
        assert tf.get_default_session() is session
    assert tf.get_default_session() is None


def test_blocks_end_in_order() -> None:
    def disorder() -> None:
        blocks = tf.Session().as_default(), tf.Session().as_default()
        for block in blocks:
            block.__enter__()
        with pytest.raises(AssertionError, match="Nesting violated for default stack"):
            blocks[0].__exit__(None, None, None)

    failed: list[BaseException] = []

    def run() -> None:
        try:
            disorder()  # in a thread of its own, whose stack is left damaged
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not failed


def test_an_exception_leaves_nothing_behind(graph: tf.Graph) -> None:
    other = tf.Graph()
    session = tf.Session(graph=other)

    def fail() -> None:
        with session:
            assert tf.get_default_graph() is other
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert tf.get_default_graph() is graph and tf.get_default_session() is None
    with pytest.raises(RuntimeError, match="closed"):
        session.run([])
