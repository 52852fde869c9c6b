"""tf.losses: weighted losses that gather in a collection."""

from __future__ import annotations

from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.collections import add_to_collection, get_collection
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.graph_keys import GraphKeys
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Tensor
from stepjit.ops.array import rank
from stepjit.ops.array import shape as shape_of
from stepjit.ops.cast import cast
from stepjit.ops.comparison import where
from stepjit.ops.cond import cond
from stepjit.ops.creation import ones_like
from stepjit.ops.cross_entropy import (
    sigmoid_cross_entropy_with_logits,
    softmax_cross_entropy_with_logits_v2,
    sparse_softmax_cross_entropy_with_logits,
)
from stepjit.ops.math import add_n
from stepjit.ops.reductions import either, reduce_sum
from stepjit_runtime import dtypes


def _op(kind: str, x: Any, y: Any, name: str | None = None) -> Tensor:
    return apply_op(kind, x=x, y=y, name=name)


class Reduction:
    """How the losses of a batch become one."""

    NONE = "none"
    SUM = "weighted_sum"
    SUM_OVER_BATCH_SIZE = "weighted_sum_over_batch_size"
    MEAN = "weighted_mean"
    SUM_BY_NONZERO_WEIGHTS = "weighted_sum_by_nonzero_weights"
    SUM_OVER_NONZERO_WEIGHTS = SUM_BY_NONZERO_WEIGHTS

    @classmethod
    def all(cls) -> tuple[str, ...]:
        """All kinds."""
        return (
            cls.NONE, cls.SUM, cls.MEAN, cls.SUM_OVER_BATCH_SIZE, cls.SUM_OVER_NONZERO_WEIGHTS,
            cls.SUM_BY_NONZERO_WEIGHTS,
        )  # fmt: skip

    @classmethod
    def validate(cls, key: str) -> None:
        """ValueError for what is no kind of reduction."""
        if key not in cls.all():
            raise ValueError(f"Invalid Reduction Key {key}.")


_DEFAULT = Reduction.SUM_BY_NONZERO_WEIGHTS


def _check_weights(losses: Tensor, weights: Tensor) -> None:
    wanted, given = losses.dims, weights.dims
    if given is None or wanted is None or not given:
        return
    if len(given) != len(wanted) or any(w not in (1, None) and v not in (w, None) for w, v in zip(given, wanted)):
        raise ValueError(
            f"weights can not be broadcast to values. values.rank={len(wanted)}. weights.rank={len(given)}. "
            f"values.shape={losses.shape}. weights.shape={weights.shape}."
        )


def compute_weighted_loss(
    losses: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: Any = GraphKeys.LOSSES,
    reduction: str = _DEFAULT,
) -> Tensor:
    """The losses times their weights, reduced and added to a collection; ValueError for weights that don't fit."""
    Reduction.validate(reduction)
    with name_scope(scope, "weighted_loss", [losses, weights]):
        given = convert_to_tensor(losses)
        dtype = given.dtype.base_dtype
        # All losses are summed up in float32, and given in their own dtype again.
        values, factor = cast(given, dtypes.float32), cast(weights, dtypes.float32)
        _check_weights(values, factor)
        loss = _op("Mul", values, factor)
        if reduction != Reduction.NONE:
            loss = reduce_sum(loss)
            if reduction == Reduction.MEAN:
                spread = _op("Mul", ones_like(values), factor)
                loss = apply_op("DivNoNan", x=loss, y=reduce_sum(spread), name="value")
            elif reduction == _DEFAULT:
                loss = apply_op("DivNoNan", x=loss, y=_present(values, factor), name="value")
            elif reduction == Reduction.SUM_OVER_BATCH_SIZE:
                with name_scope(None, "num_elements"):
                    count = apply_op("Cast", x=apply_op("Size", input=values), DstT=values.dtype.base_dtype)
                loss = apply_op("DivNoNan", x=loss, y=count, name="value")
        if loss.dtype.base_dtype is not dtype:
            loss = apply_op("Cast", x=loss, DstT=dtype)
        add_loss(loss, loss_collection)
        return loss


