"""What all metrics share: their variables, shapes and weights that fit, collections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.collections import add_to_collections
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.graph_keys import GraphKeys
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Tensor
from stepjit.ops.array import expand_dims, rank, squeeze
from stepjit.ops.cast import cast
from stepjit.ops.cond import cond
from stepjit.ops.creation import ones_like, zeros
from stepjit.ops.math import div_no_nan, maximum, multiply
from stepjit.variables import Variable
from stepjit_runtime import dtypes

Metric = tuple[Tensor, Tensor]
"""(value, update): what is known so far, and the op that takes in a batch and gives the value after it."""


def metric_variable(shape: Any, dtype: Any, name: str) -> Variable:
    """A variable of zeros that belongs to a metric."""
    keys = [GraphKeys.LOCAL_VARIABLES, GraphKeys.METRIC_VARIABLES]
    return Variable(lambda: zeros(shape, dtype), trainable=False, collections=keys, name=name)


def collected(metric: Any, update: Any, metrics_collections: Any, updates_collections: Any) -> Metric:
    """Both, after they were added to their collections."""
    if metrics_collections:
        add_to_collections(metrics_collections, metric)
    if updates_collections:
        add_to_collections(updates_collections, update)
    return metric, update


def ratio(part: Any, whole: Any, name: str) -> Tensor:
    """part / whole, 0 where the whole is not positive."""
    return div_no_nan(part, maximum(whole, 0), name=name)


# --- Shapes that fit ---


def one_rank_less(labels: Any, predictions: Any, difference: int = 0) -> tuple[Tensor, Tensor]:
    """Labels and predictions, a last dimension of 1 dropped from the one whose rank is one too high."""
    with name_scope(None, "remove_squeezable_dimensions", [labels, predictions]):
        y, p = convert_to_tensor(labels), convert_to_tensor(predictions)
        if y.dims is not None and p.dims is not None:
            more = len(p.dims) - len(y.dims)
            if more == difference + 1 and p.dims[-1] in (1, None):
                p = squeeze(p, [-1])
            elif more == difference - 1 and y.dims[-1] in (1, None):
                y = squeeze(y, [-1])
            return y, p
        more_ = rank(p) - rank(y)
        if p.dims is None or (p.dims and p.dims[-1] in (1, None)):
            p = _squeezed_if(apply_op("Equal", x=more_, y=difference + 1), p)
        if y.dims is None or (y.dims and y.dims[-1] in (1, None)):
            y = _squeezed_if(apply_op("Equal", x=more_, y=difference - 1), y)
        return y, p


def _squeezed_if(condition: Tensor, x: Tensor) -> Tensor:
    return cond(condition, lambda: squeeze(x, [-1]), lambda: x)


def fitted(predictions: Any, labels: Any, weights: Any) -> tuple[Tensor, Any, Any]:
    """Predictions, labels (or None) and weights (or None) of ranks that go together."""
    p = convert_to_tensor(predictions)
    y = None
    if labels is not None:
        y, p = one_rank_less(labels, p)
        p.shape.assert_is_compatible_with(y.shape)
    if weights is None:
        return p, y, None
    w = convert_to_tensor(weights)
    if w.dims == ():
        return p, y, w
    own, other = w.dims, p.dims
    if own is not None and other is not None:
        if len(own) == len(other) + 1:
            w = squeeze(w, [-1])
        elif len(own) == len(other) - 1:
            w = expand_dims(w, [-1])
        return p, y, w
    return p, y, _fitted_later(p, w)


def _fitted_later(p: Tensor, w: Tensor) -> Tensor:
    """Weights of the rank of the predictions, one of which is only known in the run."""
    more = rank(w) - rank(p)

    def less() -> Tensor:
        return cond(apply_op("Equal", x=more, y=-1), lambda: expand_dims(w, [-1]), lambda: w)

    if w.dims is not None and w.dims[-1] not in (1, None):
        return less()
    full = lambda: cond(apply_op("Equal", x=more, y=1), lambda: squeeze(w, [-1]), less)  # noqa: E731
    return cond(apply_op("Equal", x=rank(w), y=0), lambda: w, full)


def broadcast_weights(weights: Any, values: Any) -> Tensor:
    """Weights as large as the values; ValueError unless each dimension is theirs or 1."""
    with name_scope(None, "broadcast_weights", [weights, values]):
        w, v = convert_to_tensor(weights, name="weights"), convert_to_tensor(values, name="values")
        if w.dims is not None and v.dims is not None:
            _check_weights(w, v)
            if w.shape.is_fully_defined() and w.dims == v.dims:
                return w
        return multiply(w, ones_like(v), name=None)


def _check_weights(w: Tensor, v: Tensor) -> None:
    assert w.dims is not None and v.dims is not None
    if not w.dims:
        return
    shapes = f"values.shape={v.shape}. weights.shape={w.shape}."
    if len(w.dims) != len(v.dims):
        raise ValueError(
            f"weights can not be broadcast to values. values.rank={len(v.dims)}. weights.rank={len(w.dims)}. {shapes}"
        )
    for k, (own, other) in enumerate(zip(w.dims, v.dims)):
        if own not in (1, None) and other not in (own, None):
            raise ValueError(f"weights can not be broadcast to values. Mismatch at dim {k}. {shapes}")


def floats(x: Any) -> Tensor:
    """`x` as float32."""
    return cast(x, dtypes.float32)


def of_pairs(
    measure: Callable[[Tensor, Tensor], Tensor], labels: Any, predictions: Any, weights: Any
) -> tuple[Tensor, Any]:
    """A measure of each pair of a label and a prediction, and the weights that fit."""
    p, y, w = fitted(predictions, labels, weights)
    return measure(y, p), w
