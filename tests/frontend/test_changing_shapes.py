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


# --- Gradients ---

BODIES: dict[str, Any] = {
    "grows": lambda x: growing(3, lambda i, a: tf.sin(x) * tf.reduce_sum(tf.cos(a)) + x, [0.5]),
    "doubles": lambda x: tf.while_loop(
        lambda i, a: i < 3, lambda i, a: (i + 1, tf.concat([a, a * x[0]], 0)), [0, x], shape_invariants=[SCALAR, ROWS]
    )[1],
    "shrinks": lambda x: tf.while_loop(
        lambda i, a: i < 3, lambda i, a: (i + 1, tf.sin(a[1:]) * a[0]), [0, x], shape_invariants=[SCALAR, ROWS]
    )[1],
    "looks at more": lambda x: tf.while_loop(
        lambda i, a: i < 4, lambda i, a: (i + 1, a * 0.5 + tf.reduce_sum(tf.sin(x[: i + 1]))), [0, 0.0]
    )[1],
    "gathers": lambda x: tf.while_loop(
        lambda i, a: i < 4, lambda i, a: (i + 1, a + tf.reduce_sum(tf.gather(x, tf.range(i)) ** 3)), [0, 0.0]
    )[1],
    "masks": lambda x: tf.while_loop(
        lambda i, a: i < 4,
        lambda i, a: (i + 1, a + tf.reduce_sum(tf.boolean_mask(x, x > tf.cast(i, tf.float32) * 0.4 - 0.75) ** 3)),
        [0, 0.0],
    )[1],
}


@pytest.mark.parametrize(
    ("kind", "extent", "twice"),
    [
        ("grows", None, False), ("doubles", 4, False), ("shrinks", 4, True), ("looks at more", None, False),
        ("gathers", None, True), ("masks", 4, False),
    ],
)  # fmt: skip
def test_gradients_of_loops_whose_shapes_change(kind: str, extent: int | None, twice: bool) -> None:
    x = tf.placeholder(tf.float32, [extent])
    y = tf.reduce_sum(BODIES[kind](x) ** 2)
    at, along = np.array([0.4, -0.3, 0.9, 0.6], np.float32), np.array([0.3, -1.0, 0.7, 0.2], np.float32)
    grads = []
    for _ in range(1 + twice):
        grads.append(y)
        y = tf.reduce_sum(tf.convert_to_tensor(tf.gradients(y, x)[0]) * along)
    with tf.Session() as session:
        wanted = [*grads[1:], y]
        up, down = (session.run(grads, {x: at + sign * 1e-2 * along}) for sign in (1, -1))
        want = [(a - b) / 2e-2 for a, b in zip(up, down, strict=True)]
        np.testing.assert_allclose(session.run(wanted, {x: at}), want, rtol=2e-2, atol=2e-2)


def test_slices_of_all_trips_as_they_were() -> None:
    x = tf.placeholder(tf.float32, [4])
    (grad,) = tf.gradients(BODIES["gathers"](x), x)
    assert isinstance(grad, tf.IndexedSlices)
    with tf.Session() as session:
        got = session.run(grad, {x: [1.0, 2.0, 3.0, 4.0]})
    np.testing.assert_array_equal(got.indices, [0, 1, 2, 0, 1, 0])
    np.testing.assert_array_equal(got.values, [3.0, 12.0, 27.0, 3.0, 12.0, 3.0])


def test_gradients_of_branches_of_several_ranks() -> None:
    """The shape of what a branch gives is looked at even if the gradient takes nothing else of it."""
    x, p = tf.placeholder(tf.float32, [4]), tf.placeholder(tf.bool, [])
    (grad,) = tf.gradients(tf.cond(p, lambda: x[1:] ** 2, lambda: tf.reshape(x**3, [2, 2])), x)
    with tf.Session() as session:
        for _ in range(2):
            np.testing.assert_array_equal(session.run(grad, {x: [1, 2, 3, 4], p: True}), [0, 4, 6, 8])
            np.testing.assert_array_equal(session.run(grad, {x: [1, 2, 3, 4], p: False}), [3, 12, 27, 48])


# --- Ranks ---


