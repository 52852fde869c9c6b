"""Comparison, logic and selection, in TF1's signatures, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.registry import NotDifferentiable, RegisterGradient
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.broadcasting import unbroadcast


def equal(x: Any, y: Any, name: str | None = None) -> Tensor:
    """Whether x == y elementwise, broadcasting."""
    return apply_op("Equal", x=x, y=y, name=name)


def not_equal(x: Any, y: Any, name: str | None = None) -> Tensor:
    """Whether x != y elementwise, broadcasting."""
    return apply_op("NotEqual", x=x, y=y, name=name)


def less(x: Any, y: Any, name: str | None = None) -> Tensor:
    """Whether x < y elementwise, broadcasting."""
    return apply_op("Less", x=x, y=y, name=name)


def less_equal(x: Any, y: Any, name: str | None = None) -> Tensor:
    """Whether x <= y elementwise, broadcasting."""
    return apply_op("LessEqual", x=x, y=y, name=name)


def greater(x: Any, y: Any, name: str | None = None) -> Tensor:
    """Whether x > y elementwise, broadcasting."""
    return apply_op("Greater", x=x, y=y, name=name)


def greater_equal(x: Any, y: Any, name: str | None = None) -> Tensor:
    """Whether x >= y elementwise, broadcasting."""
    return apply_op("GreaterEqual", x=x, y=y, name=name)


def approximate_equal(x: Any, y: Any, tolerance: float = 1e-5, name: str | None = None) -> Tensor:
    """Whether |x - y| < tolerance elementwise; both of one shape."""
    return apply_op("ApproximateEqual", x=x, y=y, tolerance=tolerance, name=name)


def logical_and(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x and y elementwise, broadcasting."""
    return apply_op("LogicalAnd", x=x, y=y, name=name)


def logical_or(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x or y elementwise, broadcasting."""
    return apply_op("LogicalOr", x=x, y=y, name=name)


def logical_not(x: Any, name: str | None = None) -> Tensor:
    """not x elementwise."""
    return apply_op("LogicalNot", x=x, name=name)


def logical_xor(x: Any, y: Any, name: str | None = "LogicalXor") -> Tensor:
    """Whether exactly one of x and y holds, elementwise, broadcasting."""
    both = apply_op("LogicalNot", x=apply_op("LogicalAnd", x=x, y=y))
    return apply_op("LogicalAnd", x=apply_op("LogicalOr", x=x, y=y), y=both, name=name)


for _kind in (
    "Equal", "NotEqual", "Less", "LessEqual", "Greater", "GreaterEqual", "ApproximateEqual", "LogicalAnd", "LogicalOr",
    "LogicalNot",
):  # fmt: skip
    NotDifferentiable(_kind)


def where(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Tensor:
    """Elements of x where `condition` holds, else of y; without x and y the indices that hold, int64[n, rank].

    x and y have one shape; `condition` has it too, or is a vector that selects rows, or a scalar. ValueError when
    only one of x and y is given.
    """
    if (x is None) != (y is None):
        raise ValueError("x and y must both be non-None or both be None.")
    if x is None:
        return apply_op("Where", input=condition, name=name)
    return apply_op("Select", condition=condition, t=x, e=y, name=name)


def where_v2(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Tensor:
    """As `where`, with all three broadcast together."""
    if (x is None) != (y is None):
        raise ValueError("x and y must both be non-None or both be None.")
    if x is None:
        return apply_op("Where", input=convert_to_tensor(condition, dtype="bool"), name=name)
    return apply_op("SelectV2", condition=condition, t=x, e=y, name=name)


NotDifferentiable("Where")


@RegisterGradient("Select")
def _select_grad(op: Operation, grad: Tensor) -> Sequence[Any]:
    condition, x = op.inputs[0], op.inputs[1]
    zeros = apply_op("ZerosLike", x=x, name="zeros_like")
    return [
        None,
        apply_op("Select", condition=condition, t=grad, e=zeros),
        apply_op("Select", condition=condition, t=zeros, e=grad),
    ]


@RegisterGradient("SelectV2")
def _select_v2_grad(op: Operation, grad: Tensor) -> Sequence[Any]:
    condition, x, y = op.inputs
    zero = constant(0, dtype=grad.dtype.base_dtype, name="zeros")
    result = op.outputs[0]
    dx = apply_op("SelectV2", condition=condition, t=grad, e=zero)
    dy = apply_op("SelectV2", condition=condition, t=zero, e=grad)
    # The condition may stretch both, so each is reduced against the result.
    return [None, unbroadcast(x, result, dx, None)[0], unbroadcast(y, result, dy, None)[0]]
