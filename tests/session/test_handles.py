"""Tensors kept in a session under handles: made, read, fed, freed."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf


@pytest.fixture
def session() -> Any:
    with tf.Graph().as_default(), tf.Session() as found:
        yield found


def kept(session: tf.Session) -> int:
    return len(session._resources.tensors)


@pytest.mark.parametrize(
    "value",
    [np.arange(6, dtype=np.float32).reshape(2, 3), np.float64(2.5), np.array([], np.int64), np.array(["a", "bc"]), True],
    ids=["matrix", "scalar", "empty", "strings", "bool"],
)
def test_what_goes_in_comes_out(session: tf.Session, value: Any) -> None:
    x = tf.constant(value)
    handle = session.run(tf.get_session_handle(x))
    want = session.run(x)
    for found in (handle.eval(), handle.to_numpy_array()):
        assert np.asarray(found).dtype == np.asarray(want).dtype
        np.testing.assert_array_equal(found, want)
    assert isinstance(handle.eval(), type(want))
    holder, tensor = tf.get_session_tensor(handle.handle, x.dtype)
    np.testing.assert_array_equal(session.run(tf.identity(tensor), {holder: handle.handle}), want)


def test_the_tensor_is_a_copy_that_nobody_changes(session: tf.Session) -> None:
    p = tf.placeholder(tf.float32, [3])
    given = np.ones(3, np.float32)
    handle = session.run(tf.get_session_handle(p), {p: given})
    given[:] = 7
    handle.eval()[:] = 8
    session.run(p, {p: handle})[:] = 9  # the fed tensor itself is fetched
    np.testing.assert_array_equal(session.run(p + 0, {p: handle}), np.ones(3))


def test_feeding_copies_nothing(session: tf.Session) -> None:
    x = tf.placeholder(tf.float32, [1000])
    seen = []
    handle = session.run(tf.get_session_handle(x), {x: np.zeros(1000)})
    from stepjit.session.feeds import convert_feed

    for _ in range(2):
        seen.append(convert_feed(x, handle, session._resources.tensors))
    assert seen[0] is seen[1] is session._resources.tensors.get(handle.handle)


def test_feeding_by_run_callable_and_tuple(session: tf.Session) -> None:
    p, q = tf.placeholder(tf.float32, name="p"), tf.placeholder(tf.float32, [None])
    handle = session.run(tf.get_session_handle(tf.constant([1.0, 2.0])))
    np.testing.assert_array_equal(session.run(p + q, {p: handle, q: [1, 1]}), [2, 3])
    np.testing.assert_array_equal(session.run(p + q, {"p:0": handle, q: handle}), [2, 4])
    call = session.make_callable(p * 2, [p])
    np.testing.assert_array_equal(call(handle), [2, 4])
    np.testing.assert_array_equal(call(np.float32(3)), 6)


def test_structures_of_handles(session: tf.Session) -> None:
    op = tf.get_session_handle(tf.constant(1.0))
    one, other = session.run([op, op])
    assert one is other and kept(session) == 1
    found = session.run({"h": op, "t": (tf.constant(2), op.name)})
    assert found["h"] is found["t"][1] and found["t"][0] == 2
    again = session.make_callable(op)()
    assert again.eval() == 1 and len({one.handle, found["h"].handle, again.handle}) == 3
    assert str(one) == one.handle == one.get_raw_handle()


def test_deleted(session: tf.Session) -> None:
    handle = session.run(tf.get_session_handle(tf.constant(1.0)))
    holder, tensor = tf.get_session_tensor(handle.handle, tf.float32)
    gone, deleter = tf.delete_session_tensor(handle.handle)
    assert isinstance(deleter, tf.Operation)
    assert session.run(deleter, {gone: handle.handle}) is None and kept(session) == 0
    p = tf.placeholder(tf.float32)
    for run in (
        lambda: session.run(tensor, {holder: handle.handle}),
        lambda: session.run(deleter, {gone: handle.handle}),
        lambda: session.run(p, {p: handle}),
        lambda: session.run(p * 2, {p: handle}),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match="is not in the session store"):
            run()
    for method in (handle.eval, handle.delete, handle.to_numpy_array):
        with pytest.raises(TypeError, match="may have already been deleted"):
            method()
    other = session.run(tf.get_session_handle(tf.constant(1.0)))
    other.delete()
    assert kept(session) == 0


def test_of_another_session(session: tf.Session) -> None:
    handle = session.run(tf.get_session_handle(tf.constant(1.0)))
    p = tf.placeholder(tf.float32)
    holder, tensor = tf.get_session_tensor(handle.handle, tf.float32)
    with tf.Session() as other:
        mine = other.run(tf.get_session_handle(tf.constant(2.0)))
        for fetch, feeds in ((p * 2, {p: handle}), (tensor, {holder: handle.handle})):
            with pytest.raises(tf.errors.InvalidArgumentError, match="is not in the session store"):
                other.run(fetch, feeds)
        assert mine.eval() == 2
    with pytest.raises(TypeError, match="deleted"):
        mine.eval()


def test_wrong_types_and_shapes(session: tf.Session) -> None:
    handle = session.run(tf.get_session_handle(tf.constant([1.0, 2.0])))
    i, p = tf.placeholder(tf.int32), tf.placeholder(tf.float32, [3])
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expects arg"):
        session.run(i + 1, {i: handle})
    with pytest.raises(ValueError, match="Cannot feed value of shape"):
        session.run(p * 2, {p: handle})
    holder, tensor = tf.get_session_tensor(handle.handle, tf.float64)
    with pytest.raises(tf.errors.InternalError, match="does not match declared output type"):
        session.run(tensor, {holder: handle.handle})
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be scalar"):
        session.run(tensor, {holder: [handle.handle]})
    with pytest.raises(tf.errors.InvalidArgumentError, match="must feed a value for placeholder"):
        session.run(tensor)


@pytest.mark.parametrize("text", ["abc", "a;b;c", "", "x;0", b"junk", 3])
def test_malformed(session: tf.Session, text: Any) -> None:
    with pytest.raises(ValueError):
        tf.get_session_tensor(text, tf.float32)
    with pytest.raises(ValueError):
        tf.delete_session_tensor(text)


@pytest.mark.parametrize("data", [3.0, None, "x", np.ones(2)])
def test_only_tensors_are_kept(session: tf.Session, data: Any) -> None:
    with pytest.raises(TypeError, match="must be of type Tensor"):
        tf.get_session_handle(data)


def test_freed_when_the_handles_are_gone(session: tf.Session) -> None:
    op = tf.get_session_handle(tf.zeros([100]))
    raw = session.run(op).get_raw_handle()
    for _ in range(100):
        session.run(op)
    gc.collect()
    assert kept(session) <= 11
    holder, tensor = tf.get_session_tensor(raw, tf.float32)
    assert session.run(tensor, {holder: raw}).shape == (100,)


def test_freed_at_close() -> None:
    with tf.Graph().as_default():
        session = tf.Session()
        handle = session.run(tf.get_session_handle(tf.zeros([100])))
        session.close()
    assert kept(session) == 0
    with pytest.raises(TypeError, match="deleted"):
        handle.eval()


def test_kept_over_partial_runs(session: tf.Session) -> None:
    p, q = tf.placeholder(tf.float32, [2]), tf.placeholder(tf.float32, [2])
    op, total = tf.get_session_handle(p * 2), p + q
    run = session.partial_run_setup([op, total], [p, q])
    handle = session.partial_run(run, op, {p: [1, 2]})
    np.testing.assert_array_equal(session.partial_run(run, total, {q: handle}), [3, 6])


def test_state_that_stays_in_the_session(session: tf.Session) -> None:
    """The usual loop: what a step gives goes to the next without passing through Python."""
    state = tf.placeholder(tf.float32, [None])
    following = tf.get_session_handle(state * 0.5)
    handle = session.run(following, {state: [8.0, 16.0]})
    before = session.compile_stats().compiled
    for _ in range(3):
        handle = session.run(following, {state: handle})
    np.testing.assert_array_equal(handle.eval(), [0.5, 1])
    assert session.compile_stats().compiled == before
