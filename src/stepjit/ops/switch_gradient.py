"""Gradients of conditionals of imported graphs, which consist of Switch and Merge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.registry import RegisterGradient
from stepjit.framework.tensor import Operation, Tensor

_SWITCHES, _MERGES = ("Switch", "RefSwitch"), ("Merge", "RefMerge")


@RegisterGradient("Switch")
@RegisterGradient("RefSwitch")
def _switch_grad(op: Operation, *grads: Any) -> Sequence[Any]:
    """The gradient of the side that was taken; that of the other is as dead as the other side is."""
    return [apply_op("Merge", inputs=list(grads), name="cond_grad")[0], None]


@RegisterGradient("Merge")
@RegisterGradient("RefMerge")
def _merge_grad(op: Operation, grad: Tensor, _: Any) -> Sequence[Any]:
    found = [_side(each) for each in op.inputs]
    if None in found:
        raise LookupError(f"No gradient defined for operation '{op.name}' (op type: {op.type}), which is not of a cond")
    return [
        apply_op("Switch", data=grad, pred=side[0], name="cond_grad")[side[1]] for side in found if side is not None
    ]


def _side(tensor: Tensor) -> tuple[Tensor, int] | None:
    """By which predicate, and for which of its values, a tensor lives: the innermost switch that it depends on."""
    pending: list[tuple[Tensor, int]] = [(tensor, 0)]
    seen: set[tuple[Tensor, int]] = set()
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        (each, depth), op = current, current[0].op
        if op.type == "NextIteration":
            return None
        if op.type in _SWITCHES:
            if depth == 0:
                return op.inputs[1], each.value_index
            depth -= 1
        elif op.type in _MERGES:
            # A conditional that has ended inside this one.
            depth += 1
        pending += [(source, depth) for source in op.inputs]
        pending += [(source.outputs[0], depth) for source in op.control_inputs if source.outputs]
    return None
