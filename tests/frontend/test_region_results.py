"""What runs in a region: the ops that the results taken of it need, data and control, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf


@pytest.fixture(autouse=True)
def fresh_graph() -> None:
    tf.reset_default_graph()


def after(op: Any, value: Any) -> Any:
    with tf.control_dependencies([op]):
        return tf.identity(value)


FAILING: dict[str, Callable[[Any], Any]] = {
    "Assert": lambda x: tf.Assert(tf.reduce_sum(x) < 0.0, ["no"]),
    "CheckNumerics": lambda x: tf.check_numerics(x / 0.0, "no"),
    "PyFunc": lambda x: tf.py_func(lambda a: float("no"), [x], tf.float64),
}


def outcome(fetch: Any, feeds: dict[Any, Any]) -> str:
    with tf.Session() as session:
        try:
            session.run(fetch, feeds)
        except tf.errors.OpError as error:
            return type(error).__name__
    return "runs"


@pytest.mark.parametrize("kind", FAILING)
def test_what_is_on_the_way_to_the_results_runs(kind: str) -> None:
    x, p, n = tf.placeholder(tf.float32, [3]), tf.placeholder(tf.bool, []), tf.placeholder(tf.int32, [])
    failing = FAILING[kind]
    chosen = tf.cond(p, lambda: (after(failing(x), 1.0), 2.0), lambda: (3.0, 4.0))
    i, a, b = tf.while_loop(
        lambda i, a, b: i < n, lambda i, a, b: (i + 1, after(failing(x), a), b * 2.0), [0, 1.0, after(failing(x), 5.0)]
    )
    each = tf.map_fn(lambda e: after(failing(x), e), tf.fill([n], 1.0))
    feeds: dict[Any, Any] = {x: [1.0, 1.0, 1.0], p: True, n: 2}
    assert outcome(chosen[0], feeds) == "InvalidArgumentError"
    assert outcome(a, feeds) == "InvalidArgumentError"
    assert outcome(each, feeds) == "InvalidArgumentError"
    # The other results do not need it; what a loop begins with is only needed by those that take it.
    assert outcome(chosen[1], feeds) == outcome(i, feeds) == "runs"
    assert outcome(b, feeds) == "InvalidArgumentError"
    assert outcome([chosen, a, each], feeds | {p: False, n: 0}) == "runs"


def test_results_that_depend_on_others_in_a_later_trip() -> None:
    x = tf.placeholder(tf.float32, [3])
    failing = FAILING["Assert"]
    loop = tf.while_loop(
        lambda i, a, b, c: i < 3, lambda i, a, b, c: (i + 1, b, c, after(failing(x), c)), [0, 1.0, 2.0, 3.0]
    )
    assert outcome(loop[1], {x: [1.0] * 3}) == "InvalidArgumentError"
    assert outcome(loop[0], {x: [1.0] * 3}) == "runs"


def test_trips_do_not_wait_for_ops_without_outputs_around_the_loop() -> None:
    x = tf.placeholder(tf.float32, [3])
    check = FAILING["Assert"](x)
    loop = tf.while_loop(lambda i: i < 3, lambda i: after(check, i + 1), [0])
    taken = tf.cond(x[0] > 0.0, lambda: after(check, 1.0), lambda: 2.0)
    assert outcome(loop, {x: [1.0] * 3}) == "runs"
    assert outcome(taken, {x: [1.0] * 3}) == "InvalidArgumentError"


@pytest.mark.parametrize("matrix", [tf.matrix_inverse, lambda m: tf.matrix_determinant(tf.matrix_inverse(m))])
def test_what_never_changes_does_not_fail_before_the_first_trip(matrix: Callable[[Any], Any]) -> None:
    m, n = tf.placeholder(tf.float32, [2, 2]), tf.placeholder(tf.int32, [])
    loop = tf.while_loop(lambda i, a: i < n, lambda i, a: (i + 1, a + tf.reduce_sum(matrix(m))), [0, 0.0])
    assert outcome(loop, {m: np.zeros((2, 2)), n: 0}) == "runs"
    assert outcome(loop, {m: np.zeros((2, 2)), n: 1}) == "InvalidArgumentError"


# --- variables ---


def written_by(kind: str, v: Any, n: Any) -> Any:
    """An op that writes [7, 8] in a region if `n` is more than zero."""
    value = [7.0, 8.0]
    assign = {
        "cond": lambda: tf.cond(n > 0, lambda: after(tf.assign(v, value), 1), lambda: 0),
        "nested": lambda: tf.cond(
            n > -5, lambda: tf.cond(n > 0, lambda: after(tf.assign(v, value), 1), lambda: 0), lambda: 0
        ),
        "while": lambda: tf.while_loop(lambda i: i < n, lambda i: after(tf.assign(v, value), i + 1), [0]),
        "while in cond": lambda: tf.cond(
            n > -5, lambda: tf.while_loop(lambda i: i < n, lambda i: after(tf.assign(v, value), i + 1), [0]), lambda: 0
        ),
        "cond in while": lambda: tf.while_loop(
            lambda i: i < 2, lambda i: tf.cond(n > i, lambda: after(tf.assign(v, value), i + 1), lambda: i + 1), [0]
        ),
        "driven by Python": lambda: tf.while_loop(
            lambda i, a: i < n,
            lambda i, a: (after(tf.assign(v, value), i + 1), tf.concat([a, [1.0]], 0)),
            [0, tf.zeros([0])],
            shape_invariants=[tf.TensorShape([]), tf.TensorShape([None])],
        )[0],
    }
    return assign[kind]()


KINDS = ["cond", "nested", "while", "while in cond", "cond in while", "driven by Python"]


@pytest.mark.parametrize("resource", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_variables_that_regions_write_need_not_hold_anything(kind: str, resource: bool) -> None:
    n = tf.placeholder(tf.int32, [])
    v = tf.Variable([1.0, 2.0], use_resource=resource)
    write = written_by(kind, v, n)
    with tf.control_dependencies([write]):
        value, is_there = tf.identity(v.read_value()), tf.is_variable_initialized(v)
    with tf.Session() as session:
        session.run(write, {n: 0})
        assert not session.run(tf.is_variable_initialized(v))
        assert not session.run(is_there, {n: 0})
        with pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized"):
            session.run(value, {n: 0})
        np.testing.assert_array_equal(session.run(value, {n: 1}), [7.0, 8.0])
        assert session.run(is_there, {n: 0})
        session.run(v.initializer)
        np.testing.assert_array_equal(session.run(value, {n: 0}), [1.0, 2.0])
        session.run(write, {n: 1})
        np.testing.assert_array_equal(session.run(v), [7.0, 8.0])


@pytest.mark.parametrize("resource", [True, False])
def test_what_reads_or_adds_to_a_variable_needs_its_value(resource: bool) -> None:
    n = tf.placeholder(tf.int32, [])
    v = tf.Variable([1.0, 2.0], use_resource=resource)
    loop = tf.while_loop(lambda i: i < n, lambda i: after(tf.assign_add(v, [1.0, 1.0]), i + 1), [0])
    branch = tf.cond(n > 0, lambda: after(tf.scatter_add(v, [0], [1.0]), 1), lambda: 0)
    plain = tf.cond(n > 0, lambda: tf.identity(v.read_value()), lambda: tf.zeros([2]))
    with tf.Session() as session:
        for op in (loop, branch, plain):
            session.run(op, {n: 0})
            with pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized"):
                session.run(op, {n: 1})
        session.run(v.initializer)
        for op in (loop, branch):
            session.run(op, {n: 1})
        np.testing.assert_array_equal(session.run(plain, {n: 1}), [3.0, 3.0])


def test_a_value_read_outside_is_read_whatever_is_taken() -> None:
    p = tf.placeholder(tf.bool, [])
    v = tf.Variable([1.0, 2.0], use_resource=False)
    outside = tf.identity(v)
    chosen = tf.cond(p, lambda: outside + 1.0, lambda: tf.zeros([2]))
    with tf.Session() as session:
        for taken in (True, False):
            with pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized"):
                session.run(chosen, {p: taken})


def test_an_uninitialised_variable_of_unknown_shape_is_an_error_of_the_user() -> None:
    v = tf.Variable([1.0, 2.0], validate_shape=False, use_resource=False)
    with tf.Session() as session, pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized"):
        session.run(v)
