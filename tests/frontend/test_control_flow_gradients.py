"""Gradients through branches and loops, first and second, against central differences."""

from __future__ import annotations

import numpy as np
import pytest

import stepjit.compat.v1 as tf

F = tf.float64


@pytest.fixture(autouse=True)
def session():
    with tf.Graph().as_default(), tf.Session() as found:
        yield found


def differences(session, y, x, feed, step=1e-6):
    at = np.asarray(feed[x], float)
    result = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        ends = []
        for sign in (1, -1):
            moved = at.copy()
            moved[index] += sign * step
            ends.append(np.sum(session.run(y, {**feed, x: moved})))
        result[index] = (ends[0] - ends[1]) / (2 * step)
    return result


def check(session, y, feed, *xs):
    """The gradients of y by xs, seen to be right; all of `feed` stays fixed."""
    grads = tf.gradients(y, list(xs))
    for x, grad in zip(xs, grads):
        assert grad is not None, x
        found = session.run(tf.convert_to_tensor(grad), feed)
        np.testing.assert_allclose(found, differences(session, y, x, feed), rtol=1e-5, atol=1e-7)
    return grads


def scalar(name="x"):
    return tf.placeholder(F, [], name=name)


@pytest.mark.parametrize("chosen", [True, False])
def test_cond(session, chosen):
    p, x, v = tf.placeholder(tf.bool, []), scalar(), tf.placeholder(F, [None])
    a, b = tf.cond(p, lambda: (x * x * x, tf.sin(v) * x), lambda: (x, v * v))
    feed = {p: chosen, x: 1.5, v: [0.3, 0.7]}
    first, _ = check(session, a + tf.reduce_sum(b), feed, x, v)
    check(session, first, feed, x)


def test_cond_keeps_what_can_not_be_computed_again(session):
    p, x = tf.placeholder(tf.bool, []), tf.placeholder(F, [None])

    def noisy():
        return x * tf.random_uniform(tf.shape(x), 1.0, 2.0, dtype=F)

    y = tf.cond(p, noisy, lambda: x)
    (grad,) = tf.gradients(y, x)
    value, found = session.run([y, grad], {p: True, x: [2.0, 3.0]})
    np.testing.assert_allclose(found * [2.0, 3.0], value)
    assert session.run(grad, {p: False, x: [2.0]}).tolist() == [1.0]


def test_case(session):
    x = scalar()
    y = tf.case([(x < 1.0, lambda: x * 2.0), (x < 2.0, lambda: x * x)], default=lambda: tf.exp(x))
    for at in (0.5, 1.5, 2.5):
        check(session, y, {x: at}, x)


def test_power_to_the_third_derivative(session):
    x = scalar()
    y = tf.while_loop(lambda i, a: i < 4, lambda i, a: (i + 1, a * x), [0, tf.constant(1.0, F)])[1]
    for expected in (32.0, 48.0, 48.0):
        (y,) = tf.gradients(y, x)
        assert session.run(y, {x: 2.0}) == expected


@pytest.mark.parametrize("trips", [0, 1, 5])
def test_recurrent_network(session, trips):
    w, x = tf.placeholder(F, [3, 3]), tf.placeholder(F, [None, 3])

    def body(i, h, total):
        h = tf.tanh(tf.matmul(h, w) + x)
        return i + 1, h, total + tf.reduce_sum(h * h)

    _, h, total = tf.while_loop(lambda i, h, total: i < trips, body, [0, x, tf.constant(0.0, F)])
    rng = np.random.RandomState(0)
    feed = {w: rng.randn(3, 3) * 0.5, x: rng.randn(2, 3)}
    first = check(session, tf.reduce_sum(h) + total, feed, w, x)
    if trips == 1:
        check(session, tf.reduce_sum(first[0] * first[0]), feed, w, x)


def test_loops_in_loops_of_differing_lengths(session):
    x = scalar()

    def inner(i, a):
        return i + 1, tf.while_loop(lambda j, b: j < i, lambda j, b: (j + 1, tf.sin(b) * x + b), [0, a])[1]

    y = tf.while_loop(lambda i, a: i < 4, inner, [0, x])[1]
    (first,) = check(session, y, {x: 0.7}, x)
    check(session, first, {x: 0.7}, x)


def test_branches_in_loops_and_loops_in_branches(session):
    x, p = scalar(), tf.placeholder(tf.bool, [])

    def body(i, a):
        return i + 1, tf.cond(tf.equal(i % 2, 0), lambda: a * x, lambda: a + tf.sin(x))

    y = tf.cond(p, lambda: tf.while_loop(lambda i, a: i < 5, body, [0, x])[1], lambda: x * 3.0)
    for chosen in (True, False):
        (first,) = check(session, y, {x: 0.7, p: chosen}, x)
        check(session, first, {x: 0.7, p: chosen}, x)


def test_data_dependent_length(session):
    x = scalar()
    y = tf.while_loop(lambda a: a < 100.0, lambda a: a * x, [x])
    check(session, y, {x: 1.9}, x)
    check(session, y, {x: 200.0}, x)
    check(session, tf.while_loop(lambda a: True, lambda a: a * x, [x], maximum_iterations=3), {x: 1.3}, x)


def test_results_that_swap_and_stay(session):
    x = scalar()
    _, a, b, c = tf.while_loop(
        lambda i, a, b, c: i < 3, lambda i, a, b, c: (i + 1, b * 1.5, a, c), [0, x, x * x, tf.exp(x)]
    )
    check(session, a * 3.0 + b * c, {x: 1.3}, x)


