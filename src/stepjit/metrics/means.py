"""Metrics that are means: of values, errors, hits, overlaps."""

from __future__ import annotations

from typing import Any

from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.scopes import control_dependencies
from stepjit.framework.tensor import Tensor
from stepjit.metrics.common import (
    Metric,
    broadcast_weights,
    collected,
    fitted,
    floats,
    metric_variable,
    of_pairs,
    one_rank_less,
    ratio,
)  # fmt: skip
from stepjit.ops.array import reshape, size
from stepjit.ops.cast import cast
from stepjit.ops.comparison import equal, greater, less, not_equal, where
from stepjit.ops.creation import diag_part, ones, ones_like, zeros_like
from stepjit.ops.elementwise import abs, sqrt
from stepjit.ops.math import div, multiply, squared_difference, subtract
from stepjit.ops.reductions import reduce_mean, reduce_sum
from stepjit.ops.special import confusion_matrix
from stepjit.ops.state import assign_add, scatter_add
from stepjit.variable_scope import variable_scope
from stepjit_runtime import dtypes


def mean(
    values: Any, weights: Any = None, metrics_collections: Any = None, updates_collections: Any = None,
    name: str | None = None,
) -> Metric:  # fmt: skip
    """The weighted mean of all values so far; ValueError for weights that don't fit."""
    with variable_scope(name, "mean", (values, weights)):
        x = floats(values)
        total = metric_variable([], dtypes.float32, "total")
        count = metric_variable([], dtypes.float32, "count")
        if weights is None:
            number = floats(size(x))
        else:
            x, _, weights = fitted(x, None, weights)
            factor = broadcast_weights(floats(weights), x)
            x = multiply(x, factor)
            number = reduce_sum(factor)
        more = assign_add(total, reduce_sum(x))
        with control_dependencies([x]):
            larger = assign_add(count, number)
        value, update = ratio(total, count, "value"), ratio(more, larger, "update_op")
        return collected(value, update, metrics_collections, updates_collections)


def mean_tensor(
    values: Any, weights: Any = None, metrics_collections: Any = None, updates_collections: Any = None,
    name: str | None = None,
) -> Metric:  # fmt: skip
    """The weighted mean of tensors of one shape, element by element."""
    with variable_scope(name, "mean", (values, weights)):
        x = floats(values)
        total = metric_variable(x.shape, dtypes.float32, "total_tensor")
        count = metric_variable(x.shape, dtypes.float32, "count_tensor")
        number = ones_like(x)
        if weights is not None:
            x, _, weights = fitted(x, None, weights)
            factor = broadcast_weights(floats(weights), x)
            x, number = multiply(x, factor), multiply(number, factor)
        more = assign_add(total, x)
        with control_dependencies([x]):
            larger = assign_add(count, number)
        value, update = ratio(total, count, "value"), ratio(more, larger, "update_op")
        return collected(value, update, metrics_collections, updates_collections)


def accuracy(
    labels: Any, predictions: Any, weights: Any = None, metrics_collections: Any = None,
    updates_collections: Any = None, name: str | None = None,
) -> Metric:  # fmt: skip
    """How often predictions equal labels."""

    def hits(y: Tensor, p: Tensor) -> Tensor:
        if y.dtype.base_dtype is not p.dtype.base_dtype:
            p = cast(p, y.dtype.base_dtype)
        return floats(equal(p, y))

    values, factor = of_pairs(hits, labels, predictions, weights)
    return mean(values, factor, metrics_collections, updates_collections, name or "accuracy")


def mean_absolute_error(
    labels: Any, predictions: Any, weights: Any = None, metrics_collections: Any = None,
    updates_collections: Any = None, name: str | None = None,
) -> Metric:  # fmt: skip
    """The mean of |prediction - label|."""
    values, factor = of_pairs(lambda y, p: abs(p - y), labels, predictions, weights)
    return mean(values, factor, metrics_collections, updates_collections, name or "mean_absolute_error")


def mean_squared_error(
    labels: Any, predictions: Any, weights: Any = None, metrics_collections: Any = None,
    updates_collections: Any = None, name: str | None = None,
) -> Metric:  # fmt: skip
    """The mean of (prediction - label)²."""
    values, factor = of_pairs(squared_difference, labels, predictions, weights)
    return mean(values, factor, metrics_collections, updates_collections, name or "mean_squared_error")


def root_mean_squared_error(
    labels: Any, predictions: Any, weights: Any = None, metrics_collections: Any = None,
    updates_collections: Any = None, name: str | None = None,
) -> Metric:  # fmt: skip
    """The square root of `mean_squared_error`."""
    p, y, factor = fitted(predictions, labels, weights)
    squared, update = mean_squared_error(y, p, factor, None, None, name or "root_mean_squared_error")
    return collected(sqrt(squared), sqrt(update), metrics_collections, updates_collections)


