"""Second derivatives."""

from __future__ import annotations

import math
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.gradients import gradients
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Tensor


def hessians(
    ys: Any,
    xs: Any,
    name: str = "hessians",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: int | None = None,
) -> list[Tensor]:
    """The second derivatives of sum(ys) by each x: a tensor of shape x.shape + x.shape each; 0 where there are none."""
    options = (colocate_gradients_with_ops, gate_gradients, aggregation_method)
    sources = list(xs) if isinstance(xs, (list, tuple)) else [xs]
    result = []
    with name_scope(name, "hessians"):
        for x in sources:
            (first,) = gradients(ys, x, None, "gradients", *options)
            result.append(_derivatives(convert_to_tensor(first), x, options))
    return result


def _derivatives(slopes: Tensor, x: Any, options: Any) -> Tensor:
    """Those of every element of `slopes` by x, both of the same shape."""
    flat = apply_op("Reshape", tensor=slopes, shape=[-1])

    def row(k: Any, following: Any) -> Tensor:
        element = apply_op("StridedSlice", input=flat, begin=[k], end=[following], strides=[1], shrink_axis_mask=1)
        (found,) = gradients(element, x, None, "gradients", *options)
        return convert_to_tensor(x) * 0 if found is None else convert_to_tensor(found)

    if x.shape.is_fully_defined():
        dims = x.shape.as_list()
        table = apply_op("Pack", values=[row(k, k + 1) for k in range(math.prod(dims))], axis=0)
        return apply_op("Reshape", tensor=table, shape=[*dims, *dims])
    shape = apply_op("Shape", input=convert_to_tensor(x))
    twice = apply_op("ConcatV2", values=[shape, shape], axis=0)
    return apply_op("Reshape", tensor=_rows(row, apply_op("Size", input=flat), slopes), shape=twice)


def _rows(row: Any, count: Tensor, like: Tensor) -> Tensor:
    """`row` of every number below `count`, stacked."""
    from stepjit.ops.tensor_array import TensorArray
    from stepjit.ops.while_loop import while_loop

    def step(k: Tensor, rows: Any) -> Any:
        return k + 1, rows.write(k, row(k, k + 1))

    rows = TensorArray(like.dtype.base_dtype, count)
    return while_loop(lambda k, _: k < count, step, [0, rows])[1].stack()
