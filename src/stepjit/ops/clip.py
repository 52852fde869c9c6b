"""Clipping values and gradients, in TF1's signatures, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.indexed_slices import IndexedSlices
from stepjit.framework.registry import RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.broadcasting import unbroadcast
from stepjit.ops.creation import ones_like
from stepjit.ops.reductions import reduce_sum


def _values(t: Any) -> Tensor:
    return t.values if isinstance(t, IndexedSlices) else convert_to_tensor(t, name="t")


def _like(t: Any, values: Tensor) -> Any:
    return IndexedSlices(values, t.indices, t.dense_shape) if isinstance(t, IndexedSlices) else values


def clip_by_value(t: Any, clip_value_min: Any, clip_value_max: Any, name: str | None = None) -> Any:
    """t with elements below the minimum or above the maximum replaced by those; ValueError if they widen t's shape."""
    with name_scope(name, "clip_by_value", [t, clip_value_min, clip_value_max]) as scope:
        values = _values(t)
        low = apply_op("Minimum", x=values, y=clip_value_max)
        values.shape.assert_is_compatible_with(low.shape)
        result = apply_op("Maximum", x=low, y=clip_value_min, name=scope)
        values.shape.assert_is_compatible_with(result.shape)
        return _like(t, result)


@RegisterGradient("ClipByValue")
def _clip_by_value_grad(op: Operation, grad: Tensor) -> Sequence[Any]:
    x, low, high = op.inputs
    zero = constant(0, dtype=grad.dtype.base_dtype, name="zeros")
    below, above = apply_op("Less", x=x, y=low), apply_op("Greater", x=x, y=high)
    inside = apply_op("LogicalNot", x=apply_op("LogicalOr", x=below, y=above))
    dx, dlow, dhigh = (apply_op("SelectV2", condition=each, t=grad, e=zero) for each in (inside, below, above))
    return [dx, unbroadcast(low, x, dlow, None)[0], unbroadcast(high, x, dhigh, None)[0]]


def clip_by_norm(t: Any, clip_norm: Any, axes: Any = None, name: str | None = None) -> Any:
    """t scaled down so that its L2 norm (over `axes`; all by default) is at most `clip_norm`."""
    with name_scope(name, "clip_by_norm", [t, clip_norm]) as scope:
        values = _values(t)
        squares = reduce_sum(apply_op("Mul", x=values, y=values, name="mul"), axes, keepdims=True)
        # √0 has no finite slope, so a zero norm takes another way.
        positive = apply_op("Greater", x=squares, y=0)
        safe = apply_op("Select", condition=positive, t=squares, e=ones_like(squares))
        norm = apply_op("Select", condition=positive, t=apply_op("Sqrt", x=safe), e=squares)
        limit = apply_op("Maximum", x=convert_to_tensor(clip_norm, dtype=values.dtype.base_dtype), y=0)
        scaled = apply_op("Mul", x=values, y=limit, name="mul")
        values.shape.assert_is_compatible_with(scaled.shape)
        divisor = apply_op("Maximum", x=norm, y=limit)
        clipped = apply_op("RealDiv", x=scaled, y=divisor, name="truediv")
        return _like(t, apply_op("Identity", input=clipped, name=scope))


def global_norm(t_list: Any, name: str | None = None) -> Tensor:
    """The L2 norm of all the tensors together; None entries are left out; TypeError unless `t_list` is a sequence."""
    if not isinstance(t_list, Sequence) or isinstance(t_list, str):
        raise TypeError(f"`t_list` should be a sequence of tensors. Received {type(t_list)}.")
    with name_scope(name, "global_norm", list(t_list)):
        tensors = [_values(t) for t in t_list if t is not None]
        if not tensors:
            return apply_op("Identity", input=constant(0.0), name="global_norm")
        halves = [apply_op("L2Loss", t=each) for each in tensors]
        total = reduce_sum(apply_op("Pack", values=halves, axis=0, name="stack"))
        doubled = apply_op("Mul", x=total, y=constant(2, dtype=halves[0].dtype), name="mul")
        return apply_op("Sqrt", x=doubled, name="global_norm")


def clip_by_global_norm(
    t_list: Any, clip_norm: Any, use_norm: Any = None, name: str | None = None
) -> tuple[list[Any], Tensor]:
    """All tensors scaled by one factor so that their joint norm is at most `clip_norm`; and that norm before.

    A norm that is not finite makes every element NaN.
    """
    if not isinstance(t_list, Sequence) or isinstance(t_list, str):
        raise TypeError(f"`t_list` should be a sequence of tensors. Received {type(t_list)}.")
    norm = global_norm(t_list, name) if use_norm is None else use_norm
    with name_scope(name, "clip_by_global_norm", [*t_list, clip_norm]):
        norm = convert_to_tensor(norm)
        number = norm.dtype.base_dtype
        inverse = apply_op("RealDiv", x=constant(1, dtype=number, name="truediv/x"), y=norm, name="truediv")
        limit = convert_to_tensor(clip_norm, dtype=number)
        other = apply_op("RealDiv", x=constant(1, dtype=number), y=limit, name="truediv")
        scale = apply_op("Mul", x=limit, y=apply_op("Minimum", x=inverse, y=other), name="mul")
        # inf - inf is NaN: a norm that isn't finite must show in the result.
        spoilt = apply_op("AddV2", x=scale, y=apply_op("Sub", x=norm, y=norm, name="sub"), name="add")
        clipped = [None if t is None else _scaled(t, spoilt, i) for i, t in enumerate(t_list)]
    return clipped, norm


def _scaled(t: Any, scale: Tensor, number: int) -> Any:
    values = _values(t)
    if values.dtype.base_dtype is not scale.dtype.base_dtype:
        scale = apply_op("Cast", x=scale, DstT=values.dtype.base_dtype)
    product = apply_op("Mul", x=values, y=scale, name="mul")
    return _like(t, apply_op("Identity", input=product, name=f"clip_by_global_norm/_{number}"))


def clip_by_average_norm(t: Any, clip_norm: Any, name: str | None = None) -> Tensor:
    """t scaled down so that its L2 norm per element is at most `clip_norm`."""
    with name_scope(name, "clip_by_average_norm", [t, clip_norm]) as scope:
        values = convert_to_tensor(t, name="t")
        count = apply_op("Cast", x=apply_op("Size", input=values), DstT=values.dtype.base_dtype)
        squares = reduce_sum(apply_op("Mul", x=values, y=values, name="mul"))
        inverse = apply_op("Mul", x=count, y=apply_op("Rsqrt", x=squares), name="mul")
        limit = convert_to_tensor(clip_norm, dtype=values.dtype.base_dtype)
        other = apply_op("RealDiv", x=constant(1, dtype=limit.dtype.base_dtype), y=limit, name="truediv")
        smaller = apply_op("Minimum", x=inverse, y=other)
        scaled = apply_op("Mul", x=values, y=limit, name="mul")
        return apply_op("Identity", input=apply_op("Mul", x=scaled, y=smaller, name="mul"), name=scope)