def mean_relative_error(
    labels: Any, predictions: Any, normalizer: Any, weights: Any = None, metrics_collections: Any = None,
    updates_collections: Any = None, name: str | None = None,
) -> Metric:  # fmt: skip
    """The mean of |prediction - label| / normalizer, 0 where that is 0."""
    p, y, factor = fitted(predictions, labels, weights)
    p, scale = one_rank_less(p, normalizer)
    p.shape.assert_is_compatible_with(scale.shape)
    errors = where(equal(scale, 0.0), zeros_like(y), div(abs(y - p), scale))
    return mean(errors, factor, metrics_collections, updates_collections, name or "mean_relative_error")


def mean_cosine_distance(
    labels: Any, predictions: Any, dim: int, weights: Any = None, metrics_collections: Any = None,
    updates_collections: Any = None, name: str | None = None,
) -> Metric:  # fmt: skip
    """1 - the mean of the products of unit vectors along axis `dim`."""
    p, y, factor = fitted(predictions, labels, weights)
    products = reduce_sum(multiply(p, y), [dim], keepdims=True)
    closeness, update = mean(products, factor, None, None, name or "mean_cosine_distance")
    return collected(subtract(1.0, closeness), subtract(1.0, update), metrics_collections, updates_collections)


def percentage_below(
    values: Any, threshold: Any, weights: Any = None, metrics_collections: Any = None,
    updates_collections: Any = None, name: str | None = None,
) -> Metric:  # fmt: skip
    """The part of the values that are less than a threshold."""
    below = floats(less(values, threshold))
    return mean(below, weights, metrics_collections, updates_collections, name or "percentage_below_threshold")


# --- By classes ---


def mean_iou(
    labels: Any, predictions: Any, num_classes: int, weights: Any = None, metrics_collections: Any = None,
    updates_collections: Any = None, name: str | None = None,
) -> Metric:  # fmt: skip
    """The mean over classes that occur of intersection / union; the update gives the matrix of confusions."""
    with variable_scope(name, "mean_iou", (predictions, labels, weights)):
        y, p = convert_to_tensor(labels), convert_to_tensor(predictions)
        p.shape.assert_is_compatible_with(y.shape)
        total = metric_variable([num_classes, num_classes], dtypes.float64, "total_confusion_matrix")
        p, y = (_flat(cast(each, dtypes.int64)) for each in (p, y))
        factor = None if weights is None else _flat(convert_to_tensor(weights))
        current = confusion_matrix(y, p, num_classes, weights=factor, dtype=dtypes.float64)
        update = assign_add(total, current)
        rows, columns = floats(reduce_sum(total, 0)), floats(reduce_sum(total, 1))
        shared = floats(diag_part(total))
        union = rows + columns - shared
        valid = reduce_sum(floats(not_equal(union, 0)))
        parts = div(shared, where(greater(union, 0), union, ones_like(union)))
        value = where(greater(valid, 0), div(reduce_sum(parts, name="mean_iou"), valid), 0.0)
        return collected(value, update, metrics_collections, updates_collections)


def _flat(x: Tensor) -> Tensor:
    return x if x.dims is not None and len(x.dims) <= 1 else reshape(x, [-1])


def mean_per_class_accuracy(
    labels: Any, predictions: Any, num_classes: int, weights: Any = None, metrics_collections: Any = None,
    updates_collections: Any = None, name: str | None = None,
) -> Metric:  # fmt: skip
    """The mean over classes of the accuracy; the update gives the accuracy of each class."""
    with variable_scope(name, "mean_accuracy", (predictions, labels, weights)):
        y, p = cast(labels, dtypes.int64), convert_to_tensor(predictions)
        y, p = _flat(y), _flat(p)
        p.shape.assert_is_compatible_with(y.shape)
        total = metric_variable([num_classes], dtypes.float32, "total")
        count = metric_variable([num_classes], dtypes.float32, "count")
        number = ones(reshape(size(y), [1]), dtypes.float32)
        if y.dtype.base_dtype is not p.dtype.base_dtype:
            p = cast(p, y.dtype.base_dtype)
        right = floats(equal(p, y))
        if weights is not None:
            factor = floats(_flat(convert_to_tensor(weights)))
            right, number = right * factor, number * factor
        more, larger = scatter_add(total, y, number), scatter_add(count, y, right)
        value = reduce_mean(ratio(count, total, "value"), name="mean_accuracy")
        update = ratio(larger, more, "update_op")
        return collected(value, update, metrics_collections, updates_collections)
