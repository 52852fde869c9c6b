"""Metrics of the best k predictions: precision, recall, average precision, of all classes or of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.scopes import name_scope
from stepjit.framework.sparse_tensor import SparseTensor, SparseTensorValue, as_sparse_tensor
from stepjit.framework.tensor import Tensor
from stepjit.metrics.common import Metric, broadcast_weights, collected, metric_variable
from stepjit.ops import sets
from stepjit.ops.array import concat, expand_dims, shape, size, split
from stepjit.ops.cast import cast
from stepjit.ops.comparison import equal
from stepjit.ops.creation import fill
from stepjit.ops.creation import range as number_range
from stepjit.ops.math import add, div, minimum, multiply
from stepjit.ops.reductions import cumsum, reduce_sum
from stepjit.ops.segments import top_k
from stepjit.ops.sparse import sparse_reshape, sparse_retain, sparse_tensor_to_dense
from stepjit.ops.state import assign_add
from stepjit_runtime import dtypes


def _at_k(name: str, k: int | None, class_id: int | None = None) -> str:
    text = f"{name}_at_k" if k is None else f"{name}_at_{k}"
    return text if class_id is None else f"{text}_class{class_id}"


def _is_sparse(x: Any) -> bool:
    return isinstance(x, (SparseTensor, SparseTensorValue))


def _as_sets(labels: Any, predictions: Tensor) -> Any:
    """Labels as int64 with one more axis than the batch has: a set of labels for each row of predictions."""
    if _is_sparse(labels):
        sparse = as_sparse_tensor(labels)
        found = SparseTensor(sparse.indices, cast(sparse.values, dtypes.int64), sparse.dense_shape)
        if sparse.shape.ndims is not None and sparse.shape.ndims == predictions.shape.ndims:
            return found
        return sparse_reshape(found, concat([sparse.dense_shape, [1]], 0))
    dense = cast(labels, dtypes.int64)
    return dense if dense.shape.ndims == predictions.shape.ndims else expand_dims(dense, -1)


def _only(ids: Any, class_id: int | None) -> Any:
    """The sets without all but one class."""
    if class_id is None:
        return ids
    if isinstance(ids, SparseTensor):
        return sparse_retain(ids, equal(ids.values, class_id))
    rows = shape(ids)
    axis = size(rows) - 1
    ahead = split(rows, [axis, 1])[0]
    wanted = fill(concat([ahead, [1]], 0), cast(class_id, dtypes.int64))
    return sets.set_intersection(wanted, ids)


def _streaming(
    name: str, found: Any, weights: Any, k: int | None, class_id: int | None
) -> tuple[Any, Tensor]:  # fmt: skip
    """(variable, update) of the weighted sum of the sizes of sets."""
    with name_scope(None, _at_k(name, k, class_id)) as scope:
        count = cast(sets.set_size(found), dtypes.float64)
        if weights is not None:
            count = multiply(count, broadcast_weights(cast(weights, dtypes.float64), count))
        variable = metric_variable([], dtypes.float64, scope)
        return variable, assign_add(variable, reduce_sum(count), name="update")


def _at_top_k(
    name: str, missing: str, labels: Any, predictions_idx: Any, k: int | None, class_id: int | None, weights: Any,
    metrics_collections: Any, updates_collections: Any, scope_name: str | None,
) -> Metric:  # fmt: skip
    """The part that true positives are of themselves and what is `missing`: false positives or false negatives."""
    with name_scope(scope_name, _at_k(name, k, class_id), [predictions_idx, labels, weights]) as scope:
        best = cast(predictions_idx, dtypes.int64)
        known = _as_sets(labels, best)
        known, best = _only(known, class_id), _only(best, class_id)
        hits, more_hits = _streaming("true_positive", sets.set_intersection(best, known), weights, k, class_id)
        others = sets.set_difference(best, known, aminusb=missing == "false_positive")
        misses, more_misses = _streaming(missing, others, weights, k, class_id)
        value = div(hits, add(hits, misses), name=scope)
        update = div(more_hits, add(more_hits, more_misses), name="update")
        return collected(value, update, metrics_collections, updates_collections)


def precision_at_top_k(
    labels: Any, predictions_idx: Any, k: int | None = None, class_id: int | None = None, weights: Any = None,
    metrics_collections: Any = None, updates_collections: Any = None, name: str | None = None,
) -> Metric:  # fmt: skip
    """How many of the predicted classes [..., k] are labels [..., labels], or of those that are `class_id`."""
    return _at_top_k(
        "precision", "false_positive", labels, predictions_idx, k, class_id, weights, metrics_collections,
        updates_collections, name,
    )  # fmt: skip


def recall_at_top_k(
    labels: Any, predictions_idx: Any, k: int | None = None, class_id: int | None = None, weights: Any = None,
    metrics_collections: Any = None, updates_collections: Any = None, name: str | None = None,
) -> Metric:  # fmt: skip
    """How many of the labels [..., labels] are among predicted classes [..., k], or of those that are `class_id`."""
    return _at_top_k(
        "recall", "false_negative", labels, predictions_idx, k, class_id, weights, metrics_collections,
        updates_collections, name,
    )  # fmt: skip


def _at_best(function: Callable[..., Metric], label: str) -> Callable[..., Metric]:
    def at_k(
        labels: Any, predictions: Any, k: int, class_id: int | None = None, weights: Any = None,
        metrics_collections: Any = None, updates_collections: Any = None, name: str | None = None,
    ) -> Metric:  # fmt: skip
        with name_scope(name, _at_k(label, k, class_id), [predictions, labels, weights]) as scope:
            best = top_k(predictions, k)[1]
            return function(labels, best, k, class_id, weights, metrics_collections, updates_collections, scope)

    at_k.__name__ = at_k.__qualname__ = f"{label}_at_k"
    at_k.__doc__ = f"`{label}_at_top_k` of the k classes whose predictions [..., classes] are the highest."
    return at_k


precision_at_k = _at_best(precision_at_top_k, "precision")
recall_at_k = _at_best(recall_at_top_k, "recall")
sparse_precision_at_k = precision_at_k


# --- Average precision ---


def average_precision_at_k(
    labels: Any, predictions: Any, k: int, weights: Any = None, metrics_collections: Any = None,
    updates_collections: Any = None, name: str | None = None,
) -> Metric:  # fmt: skip
    """The mean over rows of the precisions at each of the best k predictions that is a label; ValueError for k < 1."""
    if k < 1:
        raise ValueError(f"Invalid k={k}.")
    with name_scope(name, _at_k("average_precision", k), [predictions, labels, weights]) as scope:
        best = cast(top_k(predictions, k)[1], dtypes.int64)
        known = _as_sets(labels, best)
        precision = _average_precision(known, best, k)
        if weights is None:
            most = cast(size(precision, name="max"), dtypes.float64)
        else:
            factor = broadcast_weights(cast(weights, dtypes.float64), precision)
            precision, most = multiply(precision, factor), reduce_sum(factor, name="max")
        with name_scope(None, "max") as inner:
            highest = metric_variable([], dtypes.float64, inner)
            more_highest = assign_add(highest, most, name="update")
        with name_scope(None, "total") as inner:
            total = metric_variable([], dtypes.float64, inner)
            more = assign_add(total, reduce_sum(precision), name="update")
        value = apply_op("DivNoNan", x=total, y=highest, name="mean")
        update = apply_op("DivNoNan", x=more, y=more_highest, name=scope)
        return collected(value, update, metrics_collections, updates_collections)


sparse_average_precision_at_k = average_precision_at_k


def _average_precision(labels: Any, best: Tensor, k: int) -> Tensor:
    """float64[...]: of each row, by its labels and its best k classes."""
    if isinstance(labels, SparseTensor):
        # No class is -1, so it stands for places without a label.
        dense = sparse_tensor_to_dense(labels, default_value=-1, validate_indices=False)
        relevant = minimum(cast(sets.set_size(labels), dtypes.int32), k)
    else:
        dense = labels
        relevant = fill(shape(labels)[:-1], minimum(shape(labels)[-1], k))
    matches = apply_op("Any", input=equal(expand_dims(best, -1), expand_dims(dense, -2)), reduction_indices=[-1])
    hits = cast(matches, dtypes.float64)
    places = cast(number_range(1, k + 1), dtypes.float64)
    total = reduce_sum(cumsum(hits, axis=-1) / places * hits, -1)
    return div(total, cast(relevant, dtypes.float64))
