"""Reads of ref variables through `v/read` and copies of it: they show what the variable holds when they are used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf


def after(update: Any, read: Callable[[], Any]) -> Any:
    with tf.control_dependencies([update]):
        return read()


def double_add(v: Any) -> Any:
    """The view is read between two updates and after them."""
    view = v.value()
    first = after(tf.assign_add(v, [1.0, 1.0]), lambda: view + 0.0)
    last = after(after(first, lambda: tf.assign_add(v, [10.0, 10.0])), lambda: view + 0.0)
    return tf.stack([first, last])


READS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "arithmetic after an addition": (lambda v: after(tf.assign_add(v, [1.0, 1.0]), lambda: v * 2.0), [4, 4]),
    "a copy after an addition": (lambda v: after(tf.assign_add(v, [1.0, 1.0]), lambda: tf.identity(v)), [2, 2]),
    "a copy made before": (
        lambda v: (lambda copy: after(tf.assign_add(v, [1.0, 1.0]), lambda: copy + 0.0))(tf.identity(v)), [2, 2],
    ),
    "after an assignment": (lambda v: after(tf.assign(v, [5.0, 6.0]), lambda: v * 2.0), [10, 12]),
    "after rows changed": (lambda v: after(tf.scatter_add(v, [0], [3.0]), lambda: v * 2.0), [8, 2]),
    "rows taken": (lambda v: after(tf.assign_add(v, [1.0, 1.0]), lambda: tf.gather(v, [1])), [2]),
    "in a branch": (
        lambda v: after(tf.assign_add(v, [1.0, 1.0]), lambda: tf.cond(tf.constant(True), lambda: v * 2.0, lambda: v)),
        [4, 4],
    ),
    "between updates": (double_add, [[2, 2], [12, 12]]),
    "after training": (
        lambda v: after(
            tf.train.GradientDescentOptimizer(0.25).minimize(tf.reduce_sum(v * v)), lambda: tf.reduce_sum(v)
        ),
        1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READS)
def test_what_comes_after_a_write_sees_it(name: str) -> None:
    build, want = READS[name]
    with tf.Graph().as_default(), tf.Session() as session:
        v = tf.Variable([1.0, 1.0])
        read = build(v)
        session.run(tf.global_variables_initializer())
        np.testing.assert_array_equal(session.run(read), np.array(want, np.float32))


def test_what_no_order_binds_to_a_write_sees_the_old_value() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        v = tf.Variable([1.0, 1.0])
        update = tf.assign_add(v, [1.0, 1.0])
        doubled = v * 2.0
        session.run(tf.global_variables_initializer())
        new, old = session.run([update, doubled])
        assert new.tolist() == old.tolist() == [2, 2]


def test_variables_take_each_other_s_values() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        a, b = tf.Variable([1.0, 2.0]), tf.Variable([3.0, 4.0])
        swap = [tf.assign(a, b), tf.assign(b, a)]
        session.run(tf.global_variables_initializer())
        session.run(swap)
        assert [each.tolist() for each in session.run([a, b])] == [[3, 4], [1, 2]]


def test_a_fetched_view_is_what_the_variable_holds_in_the_end() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        v = tf.Variable(1.0)
        copy, update = tf.identity(v), tf.assign_add(v, 1.0)
        session.run(tf.global_variables_initializer())
        assert session.run([copy, v.value(), update.op])[:2] == [2.0, 2.0]


def test_unless_an_op_waits_for_it() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        v = tf.Variable(1.0)
        copy = tf.identity(v)
        with tf.control_dependencies([copy]):
            update = tf.assign_add(v, 1.0)
        session.run(tf.global_variables_initializer())
        assert session.run([copy, update]) == [1.0, 2.0]


def test_averages_follow_trained_variables() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        v = tf.Variable([1.0, 2.0])
        train = tf.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_sum(v * v))
        averages = tf.train.ExponentialMovingAverage(0.5)
        follow = after(train, lambda: averages.apply([v]))
        session.run(tf.global_variables_initializer())
        session.run(follow)
        np.testing.assert_allclose(session.run(averages.average(v)), [0.9, 1.8], rtol=1e-6)


def test_a_fed_view_is_the_feed() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        v = tf.Variable([1.0, 1.0])
        doubled = after(tf.assign_add(v, [1.0, 1.0]), lambda: v * 2.0)
        session.run(tf.global_variables_initializer())
        assert session.run(doubled, {v.value(): [7.0, 8.0]}).tolist() == [14, 16]
        assert session.run(v).tolist() == [2, 2]
