"""Loops whose variables change shape, and the regions inside them: what is known of extents goes with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf


@pytest.fixture(autouse=True)
def fresh_graph() -> None:
    tf.reset_default_graph()


SCALAR, ROWS = tf.TensorShape([]), tf.TensorShape([None])


def growing(trips: int, piece: Any, start: Any = ()) -> Any:
    """What a loop of so many trips puts together of `piece(i, all so far)`."""

    def body(i: Any, a: Any) -> Any:
        return i + 1, tf.concat([a, piece(i, a)], 0)

    first = tf.constant(np.array(start, np.float32))
    return tf.while_loop(lambda i, a: i < trips, body, [0, first], shape_invariants=[SCALAR, ROWS])[1]


@pytest.mark.parametrize("fed", [[1.0, 2.0, 3.0], [5.0], []])
def test_branches_ask_for_extents_that_follow_from_others(fed: list[float]) -> None:
    """`2*n` is an extent of what they get, and `n` of nothing."""
    x = tf.placeholder(tf.float32, [None])
    twice = tf.concat([x, x], 0)

    def piece(i: Any, _: Any) -> Any:
        zeros, ones = (lambda: tf.zeros(tf.shape(twice))), lambda: tf.ones(tf.shape(twice))
        return tf.cond(i > 1, zeros, ones)

    with tf.Session() as session:
        got = session.run(growing(3, piece), {x: fed})
    np.testing.assert_array_equal(got, [1.0] * (4 * len(fed)) + [0.0] * (2 * len(fed)))


def test_parameters_of_one_extent_in_regions_of_regions() -> None:
    """Gradients of branches in a loop whose shapes might change: two parameters are known to agree in their extents."""
    x, y, p = tf.placeholder(tf.float64, [None]), tf.placeholder(tf.float64, [None]), tf.placeholder(tf.bool, [])

    def body(i: Any, a: Any) -> Any:
        first = tf.cond(tf.reduce_sum(a) > -1.0, lambda: x * a * 0.5, lambda: a / (1.5 + x * x))
        second = tf.cond(p, lambda: tf.sin(first) + y, lambda: a + x)
        return i + 1, tf.cond(tf.reduce_sum(first) > -0.7, lambda: tf.maximum(second, y), lambda: y * 0.9)

    _, found = tf.while_loop(lambda i, a: i < 3, body, [0, x * y])
    grads = tf.gradients(found, [x, y])
    feeds = np.array([0.4, -0.2, 0.9]), np.array([0.3, 0.8, -0.5])
    with tf.Session() as session:
        for taken in (True, False):
            got = session.run(grads, {x: feeds[0], y: feeds[1], p: taken})
            for which in range(2):
                want = np.zeros(3)
                for k in range(3):
                    moved = [[a.copy() for a in feeds] for _ in range(2)]
                    moved[0][which][k] += 1e-6
                    moved[1][which][k] -= 1e-6
                    up, down = (session.run(found, {x: a, y: b, p: taken}).sum() for a, b in moved)
                    want[k] = (up - down) / 2e-6
                np.testing.assert_allclose(got[which], want, rtol=1e-5, atol=1e-7)