def _present(losses: Tensor, weights: Tensor) -> Tensor:
    """How many losses have a weight that isn't 0."""
    number = losses.dtype.base_dtype
    with name_scope(None, "num_present"):
        zero = constant(0, dtype=number)
        flags = apply_op("Cast", x=_op("NotEqual", weights, zero), DstT=number)
        if weights.dims == ():
            return _op("Mul", flags, apply_op("Cast", x=apply_op("Size", input=losses), DstT=number))
        return reduce_sum(apply_op("BroadcastTo", input=flags, shape=shape_of(losses)))


def add_loss(loss: Tensor, loss_collection: Any = GraphKeys.LOSSES) -> None:
    """Add a loss to a collection, unless that is None."""
    if loss_collection:
        add_to_collection(loss_collection, loss)


def get_losses(scope: str | None = None, loss_collection: Any = GraphKeys.LOSSES) -> list[Tensor]:
    """The losses in a collection."""
    return get_collection(loss_collection, scope)


def get_regularization_losses(scope: str | None = None) -> list[Tensor]:
    """The losses that regularisers added."""
    return get_collection(GraphKeys.REGULARIZATION_LOSSES, scope)


def get_regularization_loss(scope: str | None = None, name: str = "total_regularization_loss") -> Tensor:
    """The sum of the losses that regularisers added, 0 for none."""
    found = get_regularization_losses(scope)
    return add_n(found, name=name) if found else constant(0.0)


def get_total_loss(
    add_regularization_losses: bool = True, name: str = "total_loss", scope: str | None = None
) -> Tensor:
    """The sum of all losses, with those of regularisers unless told otherwise."""
    found = get_losses(scope)
    if add_regularization_losses:
        found += get_regularization_losses(scope)
    return add_n(found, name=name)


def _pair(labels: Any, predictions: Any) -> tuple[Tensor, Tensor]:
    """Predictions and labels as float32 of one shape."""
    if labels is None or predictions is None:
        raise ValueError("labels and predictions must not be None.")
    y, t = (convert_to_tensor(each) for each in (predictions, labels))
    y, t = (
        each if each.dtype.base_dtype.name == "float32" else apply_op("Cast", x=each, DstT="float32") for each in (y, t)
    )
    y.shape.assert_is_compatible_with(t.shape)
    return y, t


def absolute_difference(
    labels: Any, predictions: Any, weights: Any = 1.0, scope: str | None = None,
    loss_collection: Any = GraphKeys.LOSSES,
    reduction: str = _DEFAULT,
) -> Tensor:  # fmt: skip
    """|predictions - labels|, weighted."""
    with name_scope(scope, "absolute_difference", [predictions, labels, weights]) as inner:
        y, t = _pair(labels, predictions)
        return compute_weighted_loss(apply_op("Abs", x=_op("Sub", y, t)), weights, inner, loss_collection, reduction)


def mean_squared_error(
    labels: Any, predictions: Any, weights: Any = 1.0, scope: str | None = None,
    loss_collection: Any = GraphKeys.LOSSES,
    reduction: str = _DEFAULT,
) -> Tensor:  # fmt: skip
    """(predictions - labels)², weighted."""
    with name_scope(scope, "mean_squared_error", [predictions, labels, weights]) as inner:
        y, t = _pair(labels, predictions)
        return compute_weighted_loss(_op("SquaredDifference", y, t), weights, inner, loss_collection, reduction)


def huber_loss(
    labels: Any, predictions: Any, weights: Any = 1.0, delta: float = 1.0, scope: str | None = None,
    loss_collection: Any = GraphKeys.LOSSES, reduction: str = _DEFAULT,
) -> Tensor:  # fmt: skip
    """Half the square of errors up to `delta`, linear beyond, weighted."""
    with name_scope(scope, "huber_loss", [predictions, labels, weights]) as inner:
        y, t = _pair(labels, predictions)
        error = apply_op("Abs", x=_op("Sub", y, t))
        quadratic = _op("Minimum", error, delta)
        linear = _op("Sub", error, quadratic)
        curve = _op("AddV2", _op("Mul", 0.5, _op("Mul", quadratic, quadratic)), _op("Mul", delta, linear))
        return compute_weighted_loss(curve, weights, inner, loss_collection, reduction)


