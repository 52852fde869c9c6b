"""Metrics of predictions that are positive above a threshold, for many thresholds at once: counts, rates, areas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stepjit.framework.convert import constant
from stepjit.framework.tensor import Tensor
from stepjit.metrics.common import Metric, broadcast_weights, collected, fitted, floats, metric_variable
from stepjit.ops.array import expand_dims, reshape
from stepjit.ops.cast import cast
from stepjit.ops.comparison import equal, greater, logical_and, logical_not, where
from stepjit.ops.control import identity
from stepjit.ops.creation import ones_like
from stepjit.ops.elementwise import abs, log
from stepjit.ops.math import div, div_no_nan, maximum, minimum, multiply
from stepjit.ops.reductions import argmax, argmin, cumsum, reduce_min, reduce_sum
from stepjit.ops.state import assign_add
from stepjit.variable_scope import variable_scope
from stepjit_runtime import dtypes

_EPSILON = 1e-7
_KINDS = {"tp": "true_positives", "fn": "false_negatives", "tn": "true_negatives", "fp": "false_positives"}
Counts = dict[str, Any]


def _confusions(
    labels: Any, predictions: Any, thresholds: Sequence[float], weights: Any, includes: Sequence[str] = tuple(_KINDS)
) -> tuple[Counts, Counts]:
    """By kind, the counts at every threshold so far, and what updates them."""
    p, y, factor = fitted(floats(predictions), cast(labels, dtypes.bool_), weights)
    p.shape.assert_is_compatible_with(y.shape)
    rows = expand_dims(constant([float(each) for each in thresholds], dtypes.float32), [1])
    positive = greater(reshape(p, [1, -1]), rows)
    true = reshape(y, [1, -1])
    share = None if factor is None else reshape(broadcast_weights(floats(factor), p), [1, -1])
    values: Counts = {}
    updates: Counts = {}
    for kind in includes:
        label = true if kind in ("tp", "fn") else logical_not(true)
        found = floats(logical_and(label, positive if kind in ("tp", "fp") else logical_not(positive)))
        if share is not None:
            found = found * share
        count = metric_variable([len(thresholds)], dtypes.float32, _KINDS[kind])
        values[kind], updates[kind] = identity(count), assign_add(count, reduce_sum(found, 1))
    return values, updates


def _evenly(count: int, last: float) -> list[float]:
    """Thresholds from just below 0 to `last`."""
    return [0.0 - _EPSILON, *((k + 1) * 1.0 / (count - 1) for k in range(count - 2)), last]


def _counter(kind: str) -> Callable[..., Metric]:
    def function(
        labels: Any, predictions: Any, thresholds: Sequence[float], weights: Any = None,
        metrics_collections: Any = None, updates_collections: Any = None, name: str | None = None,
    ) -> Metric:  # fmt: skip
        with variable_scope(name, _KINDS[kind], (predictions, labels, weights)):
            values, updates = _confusions(labels, predictions, thresholds, weights, (kind,))
            return collected(values[kind], updates[kind], metrics_collections, updates_collections)

    function.__name__ = function.__qualname__ = f"{_KINDS[kind]}_at_thresholds"
    function.__doc__ = f"The {_KINDS[kind].replace('_', ' ')} at each threshold."
    return function


true_positives_at_thresholds = _counter("tp")
true_negatives_at_thresholds = _counter("tn")
false_positives_at_thresholds = _counter("fp")
false_negatives_at_thresholds = _counter("fn")


def _share_at(missing: str, name: str, doc: str) -> Callable[..., Metric]:
    def function(
        labels: Any, predictions: Any, thresholds: Sequence[float], weights: Any = None,
        metrics_collections: Any = None, updates_collections: Any = None, name: str | None = None,
    ) -> Metric:  # fmt: skip
        with variable_scope(name, f"{label}_at_thresholds", (predictions, labels, weights)):
            values, updates = _confusions(labels, predictions, thresholds, weights, ("tp", missing))

            def share(counts: Counts, suffix: str) -> Tensor:
                return div(counts["tp"], _EPSILON + counts["tp"] + counts[missing], name=f"{label}_{suffix}")

            return collected(
                share(values, "value"), share(updates, "update_op"), metrics_collections, updates_collections
            )

    label = name
    function.__name__ = function.__qualname__ = f"{name}_at_thresholds"
    function.__doc__ = doc
    return function


precision_at_thresholds = _share_at("fp", "precision", "How many positive predictions are right, at each threshold.")
recall_at_thresholds = _share_at("fn", "recall", "How many true labels are predicted, at each threshold.")


def auc(
    labels: Any, predictions: Any, weights: Any = None, num_thresholds: int = 200, metrics_collections: Any = None,
    updates_collections: Any = None, curve: str = "ROC", name: str | None = None,
    summation_method: str = "trapezoidal", thresholds: Sequence[float] | None = None,
) -> Metric:  # fmt: skip
    """The area under a curve: ROC (recall over false alarms) or PR (precision over recall), from 0 to 1.

    thresholds: in place of `num_thresholds` evenly spaced ones. summation_method: trapezoidal, minoring, majoring or
    (PR) careful_interpolation. ValueError for another curve or method.
    """
    with variable_scope(name, "auc", (labels, predictions, weights)):
        if curve not in ("ROC", "PR"):
            raise ValueError(f"curve must be either ROC or PR, {curve} unknown")
        if thresholds is None:
            chosen = _evenly(num_thresholds, 1.0 + _EPSILON)
        else:
            chosen = [0.0 - _EPSILON, *sorted(thresholds), 1.0 + _EPSILON]
        values, updates = _confusions(labels, predictions, chosen, weights)
        value, update = (
            _area(counts, curve, summation_method, label)
            for counts, label in ((values, "value"), (updates, "update_op"))
        )
        return collected(value, update, metrics_collections, updates_collections)


def _area(counts: Counts, curve: str, method: str, name: str) -> Tensor:
    tp, fn, tn, fp = (counts[kind] for kind in ("tp", "fn", "tn", "fp"))
    if curve == "PR" and method == "careful_interpolation":
        return _careful_area(tp, fp, fn)
    small = 1e-6
    recall = div(tp + small, tp + fn + small)
    x, y = (div(fp, fp + tn + small), recall) if curve == "ROC" else (recall, div(tp + small, tp + fp + small))
    width, before, after = x[:-1] - x[1:], y[:-1], y[1:]
    if method in ("trapezoidal", "careful_interpolation"):
        return reduce_sum(multiply(width, (before + after) / 2.0), name=name)
    if method == "minoring":
        return reduce_sum(multiply(width, minimum(before, after)), name=name)
    if method == "majoring":
        return reduce_sum(multiply(width, maximum(before, after)), name=name)
    raise ValueError(f"Invalid summation_method: {method}")


def _careful_area(tp: Any, fp: Any, fn: Any) -> Tensor:
    """The area under precision over recall, true positives taken as linear in all positives between thresholds."""
    gained = tp[:-1] - tp[1:]
    positives = tp + fp
    slope = div_no_nan(gained, maximum(positives[:-1] - positives[1:], 0), name="prec_slope")
    intercept = tp[1:] - slope * positives[1:]
    some = logical_and(positives[:-1] > 0, positives[1:] > 0)
    growth = div_no_nan(positives[:-1], maximum(positives[1:], 0), name="recall_relative_ratio")
    safe = where(some, growth, ones_like(positives[1:]))
    parts = div_no_nan(
        slope * (gained + intercept * log(safe)), maximum(tp[1:] + fn[1:], 0), name="pr_auc_increment"
    )
    return reduce_sum(parts, name="interpolate_pr_auc")


def sensitivity_at_specificity(
    labels: Any, predictions: Any, specificity: float, weights: Any = None, num_thresholds: int = 200,
    metrics_collections: Any = None, updates_collections: Any = None, name: str | None = None,
) -> Metric:  # fmt: skip
    """The recall at the threshold where the part of negatives that are rejected is nearest to `specificity`.

    ValueError unless that is in [0, 1].
    """
    if specificity < 0 or specificity > 1:
        raise ValueError("`specificity` must be in the range [0, 1].")

    def compute(c: Counts, label: str) -> Tensor:
        rates = div(c["tn"], c["tn"] + c["fp"] + _EPSILON)
        at = cast(argmin(abs(rates - specificity), 0), dtypes.int32)
        return div(c["tp"][at], c["tp"][at] + c["fn"][at] + _EPSILON, label)

    with variable_scope(name, "sensitivity_at_specificity", (predictions, labels, weights)):
        counts = _confusions(labels, predictions, _evenly(num_thresholds, 1.0 - _EPSILON), weights)
        value, update = compute(counts[0], "value"), compute(counts[1], "update_op")
        return collected(value, update, metrics_collections, updates_collections)


def specificity_at_sensitivity(
    labels: Any, predictions: Any, sensitivity: float, weights: Any = None, num_thresholds: int = 200,
    metrics_collections: Any = None, updates_collections: Any = None, name: str | None = None,
) -> Metric:  # fmt: skip
    """The part of negatives that are rejected at the threshold where the recall is nearest to `sensitivity`.

    The highest such threshold; ValueError unless `sensitivity` is in [0, 1].
    """
    if sensitivity < 0 or sensitivity > 1:
        raise ValueError("`sensitivity` must be in the range [0, 1].")

    def compute(c: Counts, label: str) -> Tensor:
        distance = abs(div(c["tp"], c["tp"] + c["fn"] + _EPSILON) - sensitivity)
        nearest = cast(equal(distance, reduce_min(distance)), dtypes.int64)
        at = cast(argmax(cumsum(nearest), 0), dtypes.int32)
        return div(c["tn"][at], c["tn"][at] + c["fp"][at] + _EPSILON, label)

    with variable_scope(name, "specificity_at_sensitivity", (predictions, labels, weights)):
        counts = _confusions(labels, predictions, _evenly(num_thresholds, 1.0 - _EPSILON), weights)
        value, update = compute(counts[0], "value"), compute(counts[1], "update_op")
        return collected(value, update, metrics_collections, updates_collections)
