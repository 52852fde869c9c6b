"""Gradients of broadcasting ops: summing a gradient over the dimensions along which its input was stretched."""

from __future__ import annotations

from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant
from stepjit.framework.shape import Dims
from stepjit.framework.tensor import Tensor


def static_shape(tensor: Tensor, name: str = "Shape") -> Tensor:
    """The shape of `tensor` as int32, a constant where it is static."""
    dims = tensor.dims
    if dims is None or None in dims:
        return apply_op("Shape", input=tensor, name=name)
    return constant(list(dims), dtype="int32", shape=[len(dims)], name=name)


def _stretched(x: Dims, y: Dims) -> tuple[list[int], list[int]] | None:
    """The axes of the result to sum over for x and for y; None when static shapes don't tell."""
    if x is None or y is None:
        return None
    rank = max(len(x), len(y))
    axes: tuple[list[int], list[int]] = ([], [])
    for axis in range(rank):
        # A missing leading dimension counts as 1.
        a = x[axis - rank + len(x)] if axis >= rank - len(x) else 1
        b = y[axis - rank + len(y)] if axis >= rank - len(y) else 1
        if a == b and a is not None:
            if axis < rank - len(x):
                axes[0].append(axis)
            if axis < rank - len(y):
                axes[1].append(axis)
        elif a == 1:
            axes[0].append(axis)
        elif b == 1:
            axes[1].append(axis)
        else:
            # Two extents of which one is unknown may be equal, or one of them 1.
            return None
    return axes


def unbroadcast(x: Tensor, y: Tensor, dx: Any, dy: Any) -> list[Any]:
    """`dx` and `dy`, of the broadcast shape of x and y, summed down to the shapes of x and y; either may be None."""
    if x is y or (x.dims == y.dims and x.dims is not None and None not in x.dims):
        return [dx, dy]
    axes = _stretched(x.dims, y.dims)
    if axes is None:
        shapes = static_shape(x), static_shape(y)
        both = apply_op("BroadcastGradientArgs", s0=shapes[0], s1=shapes[1])
        return [_summed(grad, over, shape) for grad, over, shape in zip((dx, dy), both, shapes)]
    result = []
    for tensor, grad, over in zip((x, y), (dx, dy), axes):
        if grad is not None and over:
            shape = static_shape(tensor)
            with_axes = constant(over, dtype="int32", name="Sum/reduction_indices")
            grad = _summed(grad, with_axes, shape)
        result.append(grad)
    return result


def _summed(grad: Any, axes: Tensor, shape: Tensor) -> Any:
    if grad is None:
        return None
    total = apply_op("Sum", input=grad, reduction_indices=axes, keep_dims=True, name="Sum")
    return apply_op("Reshape", tensor=total, shape=shape, name="Reshape")
