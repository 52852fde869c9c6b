"""What gradients give at ties and for unknown shapes, by variables, through draws, along long chains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf


@pytest.fixture(autouse=True)
def session() -> Iterator[Any]:
    with tf.Graph().as_default(), tf.Session() as found:
        yield found


def test_unknown_shapes_reduce_in_the_step(session: Any) -> None:
    a, b = tf.placeholder(tf.float32, [None, None]), tf.placeholder(tf.float32, [None])
    grads = tf.gradients(a * b, [a, b])
    got = session.run(grads, {a: np.ones((2, 3)), b: [1, 2, 3]})
    np.testing.assert_array_equal(got[0], [[1, 2, 3]] * 2)
    np.testing.assert_array_equal(got[1], [2, 2, 2])
    got = session.run(grads, {a: np.ones((2, 1)), b: [1, 2, 3]})
    np.testing.assert_array_equal(got[0], [[6], [6]])


def test_unknown_rank(session: Any) -> None:
    x = tf.placeholder(tf.float32)
    (g,) = tf.gradients(tf.reduce_mean(x * x, axis=tf.placeholder_with_default([0], [None])), x)
    np.testing.assert_allclose(session.run(g, {x: [[1.0, 2.0], [3.0, 4.0]]}), [[1, 2], [3, 4]])


def test_images_whose_shapes_only_feeds_tell(session: Any) -> None:
    x = tf.placeholder(tf.float32, [None, None, None, 2])
    kernel = tf.constant(np.random.default_rng(1).standard_normal((3, 3, 2, 4)), tf.float32)
    y = tf.nn.avg_pool(tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME")), 2, 2, "SAME")
    grad = tf.gradients(y, x)[0]
    assert y.shape.as_list() == [None, None, None, 4]
    for shape in ((2, 5, 4, 2), (1, 3, 3, 2), (2, 6, 7, 2)):
        assert session.run(grad, {x: np.ones(shape)}).shape == shape


def test_ties(session: Any) -> None:
    x = tf.constant([1.0, 3.0, 3.0])
    y = tf.constant([1.0, 1.0, 1.0])
    assert session.run(tf.gradients(tf.maximum(x[:1], y[:1]), [x, y]))[1].tolist() == [0, 0, 0]
    assert session.run(tf.gradients(tf.reduce_max(x), x)[0]).tolist() == [0, 0.5, 0.5]
    assert session.run(tf.gradients(tf.nn.relu(x - x), x)[0]).tolist() == [0, 0, 0]


def test_hessians(session: Any) -> None:
    x = tf.constant([1.0, 2.0])
    (h,) = tf.hessians(x[0] ** 2.0 * x[1], x)
    np.testing.assert_allclose(session.run(h), [[4, 2], [2, 0]], atol=1e-6)


def test_long_chain(session: Any) -> None:
    x = tf.constant([0.5])
    y = x
    for _ in range(300):
        y = y * 1.001
    np.testing.assert_allclose(session.run(tf.gradients(y, x)[0]), [1.001**300], rtol=1e-4)


@pytest.mark.parametrize("read", [
    lambda x: x * x,
    lambda x: tf.gather(x, [[2, 0], [2, 2]]),
    lambda x: tf.gather_nd(x, [[2, 1], [0, 0], [2, 1]]),
    lambda x: tf.gather_nd(x, [[2], [0], [2]]),
])  # fmt: skip
def test_by_handles_as_by_values(session: Any, read: Any) -> None:
    """`ReadVariableOp`, `ResourceGather` and `ResourceGatherNd` against the ops that take values, twice."""
    start = np.random.default_rng(3).standard_normal((3, 2))
    variable, value = tf.Variable(start, use_resource=True), tf.constant(start)
    session.run(variable.initializer)
    found = []
    for x in (variable, value):
        (first,) = tf.gradients(tf.reduce_sum(read(x) ** 3.0), x)
        first = tf.convert_to_tensor(first)
        (second,) = tf.gradients(tf.reduce_sum(first**2.0), x)
        found.append(session.run([first, tf.convert_to_tensor(second)]))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)


def test_variables_in_conditionals_of_imported_graphs(session: Any) -> None:
    a, b = tf.Variable(2.0, use_resource=False), tf.Variable(3.0, use_resource=False)
    chosen = tf.placeholder(tf.bool, [])
    sides = [tf.raw_ops.RefSwitch(data=each._ref(), pred=chosen) for each in (a, b)]
    merged = tf.raw_ops.RefMerge(inputs=[sides[0][0], sides[1][1]])[0]
    y = merged * merged
    grads = tf.gradients(y, [a, b])
    session.run(tf.global_variables_initializer())
    assert session.run([y, *grads], {chosen: False}) == [4.0, 4.0, 0.0]
    assert session.run([y, *grads], {chosen: True}) == [9.0, 0.0, 6.0]


@pytest.mark.parametrize("stateless", [False, True])
def test_gamma_draws_move_with_their_shape_parameter(session: Any, stateless: bool) -> None:
    alpha = tf.constant([0.7, 2.5], tf.float64)
    if stateless:
        draw = tf.random.stateless_gamma([5, 2], [3, 4], alpha, dtype=tf.float64)
    else:
        draw = tf.random_gamma([5], alpha, dtype=tf.float64, seed=3)
    (slope,) = tf.gradients(draw, alpha)
    # A draw stays the same quantile: what the distribution function loses by alpha it gains by the draw.
    lost = tf.raw_ops.IgammaGradA(a=alpha, x=draw)
    density = tf.exp((alpha - 1.0) * tf.log(draw) - draw - tf.lgamma(alpha))
    found, wanted = session.run([slope, tf.reduce_sum(-lost / density, 0)])
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


@pytest.mark.parametrize("per_channel", [False, True])
def test_fake_quantisation_is_straight_inside(session: Any, per_channel: bool) -> None:
    x = tf.constant([[-2.0, 0.3], [0.7, 5.0], [-0.5, 0.9]])
    low, high = tf.constant([-1.0] * 2 if per_channel else -1.0), tf.constant([1.0] * 2 if per_channel else 1.0)
    kind = tf.fake_quant_with_min_max_vars_per_channel if per_channel else tf.fake_quant_with_min_max_vars
    by_x, by_low, by_high = session.run(tf.gradients(kind(x, low, high), [x, low, high]))
    assert by_x.tolist() == [[0, 1], [1, 0], [1, 1]]
    assert np.sum(by_low) == np.sum(by_high) == 1
    (args,) = tf.gradients(tf.fake_quant_with_min_max_args(x, -1.0, 1.0), x)
    assert session.run(args).tolist() == [[0, 1], [1, 0], [1, 1]]


def test_loops_of_imported_graphs_have_no_gradient(session: Any) -> None:
    x = tf.constant(1.0)
    entered = tf.raw_ops.Enter(data=x, frame_name="loop")
    with pytest.raises(LookupError, match="Exit"):
        tf.gradients(tf.raw_ops.Exit(data=entered), x)