def hinge_loss(
    labels: Any, logits: Any, weights: Any = 1.0, scope: str | None = None,
    loss_collection: Any = GraphKeys.LOSSES,
    reduction: str = _DEFAULT,
) -> Tensor:  # fmt: skip
    """max(0, 1 - sign * logits), with labels of 0 and 1 as signs, weighted."""
    with name_scope(scope, "hinge_loss", [logits, labels, weights]) as inner:
        y, t = _pair(labels, logits)
        signs = _op("Sub", _op("Mul", 2.0, t), ones_like(t))
        margin = apply_op("Relu", features=_op("Sub", ones_like(t), _op("Mul", signs, y)))
        return compute_weighted_loss(margin, weights, inner, loss_collection, reduction)


def log_loss(
    labels: Any, predictions: Any, weights: Any = 1.0, epsilon: float = 1e-07, scope: str | None = None,
    loss_collection: Any = GraphKeys.LOSSES, reduction: str = _DEFAULT,
) -> Tensor:  # fmt: skip
    """-labels * log(predictions) - (1 - labels) * log(1 - predictions), weighted."""
    with name_scope(scope, "log_loss", [predictions, labels, weights]) as inner:
        y, t = _pair(labels, predictions)
        hit = _op("Mul", t, apply_op("Log", x=_op("AddV2", y, epsilon)))
        rest = apply_op("Log", x=_op("AddV2", _op("Sub", 1.0, y), epsilon))
        miss = _op("Mul", _op("Sub", 1.0, t), rest)
        return compute_weighted_loss(
            _op("Sub", apply_op("Neg", x=hit), miss), weights, inner, loss_collection, reduction
        )


def cosine_distance(
    labels: Any, predictions: Any, axis: Any = None, weights: Any = 1.0, scope: str | None = None,
    loss_collection: Any = GraphKeys.LOSSES, reduction: str = _DEFAULT, dim: Any = None,
) -> Tensor:  # fmt: skip
    """1 - the sum of products along `axis` of vectors of length 1, weighted; ValueError without an axis."""
    place = either("axis", axis, "dim", dim)
    if place is None:
        raise ValueError("You must specify argument `axis`.")
    with name_scope(scope, "cosine_distance_loss", [predictions, labels, weights]) as inner:
        y, t = _pair(labels, predictions)
        closeness = reduce_sum(_op("Mul", y, t), axis=(place,), keepdims=True)
        return compute_weighted_loss(_op("Sub", 1.0, closeness), weights, inner, loss_collection, reduction)


def sigmoid_cross_entropy(
    multi_class_labels: Any, logits: Any, weights: Any = 1.0, label_smoothing: float = 0, scope: str | None = None,
    loss_collection: Any = GraphKeys.LOSSES, reduction: str = _DEFAULT,
) -> Tensor:  # fmt: skip
    """The cross entropy of labels with sigmoid(logits), weighted."""
    with name_scope(scope, "sigmoid_cross_entropy_loss", [logits, multi_class_labels, weights]) as inner:
        x = convert_to_tensor(logits)
        t = _cast_labels(multi_class_labels, x)
        x.shape.assert_is_compatible_with(t.shape)
        if label_smoothing > 0:
            t = _op("AddV2", _op("Mul", t, 1 - label_smoothing), 0.5 * label_smoothing)
        losses = sigmoid_cross_entropy_with_logits(labels=t, logits=x, name="xentropy")
        return compute_weighted_loss(losses, weights, inner, loss_collection, reduction)


def _cast_labels(labels: Any, logits: Tensor) -> Tensor:
    t = convert_to_tensor(labels)
    target = logits.dtype.base_dtype
    return t if t.dtype.base_dtype is target else apply_op("Cast", x=t, DstT=target)


def softmax_cross_entropy(
    onehot_labels: Any, logits: Any, weights: Any = 1.0, label_smoothing: float = 0, scope: str | None = None,
    loss_collection: Any = GraphKeys.LOSSES, reduction: str = _DEFAULT,
) -> Tensor:  # fmt: skip
    """The cross entropy of one-hot labels with softmax(logits), weighted."""
    with name_scope(scope, "softmax_cross_entropy_loss", [logits, onehot_labels, weights]) as inner:
        x = convert_to_tensor(logits)
        t = _cast_labels(onehot_labels, x)
        x.shape.assert_is_compatible_with(t.shape)
        if label_smoothing > 0:
            axis = len(t.dims or ()) - 1
            classes = apply_op(
                "StridedSlice", input=shape_of(t), begin=[axis], end=[axis + 1], strides=[1], shrink_axis_mask=1
            )
            share = _op("RealDiv", label_smoothing, apply_op("Cast", x=classes, DstT=x.dtype.base_dtype))
            t = _op("AddV2", _op("Mul", t, 1.0 - label_smoothing), share)
        fixed = apply_op("StopGradient", input=t, name="labels_stop_gradient")
        losses = softmax_cross_entropy_with_logits_v2(labels=fixed, logits=x, name="xentropy")
        return compute_weighted_loss(losses, weights, inner, loss_collection, reduction)


