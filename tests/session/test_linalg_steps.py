"""Steps with inverses and factors: what fails changes no variable, a new batch size compiles nothing, messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

SINGULAR = np.stack([np.eye(3), np.ones((3, 3))])


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as made:
        yield made


@pytest.mark.parametrize("size", [3, 100])
def test_a_step_that_fails_changes_no_variable(size: int) -> None:
    """The first matrix of the batch has been inverted when the second turns out to be singular."""
    given = np.stack([np.eye(size) * 2, np.ones((size, size))])
    x = tf.placeholder(tf.float64, [2, size, size])
    inverse, count = tf.Variable(np.zeros((2, size, size))), tf.Variable(0.0)
    before = tf.assign_add(count, 1.0)
    with tf.control_dependencies([before]):
        step = tf.assign(inverse, tf.matrix_inverse(x))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        with pytest.raises(tf.errors.InvalidArgumentError, match="Input is not invertible"):
            session.run(step.op, {x: given})
        assert not session.run(inverse).any()
        session.run(step.op, {x: given[:1].repeat(2, 0)})
        np.testing.assert_allclose(session.run(inverse)[1], np.eye(size) / 2)


def test_a_variable_inverted_in_its_place() -> None:
    drawn = np.random.default_rng(1).normal(size=(4, 3, 3))
    v = tf.Variable(drawn)
    step = tf.assign(v, tf.matrix_inverse(v, adjoint=True))
    with tf.Session() as session:
        session.run(v.initializer)
        session.run(step.op)
        np.testing.assert_allclose(session.run(v), np.linalg.inv(drawn).swapaxes(1, 2), rtol=1e-9)


def test_other_batch_sizes() -> None:
    x = tf.placeholder(tf.float64, [None, 3, 3])
    y = tf.matrix_inverse(x) + tf.reshape(tf.matrix_determinant(x), [-1, 1, 1])
    with tf.Session() as session:
        step = session.make_callable(y, [x])
        for count in (2, 5, 0, 1, 7):
            given = np.random.default_rng(count).normal(size=(count, 3, 3))
            want = np.linalg.inv(given) + np.linalg.det(given)[:, None, None]
            np.testing.assert_allclose(step(given), want, rtol=1e-9)


def test_in_a_loop() -> None:
    """Newton's iterations for the square root of a matrix."""
    a = tf.placeholder(tf.float64, [4, 4])
    root = tf.while_loop(
        lambda i, x: i < 20, lambda i, x: (i + 1, 0.5 * (x + tf.matrix_solve(x, a))), [0, tf.eye(4, dtype=tf.float64)]
    )[1]
    drawn = np.random.default_rng(1).normal(size=(4, 4))
    given = drawn @ drawn.T + np.eye(4)
    with tf.Session() as session:
        found = session.run(root, {a: given})
        np.testing.assert_allclose(found @ found, given, rtol=1e-8)
        with pytest.raises(tf.errors.InvalidArgumentError, match="Input matrix is not invertible"):
            session.run(root, {a: -np.eye(4)})


MESSAGES = {
    "singular": (tf.matrix_inverse, SINGULAR, "Input is not invertible."),
    "unsolvable": (lambda x: tf.matrix_solve(x, x), SINGULAR, "Input matrix is not invertible."),
    "not positive": (tf.cholesky, -SINGULAR, "Cholesky decomposition was not successful."),
    "lu": (tf.linalg.lu, SINGULAR, "Input is not invertible."),
    "not square": (tf.matrix_determinant, np.ones((2, 3)), "Input matrix must be square."),
    "a vector": (tf.matrix_inverse, np.ones(3), "rank"),
    "rows": (lambda x: tf.matrix_solve(x, tf.placeholder_with_default(np.ones((3, 1)), None)), np.eye(2), "rhs are incompatible"),
    "batches": (
        lambda x: tf.matrix_solve(x, tf.placeholder_with_default(np.ones((3, 3, 1)), None)), SINGULAR, "same outer dimensions"
    ),
    "ranks": (lambda x: tf.matrix_solve(x, tf.placeholder_with_default(np.ones((3, 1)), None)), SINGULAR, "same rank|outer"),
}  # fmt: skip


def run_once(build: Any, given: np.ndarray, shape: Any) -> Any:
    x = tf.placeholder(tf.float64, shape)
    with tf.Session() as session:
        return session.run(build(x), {x: given})


@pytest.mark.parametrize("shape", ["static", "unknown"])
@pytest.mark.parametrize("name", MESSAGES)
def test_messages(name: str, shape: str) -> None:
    build, given, text = MESSAGES[name]
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match=text):
        run_once(build, given, given.shape if shape == "static" else None)
