"""Branches and loops in sessions: what native code, Python and the session have to agree on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from interrupts import ctrl_c_after

import stepjit.compat.v1 as tf


@pytest.fixture(autouse=True)
def fresh_graph() -> None:
    tf.reset_default_graph()


def any_shape() -> list[Any]:
    return [tf.TensorShape([]), tf.TensorShape([None])]


def count(body: Callable[..., Any], limit: int) -> Any:
    """A loop over a counter, whose body runs ops with effects."""

    def step(i: Any) -> Any:
        with tf.control_dependencies([body(i)]):
            return i + 1

    return tf.while_loop(lambda i: i < limit, step, [tf.constant(0)])


def test_random_numbers_go_on_from_trip_to_trip_and_step_to_step() -> None:
    def drawn(shape_changes: bool) -> np.ndarray:
        tf.reset_default_graph()
        start = tf.placeholder(tf.float32, [None])

        def body(i: Any, s: Any) -> Any:
            return i + 1, tf.concat([s if shape_changes else s[1:], tf.random_uniform([1], seed=3)], 0)

        invariants = any_shape() if shape_changes else [tf.TensorShape([]), tf.TensorShape([4])]
        first = start if shape_changes else tf.zeros([4])
        _, found = tf.while_loop(lambda i, s: i < 4, body, [0, first], shape_invariants=invariants)
        with tf.Session() as session:
            return np.concatenate([session.run(found, {start: []}) for _ in range(2)])

    numbers = drawn(False)
    assert len(set(numbers.tolist())) == 8
    np.testing.assert_array_equal(numbers, drawn(True))


@pytest.mark.parametrize("dtype", [tf.float16, tf.complex64, tf.string, tf.uint8, tf.bool])
def test_loop_variables_of_any_dtype(dtype: Any) -> None:
    if dtype is tf.string:
        _, found = tf.while_loop(
            lambda i, s: i < 3, lambda i, s: (i + 1, tf.string_join([s, "a"])), [0, tf.constant("x")]
        )
        want: Any = b"xaaa"
    elif dtype is tf.bool:
        _, found = tf.while_loop(
            lambda i, s: i < 3, lambda i, s: (i + 1, tf.logical_not(s)), [0, tf.constant([True, False])]
        )
        want = [False, True]
    else:
        _, found = tf.while_loop(lambda i, s: i < 3, lambda i, s: (i + 1, s + s), [0, tf.constant([1, 2], dtype)])
        want = [8, 16]
    with tf.Session() as session:
        np.testing.assert_array_equal(session.run(found), want)


def test_failing_loops_change_nothing() -> None:
    v = tf.Variable(np.zeros((3, 2), np.float32))
    loop = count(lambda i: tf.scatter_update(v, [i], [[1.0, 2.0]]), 5)
    with tf.Session() as session:
        session.run(v.initializer)
        with pytest.raises(tf.errors.InvalidArgumentError):
            session.run(loop)
        assert not session.run(v).any()


def test_count_up_to_in_a_loop() -> None:
    v = tf.Variable(0)
    loop = count(lambda i: tf.count_up_to(v, 3), 5)
    with tf.Session() as session:
        session.run(v.initializer)
        with pytest.raises(tf.errors.OutOfRangeError):
            session.run(loop)
        assert session.run(v) == 0


def test_a_loop_that_is_only_run() -> None:
    v = tf.Variable(0.0)
    loop = count(lambda i: v.assign_add(1.0), 3)
    with tf.Session() as session:
        session.run(v.initializer)
        assert session.run(loop.op) is None
        assert session.run(v) == 3


def test_an_error_names_the_op_in_the_trip() -> None:
    loop = count(lambda i: tf.Assert(i < 3, [i], name="small"), 5)
    with (
        tf.Session() as session,
        pytest.raises(tf.errors.InvalidArgumentError, match=r"assertion failed: \[3\]") as caught,
    ):
        session.run(loop)
    assert "small" in caught.value.op.name


@pytest.mark.parametrize("shape", [[None], None])
def test_a_branch_that_is_not_taken_may_be_impossible(shape: Any) -> None:
    x, p = tf.placeholder(tf.float32, shape), tf.placeholder(tf.bool, [])
    wrong = (lambda: tf.reduce_sum(x + tf.ones([2]))) if shape else (lambda: tf.reduce_sum(tf.matmul(x, x)))
    found = tf.cond(p, wrong, lambda: tf.reduce_sum(x))
    with tf.Session() as session:
        assert session.run(found, {p: False, x: [1, 2, 3]}) == 6
        with pytest.raises(tf.errors.InvalidArgumentError):
            session.run(found, {p: True, x: [1, 2, 3]})


def test_variables_that_a_branch_may_not_need() -> None:
    v, p = tf.Variable(3.0), tf.placeholder(tf.bool, [])
    read = tf.cond(p, lambda: tf.identity(v.read_value()), lambda: tf.constant(0.0))
    with tf.Session() as session:
        assert session.run(read, {p: False}) == 0
        with pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized value Variable"):
            session.run(read, {p: True})
        session.run(v.initializer)
        assert session.run(read, {p: True}) == 3


def endless() -> Any:
    _, x = tf.while_loop(lambda i, x: x >= 0.0, lambda i, x: (i + 1, x * 0.5), [0, 1.0])
    return x


def test_interrupt() -> None:
    x = endless()
    with tf.Session() as session:
        with ctrl_c_after(0.2), pytest.raises(KeyboardInterrupt):
            session.run(x)
        assert session.run(tf.constant(1)) == 1


def test_time_limit() -> None:
    x = endless()
    with tf.Session() as session:
        with pytest.raises(tf.errors.DeadlineExceededError) as caught:
            session.run(x, options=tf.RunOptions(timeout_in_ms=100))
        assert caught.value.op is None


def test_loops_driven_by_python_in_native_ones() -> None:
    x = tf.placeholder(tf.float32, [None])

    def body(i: Any, total: Any) -> Any:
        _, y = tf.while_loop(
            lambda j, y: j < i, lambda j, y: (j + 1, tf.concat([y, y], 0)), [0, x], shape_invariants=any_shape()
        )
        return i + 1, total + tf.reduce_sum(y)

    _, total = tf.while_loop(lambda i, t: i < 4, body, [0, 0.0])
    with tf.Session() as session:
        call = session.make_callable(total, [x])
        assert call(np.ones(3, np.float32)) == 3 * (1 + 2 + 4 + 8)
        assert call.explain().programs[0].host_ops == ("while/while/While",)


def test_branches_may_differ_in_rank() -> None:
    x, p = tf.placeholder(tf.float32, [None]), tf.placeholder(tf.bool, [])
    total, other = tf.cond(p, lambda: (x, x), lambda: (tf.reduce_sum(x), x))
    with tf.Session() as session:
        for _ in range(2):
            assert session.run(total, {p: False, x: [1, 2, 3]}) == 6
            np.testing.assert_array_equal(session.run(total, {p: True, x: [1, 2, 3]}), [1, 2, 3])
        np.testing.assert_array_equal(session.run(other, {p: True, x: [1, 2, 3]}), [1, 2, 3])


def test_rows_for_the_gradient_take_memory_once() -> None:
    x = tf.placeholder(tf.float32, [None, 4, 8])
    w = tf.Variable(tf.ones([8, 8]) / 9)
    state = tf.foldl(lambda h, row: tf.tanh(tf.matmul(h, w) + row), x, tf.zeros([4, 8]))
    grad = tf.gradients(state, w)[0]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        call = session.make_callable(grad, [x])

        def kept(trips: int) -> int:
            value = call(np.ones((trips, 4, 8), np.float32))
            np.testing.assert_array_equal(value, session.run(grad, {x: np.ones((trips, 4, 8))}))
            (program,) = call.explain().programs
            return program.arena_bytes

        first = kept(50)
        assert first > 50 * 4 * 8 * 4
        assert {kept(trips) for trips in (50, 3, 50, 0, 37)} == {first}
        assert first < kept(500) < 20 * first
