"""tf.contrib.layers: names and values of dense layers, initializers, regularizers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

L = tf.contrib.layers


@pytest.fixture(autouse=True)
def _graph() -> Any:
    with tf.Graph().as_default():
        yield


def run(fetches: Any, feeds: Any = None) -> Any:
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        return session.run(fetches, feeds)


def test_dense_layers() -> None:
    x = tf.placeholder(tf.float32, [None, 3])
    y = L.fully_connected(x, 4, weights_initializer=tf.ones_initializer(), weights_regularizer=L.l2_regularizer(0.5))
    z = L.fully_connected(y, 2, activation_fn=None, scope="out")
    again = L.fully_connected(y, 2, activation_fn=None, scope="out", reuse=True)
    names = ["fully_connected/weights:0", "fully_connected/biases:0", "out/weights:0", "out/biases:0"]
    assert [each.name for each in tf.global_variables()] == names
    assert [each.name for each in tf.model_variables()] == names
    assert z.shape.as_list() == [None, 2]
    (penalty,) = tf.losses.get_regularization_losses()
    hidden, first, second, cost = run([y, z, again, penalty], {x: [[1, 2, 3], [-4, 1, 1]]})
    assert hidden.tolist() == [[6] * 4, [0] * 4]
    np.testing.assert_array_equal(first, second)
    assert cost == 3
    assert L.fully_connected(tf.zeros([2, 5, 3]), 7).shape.as_list() == [2, 5, 7]


def test_initializers() -> None:
    uniform, normal = run([
        L.xavier_initializer(seed=1)([3, 3, 40, 60]), L.variance_scaling_initializer(seed=1)([3, 3, 40, 60]),
    ])  # fmt: skip
    limit = math.sqrt(3 / (9 * 50))
    assert 0.99 * limit < np.abs(uniform).max() <= limit
    np.testing.assert_allclose(normal.var(), 2 / (9 * 40), rtol=0.05)
    with pytest.raises(TypeError, match="Unknown mode"):
        L.variance_scaling_initializer(mode="x")
    with pytest.raises(TypeError, match="non-floating"):
        L.xavier_initializer(dtype=tf.int32)


def test_regularizers() -> None:
    w = tf.constant([1.0, -2.0])
    assert run([L.l1_regularizer(0.5)(w), L.l2_regularizer(0.5)(w), L.l1_l2_regularizer(1.0, 1.0)(w)]) == [1.5, 1.25, 5.5]
    assert L.l2_regularizer(0.0)(w) is None
    total = L.apply_regularization(L.l1_regularizer(1.0), [w, w])
    assert run(total) == 6 and tf.losses.get_regularization_losses() == [total]
    with pytest.raises(ValueError, match="cannot be an integer"):
        L.l1_regularizer(1)
    with pytest.raises(ValueError, match="less than 0"):
        L.l2_regularizer(-0.1)


def test_flat_and_dropped() -> None:
    x = tf.ones([2, 3, 4])
    assert L.flatten(x).shape.as_list() == [2, 12]
    kept, dropped = run([L.dropout(x, 0.5, is_training=False), L.dropout(x, 0.5, seed=1)])
    assert (kept == 1).all() and set(np.unique(dropped)) == {0.0, 2.0}
