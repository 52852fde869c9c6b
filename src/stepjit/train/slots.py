"""Slots: variables that an optimiser keeps for each variable that it trains."""

from __future__ import annotations

from typing import Any

from stepjit.framework.stack import get_default_graph
from stepjit.initializers import Zeros
from stepjit.ops.state import is_resource
from stepjit.variable_scope import get_variable, get_variable_scope, variable_scope


def create_slot(primary: Any, value: Any, name: str, shape: Any = None, dtype: Any = None) -> Any:
    """A variable named after `primary`, as `v/Momentum`, that starts as `value` (a tensor, or an initialiser)."""
    validate = shape is None or shape.is_fully_defined()
    with variable_scope(None, f"{primary.op.name}/{name}"), get_default_graph().colocate_with(primary.op):
        scope = get_variable_scope()
        partitioner, regularizer = scope.partitioner, scope.regularizer
        # A slot has the form of its variable, and no loss of its own.
        scope.set_partitioner(None)
        scope.set_regularizer(None)
        try:
            return get_variable(
                "", initializer=value, trainable=False, use_resource=is_resource(primary), shape=shape, dtype=dtype,
                validate_shape=validate,
            )  # fmt: skip
        finally:
            scope.set_partitioner(partitioner)
            scope.set_regularizer(regularizer)


def create_slot_with_initializer(primary: Any, initializer: Any, shape: Any, dtype: Any, name: str) -> Any:
    """A slot of a given shape and dtype, started by an initialiser."""
    return create_slot(primary, initializer, name, shape, dtype)


def create_zeros_slot(primary: Any, name: str, dtype: Any = None) -> Any:
    """A slot of zeros, of the variable's shape."""
    number = (dtype or primary.dtype).base_dtype
    if primary.shape.is_fully_defined():
        return create_slot(primary, Zeros(), name, primary.shape, number)
    from stepjit.ops.array import shape
    from stepjit.ops.creation import zeros

    start = primary.initialized_value()
    return create_slot(primary, zeros(shape(start), number), name)