def test_lookups_give_slices(session):
    table = tf.placeholder(F, [5, 2])
    y = tf.while_loop(
        lambda i, a: i < 4, lambda i, a: (i + 1, a * tf.gather(table, [i, (i * 2) % 5])), [0, tf.ones([2, 2], F)]
    )[1]
    feed = {table: np.random.RandomState(0).rand(5, 2) + 0.5}
    (grad,) = check(session, y, feed, table)
    assert isinstance(grad, tf.IndexedSlices)
    assert session.run(grad, feed).indices.shape == (8,)
    check(session, tf.convert_to_tensor(grad), feed, table)


def test_variables(session):
    ref, resource = tf.Variable(2.0), tf.Variable(3.0, use_resource=True)
    table = tf.Variable([[1.0], [2.0]], use_resource=True)

    def body(i, a):
        return i + 1, a * ref * resource + tf.reduce_sum(tf.gather(table, [i]))

    y = tf.while_loop(lambda i, a: i < 2, body, [0, 1.0])[1]
    grads = tf.gradients(y, [ref, resource, table])
    session.run(tf.global_variables_initializer())
    # y = (rs + t0) rs + t1
    assert session.run(grads[:2]) == [2 * 2 * 9 + 3.0, 2 * 4 * 3 + 2.0]
    assert session.run(tf.convert_to_tensor(grads[2])).tolist() == [[6.0], [1.0]]


def test_training_inside_a_loop(session):
    x = scalar()

    def body(i, w):
        (grad,) = tf.gradients((w * x - 3.0) ** 2.0, [w])
        return i + 1, w - 0.1 * grad

    check(session, tf.while_loop(lambda i, w: i < 5, body, [0, tf.constant(0.3, F)])[1], {x: 0.9}, x)


def test_gradients_by_outer_tensors_inside(session):
    x = scalar()
    z = x * x

    def branch():
        return tf.gradients(z * z * x, [x])[0]

    assert session.run(tf.cond(tf.placeholder_with_default(True, []), branch, lambda: x), {x: 2.0}) == 5 * 16.0


def test_random_numbers_are_those_of_the_forward_trips(session):
    x = tf.constant(2.0)

    def body(i, a, total):
        r = tf.random_uniform([])
        return i + 1, a * r * x, total + tf.log(r * x)

    _, a, _ = tf.while_loop(lambda i, a, t: i < 3, body, [0, 1.0, 0.0])
    (grad,) = tf.gradients(a, x)
    for _ in range(3):
        value, found = session.run([a, grad])
        np.testing.assert_allclose(found, 3 * value / 2.0, rtol=1e-5)


def test_what_nothing_flows_to(session):
    x, y = scalar(), scalar("y")
    loop = tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a * 2.0), [0, x])
    assert tf.gradients(loop[1], y) == [None]
    assert session.run(tf.gradients(loop[1], y, unconnected_gradients="zero")[0], {y: 1.0}) == 0.0
    stopped = tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a * x), [0, x], back_prop=False)
    assert tf.gradients(stopped[1], x) == [None]
    whole = tf.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, a * x), [0, x])[1]
    assert tf.gradients(whole + x, x, stop_gradients=[whole])[0] is not None


def test_ops_without_gradient_off_the_path_do_not_matter(session):
    x, other = scalar(), scalar("other")

    def body(i, a, b):
        return i + 1, a * x, tf.py_func(lambda v: v + 1.0, [b], F)

    shapes = [tf.TensorShape([]), tf.TensorShape([]), tf.TensorShape(None)]
    y = tf.while_loop(lambda i, a, b: i < 3, body, [0, x, other], shape_invariants=shapes)[1]
    assert session.run(tf.gradients(y, x), {x: 2.0, other: 0.0}) == [32.0]


def test_two_gradients_of_one_loop(session):
    x, y = scalar(), scalar("y")
    a = tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, tf.sin(a * x) + y), [0, x])[1]
    feed = {x: 0.4, y: 0.2}
    check(session, a, feed, x)
    check(session, a * a, feed, x, y)
    assert session.run(a, feed) == session.run(a, feed)


def test_loops_are_not_run_for_gradients_when_only_results_are_asked_for(session):
    x = scalar()
    loop = tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, tf.sin(a * x)), [0, x])[1]
    before = session.run(loop, {x: 0.5})
    tf.gradients(loop, x)
    assert session.run(loop, {x: 0.5}) == before


@pytest.mark.parametrize("taken", ["TT", "FTF", "TFT", "TTFT"])
def test_loops_in_branches_that_are_taken_now_and_then(session, taken):
    x, chosen = scalar(), tf.constant([each == "T" for each in taken])

    def twice(a):
        return tf.while_loop(lambda j, b: j < 2, lambda j, b: (j + 1, b * x), [0, a])[1]

    def body(i, a):
        return i + 1, tf.cond(tf.gather(chosen, i), lambda: twice(a), lambda: a * 1.0)

    (grad,) = tf.gradients(tf.while_loop(lambda i, a: i < len(taken), body, [0, x])[1], x)
    power = 1 + 2 * taken.count("T")
    np.testing.assert_allclose(session.run(grad, {x: 1.2}), power * 1.2 ** (power - 1))
