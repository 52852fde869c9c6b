"""Which variables a graph has, and the ops that initialise them or tell which still need it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant
from stepjit.framework.graph import get_default_graph
from stepjit.framework.graph_keys import GraphKeys
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops import state
from stepjit.variables import Variable


def _collection(key: str, scope: str | None) -> list[Variable]:
    return get_default_graph().get_collection(key, scope)


def global_variables(scope: str | None = None) -> list[Variable]:
    """The variables that belong to the model."""
    return _collection(GraphKeys.GLOBAL_VARIABLES, scope)


all_variables = global_variables


def local_variables(scope: str | None = None) -> list[Variable]:
    """The variables that belong to one process, such as counters."""
    return _collection(GraphKeys.LOCAL_VARIABLES, scope)


def model_variables(scope: str | None = None) -> list[Variable]:
    """The variables in the MODEL_VARIABLES collection."""
    return _collection(GraphKeys.MODEL_VARIABLES, scope)


def trainable_variables(scope: str | None = None) -> list[Variable]:
    """The variables that optimisers change by default."""
    return _collection(GraphKeys.TRAINABLE_VARIABLES, scope)


def moving_average_variables(scope: str | None = None) -> list[Variable]:
    """The variables of which moving averages are kept."""
    return _collection(GraphKeys.MOVING_AVERAGE_VARIABLES, scope)


def no_op_after(ops: Sequence[Any], name: str) -> Operation:
    """An op that does nothing, once all of `ops` have run."""
    with get_default_graph().control_dependencies(ops):
        return apply_op("NoOp", name=name)


def variables_initializer(var_list: Sequence[Variable], name: str = "init") -> Operation:
    """The op that initialises all of `var_list`."""
    return no_op_after([variable.initializer for variable in var_list], name)


initialize_variables = variables_initializer


def global_variables_initializer() -> Operation:
    """The op that initialises all global variables."""
    return variables_initializer(global_variables())


def initialize_all_variables() -> Operation:
    """See `global_variables_initializer`."""
    return global_variables_initializer()


def local_variables_initializer() -> Operation:
    """The op that initialises all local variables."""
    return variables_initializer(local_variables())


def initialize_local_variables() -> Operation:
    """See `local_variables_initializer`."""
    return local_variables_initializer()


def assert_variables_initialized(var_list: Sequence[Variable] | None = None) -> Tensor | None:
    """A tensor that can't be computed while one of `var_list` (all global and local ones) has no value."""
    chosen = global_variables() + local_variables() if var_list is None else list(var_list)
    if not chosen:
        return None
    ranks = [apply_op("Rank", input=variable) for variable in chosen]
    return ranks[0] if len(ranks) == 1 else apply_op("Pack", values=ranks)


def is_variable_initialized(variable: Any) -> Tensor:
    """Whether the variable has a value, as a bool tensor."""
    return state.is_variable_initialized(variable)


def report_uninitialized_variables(
    var_list: Sequence[Variable] | None = None, name: str = "report_uninitialized_variables"
) -> Tensor:
    """The names (bytes) of those of `var_list` (all global and local ones) that have no value."""
    from stepjit.ops.indexing import boolean_mask

    chosen = global_variables() + local_variables() if var_list is None else list(var_list)
    with name_scope(name):
        if not chosen:
            return constant([], dtype="string")
        flags = apply_op("Pack", values=[state.is_variable_initialized(v) for v in chosen], name="stack")
        missing = apply_op("LogicalNot", x=flags)
        return boolean_mask(constant([v.op.name for v in chosen]), missing)
