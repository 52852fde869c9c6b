"""tf.metrics: values after batches, variables, collections, mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

M = tf.metrics
LABELS = np.int64([1, 0, 1, 1, 0, 1])
SCORES = np.float32([0.9, 0.6, 0.4, 0.8, 0.1, 0.3])
WEIGHTS = np.float32([1.0, 2.0, 0.0, 0.5, 1.0, 1.0])


@pytest.fixture(autouse=True)
def _graph() -> Any:
    with tf.Graph().as_default():
        yield


def after(metric: Any, batches: int = 1) -> Any:
    """(what the last update gave, the value afterwards)."""
    value, update = metric
    with tf.Session() as session:
        session.run(tf.local_variables_initializer())
        for _ in range(batches):
            last = session.run(update)
        return last, session.run(value)


def both(metric: Any, want: Any, batches: int = 2) -> None:
    last, value = after(metric, batches)
    np.testing.assert_allclose(last, want, rtol=1e-5)
    np.testing.assert_allclose(value, want, rtol=1e-5)


def test_means_over_batches() -> None:
    x = tf.placeholder(tf.float32, [None])
    value, update = M.mean(x)
    with tf.Session() as session:
        session.run(tf.local_variables_initializer())
        assert session.run(value) == 0
        assert session.run(update, {x: [1, 2, 3]}) == 2
        assert session.run(update, {x: [6]}) == 3
        assert session.run(value) == 3


def test_errors_and_hits() -> None:
    both(M.accuracy(LABELS, np.int64([1, 1, 1, 0, 0, 1])), 4 / 6)
    both(M.accuracy(LABELS, np.int64([1, 1, 1, 0, 0, 1]), WEIGHTS), 3 / 5.5)
    both(M.mean_squared_error([1.0, 2.0], [2.0, 4.0]), 2.5)
    both(M.root_mean_squared_error([1.0, 2.0], [2.0, 4.0]), np.sqrt(2.5))
    both(M.mean_absolute_error([1.0, 2.0], [2.0, 4.0], [1.0, 3.0]), 7 / 4)
    both(M.mean_relative_error([1.0, 2.0], [2.0, 4.0], [0.0, 4.0]), 0.25)
    both(M.mean_cosine_distance([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]], 1), 0.5)
    both(M.percentage_below(SCORES, 0.5), 0.5)
    both(M.mean_tensor([[1.0, 2.0]], [[1.0, 0.0]]), [[1.0, 0.0]])


def test_counts() -> None:
    predictions = SCORES > 0.5
    both(M.true_positives(LABELS, predictions), 2, 1)
    both(M.false_negatives(LABELS, predictions, WEIGHTS), 1, 1)
    both(M.true_negatives(LABELS, predictions), 2, 2)
    both(M.precision(LABELS, predictions), 2 / 3)
    both(M.recall(LABELS, predictions), 0.5)
    both(M.recall(LABELS * 0, predictions), 0)
    both(M.true_positives_at_thresholds(LABELS, SCORES, [0.2, 0.5, 0.95]), [4, 2, 0], 1)
    both(M.precision_at_thresholds(LABELS, SCORES, [0.2, 0.5]), [4 / 5, 2 / 3])
    both(M.recall_at_thresholds(LABELS, SCORES, [0.2, 0.5]), [1, 0.5])


def test_areas() -> None:
    exact = np.mean([[p > n for p in SCORES[LABELS == 1]] for n in SCORES[LABELS == 0]])
    last, _ = after(M.auc(LABELS, SCORES, num_thresholds=1000))
    assert abs(last - exact) < 1e-3
    lower, _ = after(M.auc(LABELS, SCORES, curve="PR", summation_method="minoring"))
    upper, _ = after(M.auc(LABELS, SCORES, curve="PR", summation_method="majoring"))
    careful, _ = after(M.auc(LABELS, SCORES, curve="PR", summation_method="careful_interpolation"))
    assert lower < careful < upper
    both(M.sensitivity_at_specificity(LABELS, SCORES, 0.5), 1)
    both(M.specificity_at_sensitivity(LABELS, SCORES, 0.5), 1)


def test_classes() -> None:
    labels, predictions = tf.constant([0, 0, 1, 2]), tf.constant([0, 1, 1, 2])
    update, value = after(M.mean_iou(labels, predictions, 4))
    np.testing.assert_array_equal(update, [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(value, (0.5 + 0.5 + 1) / 3)
    update, value = after(M.mean_per_class_accuracy(labels, predictions, 3))
    np.testing.assert_allclose(update, [0.5, 1, 1])
    np.testing.assert_allclose(value, 2.5 / 3, rtol=1e-6)


def test_the_best_predictions() -> None:
    scores = np.float32([[0.1, 0.5, 0.3], [0.6, 0.3, 0.1]])
    labels = np.int64([[1, 2], [1, 2]])
    both(M.precision_at_k(labels, scores, 2), 3 / 4)
    both(M.recall_at_k(labels, scores, 1), 1 / 4)
    both(M.recall_at_k(labels, scores, 2, class_id=2), 1 / 2)
    sparse = tf.SparseTensor([[0, 0], [0, 1], [1, 0]], np.int64([1, 2, 1]), [2, 2])
    both(M.precision_at_k(sparse, scores, 2, weights=[1.0, 0.0]), 1)
    both(M.average_precision_at_k(labels, scores, 2), (1 + 0.25) / 2)


def test_variables_and_collections() -> None:
    value, update = M.precision(LABELS, LABELS, metrics_collections="m", updates_collections=["u"], name="p")
    assert tf.get_collection("m") == [value] and tf.get_collection("u") == [update]
    assert (value.name, update.name) == ("p/value:0", "p/update_op:0")
    names = ["p/true_positives/count:0", "p/false_positives/count:0"]
    assert [each.name for each in tf.local_variables()] == names
    assert [each.name for each in tf.get_collection(tf.GraphKeys.METRIC_VARIABLES)] == names
    assert not tf.global_variables()


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: M.accuracy(LABELS, LABELS[:4]), "incompatible"),
        (lambda: M.accuracy(LABELS, LABELS, WEIGHTS[:4]), "weights can not be broadcast"),
        (lambda: M.auc(LABELS, SCORES, curve="X"), "curve must be either ROC or PR"),
        (lambda: M.auc(LABELS, SCORES, summation_method="X"), "Invalid summation_method"),
        (lambda: M.sensitivity_at_specificity(LABELS, SCORES, 1.5), "must be in the range"),
        (lambda: M.average_precision_at_k([[0]], [[1.0]], 0), "Invalid k=0"),
    ],
)
def test_mistakes(build: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        build()
