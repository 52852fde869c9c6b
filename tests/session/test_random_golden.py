"""Numbers that TensorFlow 2.21 gave for the same seeds, to the last bit."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

import stepjit.compat.v1 as tf

INF = float("inf")


@pytest.fixture(autouse=True)
def fresh_graph():
    tf.reset_default_graph()


def drawn(tensor, runs=1):
    with tf.Session() as s:
        found = [s.run(tensor) for _ in range(runs)]
    return found[-1]


def flat(tensor):
    return np.asarray(drawn(tensor)).ravel().tolist()


def test_poisson_of_small_and_large_rates():
    want = [
        [0, 4, 10, 9, 97, 1000007953], [1, 4, 13, 8, 120, 999979539], [1, 2, 2, 6, 103, 999974771],
    ]  # fmt: skip
    rates = [0.5, 4.0, 9.99, 10.0, 100.0, 1e9]
    assert drawn(tf.random_poisson(rates, [3], dtype=tf.float64, seed=9)).tolist() == want
    fed = tf.placeholder(tf.float64, [None])
    with tf.Session() as s:
        assert s.run(tf.random_poisson(fed, [3], dtype=tf.int64, seed=9), {fed: rates}).tolist() == want


def test_poisson_of_half_precision_and_of_what_is_no_rate():
    assert flat(tf.random_poisson(np.float16([3, 40]), [2], dtype=tf.float16, seed=9)) == [2, 51, 2, 30]
    assert flat(tf.random_poisson([-1.0, INF], [2], seed=9)) == [0, INF, 0, INF]
    odd = drawn(tf.random_poisson([float("nan"), 1e30], [1], dtype=tf.int32, seed=9))
    assert odd.tolist() == [[0, 2**31 - 1]]


def test_stateless_distributions():
    assert flat(tf.random.stateless_poisson([3, 2], [3, -4], [2.0, 50.0])) == [0, 39, 1, 56, 1, 43]
    gammas = [
        0.04360453289959347, 0.07935843826832506, 10.739844124463712,
        0.25566861555851716, 0.793442999605626, 3.829265211132987,
    ]  # fmt: skip
    found = flat(tf.random.stateless_gamma([2, 3], [3, 4], [0.5, 1.0, 3.0], dtype=tf.float64))
    np.testing.assert_allclose(found, gammas, rtol=1e-14)
    counts, probs = [10.0, 40.0, 1000.0, 20.0], [0.3, 0.5, 0.9, 0.99]
    binomials = [5, 15, 913, 19, 5, 20, 883, 20]
    assert flat(tf.random.stateless_binomial([2, 4], [3, 4], counts, probs)) == binomials


def test_binomial_of_odd_arguments():
    counts = [3.0, 3.0, -3.0, float("nan"), 2.0, 0.0]
    probs = [1.5, -0.5, 0.5, 0.5, float("nan"), 0.5]
    found = drawn(tf.random.stateless_binomial([6], [3, 4], counts, probs, output_dtype=tf.float64))
    np.testing.assert_array_equal(found, [3, 0, 0, np.nan, np.nan, 0])


def test_seeds_of_seeds():
    assert flat(tf.random.stateless_uniform([3], [5, -9], None, None, tf.uint32)) == [2325863915, 2864324518, 1342532891]
    assert flat(tf.random.fold_in([1, 2], 5)) == [1105988140, 5]
    assert flat(tf.random.split([1, 2], 2)) == [1105988140, 1738052849, -335576002, 370444179]


def test_multinomial():
    assert flat(tf.multinomial([[-INF, -INF]], 3, seed=9)) == [2, 2, 2]
    logits = np.log(np.arange(1, 101, dtype=np.float32))[None].repeat(2, 0)
    assert flat(tf.multinomial(logits, 6, seed=9)) == [79, 60, 98, 40, 21, 77, 75, 58, 37, 99, 82, 82]


@pytest.mark.parametrize(
    ("make", "want"),
    [
        (lambda: tf.random_normal([4000], seed=9), 1367807318),
        (lambda: tf.random_normal([4000], 0.5, 0.1, seed=9), 1615194926),
        (lambda: tf.truncated_normal([4000], seed=9), 2088097306),
        (lambda: tf.random_uniform([4000], -0.3, 0.7, seed=9), 2621738222),
        (lambda: tf.glorot_uniform_initializer(seed=9)([30, 20]), 147305161),
    ],
    ids=["normal", "scaled normal", "truncated", "scaled uniform", "glorot"],
)
def test_single_precision_to_the_last_bit(make, want):
    assert zlib.crc32(drawn(make()).tobytes()) == want


@pytest.mark.parametrize("draw", [tf.random_uniform, tf.random_normal, lambda shape: tf.random_poisson(2.0, shape)])
def test_shapes_that_are_no_vectors(draw):
    for shape in (4, [[2, 3]]):
        with pytest.raises(ValueError, match="Shape must be rank 1"):
            draw(shape)
    fed = tf.placeholder(tf.int32)
    numbers = draw(fed)
    with tf.Session() as s:
        assert s.run(numbers, {fed: [2, 3]}).shape == (2, 3)
        with pytest.raises(tf.errors.InvalidArgumentError, match="shape must be a vector"):
            s.run(numbers, {fed: [[2, 3]]})
        with pytest.raises(tf.errors.InvalidArgumentError, match="Dimension -3 must be >= 0"):
            s.run(numbers, {fed: [-3]})
        with pytest.raises(tf.errors.InvalidArgumentError, match="Dimension -1 must be >= 0"):
            s.run(draw([2, -1]))


def test_bad_arguments_of_stateless_ops():
    uniform = tf.random.stateless_uniform
    with pytest.raises(ValueError, match="unsigned integers"):
        uniform([3], [1, 2], 0, 5, tf.uint32)
    with pytest.raises(ValueError, match="both None or not None"):
        uniform([3], [1, 2], 5, dtype=tf.int32)
    with pytest.raises(ValueError, match="Argument `dtype` got invalid value"):
        uniform([3], [1, 2], dtype=tf.int8)
    with tf.Session() as s, pytest.raises(tf.errors.InvalidArgumentError, match="must end with broadcasted shape"):
        s.run(tf.random.stateless_poisson([7], [3, 4], [5.0, 6.0]))


def test_crops_that_surely_fit_are_not_checked():
    tf.random_crop(tf.zeros([5, 4]), [2, 4])
    assert "Assert" not in {op.type for op in tf.get_default_graph().get_operations()}
    with tf.Session() as s, pytest.raises(tf.errors.InvalidArgumentError, match="Need value"):
        s.run(tf.random_crop(tf.zeros([3, 3]), [4, 2]))
