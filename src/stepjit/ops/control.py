"""Ops that pass values on or stand for them (placeholders, identities, groups) and assertions, with gradients."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.indexed_slices import IndexedSlices
from stepjit.framework.registry import NotDifferentiable, RegisterGradient
from stepjit.framework.scopes import control_dependencies, name_scope
from stepjit.framework.sparse_tensor import SparseTensor
from stepjit.framework.stack import default_graphs, get_default_graph
from stepjit.framework.tensor import Operation, Tensor

# --- no_op and groups ---


def no_op(name: str | None = None) -> Operation:
    """An op that does nothing; useful for its control inputs."""
    return apply_op("NoOp", name=name)


def group(*inputs: Any, name: str | None = None) -> Operation:
    """An op that is done when all `inputs` (ops, tensors, variables, nested lists of them) are.

    TypeError for anything else.
    """
    ops = [_op_of(each) for each in _flatten(inputs)]
    if not ops:
        return apply_op("NoOp", name=name or "group_deps")
    graph = get_default_graph()
    if not graph.is_function:
        graph = ops[0].graph.root
    with default_graphs.enter(graph), graph.control_dependencies(ops):
        return apply_op("NoOp", name=name or "group_deps")


def _flatten(inputs: Any) -> Iterator[Any]:
    for each in inputs:
        if isinstance(each, (list, builtins.tuple)):
            yield from _flatten(each)
        elif isinstance(each, dict):
            yield from _flatten(each[key] for key in sorted(each))
        elif isinstance(each, SparseTensor):
            yield from (each.indices, each.values, each.dense_shape)
        else:
            yield each


def _op_of(value: Any) -> Operation:
    if isinstance(value, IndexedSlices):
        value = value.values
    if not isinstance(value, (Tensor, Operation)) and hasattr(value, "_as_graph_element"):
        value = value._as_graph_element()
    if isinstance(value, Tensor):
        return value.op
    if isinstance(value, Operation):
        return value
    raise TypeError(
        f"'inputs' should be zero or more (nested) Tensors. Received '{value}' with type '{type(value)}'."
    )


def with_dependencies(dependencies: Sequence[Any], output_tensor: Any, name: str | None = None) -> Any:
    """`output_tensor`, after all `dependencies` ran."""
    values = [*dependencies, output_tensor]
    with name_scope(name, "control_dependency", values) as scope, control_dependencies(dependencies):
        if isinstance(output_tensor, IndexedSlices):
            return _identity_slices(output_tensor, scope)
        return identity(output_tensor, name=scope)


def tuple(tensors: Sequence[Any], name: str | None = None, control_inputs: Sequence[Any] | None = None) -> list[Any]:
    """The same tensors (None stays None), each available only when all of them and `control_inputs` are.

    ValueError when there is no tensor among them, TypeError for control inputs that are none.
    """
    with name_scope(name, "tuple", [each for each in tensors if each is not None]):
        gates = [_op_of(each) for each in tensors if each is not None]
        if not gates:
            raise ValueError(f"'tensors' must have at least one Tensor. Received: {tensors}.")
        for each in control_inputs or ():
            gates.append(_op_of(each))
        gate = group(*gates)
        return [None if each is None else with_dependencies([gate], each) for each in tensors]


# --- identities ---


def identity(input: Any, name: str | None = None) -> Any:
    """A new tensor with the same value."""
    if isinstance(input, IndexedSlices):
        with name_scope(name, "Identity", [input.values]) as scope:
            return _identity_slices(input, scope)
    if isinstance(input, SparseTensor):
        parts = (input.indices, input.values, input.dense_shape)
        result = SparseTensor(*[apply_op("Identity", input=part, name=name) for part in parts])
        result.set_shape(input.shape)
        return result
    return apply_op("Identity", input=input, name=name)


def _identity_slices(slices: IndexedSlices, scope: str) -> IndexedSlices:
    shape = slices.dense_shape
    return IndexedSlices(
        identity(slices.values, name=scope), identity(slices.indices), None if shape is None else identity(shape)
    )


@RegisterGradient("Identity")
@RegisterGradient("Snapshot")
@RegisterGradient("PlaceholderWithDefault")
def _identity_grad(op: Operation, grad: Tensor) -> Tensor:
    return grad


def guarantee_const(input: Any, name: str | None = None) -> Tensor:
    """The same value, with the promise that it never changes."""
    return apply_op("GuaranteeConst", input=input, name=name)


def identity_n(input: Any, name: str | None = None) -> list[Tensor]:
    """New tensors with the same values, in one op."""
    return apply_op("IdentityN", input=input, name=name)


@RegisterGradient("IdentityN")
def _identity_n_grad(op: Operation, *grads: Any) -> Sequence[Any]:
    return grads


def stop_gradient(input: Any, name: str | None = None) -> Tensor:
    """The same value, taken as a constant by gradients."""
    return apply_op("StopGradient", input=input, name=name)


NotDifferentiable("StopGradient")


def prevent_gradient(input: Any, message: str = "", name: str | None = None) -> Tensor:
    """The same value; asking for a gradient through it is a LookupError with `message`."""
    return apply_op("PreventGradient", input=input, message=message, name=name)


@RegisterGradient("PreventGradient")
def _prevent_gradient_grad(op: Operation, grad: Tensor) -> Tensor:
    raise LookupError(f"Gradient explicitly disabled. Reason: {op.attrs['message'].decode()}")


# --- placeholders ---


def placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> Tensor:
    """A tensor whose value must be fed; a step that needs it unfed fails with InvalidArgumentError."""
    return apply_op("Placeholder", dtype=dtype, shape=shape, name=name)


def placeholder_with_default(input: Any, shape: Any, name: str | None = None) -> Tensor:
    """A tensor whose value is `input` unless it is fed; ValueError when `input` does not have `shape`."""
    return apply_op("PlaceholderWithDefault", input=input, shape=shape, name=name)


# --- checks ---


def check_numerics(tensor: Any, message: str, name: str | None = None) -> Tensor:
    """The same value; the step fails with InvalidArgumentError and `message` when it holds a NaN or infinity."""
    return apply_op("CheckNumerics", tensor=tensor, message=message, name=name)


@RegisterGradient("CheckNumerics")
def _check_numerics_grad(op: Operation, grad: Tensor) -> Tensor:
    message = op.attrs["message"].decode()
    return check_numerics(grad, f"A gradient holds NaN or Inf values; it is that of a tensor checked with: {message}")


def Assert(condition: Any, data: Sequence[Any], summarize: int | None = None, name: str | None = None) -> Operation:  # noqa: N802 - the public name
    """An op that fails with InvalidArgumentError, printing `data`, unless `condition` holds.

    summarize: how many elements of each tensor are printed, 3 by default and -1 for all.
    """
    if not isinstance(data, Sequence) or isinstance(data, (str, bytes)):
        raise TypeError("values must be a sequence.")
    with name_scope(name, "Assert", [condition, *data]):
        return apply_op("Assert", condition=condition, data=data, summarize=summarize, name="Assert")


NotDifferentiable("Assert")
NotDifferentiable("Const")
NotDifferentiable("Placeholder")

