"""Tensors with elements or slices changed at index tuples, by the smaller or the larger; with gradients."""

from __future__ import annotations

from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.registry import RegisterGradient
from stepjit.framework.tensor import Operation, Tensor


def tensor_scatter_min(
    tensor: Any, indices: Any, updates: Any, bad_indices_policy: str = "", name: str | None = None
) -> Tensor:
    """`tensor` with the smaller of itself and `updates` at the index tuples `indices`."""
    return apply_op("TensorScatterMin", tensor=tensor, indices=indices, updates=updates, name=name)


def tensor_scatter_max(
    tensor: Any, indices: Any, updates: Any, bad_indices_policy: str = "", name: str | None = None
) -> Tensor:
    """`tensor` with the larger of itself and `updates` at the index tuples `indices`."""
    return apply_op("TensorScatterMax", tensor=tensor, indices=indices, updates=updates, name=name)


@RegisterGradient("TensorScatterMin")
@RegisterGradient("TensorScatterMax")
def _chosen(op: Operation, grad: Tensor) -> list[Tensor | None]:
    """What was chosen gets the gradient, in equal parts where several are equal."""
    tensor, indices, updates = op.inputs
    dtype, found = grad.dtype.base_dtype, op.outputs[0]
    kept = apply_op("Cast", x=apply_op("Equal", x=tensor, y=found), DstT=dtype)
    there = apply_op("GatherNd", params=found, indices=indices)
    taken = apply_op("Cast", x=apply_op("Equal", x=updates, y=there), DstT=dtype)
    shape = apply_op("Shape", input=tensor, out_type=indices.dtype.base_dtype)
    count = apply_op("AddV2", x=kept, y=apply_op("ScatterNd", indices=indices, updates=taken, shape=shape))
    part = apply_op("RealDiv", x=grad, y=count)
    rows = apply_op("GatherNd", params=part, indices=indices)
    return [apply_op("Mul", x=part, y=kept), None, apply_op("Mul", x=rows, y=taken)]