@pytest.mark.parametrize("fed", [np.ones(2), np.float32(3.0), np.ones((2, 1))])
def test_loop_variables_that_change_their_rank(fed: Any) -> None:
    x, n = tf.placeholder(tf.float32, None), tf.placeholder(tf.int32, [])
    twice = x * 2.0

    def wrap(i: Any, a: Any) -> Any:
        return i + 1, tf.expand_dims(a, 0) + tf.reduce_sum(twice)

    _, wrapped = tf.while_loop(lambda i, a: i < n, wrap, [0, x], shape_invariants=[SCALAR, tf.TensorShape(None)])
    flat = tf.while_loop(
        lambda a: tf.rank(a) > 0, lambda a: tf.reduce_sum(a, -1), [x], shape_invariants=[tf.TensorShape(None)]
    )
    with tf.Session() as session:
        for trips in (2, 0, 3, 1):
            want = np.asarray(fed, np.float32)
            for _ in range(trips):
                want = want[None] + 2 * np.sum(fed)
            np.testing.assert_allclose(session.run(wrapped, {x: fed, n: trips}), want)
        assert session.run(flat, {x: fed}) == np.sum(fed)


def test_ranks_that_change_in_a_loop_in_a_loop() -> None:
    def body(i: Any, a: Any) -> Any:
        _, deep = tf.while_loop(
            lambda j, r: j <= i,
            lambda j, r: (j + 1, tf.expand_dims(r, -1)),
            [0, a],
            shape_invariants=[SCALAR, tf.TensorShape(None)],
        )
        return i + 1, tf.cond(tf.rank(deep) > 2, lambda: a, lambda: a * 2.0) + tf.reduce_sum(deep)

    found = tf.while_loop(lambda i, a: i < 3, body, [0, tf.ones([3])])
    with tf.Session() as session:
        trips, value = session.run(found)
    want = np.ones(3)
    for i in range(3):
        want = (want if i > 0 else want * 2) + want.sum()
    assert trips == 3
    np.testing.assert_allclose(value, want)


def test_what_can_not_be_where_ranks_change() -> None:
    x = tf.constant([1.0])
    shapes = [SCALAR, tf.TensorShape(None)]
    _, deep = tf.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, a[None] * x), [0, x], shape_invariants=shapes)
    grad = tf.gradients(deep, x)
    with tf.Session() as session, pytest.raises(tf.errors.UnimplementedError, match="rank"):
        session.run(grad)


def test_loops_that_change_shape_in_one_another() -> None:
    """The extents of each have names of their own: what is known of one says nothing of the other."""

    def body(i: Any, a: Any) -> Any:
        _, inner = tf.while_loop(
            lambda j, b: j < 2,
            lambda j, b: (j + 1, tf.concat([b, a[:2]], 0)),
            [0, a[:1]],
            shape_invariants=[SCALAR, ROWS],
        )
        return i + 1, tf.concat([a, inner], 0)

    start = tf.placeholder(tf.float32, [None])
    found = tf.while_loop(lambda i, a: i < 2, body, [0, start], shape_invariants=[SCALAR, ROWS])[1]
    with tf.Session() as session:
        for fed in ([1.0], [1.0, 2.0, 3.0]):
            want = list(fed)
            for _ in range(2):
                want = want + want[:1] + want[:2] * 2
            np.testing.assert_array_equal(session.run(found, {start: fed}), want)


@pytest.mark.parametrize("grown", [True, False])
def test_unknown_ranks_in_regions_of_regions(grown: bool) -> None:
    """What Python gives in a branch in a loop that Python drives may have another rank than was guessed."""
    x, p = tf.placeholder(tf.float64, [3]), tf.placeholder(tf.bool, [])

    def trip(i: Any, a: Any, b: Any) -> Any:
        given = tf.py_func(lambda v: v * 2.0, [x], tf.float64)
        after = a * 0.5 + tf.cond(p, lambda: given, lambda: x) * x
        after.set_shape([3])
        return i + 1, after, tf.concat([b, b], 0) if grown else b

    loop = tf.while_loop(lambda i, *_: i < 2, trip, [0, x, x], shape_invariants=[SCALAR, tf.TensorShape([3]), ROWS])
    results = [loop[1], tf.gradients(loop[1], x)[0]]
    at = np.array([1.0, 2.0, 3.0])
    with tf.Session() as session:
        value, grad = session.run(results, {x: at, p: True})
        np.testing.assert_allclose(value, at / 4 + 3 * at**2)
        np.testing.assert_allclose(grad, 0.25 + 3 * at)
        value, grad = session.run(results, {x: at, p: False})
        np.testing.assert_allclose(value, at / 4 + 1.5 * at**2)
        np.testing.assert_allclose(grad, 0.25 + 3 * at)
