"""Metrics that count: true and false positives and negatives, precision, recall."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepjit.framework.scopes import control_dependencies
from stepjit.framework.tensor import Tensor
from stepjit.metrics.common import Metric, collected, fitted, floats, metric_variable
from stepjit.ops.array import rank
from stepjit.ops.assertions import assert_rank_in, assert_type
from stepjit.ops.cast import cast
from stepjit.ops.comparison import equal, greater, logical_and, where
from stepjit.ops.control import identity
from stepjit.ops.math import div, multiply
from stepjit.ops.reductions import reduce_sum
from stepjit.ops.state import assign_add
from stepjit.variable_scope import variable_scope
from stepjit_runtime import dtypes


def _bools(x: Any) -> Tensor:
    return cast(x, dtypes.bool_)


def _counter(name: str, label: bool, prediction: bool, doc: str) -> Callable[..., Metric]:
    def function(
        labels: Any, predictions: Any, weights: Any = None, metrics_collections: Any = None,
        updates_collections: Any = None, name: str | None = None,
    ) -> Metric:  # fmt: skip
        with variable_scope(name, default, (predictions, labels, weights)):
            p, y, factor = fitted(_bools(predictions), _bools(labels), weights)
            found = logical_and(equal(y, label), equal(p, prediction))
            return _count(found, factor, metrics_collections, updates_collections)

    default = name
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def _count(found: Tensor, weights: Any, metrics_collections: Any, updates_collections: Any) -> Metric:
    """How often something was found, each time with its weight."""
    assert_type(found, dtypes.bool_)
    count = metric_variable([], dtypes.float32, "count")
    values = floats(found)
    if weights is not None:
        allowed = (0, len(values.dims)) if values.dims is not None else (0, rank(values))
        with control_dependencies([assert_rank_in(weights, allowed)]):
            values = multiply(values, floats(weights))
    value = identity(count)
    update = assign_add(count, reduce_sum(values))
    return collected(value, update, metrics_collections, updates_collections)


true_positives = _counter("true_positives", True, True, "How often label and prediction are true.")
true_negatives = _counter("true_negatives", False, False, "How often label and prediction are false.")
false_positives = _counter("false_positives", False, True, "How often the prediction is true and the label is not.")
false_negatives = _counter("false_negatives", True, False, "How often the label is true and the prediction is not.")


def _share(
    default: str, missing: Callable[..., Metric], labels: Any, predictions: Any, weights: Any,
    metrics_collections: Any, updates_collections: Any, name: str | None,
) -> Metric:  # fmt: skip
    """The part that true positives are of themselves and what `missing` counts."""
    with variable_scope(name, default, (predictions, labels, weights)):
        p, y, factor = fitted(_bools(predictions), _bools(labels), weights)
        hits, more_hits = true_positives(y, p, factor)
        others, more_others = missing(y, p, factor)

        def part(good: Tensor, bad: Tensor, label: str) -> Tensor:
            return where(greater(good + bad, 0), div(good, good + bad), 0, name=label)

        value, update = part(hits, others, "value"), part(more_hits, more_others, "update_op")
        return collected(value, update, metrics_collections, updates_collections)


def precision(
    labels: Any, predictions: Any, weights: Any = None, metrics_collections: Any = None,
    updates_collections: Any = None, name: str | None = None,
) -> Metric:  # fmt: skip
    """How many of the positive predictions are right."""
    return _share(
        "precision", false_positives, labels, predictions, weights, metrics_collections, updates_collections, name
    )


def recall(
    labels: Any, predictions: Any, weights: Any = None, metrics_collections: Any = None,
    updates_collections: Any = None, name: str | None = None,
) -> Metric:  # fmt: skip
    """How many of the true labels were predicted."""
    return _share(
        "recall", false_negatives, labels, predictions, weights, metrics_collections, updates_collections, name
    )
