"""Gradients of branches: a conditional of the branches' gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.backward import HEAVY, Backward, all_pure, is_pure, own_op, recompute
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.func_graph import FuncGraph
from stepjit.framework.gradients import gradients_between
from stepjit.framework.graph import Graph, get_default_graph
from stepjit.framework.registry import RegisterRegionGradient
from stepjit.framework.stack import default_graphs
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.cond import merge


class _BranchBackward(Backward):
    """The gradient of one branch; what it can't compute again, the forward op gives from that branch."""

    def __init__(self, outer_graph: Graph, label: str, holder: Operation, attr: str) -> None:
        super().__init__(outer_graph, label, "cond branch", holder, holder.attrs[attr])
        self._attr = attr
        self._numbers = {parameter: number for number, parameter in enumerate(self.forward.inputs)}

    def _given(self, tensor: Tensor) -> Tensor | None:
        number = self._numbers.get(tensor)
        if number is not None:
            return self.capture(self.holder.inputs[number + 1])
        if is_pure(tensor.op) and tensor.op.type not in HEAVY:
            return None
        return self.capture(hand_out(self.holder, self._attr, tensor))


def hand_out(holder: Operation, attr: str, tensor: Tensor) -> Tensor:
    """A further output of an `If` op: `tensor` of one branch, or zeros when the step takes the other."""
    known: dict[Tensor, Tensor] = holder.__dict__.setdefault("handed_out", {})
    if tensor in known:
        return known[tensor]
    other = "else_branch" if attr == "then_branch" else "then_branch"
    mine, theirs = holder.attrs[attr], holder.attrs[other]
    filler = _filler(tensor, mine, theirs)
    with holder.graph.lock:
        holder.attrs[attr] = mine.with_outputs([*mine.outputs, tensor])
        holder.attrs[other] = theirs.with_outputs([*theirs.outputs, filler])
        holder.attrs["Tout"] = (*holder.attrs["Tout"], tensor.dtype.base_dtype)
        known[tensor] = result = Tensor(holder, len(holder.outputs), tensor.dtype.base_dtype, tensor.dims)
        holder.outputs.append(result)
    return result


def _filler(tensor: Tensor, mine: FuncGraph, theirs: FuncGraph) -> Tensor:
    """Zeros in a branch, of the shape that `tensor` has in the other one, as far as that can be told beforehand."""
    graph = theirs.home
    with default_graphs.enter(graph), graph.name_scope(graph.label + "/"), graph.control_dependencies(None):
        zero = constant(np_zero(tensor), dtype=tensor.dtype.base_dtype)
        dims = tensor.dims or ()
        places = dict(zip(mine.inputs, theirs.inputs))
        shape_input = tensor.op.inputs[0] if tensor.op.op_def.inputs and _names_shape(tensor.op) else None
        if tensor.dims is not None and None not in dims:
            shape: Any = constant(list(dims), dtype="int32", shape=[len(dims)])
        elif shape_input is not None:
            (shape,) = recompute(graph, [shape_input], {}, places.get)
        elif all_pure(tensor):
            # Of the copy only the shape is wanted, so that nothing of it is computed.
            shape = apply_op("Shape", input=recompute(graph, [tensor], {}, places.get)[0])
        else:
            shape = constant([extent or 0 for extent in dims], dtype="int32", shape=[len(dims)])
        return apply_op("Fill", dims=shape, value=zero)


def np_zero(tensor: Tensor) -> Any:
    """The value that stands for nothing in a tensor of this dtype."""
    kind = tensor.dtype.base_dtype.kind
    return b"" if kind == "s" else False if kind == "b" else 0


def _names_shape(op: Operation) -> bool:
    """Whether the op's first input is the shape of its output, as that of a random op."""
    return op.op_def.inputs[0].name == "shape" and all_pure(op.inputs[0])


@RegisterRegionGradient("If", "StatelessIf")
def _if_gradient(op: Operation, grads: Sequence[Any], needed: Sequence[bool]) -> list[Any]:
    holder = own_op(op)
    graph = get_default_graph()
    label = graph.local.scope
    branches, found = [], []
    for attr in ("then_branch", "else_branch"):
        region = _BranchBackward(graph, label, holder, attr)
        with default_graphs.enter(region):
            found.append(_branch_gradients(region, grads, needed[1:]))
        branches.append(region)
    results: list[Any] = [None] * len(op.inputs)
    used = [k for k, pair in enumerate(zip(*found)) if any(each is not None for each in pair)]
    if not used:
        return results
    for region, mine, theirs in zip(branches, found, reversed(found)):
        with default_graphs.enter(region):
            dense = [_dense(mine[k], theirs[k], region.forward.inputs[k]) for k in used]
            region.outputs = [region.capture(each) for each in dense]
    merged = merge(graph.capture(holder.inputs[0]), branches[0], branches[1], label)
    for k, grad in zip(used, merged):
        results[k + 1] = grad
    return results


def _branch_gradients(region: Backward, grads: Sequence[Any], needed: Sequence[bool]) -> list[Any]:
    """The gradients of a branch's parameters; None where nothing flows."""
    forward = region.forward
    pairs = [(y, region.capture(convert_to_tensor(g))) for y, g in zip(forward.outputs, grads) if g is not None]
    wanted = [x for x, is_needed in zip(forward.inputs, needed) if is_needed]
    found = dict(zip(wanted, gradients_between([y for y, _ in pairs], wanted, [g for _, g in pairs])))
    return [found.get(x) for x in forward.inputs]


def _dense(grad: Any, other: Any, parameter: Tensor) -> Tensor:
    if grad is not None:
        return convert_to_tensor(grad)
    if parameter.dtype.base_dtype.kind != "o":
        return apply_op("ZerosLike", x=parameter)
    shape = apply_op("VariableShape", input=parameter)
    return apply_op("Fill", dims=shape, value=constant(0, dtype=other.dtype.base_dtype))
