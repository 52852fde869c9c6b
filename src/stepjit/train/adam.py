"""Adam: steps scaled by running means of the gradient and of its square."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.indexed_slices import IndexedSlices
from stepjit.framework.stack import get_default_graph
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops import state
from stepjit.ops.control import group
from stepjit.train.optimizer import Optimizer


def _op(kind: str, x: Any, y: Any, name: str) -> Tensor:
    return apply_op(kind, x=x, y=y, name=name)


class AdamOptimizer(Optimizer):
    """m, v = running means of g and g²; var -= lr * √(1 - β2ᵗ) / (1 - β1ᵗ) * m / (√v + epsilon)."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        epsilon: Any = 1e-08,
        use_locking: bool = False,
        name: str = "Adam",
        use_own_namescope_for_non_slot_vars: bool = False,
    ) -> None:
        super().__init__(use_locking, name, use_own_namescope_for_non_slot_vars)
        self._lr, self._beta1, self._beta2, self._epsilon = learning_rate, beta1, beta2, epsilon
        self._lr_t: Tensor
        self._beta1_t: Tensor
        self._beta2_t: Tensor
        self._epsilon_t: Tensor

    def _get_beta_accumulators(self) -> tuple[Any, Any]:
        return self._get_non_slot_variable("beta1_power"), self._get_non_slot_variable("beta2_power")

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        first = min(var_list, key=lambda variable: variable.name)
        self._create_non_slot_variable(self._call_if_callable(self._beta1), "beta1_power", first)
        self._create_non_slot_variable(self._call_if_callable(self._beta2), "beta2_power", first)
        for var in var_list:
            self._zeros_slot(var, "m", self._name)
            self._zeros_slot(var, "v", self._name)

    def _prepare(self) -> None:
        self._lr_t = self._number(self._lr, "learning_rate")
        self._beta1_t = self._number(self._beta1, "beta1")
        self._beta2_t = self._number(self._beta2, "beta2")
        self._epsilon_t = self._number(self._epsilon, "epsilon")

    def _numbers(self, var: Any) -> dict[str, Any]:
        powers = [self._as(power.value(), var) for power in self._get_beta_accumulators()]
        return {
            "beta1_power": powers[0], "beta2_power": powers[1], "lr": self._as(self._lr_t, var),
            "beta1": self._as(self._beta1_t, var), "beta2": self._as(self._beta2_t, var),
            "epsilon": self._as(self._epsilon_t, var), "use_locking": self._use_locking,
        }  # fmt: skip

    def _apply_dense(self, grad: Tensor, var: Any) -> Operation:
        m, v = self.get_slot(var, "m"), self.get_slot(var, "v")
        return apply_op("ApplyAdam", var=var._ref(), m=m._ref(), v=v._ref(), grad=grad, **self._numbers(var)).op

    def _resource_apply_dense(self, grad: Tensor, handle: Any) -> Operation:
        m, v = self.get_slot(handle, "m"), self.get_slot(handle, "v")
        return apply_op(
            "ResourceApplyAdam", var=handle.handle, m=m.handle, v=v.handle, grad=grad, **self._numbers(handle)
        )

    def _apply_sparse(self, grad: IndexedSlices, var: Any) -> Operation:
        return self._rows(grad.values, var, grad.indices)

    def _resource_apply_sparse(self, grad: Tensor, handle: Any, indices: Tensor) -> Operation:
        return self._rows(grad, handle, indices)

    def _rows(self, grad: Tensor, var: Any, indices: Tensor) -> Operation:
        """The running means decay everywhere, as they would with zeros in the other rows."""
        numbers = self._numbers(var)
        root = apply_op("Sqrt", x=_op("Sub", 1, numbers["beta2_power"], "sub"))
        rate = _op(
            "RealDiv", _op("Mul", numbers["lr"], root, "mul"), _op("Sub", 1, numbers["beta1_power"], "sub"), "truediv"
        )
        m, m_done = self._decayed(self.get_slot(var, "m"), numbers["beta1"], grad, indices)
        squares = _op("Mul", grad, grad, "mul")
        v, v_done = self._decayed(self.get_slot(var, "v"), numbers["beta2"], squares, indices)
        divisor = _op("AddV2", apply_op("Sqrt", x=v), numbers["epsilon"], "add")
        step = _op("RealDiv", _op("Mul", rate, m, "mul"), divisor, "truediv")
        if state.is_resource(var):
            done = var.assign_sub(step, read_value=False)
        else:
            done = state.assign_sub(var, step, use_locking=self._use_locking).op
        return group(done, m_done, v_done)

    def _decayed(self, slot: Any, beta: Tensor, values: Tensor, indices: Tensor) -> tuple[Tensor, Operation]:
        """slot = beta * slot + (1 - beta) * values in the rows: its new value, and the op that sets it."""
        scaled = _op("Mul", values, _op("Sub", 1, beta, "sub"), "mul")
        kept = _op("Mul", slot.value(), beta, "mul")
        graph = get_default_graph()
        if state.is_resource(slot):
            assigned = slot.assign(kept, read_value=False)
            with graph.control_dependencies([assigned]):
                added = apply_op("ResourceScatterAdd", resource=slot.handle, indices=indices, updates=scaled)
            return slot._after(added), added
        assigned = state.assign(slot, kept, use_locking=self._use_locking).op
        with graph.control_dependencies([assigned]):
            result = state.scatter_add(slot, indices, scaled, use_locking=self._use_locking)
        return result, result.op

    def _finish(self, update_ops: Sequence[Operation], name_scope: str) -> Operation:
        graph = get_default_graph()
        with graph.control_dependencies(update_ops):
            first, second = self._get_beta_accumulators()
            with graph.colocate_with(first.op):
                powers = [
                    power.assign(
                        _op("Mul", power.value(), beta, "mul"), use_locking=self._use_locking, read_value=False
                    )
                    for power, beta in ((first, self._beta1_t), (second, self._beta2_t))
                ]
        return group(*update_ops, *powers, name=name_scope)
