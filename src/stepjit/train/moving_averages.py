"""Running averages of variables and tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.func_graph import outermost
from stepjit.framework.graph_keys import GraphKeys
from stepjit.framework.scopes import name_scope
from stepjit.framework.stack import get_default_graph
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.control import group
from stepjit.ops.creation import zeros
from stepjit.train import slots
from stepjit.variable_collections import moving_average_variables, trainable_variables
from stepjit.variable_scope import get_variable, variable_scope
from stepjit.variables import Variable


def _op(kind: str, x: Any, y: Any, name: str | None = None) -> Tensor:
    return apply_op(kind, x=x, y=y, name=name)


def assign_moving_average(
    variable: Any, value: Any, decay: Any, zero_debias: bool = True, name: str | None = None
) -> Any:
    """variable -= (variable - value) * (1 - decay); with `zero_debias` corrected for starting at zero."""
    with name_scope(name, "AssignMovingAvg", [variable, value, decay]) as scope:
        rest = convert_to_tensor(1.0 - decay, name="decay") if not isinstance(decay, Tensor) else _op("Sub", 1.0, decay)
        number = variable.dtype.base_dtype
        if rest.dtype.base_dtype is not number:
            rest = apply_op("Cast", x=rest, DstT=number)
        step = (
            _debiased(variable, value, rest)
            if zero_debias
            else _op("Mul", _op("Sub", variable.value(), value, "sub"), rest, "mul")
        )
        return variable.assign_sub(step, name=scope)


def _debiased(variable: Any, value: Any, rest: Tensor) -> Tensor:
    """The step to the unbiased average: a biased one is kept beside, and divided by the weight it has by now."""
    with variable_scope(variable.op.name, values=[variable, value, rest]):
        number = variable.dtype.base_dtype
        biased = get_variable("biased", initializer=zeros(variable.shape, number), trainable=False)
        steps = get_variable("local_step", initializer=zeros([], number), trainable=False)
        moved = biased.assign_sub(_op("Mul", _op("Sub", biased.value(), value, "sub"), rest, "mul"))
        count = steps.assign_add(convert_to_tensor(1, dtype=number))
        kept = _op("Sub", 1, rest)
        weight = _op("Sub", 1, _op("Pow", kept, count))
        return _op("Sub", variable.value(), _op("RealDiv", moved, weight))


class ExponentialMovingAverage:
    """Shadow variables that follow others: shadow = decay * shadow + (1 - decay) * variable.

    num_updates: a step count that makes the decay smaller at first: min(decay, (1 + n) / (10 + n)).
    """

    def __init__(
        self, decay: Any, num_updates: Any = None, zero_debias: bool = False, name: str = "ExponentialMovingAverage"
    ) -> None:
        self._decay, self._num_updates, self._zero_debias, self._name = decay, num_updates, zero_debias, name
        self._averages: dict[Any, Any] = {}

    @property
    def name(self) -> str:
        return self._name

    def apply(self, var_list: Sequence[Any] | None = None) -> Operation:
        """The op that moves the averages of `var_list` (all trainable variables), which it makes at the first time.

        TypeError for what isn't floating.
        """
        chosen = trainable_variables() if var_list is None else list(var_list)
        graph = get_default_graph()
        for each in chosen:
            if not each.dtype.base_dtype.is_floating:
                raise TypeError(f"The variables must be half, float, or double: {each.name}")
            if each not in self._averages:
                self._averages[each] = self._shadow(each)
                if isinstance(each, Variable):
                    graph.add_to_collection(GraphKeys.MOVING_AVERAGE_VARIABLES, each)
        with name_scope(self._name) as scope:
            decay = convert_to_tensor(self._decay, name="decay")
            if self._num_updates is not None:
                count = apply_op("Cast", x=self._num_updates, DstT="float32", name="num_updates")
                early = _op("RealDiv", _op("AddV2", 1.0, count), _op("AddV2", 10.0, count))
                decay = _op("Minimum", decay, early)
            updates = []
            for each in chosen:
                average = self._averages[each]
                debias = self._zero_debias and not isinstance(each, Variable)
                value = each.value() if isinstance(each, Variable) else each
                updates.append(assign_moving_average(average, value, decay, zero_debias=debias))
            return group(*updates, name=scope)

    def _shadow(self, var: Any) -> Any:
        with outermost() as graph, graph.control_dependencies(None):
            if isinstance(var, Variable):
                shadow = slots.create_slot(var, var.initialized_value(), self._name)
                return shadow
            return slots.create_zeros_slot(var, self._name)

    def average(self, var: Any) -> Any:
        """The shadow variable of a variable, or None."""
        return self._averages.get(var)

    def average_name(self, var: Any) -> str:
        """The name that the shadow variable has or would have."""
        if var in self._averages:
            return self._averages[var].op.name
        return get_default_graph().unique_name(f"{var.op.name}/{self._name}", mark_as_used=False)

    def variables_to_restore(self, moving_avg_variables: Sequence[Any] | None = None) -> dict[str, Any]:
        """What to restore so that variables take their averages' values: by name in the checkpoint."""
        from stepjit.variable_collections import global_variables

        averaged = list(moving_avg_variables or [*trainable_variables(), *moving_average_variables()])
        names = {self.average_name(each): each for each in averaged}
        others = {each.op.name: each for each in global_variables() if each not in averaged}
        return {**names, **{name: each for name, each in others.items() if name not in names}}
