"""Results whose rank only the running step knows, taken by ops that can't do with a wrong guess."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf


class Source:
    """A Python function of a step that counts its calls."""

    def __init__(self, *shapes: tuple[int, ...]) -> None:
        self.shapes, self.calls = shapes, 0

    def __call__(self) -> np.ndarray:
        self.calls += 1
        return np.ones(self.shapes[(self.calls - 1) % len(self.shapes)], np.float32)


@pytest.fixture
def session() -> Any:
    with tf.Graph().as_default(), tf.Session() as found:
        yield found


@pytest.mark.parametrize(
    ("shape", "use", "want"),
    [
        ((3,), lambda x: x[0], 1),
        ((3,), lambda x: tf.concat([x, x], 0), [1] * 6),
        ((2, 2), lambda x: tf.matmul(x, x), [[2, 2], [2, 2]]),
        ((2, 3), lambda x: tf.reduce_sum(x, 1), [3, 3]),
        ((4,), lambda x: tf.reshape(x, [2, 2]), [[1, 1], [1, 1]]),
        ((4,), lambda x: tf.unstack(tf.reshape(x, [4]), 4)[3], 1),
    ],
    ids=["element", "concat", "matmul", "sum", "reshape", "unstack"],
)
def test_uses_that_need_the_rank(session: tf.Session, shape: tuple[int, ...], use: Any, want: Any) -> None:
    source = Source(shape)
    result = use(tf.py_func(source, [], tf.float32))
    np.testing.assert_array_equal(session.run(result), want)
    np.testing.assert_array_equal(session.make_callable(result)(), want)
    assert source.calls == 2


def test_effects_before_it_happen_once(session: tf.Session) -> None:
    v = tf.Variable(0.0)
    session.run(v.initializer)
    first, second = Source((3,)), []

    def later(count: np.ndarray) -> np.ndarray:
        second.append(count)
        return np.ones((2, int(count)), np.float32)

    with tf.control_dependencies([tf.assign_add(v, 1.0)]):
        x = tf.py_func(first, [], tf.float32)
    y = tf.py_func(later, [x[1]], tf.float32)[1]
    np.testing.assert_array_equal(session.run(y), [1])
    assert session.run(v) == 1 and first.calls == 1 and len(second) == 1


def test_nothing_is_taken_twice(session: tf.Session) -> None:
    queue = tf.FIFOQueue(5, tf.float32)
    value = tf.identity(queue.dequeue())
    for k in range(2):
        session.run(queue.enqueue(np.full((2, 2), k, np.float32)))
    np.testing.assert_array_equal(session.run(value[0]), [0, 0])
    assert session.run(queue.size()) == 1


def test_ranks_that_change(session: tf.Session) -> None:
    source = Source((2,), (2, 2), (2,), (2, 2, 2))
    row = tf.py_func(source, [], tf.float32)[0]
    assert [np.shape(session.run(row)) for _ in range(8)] == [(), (2,), (), (2, 2)] * 2
    assert source.calls == 8


def test_errors_are_those_of_the_true_rank(session: tf.Session) -> None:
    source = Source((3,))
    x = tf.py_func(source, [], tf.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="input has only 1 dims"):
        session.run(x[:, 0])
    with pytest.raises(tf.errors.InvalidArgumentError, match="out of bounds"):
        session.run(x[7])
    assert session.run(x[2]) == 1 and source.calls == 3


def test_tensors_of_session_handles(session: tf.Session) -> None:
    handle = session.run(tf.get_session_handle(tf.constant([[1.0, 2.0], [3.0, 4.0]])))
    holder, x = tf.get_session_tensor(handle.handle, tf.float32)
    np.testing.assert_array_equal(session.run(tf.matmul(x, x) + x[1], {holder: handle.handle}), [[10, 14], [18, 26]])


def test_branches_that_the_rank_decides() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32)
        once = tf.cond(tf.equal(tf.rank(x), 3), lambda: tf.squeeze(x, [-1]), lambda: x)
        twice = tf.cond(tf.equal(tf.rank(once), 4), lambda: tf.squeeze(once, [-1]), lambda: once)
        fetches = [tf.rank(twice), tf.reduce_sum(twice), tf.shape(twice)]
        for given, left in (((2, 3, 1), [2, 3]), ((2, 3), [2, 3]), ((2,), [2]), ((2, 3, 1, 1), [2, 3, 1])):
            rank, total, shape = session.run(fetches, {x: np.ones(given)})
            assert (rank, total, shape.tolist()) == (len(left), np.prod(given), left)


def test_a_branch_that_the_rank_decides_may_write() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x, v = tf.placeholder(tf.float32), tf.Variable(0.0)
        counted = tf.cond(tf.equal(tf.rank(x), 2), lambda: tf.assign_add(v, 1.0), lambda: tf.assign_add(v, 10.0))
        session.run(v.initializer)
        assert session.run(counted, {x: np.ones((2, 2))}) == 1
        assert session.run(counted, {x: np.ones(2)}) == 11
        assert session.run(v) == 11
