"""Streams of random numbers in sessions: where each op stands, who moves it on, and that all draw from the same."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import stepjit.compat.v1 as tf
from stepjit_compiler import philox
from stepjit_compiler.philox import Source


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as g:
        yield g


def expected(seeds, count, block, draw=philox.uniform):
    return draw(Source((seeds[0], 0), (seeds[1], 0), block), count, np.dtype(np.float32))


SEEDS = (87654321, 9)
"""What an op seed of 9 alone makes."""


def hosts(call):
    """The ops that Python runs in a callable that was called."""
    programs = call.explain().programs
    assert programs
    return [host.op for program in programs for host in program.manifest.hosts]


def test_each_step_goes_on_and_each_session_starts_anew():
    numbers = tf.random_uniform([10], seed=9)
    for _ in range(2):
        with tf.Session() as s:
            call = s.make_callable(numbers)
            assert call().tolist() == expected(SEEDS, 10, 0).tolist()
            assert s.run(numbers).tolist() == expected(SEEDS, 10, 2560).tolist()
            assert call().tolist() == expected(SEEDS, 10, 5120).tolist()


def test_steps_that_do_not_draw_leave_the_stream_alone():
    numbers, other = tf.random_uniform([4], seed=9), tf.constant(1)
    with tf.Session() as s:
        s.run(other)
        assert s.run(numbers + 1, {numbers: [1, 2, 3, 4]}).tolist() == [2, 3, 4, 5]
        s.run(numbers.op)
        assert s.run(numbers).tolist() == expected(SEEDS, 4, 4 * 256).tolist()


def test_one_draw_per_step_for_all_who_read_it():
    numbers = tf.random_normal([50], seed=9)
    total, twice = tf.reduce_sum(numbers), numbers * 2
    with tf.Session() as s:
        a, b, c = s.run([numbers, total, twice])
        np.testing.assert_allclose(b, a.sum(), rtol=1e-5)
        np.testing.assert_array_equal(c, a * 2)


def test_python_and_native_code_share_a_stream():
    shape = tf.constant([6])
    numbers = tf.random_uniform(shape, seed=9)
    with tf.Session() as s:
        assert s.run(numbers).tolist() == expected(SEEDS, 6, 0).tolist()
        assert s.run(numbers, {shape: [3]}).tolist() == expected(SEEDS, 3, 6 * 256).tolist()
        assert s.run(numbers).tolist() == expected(SEEDS, 6, 9 * 256).tolist()


def test_no_seeds_differ_from_session_to_session():
    numbers = tf.random_uniform([4])
    draws = []
    for _ in range(2):
        with tf.Session() as s:
            draws += [s.run(numbers).tolist(), s.run(numbers).tolist()]
    assert len({tuple(draw) for draw in draws}) == 4


def test_threads_never_draw_the_same_numbers():
    size, threads, turns = 40_000, 4, 8  # large enough for the GIL to be released
    numbers = tf.random_uniform([size], seed=9)
    with tf.Session() as s:
        call = s.make_callable(numbers)
        with ThreadPoolExecutor(threads) as pool:
            drawn = [tuple(each[:8]) for each in pool.map(lambda _: call(), range(threads * turns))]
        want = {tuple(expected(SEEDS, 8, k * size * 256)) for k in range(threads * turns)}
        assert set(drawn) == want
        assert call()[:8].tolist() == expected(SEEDS, 8, threads * turns * size * 256).tolist()


def test_loops_draw_anew_in_every_turn():
    total, draws = tf.constant(0.0), tf.TensorArray(tf.float32, 5)

    def body(i, draws):
        return i + 1, draws.write(i, tf.random_uniform([3], seed=9))

    _, draws = tf.while_loop(lambda i, _: i < 5, body, [0, draws])
    with tf.Session() as s:
        found = s.run([draws.stack(), total])[0]
        want = [expected(SEEDS, 3, k * 768).tolist() for k in range(5)]
        assert found.tolist() == want


def test_only_the_branch_that_runs_draws():
    which = tf.placeholder(tf.bool)
    drawn = tf.cond(which, lambda: tf.random_uniform([3], seed=9), lambda: tf.zeros([3]))
    with tf.Session() as s:
        assert s.run(drawn, {which: False}).tolist() == [0, 0, 0]
        assert s.run(drawn, {which: True}).tolist() == expected(SEEDS, 3, 0).tolist()
        assert s.run(drawn, {which: False}).tolist() == [0, 0, 0]
        assert s.run(drawn, {which: True}).tolist() == expected(SEEDS, 3, 768).tolist()


def test_dropout_and_its_gradient_are_native_and_agree():
    x = tf.placeholder(tf.float32, [None, 8])
    kept = tf.nn.dropout(x, rate=0.25, seed=9)
    (grad,) = tf.gradients(kept, x)
    with tf.Session() as s:
        call = s.make_callable([kept, grad], [x])
        for rows in (2, 5):
            value, slope = call(np.ones((rows, 8), np.float32))
            np.testing.assert_array_equal(value, slope)
            assert set(np.unique(value)) <= {np.float32(0), np.float32(1 / 0.75)}
        assert hosts(call) == []


@pytest.mark.parametrize(("low", "high"), [(3, 3), (4, -4)])
def test_bounds_that_are_none_change_no_variable(low, high):
    v = tf.Variable([1, 2])
    bounds = tf.placeholder(tf.int32, []), tf.placeholder(tf.int32, [])
    drawn = tf.random_uniform([2], *bounds, dtype=tf.int32, seed=9)
    update = v.assign_add(drawn)
    with tf.Session() as s:
        s.run(v.initializer)
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"Need minval < maxval, got {low} >= {high}"):
            s.run([v.assign_add([1, 1]), update], dict(zip(bounds, (low, high))))
        assert s.run(v).tolist() == [1, 2]
        s.run(update, dict(zip(bounds, (5, 6))))
        assert s.run(v).tolist() == [6, 7]


def test_initialisers_are_native():
    v = tf.get_variable("v", [33, 7], initializer=tf.truncated_normal_initializer(stddev=0.1, seed=9))
    with tf.Session() as s:
        call = s.make_callable(v.initializer)
        call()
        assert hosts(call) == []
        want = expected(SEEDS, 231, 0, philox.truncated_normal).reshape(33, 7) * np.float32(0.1)
        np.testing.assert_allclose(s.run(v), want, rtol=1e-6)
