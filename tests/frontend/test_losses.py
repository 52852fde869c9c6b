"""tf.losses: reductions, weights, collections, dtypes, mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

L = tf.losses
Y = np.float32([[1.0, 2.0], [3.0, 5.0], [0.0, 1.0]])
X = np.float32([[1.5, 1.0], [3.0, 2.0], [2.0, 1.0]])
WEIGHTS = np.float32([[1.0], [0.0], [2.0]])


@pytest.fixture(autouse=True)
def _graph() -> Any:
    with tf.Graph().as_default():
        yield


def run(fetches: Any, feeds: Any = None) -> Any:
    with tf.Session() as session:
        return session.run(fetches, feeds)


@pytest.mark.parametrize(
    ("reduction", "want"),
    [
        (L.Reduction.SUM, 5.5), (L.Reduction.MEAN, 5.5 / 6), (L.Reduction.SUM_OVER_BATCH_SIZE, 5.5 / 6),
        (L.Reduction.SUM_BY_NONZERO_WEIGHTS, 5.5 / 4), (L.Reduction.NONE, [[0.5, 1], [0, 0], [4, 0]]),
    ],
)  # fmt: skip
def test_reductions(reduction: str, want: Any) -> None:
    np.testing.assert_allclose(run(L.absolute_difference(Y, X, WEIGHTS, reduction=reduction)), want, rtol=1e-6)


def pairwise(weights: np.ndarray) -> float:
    """By the definition: over samples, the mean over pairs of weighted elements."""
    total = 0.0
    for errors, factor in zip(X - Y, np.broadcast_to(weights, X.shape)):
        n = int((factor != 0).sum())
        spread = 2 * (errors**2).sum() / max(n - 1, 1) * (n > 1) - 2 * errors.sum() ** 2 / max(n * (n - 1), 1) * (n > 1)
        total += (spread * factor).sum() / (len(factor) if weights.shape[1] == 1 else 1)
    return total


@pytest.mark.parametrize("weights", [WEIGHTS, np.ones((3, 1), np.float32), np.float32([[1, 2], [0, 1], [1, 1]])])
def test_pairs_count_by_their_weights(weights: np.ndarray) -> None:
    np.testing.assert_allclose(run(L.mean_pairwise_squared_error(Y, X, weights)), pairwise(weights), rtol=1e-5)


def test_pairs_of_unknown_rank() -> None:
    y, x = tf.placeholder(tf.float32), tf.placeholder(tf.float32)
    loss = L.mean_pairwise_squared_error(y, x)
    assert loss.name == "mean_pairwise_squared_error/value_2:0"
    np.testing.assert_allclose(run(loss, {y: Y, x: X}), pairwise(np.ones((3, 1))), rtol=1e-5)


def test_weights_of_classes_may_have_a_column() -> None:
    logits, weights = tf.constant(X), tf.placeholder(tf.float32)
    loss = L.sparse_softmax_cross_entropy([0, 1, 1], logits, weights)
    with tf.Session() as session:
        first, second = (session.run(loss, {weights: each}) for each in (WEIGHTS, WEIGHTS[:, 0]))
    np.testing.assert_allclose(first, second)


def test_losses_are_summed_in_float32() -> None:
    assert L.absolute_difference(Y, X).dtype == tf.float32
    loss = L.compute_weighted_loss(tf.constant([0.1, 0.2], tf.float64))
    assert loss.dtype == tf.float64
    assert run(loss) == np.float64(np.float32(np.float32(0.1) + np.float32(0.2)) / np.float32(2))


def test_collections() -> None:
    first = L.absolute_difference(Y, X, scope="a")
    L.mean_squared_error(Y, X, loss_collection="other")
    L.huber_loss(Y, X, loss_collection=None)
    assert L.get_losses() == [first] and L.get_losses("b") == []
    assert len(tf.get_collection("other")) == 1


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: L.absolute_difference(Y, X, np.ones((3, 3), np.float32)), "weights can not be broadcast"),
        (lambda: L.mean_pairwise_squared_error(Y, X, [1.0, 2.0, 3.0]), "weights can not be broadcast"),
        (lambda: L.absolute_difference(None, X), "must not be None"),
        (lambda: L.absolute_difference(Y, X, reduction="x"), "Invalid Reduction Key"),
        (lambda: L.cosine_distance(Y, X), "must specify"),
        (lambda: L.cosine_distance(Y, X, axis=1, dim=1), "Cannot specify both"),
        (lambda: tf.nn.softmax_cross_entropy_with_logits(labels=Y, logits=X, axis=1), "Cannot specify both"),
    ],
)
def test_mistakes(build: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        build()


def test_an_axis_that_softmax_has_not() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be in the range"):
        tf.nn.softmax(X, axis=2)