def sparse_softmax_cross_entropy(
    labels: Any, logits: Any, weights: Any = 1.0, scope: str | None = None,
    loss_collection: Any = GraphKeys.LOSSES,
    reduction: str = _DEFAULT,
) -> Tensor:  # fmt: skip
    """The cross entropy of class numbers with softmax(logits), weighted."""
    with name_scope(scope, "sparse_softmax_cross_entropy_loss", [logits, labels, weights]) as inner:
        x, t = convert_to_tensor(logits), convert_to_tensor(labels)
        if x.dims is not None and t.dims is not None and len(t.dims) == len(x.dims) and t.dims[-1] == 1:
            t = apply_op("Squeeze", input=t, squeeze_dims=[-1])
        losses = sparse_softmax_cross_entropy_with_logits(labels=t, logits=x, name="xentropy")
        factor = _of_one_rank(convert_to_tensor(weights), losses)
        return compute_weighted_loss(losses, factor, inner, loss_collection, reduction)


def _of_one_rank(weights: Tensor, losses: Tensor) -> Tensor:
    """The weights without a last dimension that the losses lack."""
    own, wanted = weights.dims, losses.dims
    if own is not None and wanted is not None:
        return apply_op("Squeeze", input=weights, squeeze_dims=[-1]) if len(own) == len(wanted) + 1 else weights
    if own is not None and (not own or own[-1] not in (1, None)):
        return weights
    more = _op("Equal", _op("Sub", rank(weights), rank(losses)), 1)
    return cond(more, lambda: apply_op("Squeeze", input=weights, squeeze_dims=[-1]), lambda: weights)


def mean_pairwise_squared_error(
    labels: Any, predictions: Any, weights: Any = 1.0, scope: str | None = None, loss_collection: Any = GraphKeys.LOSSES
) -> Tensor:  # fmt: skip
    """The mean over pairs of a sample's elements of the squared difference of their errors, summed with weights."""
    with name_scope(scope, "mean_pairwise_squared_error", [predictions, labels, weights]):
        y, t = _pair(labels, predictions)
        factor = cast(weights, dtypes.float32)
        _check_weights(t, factor)
        errors = _op("Sub", y, t)
        axes = apply_op("Range", start=1, limit=rank(errors), delta=1)
        squares = reduce_sum(apply_op("Square", x=errors), axes, keepdims=True)
        present = _op("Mul", apply_op("Cast", x=_op("NotEqual", factor, 0.0), DstT="float32"), ones_like(errors))
        each = reduce_sum(present, axes, keepdims=True)
        pairs = _op("Maximum", _op("Sub", each, 1.0), 0.0)
        first = apply_op("DivNoNan", x=squares, y=pairs, name="value")
        square_of_sum = apply_op("Square", x=reduce_sum(errors, axes, keepdims=True))
        second = apply_op("DivNoNan", x=square_of_sum, y=_op("Mul", each, pairs), name="value")
        per_sample = _op("Mul", 2.0, _op("Sub", first, second))
        loss = reduce_sum(_op("Mul", per_sample, factor))
        some = _op("Greater", reduce_sum(each), 0.0)
        loss = where(some, loss, apply_op("ZerosLike", x=loss), name="value")
        add_loss(loss, loss_collection)
        return loss


__all__ = [
    "Reduction", "absolute_difference", "add_loss", "compute_weighted_loss", "cosine_distance",
    "get_losses", "get_regularization_loss", "get_regularization_losses", "get_total_loss", "hinge_loss", "huber_loss",
    "log_loss", "mean_pairwise_squared_error", "mean_squared_error", "sigmoid_cross_entropy",
    "softmax_cross_entropy", "sparse_softmax_cross_entropy",
]  # fmt: skip
